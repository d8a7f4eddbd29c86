"""Values from the command line, the environment and files, in the order in which they count."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

from ..errors import UNSET
from .base import CollectingConfigurator, Found
from .configurable import Configurable
from .environment import from_environment
from .files import from_file
from .names import option_of, variable_of
from .options import AppendToList, HelpFormatter, OneLineParser, Switch, unknown_option
from .setting_types import read_list

__all__ = ["CommandLineConfigurator"]

#: Options of every command line, which no configurable may be called.
_OWN = ("help", "config")


class CommandLineConfigurator(CollectingConfigurator):
    """Takes ``--name VALUE``, ``GEMSTONE_NAME`` and configuration files for every configurable.

    What counts, the first that has a value: the command line; the environment; ``.env`` in the
    working directory; the files given by ``--config FILE`` or ``GEMSTONE_CONFIG``, a later one
    before an earlier one; ``<name of the service>.toml`` in the working directory; the attribute.

    :param environment_prefix: what the names of the variables begin with, instead of the
        service's own ``environment_prefix``; None to leave the environment and ``.env`` alone.
    :param config_files: files that are read if they are there, in place of
        ``<name of the service>.toml``.

    A wrong command line, variable or file ends the program with exit code 2 and one line, and
    ``--help`` lists all options with their variables and defaults.
    """

    def __init__(
        self,
        *,
        environment_prefix: str | None = "",
        config_files: Sequence[str | os.PathLike[str]] | None = None,
    ) -> None:
        super().__init__()
        self.reads_environment = environment_prefix is not None
        if environment_prefix:
            self.environment_prefix = environment_prefix
        self.config_files = None if config_files is None else [os.fspath(f) for f in config_files]

    def collect(self) -> dict[str, Found]:
        words = self._words()
        parser = self._parser(explained=any(word in ("-h", "--help") for word in words))
        given, unknown = parser.parse_known_args(words, env_vars={})
        if unknown:
            parser.error(unknown_option(unknown[0], self._names()))
        in_environment = self._from_environment()
        files = _files_named_by(given.config, in_environment.pop("config", None))
        return {**self._from_files(files), **in_environment, **self._from(given)}

    def _words(self) -> list[str]:
        if self.argv is not None:
            return list(self.argv)
        # Of a gunicorn process the words are gunicorn's: to parse them would end the worker.
        return [] if "gunicorn.arbiter" in sys.modules else sys.argv[1:]

    def variable_of(self, name: str) -> str | None:
        """Return the variable of a setting; None when the environment is left alone."""
        return variable_of(name, self.environment_prefix) if self.reads_environment else None

    def format_help(self) -> str:
        """Format what ``--help`` prints."""
        return str(self._parser(explained=True).format_help())

    def _names(self) -> list[str]:
        return [configurable.name for configurable in self.configurables]

    def _from(self, given: argparse.Namespace) -> dict[str, Found]:
        values = {name: getattr(given, name) for name in self._names()}
        return {
            name: Found(value, option_of(name))
            for name, value in values.items()
            if value is not None
        }

    def _from_environment(self) -> dict[str, Found]:
        if not self.reads_environment:
            return {}
        settings = [*self.configurables, Configurable("config")]
        return from_environment(settings, self.environment_prefix)

    def _from_files(self, given: list[str]) -> dict[str, Found]:
        found: dict[str, Found] = {}
        for path in [*self._default_files(), *given]:
            found |= from_file(path, self._names(), self.service_name)
        return found

    def _default_files(self) -> list[str]:
        default = [f"{self.service_name}.toml"] if self.service_name else []
        files = default if self.config_files is None else self.config_files
        return [path for path in files if os.path.exists(path)]

    def _parser(self, *, explained: bool = False) -> Any:
        """Make the parser of the command line.

        :param explained: with help texts, which take a while to collect.
        """
        parser = OneLineParser(
            prog=program_name(),
            usage="%(prog)s [OPTIONS]",
            allow_abbrev=False,
            add_config_file_help=False,
            add_env_var_help=False,
            formatter_class=HelpFormatter,
            epilog=(
                "What counts: the command line, then the environment, then .env, then the files "
                "(the last one first), then the default. Durations are seconds, or 500ms, 30s, 5m, "
                '1h. Lists are a,b or ["a", "b"]. file:/run/secrets/x stands for what is in '
                "that file."
            ),
        )
        variable = self.variable_of("config")
        parser.add_argument(
            "--config",
            metavar="FILE",
            action="append",
            help="a configuration file: .toml, .yaml, .json or .ini; may be given several times"
            + ("" if variable is None else f" [env var: {variable}]"),
        )
        for configurable in self.configurables:
            self._add_option(parser, configurable, explained)
        return parser

    def _add_option(self, parser: Any, configurable: Configurable, explained: bool) -> None:
        name, setting_type = configurable.name, configurable.setting_type
        if name in _OWN:
            raise ValueError(f"a configurable cannot be called {name}: every command line has that")
        options: dict[str, Any] = {
            "dest": name,
            "metavar": "VALUE" if setting_type is None else setting_type.metavar,
        }
        if setting_type is not None and setting_type.is_list and configurable.template is None:
            options["action"] = AppendToList
        elif setting_type is not None and setting_type.is_switch and configurable.template is None:
            options.update(action=Switch, metavar="BOOL")
        if explained:
            options["help"] = self.explain(configurable).replace("%", "%%")
        spellings = dict.fromkeys([option_of(name), option_of(name.replace("_", "-"))])
        try:
            parser.add_argument(*spellings, **options)
        except argparse.ArgumentError as error:  # no_x beside a switch x
            raise ValueError(f"two configurables share an option: {error}") from error

    def explain(self, configurable: Configurable) -> str:
        """Describe a setting for ``--help``: its purpose, its variable, its default."""
        parts = [configurable.help]
        if (variable := self.variable_of(configurable.name)) is not None:
            parts.append(f"[env var: {variable}]")
        if configurable.default is not UNSET:
            shown = configurable.shown(configurable.default) or "''"
            parts.append(f"(default: {shown})")
        return " ".join(part for part in parts if part)


def _files_named_by(option: list[str] | None, variable: Found | None) -> list[str]:
    if option is not None:
        return option
    return [] if variable is None else [str(path) for path in read_list(variable.value)]


def program_name() -> str:
    """Return the name of the program for its messages."""
    return os.path.basename(sys.argv[0]) or "service"
