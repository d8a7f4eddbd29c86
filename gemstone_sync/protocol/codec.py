"""JSON text <-> Python values, on msgspec.

Chosen because it is exact on big ints, refuses NaN, Infinity, 1e999, UTF-16, a byte order mark
and lone surrogates, and raises on deep nesting. NaN and infinities in a value are written as
``null``, as JavaScript's JSON.stringify does.
"""

from __future__ import annotations

import datetime
import gc
from collections.abc import Callable
from typing import Any

import msgspec

from ..errors import ParseError

__all__ = ["decode_json", "encode_json"]

_decode = msgspec.json.Decoder().decode

#: Bytes from which a text may hold so many lists that the garbage collector would take longer over
#: them than the decoder: ten million bytes of ``[],`` 1.0 s instead of 0.27.
_LARGE = 100_000


def decode_json(text: bytes) -> Any:
    """Decode JSON text (RFC 8259) in UTF-8.

    Of duplicate keys the last one wins. Ints may have 4,300 digits, which is Python's own limit.

    :raises ParseError: for anything that is not JSON text.

    >>> decode_json(b'{"a": 1, "a": 2}')
    {'a': 2}
    """
    try:
        return _decode(text) if len(text) < _LARGE else _decode_uncollected(text)
    except (ValueError, RecursionError) as error:
        # msgspec's own errors and UnicodeDecodeError are ValueErrors; it reports numbers out of
        # range as a validation fault, but no schema is in play here: the text is at fault.
        raise ParseError() from error


#: A program that freezes its objects has more, and they must stay so; Python 3.12's own are 375.
_FROZEN = 1000


def _decode_uncollected(text: bytes) -> Any:
    """Decode without collecting garbage: what is being made is none."""
    if not gc.isenabled():
        return _decode(text)
    gc.disable()
    try:
        return _decode(text)
    finally:
        if gc.get_freeze_count() < _FROZEN:
            # Moves everything to the oldest generation, without looking at it.
            gc.freeze()
            gc.unfreeze()
        gc.enable()


#: Subclasses of these are written as the class itself: numpy.float64, Markup, pandas.Timestamp.
_PLAIN: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (str, str.__str__),
    (int, int.__int__),
    (float, float.__float__),
    (datetime.datetime, datetime.datetime.isoformat),
    (datetime.date, datetime.date.isoformat),
)


def _encode_other(value: Any) -> Any:
    """Make plain data of a value that msgspec does not know."""
    if value is None or isinstance(value, bool):  # as a key only: JavaScript's and json's form
        return "null" if value is None else str(value).lower()
    if hasattr(type(value), "model_dump"):  # a pydantic model, without importing pydantic
        return value.model_dump(mode="json")
    for cls, plain in _PLAIN:
        if isinstance(value, cls):
            return plain(value)
    raise TypeError(f"an instance of {type(value).__qualname__} cannot be represented as JSON")


_encoder = msgspec.json.Encoder(enc_hook=_encode_other)
_encode = _encoder.encode
#: Writes into a bytearray, and gives it the length of the text.
encode_into = _encoder.encode_into


def encode_json(value: object) -> bytes:
    """Encode `value` as JSON text.

    Beside JSON's own types: dataclasses, msgspec Structs, pydantic models, enums, sets, datetimes,
    UUIDs, Decimals (as strings) and bytes (base64).

    :raises TypeError, ValueError, RecursionError: when `value` cannot be represented.
    """
    return _encode(value)
