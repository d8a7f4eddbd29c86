"""Encoding within a limit: a result that is too large becomes an error, not a memory spike.

A small object graph can have a huge text: one long string referenced a million times. Where a
result holds long containers near its top, they are encoded piece by piece and given up early.
"""

from __future__ import annotations

from typing import Any

from ..errors import ResponseTooLarge
from .codec import encode_json

__all__ = ["encode_bounded"]

#: Containers with fewer entries are encoded in one go.
_LONG = 64
#: So many levels are searched for long containers, through containers that are not long.
_LEVELS = 4
#: Entries of a long list that are encoded at once.
_SLICE = 256


def encode_bounded(value: object, limit: int) -> bytes:
    """Encode `value`, stopping soon after the text grows past `limit` bytes.

    :raises ResponseTooLarge: when the text is longer than `limit`.
    :raises TypeError, ValueError, RecursionError: when `value` cannot be represented as JSON.
    """
    text = _encode(value, limit, _LEVELS)
    if len(text) > limit:
        raise ResponseTooLarge()
    return text


def _encode(value: Any, limit: int, levels: int) -> bytes:
    kind = type(value)
    if kind is list or kind is tuple:
        if len(value) >= _LONG:
            return b"[" + _encode_slices(value, limit) + b"]"
        if levels and any(_holds_long(entry, levels - 1) for entry in value):
            return b"[" + _encode_each(value, limit, levels) + b"]"
    elif kind is dict and (len(value) >= _LONG or _holds_long(value, levels)):
        return b"{" + _encode_members(value, limit, levels) + b"}"
    return encode_json(value)


def _holds_long(value: Any, levels: int) -> bool:
    kind = type(value)
    if kind is not list and kind is not dict and kind is not tuple:
        return False
    if len(value) >= _LONG:
        return True
    entries = value.values() if kind is dict else value
    return levels > 0 and any(_holds_long(entry, levels - 1) for entry in entries)


def _encode_each(values: Any, limit: int, levels: int) -> bytes:
    texts: list[bytes] = []
    for entry in values:
        texts.append(_encode(entry, limit, levels - 1))
        limit = _left(limit, texts[-1])
    return b",".join(texts)


def _encode_members(members: dict[Any, Any], limit: int, levels: int) -> bytes:
    texts: list[bytes] = []
    for key, entry in members.items():
        # The key goes through the encoder within a dict: it may be an int or an enum.
        name = encode_json({key: None})[1:-5]
        texts.append(name + _encode(entry, limit, max(0, levels - 1)))
        limit = _left(limit, texts[-1])
    return b",".join(texts)


def _encode_slices(values: Any, limit: int) -> bytes:
    texts: list[bytes] = []
    for start in range(0, len(values), _SLICE):
        part = values[start : start + _SLICE]
        if sum(len(entry) for entry in part if type(entry) is str) > limit:
            raise ResponseTooLarge()
        if any(_holds_long(entry, 1) for entry in part):
            texts.append(_encode_each(part, limit, _LEVELS))
        else:
            texts.append(encode_json(part)[1:-1])
        limit = _left(limit, texts[-1])
    return b",".join(texts)


def _left(limit: int, text: bytes) -> int:
    limit -= len(text) + 1
    if limit < -1:
        raise ResponseTooLarge()
    return limit
