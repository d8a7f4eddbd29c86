"""``python -m gemstone_sync.registry``: the command line of a registry."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from ..config.options import unknown_option
from .service_registry import ServiceRegistry, token_of

__all__ = ["main"]

TOKEN_VARIABLE = "GEMSTONE_REGISTRY_TOKEN"

_DESCRIPTION = """\
A service registry: services ping it with their name and URL, and others ask it where they are.
A browser sees all of them at /. Services and callers are told its endpoint, for example
service_registry_urls = ["http://127.0.0.1:8090/api"]."""

_EPILOG = f"""\
Without a token anyone who reaches the registry can register a URL of their own under the name of
your service, and get the calls that are meant for it. With --token others can see the token in the
list of processes: rather give it in the environment, {TOKEN_VARIABLE}=... . Services send it as
X-Api-Token or as Authorization: Bearer."""


class _OneLineParser(argparse.ArgumentParser):
    """Says what is wrong without the usage in front of it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def _checked(check: Callable[[str], Any]) -> Callable[[str], Any]:
    """Have argparse show the reason, and not the value, which may be a secret."""

    def convert(text: str) -> Any:
        try:
            return check(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or int(text[:9]) > 65535:
        raise ValueError("a port is a whole number from 0 to 65535")
    return int(text)


def _not_empty(text: str) -> str:
    if not text:
        raise ValueError("must not be empty")
    return text


def _parser(program: str) -> argparse.ArgumentParser:
    parser = _OneLineParser(
        prog=program,
        description=_DESCRIPTION,
        epilog=_EPILOG,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--host",
        type=_checked(_not_empty),
        default=ServiceRegistry.host,
        help="the address to listen on; 0.0.0.0 for all of the machine's (default: %(default)s)",
    )
    parser.add_argument(
        "--port",
        type=_checked(_port),
        default=ServiceRegistry.port,
        help="the port; 0 for any that is free (default: %(default)s)",
    )
    parser.add_argument(
        "--token",
        type=_checked(token_of),
        help=f"what pings and goodbyes must be sent with (default: ${TOKEN_VARIABLE}, else none)",
    )
    parser.add_argument(
        "--state",
        type=_checked(_not_empty),
        metavar="FILE",
        help="keep the entries across restarts in this SQLite file (default: in memory only)",
    )
    return parser


def main(
    argv: Sequence[str] | None = None, *, program: str = "python -m gemstone_sync.registry"
) -> None:
    """Run a registry until SIGTERM or Ctrl-C.

    A wrong command line ends with exit code 2 and one line; an address or state file that cannot
    be used, with 1.

    :param argv: the words after the program's name; those of the process when left out.
    :param program: what help and errors call it.
    """
    parser = _parser(program)
    options, unknown = parser.parse_known_args(argv)
    if unknown:
        parser.error(unknown_option(unknown[0], ["host", "port", "token", "state", "help"]))
    if options.token is None and TOKEN_VARIABLE in os.environ:
        try:
            options.token = token_of(os.environ[TOKEN_VARIABLE])
        except ValueError as error:
            parser.error(f"{TOKEN_VARIABLE}: {error}")
    registry = ServiceRegistry()
    registry.skip_configuration = True  # that was the command line
    registry.host, registry.port = options.host, options.port
    registry.token, registry.state = options.token, options.state
    registry.start()
