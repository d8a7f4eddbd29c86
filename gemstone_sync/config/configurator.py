"""Where configured values come from: a configurator collects values for the names it is given."""

from __future__ import annotations

import abc
import difflib
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import configargparse

from .configurable import Configurable

__all__ = ["BaseConfigurator", "CommandLineConfigurator"]


class BaseConfigurator(abc.ABC):
    """One source of values. A subclass implements `load` and `get`.

    The service gives it every configurable by `register_configurable`, calls `load` once, then
    `get` for each name.
    """

    #: The command line's words after the program's name. The service sets it, to ``[]`` where the
    #: command line is not the service's own: under gunicorn, pytest, in an in-process client.
    argv: Sequence[str] = ()

    def __init__(self) -> None:
        self.configurables: list[Configurable] = []

    def register_configurable(self, configurable: Configurable) -> None:
        """Take a name to look for."""
        # Not appended: a copy of this object must not share the list.
        self.configurables = [*getattr(self, "configurables", []), configurable]

    def get_configurable_by_name(self, name: str) -> Configurable | None:
        """The registered configurable of that name."""
        return next((c for c in self.configurables if c.name == name), None)

    @abc.abstractmethod
    def load(self) -> None:
        """Collect the values."""

    @abc.abstractmethod
    def get(self, name: str) -> Any:
        """The final value for `name`; None when this source has none.

        :raises ValueError: when the value found cannot be used.
        """

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


class CommandLineConfigurator(BaseConfigurator):
    """Takes ``--name VALUE`` for every configurable.

    A wrong command line ends the program with exit code 2 and one line.
    """

    def __init__(self) -> None:
        super().__init__()
        self._found: dict[str, Any] = {}

    def load(self) -> None:
        parser = _OneLineParser(prog=os.path.basename(sys.argv[0]) or "service", allow_abbrev=False)
        for configurable in self.configurables:
            parser.add_argument(f"--{configurable.name}", metavar="VALUE")
        found, unknown = parser.parse_known_args(list(self.argv))
        if unknown:
            parser.error(unknown_option(unknown[0], [c.name for c in self.configurables]))
        self._found = vars(found)

    def get(self, name: str) -> Any:
        configurable = self.get_configurable_by_name(name)
        text = self._found.get(name)
        if configurable is None or text is None:
            return None
        configurable.set_value(text)
        try:
            return configurable.get_final_value()
        except ValueError as error:
            raise ValueError(f"--{name}: {error}") from error


def unknown_option(word: str, names: list[str]) -> str:
    """What to say of a word that is no option; what stands behind ``=`` is not shown."""
    if not word.startswith("-"):
        return f"unexpected argument {word!r}"
    option = word.partition("=")[0]
    close = difflib.get_close_matches(option, [f"--{name}" for name in names], n=1)
    return f"unknown option {option}" + (f"; did you mean {close[0]}?" if close else "")


class _OneLineParser(configargparse.ArgumentParser):  # type: ignore[misc]
    """Says what is wrong without the usage in front of it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")
        raise AssertionError  # exit() does not return, which configargparse does not declare
