"""Read a request's body within a limit, from any WSGI server.

A body over the limit is known by its Content-Length, or, when it comes in chunks, by the first
byte beyond: never a part of a body taken for the whole.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import gevent
from werkzeug.exceptions import (
    BadRequest,
    HTTPException,
    RequestEntityTooLarge,
    RequestHeaderFieldsTooLarge,
    RequestTimeout,
)

from .head import HttpFault
from .streams import DRAIN_BYTES, DRAIN_SECONDS

__all__ = ["EarlyAnswer", "LimitedBody", "read_body"]

_PIECE = 64 * 1024
#: What our own server's streams refuse with another status than 400.
_FAULTS: dict[int, type[HTTPException]] = {
    408: RequestTimeout,
    431: RequestHeaderFieldsTooLarge,
}


def read_body(environ: dict[str, Any], limit: int) -> bytes:
    """Read the whole body.

    :raises RequestEntityTooLarge: when it is longer than `limit` bytes.
    :raises RequestTimeout: when it does not come in time.
    :raises RequestHeaderFieldsTooLarge: when it ends with too many fields.
    :raises BadRequest: when it is shorter than announced or its chunks are malformed.
    """
    announced = environ.get("CONTENT_LENGTH")
    stream = environ["wsgi.input"]
    try:
        if announced:
            length = int(announced)
            if length > limit:
                raise RequestEntityTooLarge
            body: bytes = stream.read(length)
            if len(body) != length:
                raise BadRequest
            return body
        if "HTTP_TRANSFER_ENCODING" in environ or environ.get("wsgi.input_terminated"):
            return _read_chunked(stream, limit)
        return b""
    except (RequestEntityTooLarge, BadRequest):
        raise
    except HttpFault as fault:
        raise _FAULTS.get(fault.status, BadRequest) from fault
    except Exception as error:  # each WSGI server has its own exceptions for a broken body
        raise BadRequest from error


def _read_chunked(stream: Any, limit: int) -> bytes:
    pieces: list[bytes] = []
    size = 0
    while True:
        # Never more than one byte beyond the limit.
        piece = stream.read(min(_PIECE, limit + 1 - size))
        if not piece:
            return b"".join(pieces)
        pieces.append(piece)
        size += len(piece)
        if size > limit:
            raise RequestEntityTooLarge


class EarlyAnswer:
    """Answer over WSGI and, once that is sent, read a little of what the client still sends."""

    def __init__(self, body: bytes, environ: dict[str, Any]) -> None:
        self._body = body
        self._environ = environ

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[bytes]:
        yield b"" if self._environ["REQUEST_METHOD"] == "HEAD" else self._body

    def close(self) -> None:
        """Read; called by the WSGI server after the body was sent (PEP 3333)."""
        if "HTTP_EXPECT" in self._environ or "gemstone_sync.server" in self._environ:
            return  # it waits for "100 Continue" and sends nothing; or our own server drains
        stream = self._environ["wsgi.input"]
        left = DRAIN_BYTES
        with gevent.Timeout(DRAIN_SECONDS, False):
            try:
                while left > 0 and (piece := stream.read(min(_PIECE, left))):
                    left -= len(piece)
            except Exception:
                return  # the client is gone: nobody is left to reset


class LimitedBody(io.RawIOBase):
    """Give Flask's request its body, which is read with `read_body` when first touched."""

    def __init__(self, environ: dict[str, Any], limit: int) -> None:
        self._source = dict(environ)
        self._limit = limit
        self._body: io.BytesIO | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._whole().readinto(buffer)

    def readline(self, size: int | None = -1) -> bytes:
        return self._whole().readline(-1 if size is None else size)

    def _whole(self) -> io.BytesIO:
        if self._body is None:
            self._body = io.BytesIO(read_body(self._source, self._limit))
        return self._body
