"""Classes that msgspec does not know and JSON can give all the same: paths, IP addresses, deques.

A subclass of str, int or float of the user's own is made by calling it.
"""

from __future__ import annotations

import collections
import collections.abc
import ipaddress
import os
import pathlib
import typing
from collections.abc import Callable
from typing import Any

__all__ = ["ValueRefused", "is_custom", "items_of", "json_schema_of", "make_custom"]


class ValueRefused(ValueError):
    """A value that a class is not made of; its text says why, without the value."""


#: Made of a text. The schema's format is JSON Schema's where it has one (draft 2020-12, 7.3).
_OF_TEXT: dict[type, str] = {
    pathlib.PurePath: "path",
    ipaddress.IPv4Address: "ipv4",
    ipaddress.IPv6Address: "ipv6",
    ipaddress.IPv4Network: "ipv4network",
    ipaddress.IPv6Network: "ipv6network",
    ipaddress.IPv4Interface: "ipv4interface",
    ipaddress.IPv6Interface: "ipv6interface",
}
#: Made of an array.
_OF_LIST: dict[Any, Callable[[list[Any]], Any]] = {
    collections.deque: collections.deque,
    collections.abc.Iterable: list,
    collections.abc.Container: list,
    collections.abc.Reversible: list,
}
_SCALARS: dict[type, dict[str, str]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
}


def is_custom(hint: Any) -> bool:
    """Tell whether `make_custom` makes values of a class, or of a generic one's alias."""
    return _base_of(hint) is not None


def items_of(hint: Any) -> Any:
    """Return the hint of the list that a value is made of; None when it is made of no list.

    >>> items_of(collections.deque[int])
    list[int]
    """
    if (typing.get_origin(hint) or hint) not in _OF_LIST:
        return None
    arguments = typing.get_args(hint)
    return list[arguments[0]] if arguments else list  # type: ignore[valid-type]


def make_custom(hint: Any, value: Any, make: Callable[[Any, Any], Any]) -> Any:
    """Make an instance of a decoded JSON value.

    :param make: makes the items of what is made of a list; gets their hint and the value.
    :raises ValueRefused: when it cannot be made of this value.
    """
    cls = typing.get_origin(hint) or hint
    if (items := items_of(hint)) is not None:
        return _OF_LIST[cls](make(items, value))
    if cls is os.PathLike:
        cls = pathlib.Path
    base = _base_of(cls)
    wanted = base if base in _SCALARS else str
    if base is float and type(value) is int:
        value = float(value)
    if type(value) is not wanted:
        raise ValueRefused(f"Expected `{wanted.__name__}`, got `{json_name(value)}`")
    try:
        return cls(value)
    except Exception:  # of the user's class it may be any
        raise ValueRefused(f"Invalid {cls.__name__}") from None


def json_schema_of(hint: Any) -> dict[str, Any]:
    """Return the JSON Schema of a class, for ``schema_hook`` of msgspec.

    :raises NotImplementedError: for a class that is not one of these.

    >>> json_schema_of(pathlib.Path)
    {'type': 'string', 'format': 'path'}
    """
    cls = typing.get_origin(hint) or hint
    if cls in _OF_LIST:
        return {"type": "array"}
    base = _base_of(cls)
    if base is None:
        raise NotImplementedError
    return (
        dict(_SCALARS[base]) if base in _SCALARS else {"type": "string", "format": _OF_TEXT[base]}
    )


def json_name(value: object) -> str:
    """Return what JSON calls the type of a value, as msgspec does in its errors."""
    return _JSON_NAMES.get(type(value), type(value).__name__)


_JSON_NAMES = {type(None): "null", list: "array", dict: "object"}


def _base_of(hint: Any) -> Any:
    cls = typing.get_origin(hint) or hint
    if cls in _OF_LIST:
        return cls
    if cls is os.PathLike:
        return pathlib.PurePath
    if not isinstance(cls, type):
        return None
    return next((base for base in (*_OF_TEXT, *_SCALARS) if issubclass(cls, base)), None)
