"""End a command: one exit code for each kind of failure, one line on stderr.

====  ==========================================================================
0     fine
1     the remote said no: an error response, an unknown service, a bad answer
2     usage: a wrong option, parameter, URL, file or attribute; stdout that takes nothing
3     cannot connect: nobody answers, or not in time
130   Ctrl-C, unless that is how the command ends: `run`, `registry`, `listen`
====  ==========================================================================

The ``gemstone`` command ends so, and a service's own (`MicroService.get_cli`).
"""

from __future__ import annotations

import errno
import io
import os
import re
import sys
from collections.abc import Callable
from typing import Any, NoReturn, TextIO

import click

from .broker_urls import without_passwords
from .errors import (
    UNSET,
    BadResponse,
    BrokerUnavailable,
    EventNotDelivered,
    MethodNotFound,
    RemoteError,
    RpcError,
    ServiceConfigurationError,
    ServiceNotFound,
    ServiceStartError,
    TransportError,
)

__all__ = [
    "REFUSED",
    "UNREACHABLE",
    "USAGE",
    "CommandFailed",
    "failure_text",
    "harmless",
    "json_line",
    "printable",
    "run_reported",
]

REFUSED = 1
USAGE = 2
UNREACHABLE = 3
INTERRUPTED = 130

#: Characters of an error's data that are shown.
_LONGEST_DATA = 200

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

#: What JSON may hold as it is, and a terminal obeys: DEL, the C1 controls (U+009B begins a control
#: sequence in xterm), and what turns the order of characters round (Unicode TR 36, section 2.5).
_STEERING = re.compile("[\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class CommandFailed(Exception):
    """End a command with a text of its own.

    :param message: one line, without the command's name.
    :param code: `REFUSED`, `USAGE` or `UNREACHABLE`.
    """

    def __init__(self, message: str, code: int = REFUSED) -> None:
        super().__init__(message)
        self.code = code


_FAILURES: tuple[type[Exception], ...] = (CommandFailed, *(cls for cls, code in _CODES))


def run_reported(function: Callable[[], Any], *, command: str, as_json: bool = False) -> NoReturn:
    """Do a command's work, and end the process with its exit code.

    Errors of our own and of click are one line; any other is a defect and keeps its traceback.

    :param as_json: write errors as ``{"error": {"code": …, "message": …, "data": …}}``.
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
            raise _report(name, failure, as_json) from None
        except _FAILURES as error:
            raise _report(command, error, as_json) from None
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
        raise _report(command, failure, as_json) from None
    raise SystemExit(0)


def _report(command: str, error: Exception, as_json: bool) -> SystemExit:
    """Write the one line of a failure to stderr; return what ends the process."""
    text = failure_text(error)
    line = f"{command}: {text}"
    if as_json:
        details: dict[str, Any] = {"message": text}
        if isinstance(error, RpcError):
            details = {"code": error.code, "message": error.message}
            if error.data is not UNSET:
                details["data"] = error.data
        line = json_line({"error": details})
    try:
        sys.stderr.write(f"{line}\n")
    except OSError:  # stderr takes nothing: the exit code still tells it
        _write_no_more(sys.stderr)
    if isinstance(error, CommandFailed):
        return SystemExit(error.code)
    return SystemExit(next(code for cls, code in _CODES if isinstance(error, cls)))


def failure_text(error: Exception) -> str:
    """Write a failure in one line; what a service told with its error is in it when short."""
    text = str(error)
    if isinstance(error, RemoteError):
        text += _details_of(error)
    if isinstance(error, MethodNotFound):
        text += "; see gemstone describe"
    return without_passwords(printable(" ".join(text.split()))) or type(error).__name__


def _details_of(error: RemoteError) -> str:
    data = error.data
    if data is UNSET or data is None or (isinstance(data, dict) and set(data) == {"error_id"}):
        return ""  # the text has the error's id already
    if error.parameter_faults():
        return ""  # so are the parameters at fault
    from .protocol import encode_json  # `gemstone new` does without msgspec

    text = encode_json(data).decode()
    return f": {text}" if len(text) <= _LONGEST_DATA else ""


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


def json_line(value: Any) -> str:
    """Write JSON in one line, which steers no terminal."""
    from .protocol import encode_json

    return harmless(encode_json(value).decode())


def harmless(json_text: str) -> str:
    """Escape in JSON what would steer a terminal."""
    return _STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", json_text)


def printable(text: str, keep: str = "") -> str:
    """Escape in a stranger's text what would steer a terminal.

    :param keep: characters that may stay all the same.
    """
    return "".join(
        character if character.isprintable() or character in keep else ascii(character)[1:-1]
        for character in text
    )
