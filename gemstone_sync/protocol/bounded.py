"""Encoding within a limit: a result that is too large becomes an error, not a memory spike.

A small object graph can have a huge text: one long string referenced a million times. msgspec
encodes into a bytearray, and a bytearray that a memoryview looks at cannot grow: the encoder stops
with a BufferError where the buffer ends, whatever the types it is in the middle of.
"""

from __future__ import annotations

from typing import Any

from ..errors import ResponseTooLarge
from .codec import PLAIN, Encoder

__all__ = ["encode_bounded"]

#: Sizes of the buffer that are tried: zeroing a large one for a small text would cost more.
_FIRST_SIZE = 4096
_GROWTH = 8
#: The encoder writes a comma, and room for a number, before it knows the end.
_SLACK = 64

#: What is small at a glance goes the short way: so many entries, and strings so long.
_FEW = 32
_SHORT = 4096
_SCALARS = frozenset({int, float, bool, type(None)})


def encode_bounded(value: object, limit: int, encoder: Encoder = PLAIN) -> bytes:
    """Encode `value`, stopping where the text grows past `limit` bytes.

    :raises ResponseTooLarge: when the text is longer than `limit`.
    :raises TypeError, ValueError, RecursionError: when `value` cannot be represented as JSON.
    """
    text = encoder.encode(value) if _is_small(value) else _encode_within(value, limit, encoder)
    if len(text) > limit:
        raise ResponseTooLarge()
    return text


def _is_small(value: Any) -> bool:
    """Hot path: most results are scalars, or flat lists and objects of a few."""
    kind = type(value)
    if kind in _SCALARS:
        return True
    if kind is str:
        return len(value) <= _SHORT
    if kind is dict:
        entries = value.values()
    elif kind is list:
        entries = value
    else:
        return False
    if len(value) > _FEW:
        return False
    for entry in entries:
        kind = type(entry)
        if kind not in _SCALARS and (kind is not str or len(entry) > _SHORT):
            return False
    return True


def _encode_within(value: object, limit: int, encoder: Encoder) -> bytes:
    size = _FIRST_SIZE
    while True:
        size = min(size, limit + _SLACK)
        buffer = bytearray(size)
        with memoryview(buffer):
            try:
                encoder.encode_into(value, buffer)
            except BufferError:
                if size > limit:
                    raise ResponseTooLarge() from None
                size *= _GROWTH
                continue
        return bytes(buffer)
