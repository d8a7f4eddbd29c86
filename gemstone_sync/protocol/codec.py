"""JSON text <-> Python values, on msgspec.

Chosen because it is exact on big ints, refuses NaN, Infinity, 1e999, UTF-16, a byte order mark
and lone surrogates, and raises on deep nesting. NaN and infinities in a value are written as
``null``, as JavaScript's JSON.stringify does.
"""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import gc
import ipaddress
import os
from collections.abc import Callable
from typing import Any

import msgspec

from ..errors import ParseError

__all__ = ["PLAIN", "Encoder", "decode_json", "encode_json"]

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


#: What msgspec does not know, subclasses of what it knows among them (numpy.float64, Markup,
#: pandas.Timestamp), and what each is written as. A date and time is a date: the order counts.
_KNOWN: tuple[tuple[type | tuple[type, ...], Callable[[Any], Any]], ...] = (
    (str, str.__str__),
    (int, int.__int__),
    (float, float.__float__),
    (datetime.datetime, datetime.datetime.isoformat),
    (datetime.date, datetime.date.isoformat),
    (datetime.time, datetime.time.isoformat),
    (datetime.timedelta, lambda v: datetime.timedelta(v.days, v.seconds, v.microseconds)),
    (decimal.Decimal, decimal.Decimal),
    (bytes, lambda value: memoryview(value).tobytes()),
    (collections.deque, list),
    (os.PathLike, os.fspath),
    (
        (
            ipaddress.IPv4Address,
            ipaddress.IPv6Address,
            ipaddress.IPv4Network,
            ipaddress.IPv6Network,
            ipaddress.IPv4Interface,
            ipaddress.IPv6Interface,
        ),
        str,
    ),
)


class _Unknown(TypeError):
    """A value that cannot be represented as JSON."""

    def __init__(self, value: Any) -> None:
        kind = type(value).__qualname__
        super().__init__(f"an instance of {kind} cannot be represented as JSON")
        self.value = value


def _encode_other(value: Any) -> Any:
    """Make plain data of a value that msgspec does not know."""
    if value is None or isinstance(value, bool):  # as a key only: JavaScript's and json's form
        return "null" if value is None else str(value).lower()
    if hasattr(type(value), "model_dump"):  # a pydantic model, without importing pydantic
        return value.model_dump(mode="json", by_alias=True)  # by the names in its schema
    for cls, plain in _KNOWN:
        if isinstance(value, cls):
            return plain(value)
    if _is_numpys(value):
        return value.item()
    raise _Unknown(value)


def _is_numpys(value: Any) -> bool:
    """Tell whether a value is one of numpy's scalars, without importing numpy."""
    found = any(c.__name__ == "generic" and c.__module__ == "numpy" for c in type(value).__mro__)
    return found and type(value.item()) is not type(value)  # as a longdouble's is


class Encoder:
    """Writes values as JSON text.

    :param other: makes plain data of a value that JSON has no form for; what it raises, and None,
        means that there is none.

    >>> Encoder(lambda value: value.real if isinstance(value, complex) else None).encode([1j])
    b'[0.0]'
    """

    def __init__(self, other: Callable[[Any], Any] | None = None) -> None:
        self._other = other
        encoder = msgspec.json.Encoder(enc_hook=_encode_other if other is None else self._hook)
        self._encode = encoder.encode
        self._encode_into = encoder.encode_into

    def encode(self, value: object) -> bytes:
        """Encode `value` as JSON text.

        :raises TypeError, ValueError, RecursionError: when `value` cannot be represented.
        """
        try:
            return self._encode(value)
        except _Unknown as unknown:
            raise _of_key(value, unknown) from unknown.__cause__

    def encode_into(self, value: object, buffer: bytearray) -> None:
        """Write the text of `value` into a buffer, which then has the length of the text.

        :raises TypeError, ValueError, RecursionError: when `value` cannot be represented.
        """
        try:
            self._encode_into(value, buffer)
        except _Unknown as unknown:
            raise _of_key(value, unknown) from unknown.__cause__

    def _hook(self, value: Any) -> Any:
        try:
            return _encode_other(value)
        except _Unknown as unknown:
            try:
                made = self._other(value)  # type: ignore[misc]
            except Exception as error:
                raise unknown from error
            if made is None or made is value:
                raise
            return made


def _of_key(value: object, unknown: _Unknown) -> TypeError:
    """Make the error that is told: of a key, when it was a key that could not be written."""
    left, seen = [value], set()
    while left:
        part = left.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, dict):
            for key in part:
                if key is unknown.value or getattr(key, "value", None) is unknown.value:
                    return _wrong_key(key)
            left += part.values()
        elif isinstance(part, (list, tuple, set, frozenset)):
            left += part
        elif dataclasses.is_dataclass(part) and hasattr(part, "__dict__"):
            left += vars(part).values()
    if isinstance(unknown.value, (dict, list, tuple, set, frozenset)):  # which are fine as values
        return _wrong_key(unknown.value)
    return TypeError(str(unknown))


def _wrong_key(key: object) -> TypeError:
    return TypeError(f"a key of type {type(key).__qualname__} cannot be represented as JSON")


PLAIN = Encoder()


def encode_json(value: object) -> bytes:
    """Encode `value` as JSON text.

    Beside JSON's own types: dataclasses, msgspec Structs, pydantic models, enums, sets, deques,
    datetimes, UUIDs, Decimals (as strings), paths, IP addresses, numpy's scalars, subclasses of
    any of these, and bytes (base64).

    :raises TypeError, ValueError, RecursionError: when `value` cannot be represented.
    """
    return PLAIN.encode(value)
