"""Type hints of attributes, and what stands in for those that have none."""

from __future__ import annotations

import datetime
import decimal
import enum
import typing
import uuid
from pathlib import Path
from typing import Any, ClassVar, Final

from ..annotations import is_alias
from ..errors import UNSET

__all__ = ["bare", "hint_of_value"]

#: What a default that has no hint may be; a date and time is a date, and True an int.
_PLAIN = (
    bool,
    int,
    float,
    str,
    bytes,
    dict,
    Path,
    datetime.datetime,
    datetime.date,
    datetime.time,
    datetime.timedelta,
    decimal.Decimal,
    uuid.UUID,
)


def bare(hint: Any) -> Any:
    """Return the hint of the value: int of ``ClassVar[int]`` and of ``NewType("Id", int)``."""
    if hint is ClassVar or hint is Final:
        return UNSET
    if typing.get_origin(hint) in (ClassVar, Final):
        return bare(typing.get_args(hint)[0])
    if isinstance(hint, typing.NewType):
        return bare(hint.__supertype__)
    if is_alias(hint):
        return bare(hint.__value__)
    return hint


def hint_of_value(value: Any) -> Any:
    """Derive the type hint that a default without one would have; UNSET when nothing can be told.

    >>> hint_of_value([1, 2]), hint_of_value(("a", 1))
    (list[int], tuple[str, ...])
    """
    if isinstance(value, enum.Enum) and value is not UNSET:
        return type(value)
    for plain in _PLAIN:
        if isinstance(value, plain):
            return plain
    for many in (list, tuple, set, frozenset):
        if isinstance(value, many):
            kinds = {type(item) for item in value}
            item = kinds.pop() if len(kinds) == 1 else str
            item = item if item in (int, float, bool) else str
            return tuple[item, ...] if many is tuple else many[item]  # type: ignore[valid-type]
    return UNSET
