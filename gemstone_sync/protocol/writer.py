"""Messages -> bytes, in the two wire formats.

`StrictWriter` writes JSON-RPC 2.0: result or error, never both. `GemstoneWriter` writes what the
old gemstone library wrote, member for member and blank for blank: both members in every response,
and a reply to notifications.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import msgspec

from ..errors import UNSET
from .bounded import encode_bounded
from .codec import PLAIN, Encoder
from .messages import ErrorObject, JsonRpcResponse

__all__ = ["WIRE_FORMATS", "GemstoneWriter", "ResponseWriter", "StrictWriter", "Writer"]


class ResponseWriter(Protocol):
    """Writes a response."""

    def write_response(
        self, response: JsonRpcResponse, limit: int, encoder: Encoder = PLAIN
    ) -> bytes:
        """Encode one response of at most `limit` bytes.

        :raises ResponseTooLarge: when its result or error is longer.
        :raises TypeError, ValueError, RecursionError: when it cannot be represented as JSON.
        """


class Writer(ResponseWriter, Protocol):
    """A wire format."""

    def write_batch(self, responses: Iterable[bytes]) -> bytes:
        """Join encoded responses, in their order, to one batch."""

    #: The reply to a notification, None for none.
    notification_reply: bytes | None
    #: The reply to a batch of notifications only, None for none.
    empty_batch_reply: bytes | None


def _error_members(error: ErrorObject) -> dict[str, object]:
    members: dict[str, object] = {"code": error.code, "message": error.message}
    if error.data is not UNSET:
        members["data"] = error.data
    return members


class StrictWriter:
    """JSON-RPC 2.0, section 5.

    >>> StrictWriter().write_response(JsonRpcResponse(result=False, id=0), 1000)
    b'{"jsonrpc":"2.0","result":false,"id":0}'
    """

    notification_reply: bytes | None = None
    empty_batch_reply: bytes | None = None

    def write_response(
        self, response: JsonRpcResponse, limit: int, encoder: Encoder = PLAIN
    ) -> bytes:
        member = b"" if response.id is UNSET else b',"id":%b' % encoder.encode(response.id)
        if response.error is UNSET:
            result = encode_bounded(response.result, limit, encoder)
            return b'{"jsonrpc":"2.0","result":%b%b}' % (result, member)
        error = encode_bounded(_error_members(response.error), limit, encoder)
        return b'{"jsonrpc":"2.0","error":%b%b}' % (error, member)

    def write_batch(self, responses: Iterable[bytes]) -> bytes:
        return b"[" + b",".join(responses) + b"]"


class GemstoneWriter:
    """The form of gemstone 0.10.1, as its documentation prints it.

    >>> GemstoneWriter().write_response(JsonRpcResponse(result="hello world", id=1), 1000).decode()
    '{"result": "hello world", "error": null, "jsonrpc": "2.0", "id": 1}'
    """

    notification_reply: bytes | None = b'{"result": null, "error": null, "jsonrpc": "2.0"}'
    empty_batch_reply: bytes | None = b"[]"

    def write_response(
        self, response: JsonRpcResponse, limit: int, encoder: Encoder = PLAIN
    ) -> bytes:
        member = b"" if response.id is UNSET else b', "id": %b' % encoder.encode(response.id)
        result = error = b"null"
        if response.error is UNSET:
            result = _with_blanks(encode_bounded(response.result, limit, encoder))
        else:
            error = _with_blanks(encode_bounded(_error_members(response.error), limit, encoder))
        return b'{"result": %b, "error": %b, "jsonrpc": "2.0"%b}' % (result, error, member)

    def write_batch(self, responses: Iterable[bytes]) -> bytes:
        return b"[" + b", ".join(responses) + b"]"


def _with_blanks(text: bytes) -> bytes:
    return msgspec.json.format(text, indent=0)


#: The values of ``MicroService.wire_format``.
WIRE_FORMATS: dict[str, Writer] = {"jsonrpc": StrictWriter(), "gemstone": GemstoneWriter()}
