"""What a setting's values are: texts, numbers, switches, lists, durations; and how each is read.

The kind of a setting comes from the type hint of its attribute. A source of texts (a command line,
the environment, an INI file) and one of values (TOML, YAML, JSON) are read by the same rules.
"""

from __future__ import annotations

import collections.abc
import datetime
import json
import math
import os
import re
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec

from ..errors import UNSET

__all__ = ["Kind", "Seconds", "kind_of", "read_list", "read_seconds"]

#: Seconds, as a number or as text with a unit: ``90``, ``"1.5s"``, ``"500ms"``, ``"2m"``, ``"1h"``.
Seconds = Annotated[float, "seconds"]

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(ms|s|m|h|d)?")
_WHOLE = re.compile(r"[+-]?[0-9]{1,4000}")
_TRUE = {"true", "yes", "on", "1"}
_FALSE = {"false", "no", "off", "0"}
_NONE = {"none", "null"}
#: Stands for the values of a kind that is none of these.
_OTHER = "VALUE"
_LISTS = (list, tuple, set, frozenset, collections.abc.Sequence, collections.abc.Iterable)
_DICTS = (dict, collections.abc.Mapping)


@dataclass(frozen=True)
class Kind:
    """What the values of one setting are.

    :ivar wanted: what they must be, as an error says it.
    :ivar metavar: what stands for the value in a help text.
    :ivar read: makes a value of what was found; raises ValueError without a text.
    :ivar may_be_none: ``none`` stands for None.
    """

    wanted: str
    metavar: str
    read: Callable[[Any], Any]
    is_switch: bool = False
    is_list: bool = False
    may_be_none: bool = False

    def convert(self, found: Any) -> Any:
        """Make a value of what a source holds.

        >>> kind_of(list[int]).convert("1, 2")
        [1, 2]

        :raises ValueError: saying what it must be.
        """
        if self.may_be_none and _says_none(found):
            return None
        try:
            return self.read(found)
        except (ValueError, TypeError):
            wanted = f"{self.wanted}, or none" if self.may_be_none else self.wanted
            raise ValueError(f"must be {wanted}, not {found!r:.200}") from None


def kind_of(hint: Any, default: Any = UNSET) -> Kind:
    """The kind of values that a type hint describes.

    :param hint: a type hint; `UNSET` when there is none: then `default` shows what is wanted.
    """
    if hint is UNSET or hint is Any:
        hint = _hint_of_value(default)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return _kind_of_union(hint)
    if typing.get_origin(hint) is Annotated:
        base, *notes = typing.get_args(hint)
        return _SECONDS if "seconds" in notes else kind_of(base, default)
    origin = typing.get_origin(hint) or hint
    if origin in _LISTS:
        return _kind_of_list(hint, origin)
    if origin in _DICTS:
        return Kind("an object in JSON", "JSON", _read_dict)
    if hint in _SIMPLE:
        return _SIMPLE[hint]
    if typing.get_origin(hint) is typing.Literal:
        choices = typing.get_args(hint)
        return Kind(" or ".join(map(repr, choices)), "CHOICE", _reader_of(hint))
    return Kind("a value that fits", _OTHER, _reader_of(hint))


def read_list(found: Any) -> list[Any]:
    """The parts of a list: of a list, of ``a, b``, of ``["a", "b"]`` or ``[a, b]``.

    >>> read_list("a, b"), read_list('["a,b"]'), read_list("[a, b]"), read_list("")
    (['a', 'b'], ['a,b'], ['a', 'b'], [])

    :raises ValueError: for anything else.
    """
    if isinstance(found, (list, tuple)):
        return list(found)
    if not isinstance(found, str):
        raise ValueError
    text = found.strip()
    if text.startswith("[") and text.endswith("]"):
        try:
            parts = json.loads(text)
        except ValueError:
            text = text[1:-1]
        else:
            return typing.cast(list[Any], parts)
    return [part.strip() for part in text.split(",") if part.strip()]


def _says_none(found: Any) -> bool:
    return found is None or (isinstance(found, str) and found.strip().lower() in _NONE)


def _hint_of_value(value: Any) -> Any:
    if isinstance(value, (bool, int, float, str, Path, dict)):
        return type(value)
    if isinstance(value, (list, tuple, set, frozenset)):
        kinds = {type(item) for item in value}
        item = kinds.pop() if len(kinds) == 1 else str
        return list[item] if item in (int, float, bool) else list[str]  # type: ignore[valid-type]
    return str if value is None else UNSET


def _kind_of_union(hint: Any) -> Kind:
    members = typing.get_args(hint)
    kinds = [kind_of(member) for member in members if member is not type(None)]
    # Of `str | Store` only a text can be given from outside.
    kinds = [kind for kind in kinds if kind.metavar != _OTHER] or kinds
    # Any text is a text, and can be read as a list: `int | str` is a number where it can be.
    kinds.sort(key=lambda kind: (kind.is_list or kind.metavar == "JSON", kind.metavar == "TEXT"))
    first = kinds[0]
    return Kind(
        wanted=" or ".join(dict.fromkeys(kind.wanted for kind in kinds)),
        metavar=first.metavar,
        read=first.read if len(kinds) == 1 else lambda found: _first_that_reads(kinds, found),
        is_switch=len(kinds) == 1 and first.is_switch,
        is_list=len(kinds) == 1 and first.is_list,
        may_be_none=type(None) in members,
    )


def _first_that_reads(kinds: list[Kind], found: Any) -> Any:
    for kind in kinds:
        try:
            return kind.read(found)
        except (ValueError, TypeError):
            continue
    raise ValueError


def _kind_of_list(hint: Any, origin: Any) -> Kind:
    items = [item for item in typing.get_args(hint) if item is not Ellipsis]
    item = kind_of(items[0]) if items else kind_of(str)
    made: Callable[[list[Any]], Any] = origin if origin in (tuple, set, frozenset) else list
    wanted = f"a list ({item.metavar},{item.metavar},...)"

    def read(found: Any) -> Any:
        return made([item.read(part) for part in read_list(found)])

    return Kind(wanted, f"{item.metavar},...", read, is_list=True)


def _read_text(found: Any) -> str:
    if not isinstance(found, str):
        raise ValueError
    return found


def _read_switch(found: Any) -> bool:
    if isinstance(found, bool):
        return found
    word = str(found).strip().lower()
    if word not in _TRUE | _FALSE:
        raise ValueError
    return word in _TRUE


def _read_int(found: Any) -> int:
    if isinstance(found, str) and _WHOLE.fullmatch(found.strip()):
        return int(found)
    if not isinstance(found, int) or isinstance(found, bool):
        raise ValueError
    return found


def _read_float(found: Any) -> float:
    if isinstance(found, bool):
        raise ValueError
    number = float(found)
    if not math.isfinite(number):
        raise ValueError
    return number


def read_seconds(found: Any) -> float:
    """Seconds, of a number or of a text with a unit.

    >>> read_seconds("1.5m"), read_seconds(".5")
    (90, 0.5)

    :raises ValueError: for anything else.
    """
    if not isinstance(found, str):
        return _read_float(found)
    if (match := _DURATION.fullmatch(found.strip())) is None:
        raise ValueError
    number, unit = match.groups()
    seconds = float(number) * _UNITS[unit or "s"]
    return int(seconds) if seconds.is_integer() else seconds


def _read_dict(found: Any) -> dict[Any, Any]:
    value = json.loads(found) if isinstance(found, str) else found
    if not isinstance(value, dict):
        raise ValueError
    return value


def _reader_of(hint: Any) -> Callable[[Any], Any]:
    """Whatever else msgspec can make of plain values: enumerations, dates, dataclasses."""

    def read(found: Any) -> Any:
        if hint is UNSET:
            return found
        try:
            return msgspec.convert(found, hint, strict=False)
        except msgspec.ValidationError:
            if isinstance(found, str) and found.lstrip().startswith(("{", "[")):
                return msgspec.convert(json.loads(found), hint, strict=False)
            raise

    return read


_SECONDS = Kind(
    "a number of seconds, or a duration such as 500ms, 30s, 5m, 1h", "SECONDS", read_seconds
)

_SIMPLE: dict[Any, Kind] = {
    bool: Kind("true or false", "BOOL", _read_switch, is_switch=True),
    int: Kind("a whole number", "N", _read_int),
    float: Kind("a number", "NUMBER", _read_float),
    str: Kind("a text (in quotes where the file's format has other types)", "TEXT", _read_text),
    bytes: Kind("a text", "TEXT", lambda found: _read_text(found).encode()),
    Path: Kind("a path", "PATH", lambda found: Path(_read_text(found))),
    os.PathLike: Kind("a path", "PATH", lambda found: Path(_read_text(found))),
    datetime.timedelta: Kind(
        _SECONDS.wanted, "SECONDS", lambda found: datetime.timedelta(seconds=read_seconds(found))
    ),
}
