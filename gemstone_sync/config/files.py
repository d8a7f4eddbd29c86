"""Configuration files: TOML, YAML, JSON and INI, read to the same mapping."""

from __future__ import annotations

import configparser
import importlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from .base import CollectingConfigurator, Raw
from .names import meant, plain

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

#: Bytes; what is longer is no configuration.
_MAX_SIZE = 1_000_000

#: Tables (INI: sections) whose keys count as if they stood at the top, beside the service's name.
_COMMON = "gemstone"


def _read_toml(text: str) -> Any:
    return tomllib.loads(text)


def _read_json(text: str) -> Any:
    return json.loads(text)


def _read_yaml(text: str) -> Any:
    try:
        yaml = importlib.import_module("yaml")
    except ImportError:
        raise ValueError("YAML needs PyYAML: pip install 'gemstone_sync[yaml]'") from None
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = "" if mark is None else f"line {mark.line + 1}: "
        raise ValueError(f"{place}{getattr(error, 'problem', None) or 'is not YAML'}") from error


def _read_ini(text: str) -> Any:
    # Keys may stand at the top, as in the other formats, though the format asks for a section.
    parser = configparser.ConfigParser(interpolation=None, default_section="")
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # names as they are written
    try:
        parser.read_string(f"[{_COMMON}]\n{text}" if _starts_with_key(text) else text)
    except configparser.Error as error:
        raise ValueError(str(error).replace("\n", " ")) from error
    return {name: dict(parser[name]) for name in parser.sections()}


def _starts_with_key(text: str) -> bool:
    lines = (line.strip() for line in text.splitlines())
    first = next((line for line in lines if line and line[0] not in "#;"), "")
    return first != "" and not first.startswith("[")


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
        """The file's text as a mapping.

        :raises ValueError: for a text that is not of the format.
        """
        return _READERS[self._format or _format_of(self.path)](text)

    def collect(self) -> dict[str, Raw]:
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
    """Takes the values of an INI file: all are texts, read by the kinds of the settings."""

    _format = ".ini"


def from_file(
    path: str,
    names: Iterable[str],
    service_name: str,
    read: Callable[[str], Any] | None = None,
) -> dict[str, Raw]:
    """The values of names that a file gives.

    :param read: what makes a mapping of the text; left out, what the file's name ends in decides.
    :raises ValueError: for a file that cannot be read, or keys that are not names.
    """
    try:
        content = (read or _READERS[_format_of(path)])(_text_of(path))
    except RecursionError:
        raise ValueError(f"{path}: is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if content is None:  # an empty YAML file
        content = {}
    if not isinstance(content, Mapping):
        raise ValueError(f"{path}: must hold names and values, not a {type(content).__name__}")
    return _settings_in(content, path, list(names), service_name)


def _format_of(path: str) -> str:
    suffix = Path(path).suffix.lower()
    if suffix not in _READERS:
        known = ", ".join(_READERS)
        raise ValueError(f"cannot tell its format: its name must end in one of {known}")
    return suffix


def _text_of(path: str) -> str:
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read(_MAX_SIZE + 1)
    except OSError as error:
        raise ValueError(error.strerror) from error
    except UnicodeDecodeError as error:
        raise ValueError("is not UTF-8") from error
    if len(text) > _MAX_SIZE:
        raise ValueError(f"is longer than {_MAX_SIZE} bytes")
    return text


def _settings_in(
    content: Mapping[Any, Any], path: str, names: list[str], service_name: str
) -> dict[str, Raw]:
    tables = (_COMMON, service_name)
    by_plain = {plain(name): name for name in names}
    found: dict[str, Raw] = {}
    for key, value in _flat(content, tables, by_plain):
        if not isinstance(key, str) or plain(key) not in by_plain:
            raise ValueError(f"{path}: unknown key {key}{meant(str(key), [*names, *tables])}")
        name = by_plain[plain(key)]
        if name in found:
            raise ValueError(f"{path}: {name} is there twice")
        found[name] = Raw(value, f"{path}: {key}")
    return found


def _flat(
    content: Mapping[Any, Any], tables: Iterable[str], names: Mapping[str, str]
) -> Iterable[tuple[Any, Any]]:
    for key, value in content.items():
        if key in tables and key not in names and isinstance(value, Mapping):
            yield from value.items()
        else:
            yield key, value
