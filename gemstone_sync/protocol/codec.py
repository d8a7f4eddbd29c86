"""JSON text <-> Python values, on msgspec.

Chosen because it is exact on big ints, refuses NaN, Infinity, 1e999, UTF-16, a byte order mark
and lone surrogates, and raises on deep nesting. NaN and infinities in a value are written as
``null``, as JavaScript's JSON.stringify does.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ..errors import ParseError, ResponseTooLarge

__all__ = ["decode_json", "encode_json", "encode_bounded"]

_decode = msgspec.json.Decoder().decode

#: A container with fewer entries than this is encoded in one go: checking costs more than it saves.
_SMALL = 1024


def decode_json(text: bytes) -> Any:
    """Decode JSON text (RFC 8259) in UTF-8.

    Of duplicate keys the last one wins. Ints may have 4,300 digits, which is Python's own limit.

    :raises ParseError: for anything that is not JSON text.

    >>> decode_json(b'{"a": 1, "a": 2}')
    {'a': 2}
    """
    try:
        return _decode(text)
    except (ValueError, RecursionError) as error:
        # msgspec's own errors and UnicodeDecodeError are ValueErrors; it reports numbers out of
        # range as a validation fault, but no schema is in play here: the text is at fault.
        raise ParseError() from error


def _encode_other(value: Any) -> Any:
    """Make plain data of a value that msgspec does not know."""
    if hasattr(type(value), "model_dump"):  # a pydantic model, without importing pydantic
        return value.model_dump(mode="json")
    raise TypeError(f"a {type(value).__name__} cannot be represented as JSON")


_encode = msgspec.json.Encoder(enc_hook=_encode_other).encode


def encode_json(value: object) -> bytes:
    """Encode `value` as JSON text.

    Beside JSON's own types: dataclasses, msgspec Structs, pydantic models, enums, sets, datetimes,
    UUIDs, Decimals (as strings) and bytes (base64).

    :raises TypeError, ValueError, RecursionError: when `value` cannot be represented.
    """
    return _encode(value)


def encode_bounded(value: object, limit: int) -> bytes:
    """Encode `value`, stopping soon after the text grows past `limit` bytes.

    A small object graph can have a huge text (one long string referenced a million times), so
    large lists and dicts are encoded piece by piece and given up early.

    :raises ResponseTooLarge: when the text is longer than `limit`.
    """
    if isinstance(value, (list, tuple)) and len(value) >= _SMALL:
        text = b"[" + _encode_pieces(value, limit) + b"]"
    elif type(value) is dict and _has_large_part(value):
        parts: list[bytes] = []
        left = limit
        for key, part in value.items():
            # The key goes through the encoder inside a dict: it may be an int or an enum.
            name = _encode({key: None})[1:-5]
            parts.append(name + encode_bounded(part, left))
            left -= len(parts[-1]) + 1
            if left < 0:
                raise ResponseTooLarge()
        text = b"{" + b",".join(parts) + b"}"
    else:
        text = _encode(value)
    if len(text) > limit:
        raise ResponseTooLarge()
    return text


def _has_large_part(value: dict[Any, Any]) -> bool:
    if len(value) >= _SMALL:
        return True
    return any(
        isinstance(part, (list, tuple, dict)) and len(part) >= _SMALL for part in value.values()
    )


def _encode_pieces(values: list[Any] | tuple[Any, ...], limit: int) -> bytes:
    """Encode the entries of a long list, in slices sized by what the previous ones took."""
    parts: list[bytes] = []
    done = size = 0
    step = 1
    while done < len(values):
        text = _encode(values[done : done + step])[1:-1]
        done += step
        parts.append(text)
        size += len(text) + 1
        if size > limit:
            raise ResponseTooLarge()
        # At most double, and no more entries than would fit at the average size so far.
        step = max(1, min(step * 2, (limit - size) * done // size + 1))
    return b",".join(parts)
