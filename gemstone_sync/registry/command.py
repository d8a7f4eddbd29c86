"""``python -m gemstone_sync.registry``: a registry as a program."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

from ..exit_codes import run_reported
from .service_registry import ServiceRegistry

__all__ = ["main"]

_ABOUT = """\
A service registry: services ping it with their name and URL, and others ask it
where they are. A browser sees all of them at /. Services and callers are told
its endpoint, for example
  service_registry_urls = ["http://127.0.0.1:8090/api"]

Without a token anyone who reaches the registry can register a URL of their own
under the name of your service, and get the calls that are meant for it. With
--token others can see the token in the list of processes: rather give it in the
environment, GEMSTONE_REGISTRY_TOKEN=... or =file:/run/secrets/token. Services
send it as X-Api-Token or as Authorization: Bearer."""


def main(
    argv: Sequence[str] | None = None, *, program: str = "python -m gemstone_sync.registry"
) -> NoReturn:
    """Run a registry until SIGTERM or Ctrl-C.

    A wrong setting, wherever it was found, ends with exit code 2 and one line; an address or state
    file that cannot be used, with 1.

    :param argv: the words after the program's name; those of the process when left out.
    :param program: what help and errors call it.
    """
    words = sys.argv[1:] if argv is None else argv
    sys.argv[0] = program  # what the registry's configurators begin their messages with
    run_reported(lambda: _run(words), command=program)


def _run(words: Sequence[str]) -> None:
    registry = ServiceRegistry()
    if any(word in ("-h", "--help") for word in words):
        sys.stdout.write(_help_of(registry))
    else:
        registry.configure(words)
        registry.start()


def _help_of(registry: ServiceRegistry) -> str:
    usage, _, options = registry.configuration_help().partition("\n\n")
    return f"{usage}\n\n{_ABOUT}\n\n{options}"
