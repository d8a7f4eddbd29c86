"""Configuration files: TOML, YAML, JSON and INI, read to the same mapping."""

from __future__ import annotations

import collections
import configparser
import importlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ..suggestions import did_you_mean
from .base import CollectingConfigurator, Found
from .names import plain
from .texts import text_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = [
    "FileConfigurator",
    "IniFileConfigurator",
    "JsonFileConfigurator",
    "TomlFileConfigurator",
    "YamlFileConfigurator",
    "from_file",
]

#: Tables (INI: sections) whose keys count as if they stood at the top, beside the service's name.
_COMMON = "gemstone"


def _read_toml(text: str) -> Any:
    return tomllib.loads(text)


def _read_json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_unrepeated)


def _unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    _refuse_repetition(name for name, _ in pairs)
    return dict(pairs)


def _refuse_repetition(names: Iterable[str]) -> None:
    """Refuse a name given twice: JSON and YAML let the last one win, and nobody notices."""
    for name, count in collections.Counter(names).items():
        if count > 1:
            raise ValueError(f"{name} is there twice")


def _read_yaml(text: str) -> Any:
    try:
        yaml = importlib.import_module("yaml")
    except ImportError:
        raise ValueError("YAML needs PyYAML: pip install 'gemstone_sync[yaml]'") from None

    class Loader(yaml.SafeLoader):  # type: ignore[misc,name-defined]
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            _refuse_repetition(key.value for key in keys)
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(text, Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = "" if mark is None else f"line {mark.line + 1}: "
        problem = getattr(error, "problem", None) or "is not YAML"
        if problem.startswith("but "):
            problem = f"{error.context}, {problem}"
        raise ValueError(f"{place}{problem}") from error


#: Stands for a section around the keys above the first one, which may be there as in the other
#: formats, though INI asks for a section.
_TOP = " "


def _read_ini(text: str) -> Any:
    parser = configparser.ConfigParser(interpolation=None, default_section="")
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # names as they are written
    added = "" if text.lstrip().startswith("[") else f"[{_TOP}]\n"
    try:
        parser.read_string(added + text)
    except configparser.Error as error:
        # Its own text shows the line, in which a secret may stand.
        raise ValueError(_what_is_wrong(error, added.count("\n"))) from None
    content = {name: dict(parser[name]) for name in parser.sections()}
    top = content.pop(_TOP, {})
    _refuse_repetition([*top, *content])
    return {**top, **content}


def _what_is_wrong(error: Any, lines_added: int) -> str:
    line = getattr(error, "lineno", None) or error.errors[0][0]
    reason = "expected name = value, or [section]"
    if isinstance(error, configparser.DuplicateOptionError):
        reason = f"{error.option} is there twice"
    elif isinstance(error, configparser.DuplicateSectionError):
        reason = f"[{error.section}] is there twice"
    return f"line {line - lines_added}: {reason}"


_READERS: dict[str, Callable[[str], Any]] = {
    ".toml": _read_toml,
    ".json": _read_json,
    ".yaml": _read_yaml,
    ".yml": _read_yaml,
    ".ini": _read_ini,
    ".cfg": _read_ini,
}


class FileConfigurator(CollectingConfigurator):
    """Takes the values of a file, whose name ends in .toml, .yaml, .yml, .json, .ini or .cfg.

    :param path: relative, it starts at the working directory.
    :param required: False when the file may be missing.

    Keys are the names of the configurables, at the top or in a table (INI: a section) named after
    the service or ``gemstone``. Any other key is refused.

    For another format, subclass it and implement `read`.
    """

    #: Reads the file whatever its name ends in, if set.
    _format: str | None = None

    def __init__(self, path: str | os.PathLike[str], *, required: bool = True) -> None:
        super().__init__()
        self.path = os.fspath(path)
        self.required = required

    def read(self, text: str) -> Any:
        """Read the file's text as a mapping.

        :raises ValueError: for a text that is not of the format.
        """
        return _READERS[self._format or _format_of(self.path)](text)

    def collect(self) -> dict[str, Found]:
        if not self.required and not os.path.exists(self.path):
            return {}
        names = [configurable.name for configurable in self.configurables]
        return from_file(self.path, names, self.service_name, self.read)


class TomlFileConfigurator(FileConfigurator):
    """Takes the values of a TOML file."""

    _format = ".toml"


class YamlFileConfigurator(FileConfigurator):
    """Takes the values of a YAML file. Needs PyYAML: the extra ``yaml``."""

    _format = ".yaml"


class JsonFileConfigurator(FileConfigurator):
    """Takes the values of a JSON file."""

    _format = ".json"


class IniFileConfigurator(FileConfigurator):
    """Takes the values of an INI file: all are texts, read by the types of the settings."""

    _format = ".ini"


def from_file(
    path: str,
    names: Iterable[str],
    service_name: str,
    read: Callable[[str], Any] | None = None,
) -> dict[str, Found]:
    """Read the values of names from a file.

    :param read: what makes a mapping of the text; left out, what the file's name ends in decides.
    :raises ValueError: for a file that cannot be read, or keys that are not names.
    """
    try:
        content = (read or _READERS[_format_of(path)])(text_of(path))
    except RecursionError:
        raise ValueError(f"{path}: is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if content is None:  # an empty YAML file
        content = {}
    if not isinstance(content, Mapping):
        raise ValueError(f"{path}: must hold names and values")
    return _settings_in(content, path, list(names), service_name)


def _format_of(path: str) -> str:
    suffix = Path(path).suffix.lower()
    if suffix not in _READERS:
        known = ", ".join(_READERS)
        raise ValueError(f"cannot tell its format: its name must end in one of {known}")
    return suffix


def _settings_in(
    content: Mapping[Any, Any], path: str, names: list[str], service_name: str
) -> dict[str, Found]:
    tables = (_COMMON, service_name)
    by_plain = {plain(name): name for name in names}
    found: dict[str, Found] = {}
    for key, value in _flat(content, path, tables, by_plain):
        if not isinstance(key, str) or plain(key) not in by_plain:
            raise ValueError(
                f"{path}: unknown key {key}{did_you_mean(str(key), [*names, *tables])}"
            )
        name = by_plain[plain(key)]
        if name in found:
            raise ValueError(f"{path}: {name} is there twice")
        found[name] = Found(value, f"{path}: {key}")
    return found


def _flat(
    content: Mapping[Any, Any], path: str, tables: Iterable[str], names: Mapping[str, str]
) -> Iterable[tuple[Any, Any]]:
    for key, value in content.items():
        if key not in tables or key in names:
            yield key, value
        elif isinstance(value, Mapping):
            yield from value.items()
        elif value is not None:  # in YAML, a table all of whose keys are comments
            raise ValueError(f"{path}: {key}: must hold names and values")
