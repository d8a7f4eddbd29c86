"""Read the values of settings by type: texts, numbers, switches, lists, durations.

The type of a setting comes from the type hint of its attribute. A source of texts (a command line,
the environment, an INI file) and one of values (TOML, YAML, JSON) are read by the same rules.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import datetime
import decimal
import enum
import json
import math
import os
import re
import reprlib
import types
import typing
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec

from ..errors import UNSET
from .hints import bare, hint_of_value
from .redaction import without_passwords

__all__ = [
    "SettingType",
    "Seconds",
    "as_text",
    "brief",
    "setting_type_of",
    "read_list",
    "read_seconds",
    "wants_text",
]

#: Seconds, as a number or as text with a unit: ``90``, ``"1.5s"``, ``"500ms"``, ``"2m"``, ``"1h"``.
Seconds = Annotated[float, "seconds"]

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(ms|s|m|h|d)?")
_WHOLE = re.compile(r"[+-]?[0-9]{1,4000}")
_TRUE = {"true", "yes", "on", "1"}
_FALSE = {"false", "no", "off", "0"}
_NONE = {"none", "null"}
#: Stands for the values of a type that is none of these.
_OTHER = "VALUE"
_LISTS = (list, tuple, set, frozenset, collections.abc.Sequence, collections.abc.Iterable)
_DICTS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
#: Of a YAML file whose anchors multiply, a repr of the usual kind would never end.
_REPR = reprlib.Repr()
_REPR.maxlevel, _REPR.maxlist, _REPR.maxtuple, _REPR.maxdict = 3, 20, 20, 20
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = 200


@dataclass(frozen=True)
class SettingType:
    """The type of a setting's values: how they are read, named and shown.

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

        >>> setting_type_of(list[int]).convert("1, 2")
        [1, 2]

        :raises ValueError: saying what it must be.
        """
        if self.may_be_none and _says_none(found):
            return None
        try:
            return self.read(found)
        except (ValueError, TypeError, ArithmeticError, RecursionError):
            wanted = f"{self.wanted}, or none" if self.may_be_none else self.wanted
            raise ValueError(f"must be {wanted}, not {brief(found)}") from None


def setting_type_of(hint: Any, default: Any = UNSET) -> SettingType:
    """Return the type of setting that a type hint describes.

    :param hint: a type hint; `UNSET` when there is none: then `default` shows what is wanted.
    """
    hint = bare(hint)
    if hint is UNSET or hint is Any:
        hint = hint_of_value(default)
    if hint is UNSET:
        return dataclasses.replace(_AS_FOUND, may_be_none=default is None)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return _type_of_union(hint)
    if typing.get_origin(hint) is Annotated:
        base, *notes = typing.get_args(hint)
        return _SECONDS if "seconds" in notes else setting_type_of(base, default)
    origin = typing.get_origin(hint) or hint
    if origin in _LISTS:
        return _type_of_list(hint, origin)
    if origin in _DICTS:
        return _type_of_dict(hint)
    if hint in _SIMPLE:
        return _SIMPLE[hint]
    if typing.get_origin(hint) is typing.Literal:
        return _type_of_choices(typing.get_args(hint))
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return _type_of_choices(hint)
    return SettingType("a value that fits", _OTHER, _reader_of(hint))


def wants_text(hint: Any, text: str) -> bool:
    """Tell whether a type hint wants this text itself, rather than a value read from it.

    >>> wants_text(int | str, "3"), wants_text(int, "3"), wants_text(Seconds, "3m")
    (True, False, False)
    """
    hint = bare(hint)
    try:
        return hint is UNSET or type(msgspec.convert(text, hint)) is str
    except (msgspec.ValidationError, TypeError):  # TypeError: a hint that msgspec has not
        return setting_type_of(hint).metavar == _OTHER  # nor could it be read


def as_text(value: Any) -> str:
    """Write a value as one would give it.

    >>> as_text(False), as_text([1, 2]), as_text({"a": 1}), as_text(datetime.timedelta(minutes=1))
    ('false', '[1, 2]', '{"a": 1}', '60')
    """
    if value is None:
        return "none"
    if isinstance(value, enum.Enum):
        return as_text(value.value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime.timedelta):
        return f"{value.total_seconds():.15g}"
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, (list, tuple, set, frozenset)):
        return "[" + ", ".join(map(as_text, value)) + "]"
    if isinstance(value, dict):
        try:
            return json.dumps(value, default=as_text, ensure_ascii=False)
        except (TypeError, ValueError):  # keys that are no texts; a circle
            return str(value)
    return str(value)


def brief(found: Any) -> str:
    """Shorten a value for an error: 200 characters at most, no passwords of URLs."""
    return without_passwords(_REPR.repr(found))[:200]


def read_list(found: Any) -> list[Any]:
    """Read the parts of a list: of a list, of ``a, b``, of ``["a", "b"]`` or ``[a, b]``.

    >>> read_list("a, b"), read_list('["a,b"]'), read_list("[a, b]"), read_list("")
    (['a', 'b'], ['a,b'], ['a', 'b'], [])

    Lines are parts too: of an INI file, and of what ``file:/path`` stands for.

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
        except (ValueError, RecursionError):
            text = text[1:-1]
        else:
            return typing.cast(list[Any], parts)
    return [part.strip() for part in re.split("[,\\n]", text) if part.strip()]


def _says_none(found: Any) -> bool:
    return found is None or (isinstance(found, str) and found.strip().lower() in _NONE)


def _type_of_union(hint: Any) -> SettingType:
    members = typing.get_args(hint)
    types_ = [setting_type_of(member) for member in members if member is not type(None)]
    # Of `str | Store` only a text can be given from outside.
    types_ = [each for each in types_ if each.metavar != _OTHER] or types_
    # Any text is a text, and can be read as a list: `int | str` is a number where it can be.
    types_.sort(key=lambda each: (each.is_list or each.metavar == "JSON", each.metavar == "TEXT"))
    first = types_[0]
    return SettingType(
        wanted=" or ".join(dict.fromkeys(each.wanted for each in types_)),
        metavar=first.metavar,
        read=first.read if len(types_) == 1 else lambda found: _first_that_reads(types_, found),
        is_switch=len(types_) == 1 and first.is_switch,
        is_list=len(types_) == 1 and first.is_list,
        may_be_none=type(None) in members,
    )


def _first_that_reads(types_: list[SettingType], found: Any) -> Any:
    for each in types_:
        try:
            return each.read(found)
        except (ValueError, TypeError):
            continue
    raise ValueError


def _type_of_list(hint: Any, origin: Any) -> SettingType:
    items = typing.get_args(hint)
    if origin is tuple and items and Ellipsis not in items:
        return _type_of_fixed([setting_type_of(item) for item in items])
    item = setting_type_of(items[0]) if items else setting_type_of(str)
    made: Callable[[list[Any]], Any] = origin if origin in (tuple, set, frozenset) else list
    wanted = f"a list ({item.metavar},{item.metavar},...)"

    def read(found: Any) -> Any:
        return made([item.convert(part) for part in read_list(found)])

    return SettingType(wanted, f"{item.metavar},...", read, is_list=True)


def _type_of_fixed(items: list[SettingType]) -> SettingType:
    metavar = ",".join(item.metavar for item in items)

    def read(found: Any) -> Any:
        pairs = zip(items, read_list(found), strict=True)
        return tuple(item.convert(part) for item, part in pairs)

    return SettingType(f"a list of {len(items)} ({metavar})", metavar, read, is_list=True)


def _type_of_dict(hint: Any) -> SettingType:
    names, values = map(setting_type_of, typing.get_args(hint) or (Any, Any))

    def read(found: Any) -> Any:
        value = json.loads(found) if isinstance(found, str) else found
        if not isinstance(value, dict):
            raise ValueError
        return {names.convert(key): values.convert(each) for key, each in value.items()}

    wanted = "an object in JSON"
    if typing.get_args(hint):
        wanted += f" ({names.metavar}: {values.metavar})"
    return SettingType(wanted, "JSON", read)


def _type_of_choices(choices: Iterable[Any]) -> SettingType:
    by_text = {as_text(choice): choice for choice in choices}

    def read(found: Any) -> Any:
        if (text := as_text(found).strip()) not in by_text:
            raise ValueError
        return by_text[text]

    metavar = "|".join(by_text)
    return SettingType(
        " or ".join(map(repr, by_text)), metavar if len(metavar) <= 40 else "CHOICE", read
    )


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
    if isinstance(found, bool) or (isinstance(found, str) and "_" in found):
        raise ValueError
    number = float(found)
    if not math.isfinite(number):
        raise ValueError
    return number


def read_seconds(found: Any) -> float:
    """Read seconds from a number, or from a text with a unit.

    >>> read_seconds("1.5m"), read_seconds(".5")
    (90, 0.5)

    :raises ValueError: for anything else.
    """
    if not isinstance(found, str):
        return _read_float(found)
    if (match := _DURATION.fullmatch(found.strip())) is None:
        raise ValueError
    number, unit = match.groups()
    seconds = _read_float(float(number) * _UNITS[unit or "s"])
    return int(seconds) if seconds.is_integer() else seconds


def _reader_of(hint: Any) -> Callable[[Any], Any]:
    """Make a reader of whatever else msgspec can make of plain values: dates, dataclasses."""

    def read(found: Any) -> Any:
        try:
            return msgspec.convert(found, hint, strict=False)
        except msgspec.ValidationError:
            if isinstance(found, str) and found.lstrip().startswith(("{", "[")):
                return msgspec.convert(json.loads(found), hint, strict=False)
            raise

    return read


_AS_FOUND = SettingType("a value that fits", _OTHER, lambda found: found)

_SECONDS = SettingType(
    "a number of seconds, or a duration such as 500ms, 30s, 5m, 1h", "SECONDS", read_seconds
)

_SIMPLE: dict[Any, SettingType] = {
    bool: SettingType("true or false", "BOOL", _read_switch, is_switch=True),
    int: SettingType("a whole number", "N", _read_int),
    float: SettingType("a number", "NUMBER", _read_float),
    str: SettingType(
        "a text (in quotes where the file's format has other types)", "TEXT", _read_text
    ),
    bytes: SettingType("a text", "TEXT", lambda found: _read_text(found).encode()),
    Path: SettingType("a path", "PATH", lambda found: Path(_read_text(found))),
    os.PathLike: SettingType("a path", "PATH", lambda found: Path(_read_text(found))),
    datetime.timedelta: SettingType(
        _SECONDS.wanted, "SECONDS", lambda found: datetime.timedelta(seconds=read_seconds(found))
    ),
    datetime.date: SettingType("a date such as 2026-01-31", "DATE", _reader_of(datetime.date)),
    datetime.time: SettingType("a time such as 12:30:00", "TIME", _reader_of(datetime.time)),
    datetime.datetime: SettingType(
        "a date and time such as 2026-01-31T12:30:00", "DATETIME", _reader_of(datetime.datetime)
    ),
    decimal.Decimal: SettingType("a number", "NUMBER", _reader_of(decimal.Decimal)),
    uuid.UUID: SettingType("a UUID", "UUID", _reader_of(uuid.UUID)),
}
