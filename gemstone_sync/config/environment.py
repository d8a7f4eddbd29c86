"""Values from the environment, and from a ``.env`` file, which counts less."""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Iterable, Mapping, Sequence

import dotenv
import dotenv.parser

from .base import CollectingConfigurator, Found
from .configurable import Configurable
from .names import variable_of
from .service_links import HOW_NOT, is_service_link

__all__ = ["EnvironmentConfigurator", "from_environment"]

logger = logging.getLogger("gemstone_sync.config")

#: Variables of the framework that are no settings of a service; those of a registry, which may
#: share its environment, begin with the last.
_OTHERS = ("MONKEY_PATCH", "CONFIG", "REGISTRY", "TOKEN")
_REGISTRY = "REGISTRY_"


class EnvironmentConfigurator(CollectingConfigurator):
    """Takes ``GEMSTONE_<NAME>`` for every configurable, and ``.env`` in the working directory.

    :param prefix: what the variables' names begin with, instead of the service's own
        ``environment_prefix``.
    :param dotenv_path: another file than ``.env``; None for none.

    ::

        configurators = [EnvironmentConfigurator(prefix="SHOP_")]
    """

    def __init__(self, *, prefix: str | None = None, dotenv_path: str | None = ".env") -> None:
        super().__init__()
        if prefix is not None:
            self.environment_prefix = prefix
        self.dotenv_path = dotenv_path

    def collect(self) -> dict[str, Found]:
        return from_environment(self.configurables, self.environment_prefix, self.dotenv_path)


def from_environment(
    settings: Sequence[Configurable], prefix: str, dotenv_path: str | None = ".env"
) -> dict[str, Found]:
    """Read the values of settings from the process's environment and a ``.env`` file.

    :raises ValueError: for a file that cannot be read.
    """
    in_file = {}
    if dotenv_path is not None:
        in_file = from_variables(settings, read_dotenv(dotenv_path), prefix, dotenv_path)
    return {**in_file, **from_variables(settings, os.environ, prefix)}


def from_variables(
    settings: Iterable[Configurable],
    variables: Mapping[str, str],
    prefix: str,
    file: str | None = None,
) -> dict[str, Found]:
    """Read the values of settings from variables; log a variable that is nearly one.

    :param file: where the variables come from, if not from the process's environment.
    """
    known = {variable_of(setting.name, prefix): setting for setting in settings}
    place = "" if file is None else f"{file}: "
    found = {}
    for variable, value in variables.items():
        if (setting := known.get(variable)) is not None:
            if file is None and is_service_link(variable, variables, setting.takes):
                logger.warning(
                    "%s=%s is left out: Kubernetes sets it for a Service, %s",
                    variable,
                    value,
                    HOW_NOT,
                )
                continue
            found[setting.name] = Found(value, f"{place}{variable}")
        elif (close := _nearly(variable, prefix, known)) and not is_service_link(
            variable, variables, lambda value: False
        ):
            logger.warning("%s%s sets nothing; did you mean %s?", place, variable, close[0])
    return found


def _nearly(variable: str, prefix: str, known: Iterable[str]) -> list[str]:
    """Find the settings that a variable nearly names; logged only, as others read it too."""
    name = variable.removeprefix(prefix)
    if name == variable or name in _OTHERS or name.startswith(_REGISTRY):
        return []
    return difflib.get_close_matches(variable, list(known), n=1, cutoff=0.85)


def read_dotenv(path: str) -> dict[str, str]:
    """Read the variables of a ``.env`` file; none when there is no such file.

    :raises ValueError: for a file that cannot be read, naming the line.
    """
    try:
        with open(path, encoding="utf-8") as file:
            broken = [b.original.line for b in dotenv.parser.parse_stream(file) if b.error]
        if broken:
            raise ValueError(f"{path}: line {broken[0]}: expected NAME=value")
        # As they stand: a password may hold ${ and }, and be in single quotes for that.
        values = dotenv.dotenv_values(path, encoding="utf-8", interpolate=False)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: is not UTF-8") from error
    return {name: value for name, value in values.items() if value is not None}
