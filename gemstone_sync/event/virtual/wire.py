"""How a message of kombu's lies in a store: as JSON text. Pure.

It is the dictionary that kombu's virtual transports pass around. A body that is text stays text, so
that whoever looks into the database can read it; any other is in base64.
"""

from __future__ import annotations

import base64
from typing import Any

import msgspec

__all__ = ["WireMessage", "decode_message", "encode_message"]


class WireMessage(msgspec.Struct):
    """A message, in kombu's words."""

    body: str
    content_type: str | None = msgspec.field(name="content-type", default=None)
    content_encoding: str | None = msgspec.field(name="content-encoding", default=None)
    headers: dict[str, Any] = {}
    properties: dict[str, Any] = {}

    def decoded_body(self) -> str | bytes:
        """:raises ValueError: when it is not what it says."""
        if self.properties.get("body_encoding") == "base64":
            return base64.b64decode(self.body, validate=True)
        return self.body


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(WireMessage)


def encode_message(
    body: str | bytes,
    *,
    content_type: str | None,
    content_encoding: str | None,
    headers: dict[str, Any],
    properties: dict[str, Any],
    exchange: str,
    routing_key: str,
) -> bytes:
    """:raises ValueError, TypeError: when there is something in it that JSON has not."""
    encoding = "utf-8"
    if not isinstance(body, str):
        raw = bytes(body)
        try:
            body = raw.decode()
        except UnicodeDecodeError:
            body, encoding = base64.b64encode(raw).decode("ascii"), "base64"
    properties = {
        **properties,
        "body_encoding": encoding,
        "delivery_info": {"exchange": exchange, "routing_key": routing_key},
    }
    return _encoder.encode(WireMessage(body, content_type, content_encoding, headers, properties))


def decode_message(payload: bytes) -> WireMessage:
    """:raises ValueError: when nothing of ours has written this."""
    try:
        return _decoder.decode(payload)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
