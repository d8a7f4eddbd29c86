"""What a command ends with: one exit code for each kind of failure, one line on stderr.

====  ==========================================================================
0     fine
1     the remote said no: an error response, an unknown service, a bad answer
2     usage: a wrong option, parameter, URL, file or attribute; stdout that takes nothing
3     cannot connect: nobody answers, or not in time
130   Ctrl-C, unless that is how the command ends: `run`, `registry`, `listen`
====  ==========================================================================
"""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn, TextIO

import click

from ..broker_urls import without_passwords
from ..errors import (
    UNSET,
    BadResponse,
    BrokerUnavailable,
    EventNotDelivered,
    RpcError,
    ServiceConfigurationError,
    ServiceNotFound,
    ServiceStartError,
    TransportError,
)
from .output import json_line

__all__ = [
    "INTERRUPTED",
    "REFUSED",
    "UNREACHABLE",
    "USAGE",
    "CommandFailed",
    "printable",
    "report",
    "run_reported",
]

REFUSED = 1
USAGE = 2
UNREACHABLE = 3
INTERRUPTED = 130

#: What a write fails with when stdout, or a file, takes no more.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)

#: The first that fits counts.
_CODES: tuple[tuple[type[Exception], int], ...] = (
    (BadResponse, REFUSED),
    (TransportError, UNREACHABLE),
    (EventNotDelivered, UNREACHABLE),
    (BrokerUnavailable, UNREACHABLE),
    (RpcError, REFUSED),
    (ServiceNotFound, REFUSED),
    (ServiceStartError, REFUSED),
    (ServiceConfigurationError, USAGE),
)


class CommandFailed(Exception):
    """What a command raises to end with a text of its own.

    :param message: one line, without the command's name.
    :param code: `REFUSED`, `USAGE` or `UNREACHABLE`.
    """

    def __init__(self, message: str, code: int = REFUSED) -> None:
        super().__init__(message)
        self.code = code


_FAILURES: tuple[type[Exception], ...] = (CommandFailed, *(cls for cls, code in _CODES))


def report(command: str, error: Exception, *, as_json: bool) -> int:
    """Write the one line of a failure to stderr; return the exit code.

    :param as_json: write ``{"error": {"code": …, "message": …, "data": …}}`` rather than text.
    """
    if as_json:
        details: dict[str, Any] = {"message": _line_of(error)}
        if isinstance(error, RpcError):
            details = {"code": error.code, "message": error.message}
            if error.data is not UNSET:
                details["data"] = error.data
        line = json_line({"error": details})
    else:
        line = f"{command}: {_line_of(error)}"
    try:
        sys.stderr.write(f"{line}\n")
    except OSError:  # stderr takes nothing: the exit code still tells it
        _write_no_more(sys.stderr)
    if isinstance(error, CommandFailed):
        return error.code
    return next(code for cls, code in _CODES if isinstance(error, cls))


def run_reported(function: Callable[[], Any], *, command: str, as_json: bool = False) -> NoReturn:
    """Do a command's work, and end the process with its exit code.

    Errors of our own and of click are one line; any other is a defect and keeps its traceback.
    """
    _prepare_streams()
    try:
        try:
            function()
            sys.stdout.flush()
        except click.exceptions.Exit as ended:
            raise SystemExit(ended.exit_code) from None
        except click.ClickException as error:
            context = getattr(error, "ctx", None)
            name = command if context is None else context.command_path
            failure = CommandFailed(error.format_message(), USAGE)
            raise SystemExit(report(name, failure, as_json=as_json)) from None
        except _FAILURES as error:
            raise SystemExit(report(command, error, as_json=as_json)) from None
    except (KeyboardInterrupt, click.Abort):
        raise SystemExit(INTERRUPTED) from None
    except BrokenPipeError:
        # Whoever read our output, `head` for example, has seen enough.
        _write_no_more(sys.stdout)
        raise SystemExit(0) from None
    except OSError as error:
        if error.errno not in _FULL:
            raise
        _write_no_more(sys.stdout)
        failure = CommandFailed(f"cannot write: {error.strerror}", USAGE)
        raise SystemExit(report(command, failure, as_json=as_json)) from None
    raise SystemExit(0)


def _prepare_streams() -> None:
    """Have all three streams, and none that fails for a character that it has not."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # whoever started this has closed it, with >&- for example
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr does


def _write_no_more(stream: TextIO) -> None:
    """Lose what is left: the interpreter would try again at its end, and complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _line_of(error: Exception) -> str:
    return without_passwords(printable(" ".join(str(error).split()))) or type(error).__name__


def printable(text: str, keep: str = "") -> str:
    """Text of a stranger, without what would steer the terminal.

    :param keep: characters that may stay all the same.
    """
    return "".join(
        character if character.isprintable() or character in keep else ascii(character)[1:-1]
        for character in text
    )
