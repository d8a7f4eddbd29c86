"""``wsgi.input`` for bodies that are not in memory yet: with a length, and in chunks.

A stream asks its connection for bytes and tells the connection, at the end, which bytes belong to
the next request.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import httptools

from .head import MAX_FIELDS, MAX_HEAD, HttpFault, feed

if TYPE_CHECKING:
    from .connection import HttpConnection

__all__ = [
    "DRAIN_BYTES",
    "DRAIN_SECONDS",
    "BodyStream",
    "ChunkedStream",
    "ClientGone",
    "LengthStream",
]

#: After an early answer this much is still read, for this long: closing at once would make the
#: client's system throw the answer away (a reset) while it is still sending.
DRAIN_BYTES = 256 * 1024
DRAIN_SECONDS = 1.0

#: Trailer fields that would change the meaning of the head (RFC 9110, section 6.5.1).
_FORBIDDEN_TRAILERS = frozenset(
    b"transfer-encoding content-length host connection content-type content-encoding "
    b"content-range authorization proxy-authorization cookie set-cookie expect te trailer "
    b"upgrade range max-forwards cache-control".split()
)
#: A line of chunk framing: a size and extensions, or a trailer field.
_MAX_LINE = 8 * 1024

_LINE_PIECE = 8 * 1024
#: Brings a parser to the beginning of a chunked body.
_CHUNKED_HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


class ClientGone(ConnectionError):
    """The client went away; nobody is left to answer."""


class BodyStream(io.RawIOBase):
    """The part that both kinds share. Reading is blocking, and ends with the body."""

    def __init__(self, connection: HttpConnection, buffered: bytes, expects: bool) -> None:
        self._connection = connection
        self._buffer = buffered
        self._expects_continue = expects
        #: True once the whole body was read.
        self.finished = False
        #: Why it cannot be read to its end.
        self.fault: HttpFault | None = None

    def can_be_skipped(self) -> bool:
        """Whether what the application leaves unread is little, and on its way."""
        return self.finished or (not self._expects_continue and self._is_nearly_read())

    def end_expecting(self) -> None:
        """Send no 100 any more: the answer begins, and it would stand in the middle of it."""
        self._expects_continue = False

    def _is_nearly_read(self) -> bool:
        raise NotImplementedError

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._take(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def read(self, size: int | None = -1) -> bytes:
        """As of a file: exactly `size` bytes unless the body ends before."""
        left = -1 if size is None else size
        first = self._take(left if left > 0 else 1 << 20) if left != 0 else b""
        if not first or len(first) == left:
            return first
        # Not a list of pieces: one of two bytes takes 43 of memory.
        whole = io.BytesIO()
        whole.write(first)
        while left < 0 or whole.tell() < left:
            piece = self._take(left - whole.tell() if left > 0 else 1 << 20)
            if not piece:
                break
            whole.write(piece)
        return whole.getvalue()

    def readline(self, size: int | None = -1) -> bytes:
        """One line, as of a file. io.RawIOBase would read byte by byte, 2 µs each."""
        pieces: list[bytes] = []
        left = -1 if size is None else size
        while left != 0:
            piece = self._take(min(left, _LINE_PIECE) if left > 0 else _LINE_PIECE)
            end = piece.find(b"\n") + 1
            if end:
                self._put_back(piece[end:])
                pieces.append(piece[:end])
                break
            if not piece:
                break
            pieces.append(piece)
            if left > 0:
                left -= len(piece)
        return b"".join(pieces)

    def _put_back(self, data: bytes) -> None:
        raise NotImplementedError

    def _take(self, most: int) -> bytes:
        try:
            return self._some(most)
        except HttpFault as fault:
            self.fault = fault
            raise

    def _some(self, most: int) -> bytes:
        """At least one byte, at most `most`; none at the end of the body."""
        raise NotImplementedError

    def _receive(self) -> bytes:
        if self._expects_continue:
            self._expects_continue = False
            self._connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        data = self._connection.receive_body()
        if not data:
            raise ClientGone("the client closed the connection within the body")
        return data

    def leftover(self) -> bytes:
        """What came after the body: the beginning of the next request."""
        return self._buffer


class LengthStream(BodyStream):
    """A body of a known length."""

    def __init__(
        self, connection: HttpConnection, buffered: bytes, expects: bool, length: int
    ) -> None:
        super().__init__(connection, buffered, expects)
        self.left = length

    def _is_nearly_read(self) -> bool:
        return self.left <= DRAIN_BYTES

    def _put_back(self, data: bytes) -> None:
        self._buffer = data + self._buffer
        self.left += len(data)
        self.finished = self.left == 0

    def _some(self, most: int) -> bytes:
        if self.left == 0:
            return b""
        if not self._buffer:
            self._buffer = self._receive()
        data = self._buffer[: min(most, self.left)]
        self._buffer = self._buffer[len(data) :]
        self.left -= len(data)
        self.finished = self.left == 0
        return data


class ChunkedStream(BodyStream):
    """A body in chunks (RFC 9112, section 7.1).

    llhttp judges every byte of the framing. It is fed line by line and chunk by chunk, so that it
    never sees a byte of the next request.
    """

    def __init__(self, connection: HttpConnection, buffered: bytes, expects: bool) -> None:
        super().__init__(connection, buffered, expects)
        # A parser of its own: the head's may have stopped at an Upgrade field.
        self._in_body = False
        self._parser = httptools.HttpRequestParser(self)
        self._parser.feed_data(_CHUNKED_HEAD)
        self._in_body = True
        self._data = b""
        self._chunk_left = 0
        self._in_trailers = False
        self._trailers = self._trailer_bytes = 0
        #: Up to where `_buffer` was read.
        self._at = 0

    def _is_nearly_read(self) -> bool:
        return False  # nobody knows how much is still to come

    # Called by llhttp

    def on_body(self, data: bytes) -> None:
        self._data += data

    def on_header(self, name: bytes, value: bytes) -> None:
        # Never merged into the head's fields; the forbidden ones are not even tolerated.
        if not self._in_body:
            return
        if name.lower() in _FORBIDDEN_TRAILERS:
            raise HttpFault(400, "A forbidden field in the trailers")
        self._trailers += 1
        if self._trailers > MAX_FIELDS:
            raise HttpFault(431, f"More than {MAX_FIELDS} trailer fields")

    def on_message_complete(self) -> None:
        self.finished = True

    def _put_back(self, data: bytes) -> None:
        self._data = data + self._data

    def _some(self, most: int) -> bytes:
        while not self._data and not self.finished:
            self._step()
        data, self._data = self._data[:most], self._data[most:]
        return data

    def _step(self) -> None:
        """Feed llhttp one line of framing, or what is there of a chunk."""
        if self._chunk_left:
            if self._at == len(self._buffer):
                self._buffer, self._at = self._receive(), 0
            data = self._buffer[self._at : self._at + self._chunk_left]
            self._at += len(data)
            self._chunk_left -= len(data)
            feed(self._parser, data)
            return
        line = self._line()
        feed(self._parser, line)
        if self._in_trailers:
            self._trailer_bytes += len(line)
            if self._trailer_bytes > MAX_HEAD:
                raise HttpFault(431, f"The trailers are longer than {MAX_HEAD} bytes")
            return
        size = int(line.split(b";", 1)[0], 16)  # llhttp has found it valid
        if size == 0:
            self._in_trailers = True
        else:
            self._chunk_left = size + 2  # with the CRLF after the data

    def _line(self) -> bytes:
        self._connection.spend(1)
        start = self._at
        while (end := self._buffer.find(b"\n", start)) < 0:
            if len(self._buffer) - self._at > _MAX_LINE:
                break
            self._buffer, self._at = self._buffer[self._at :], 0
            start = len(self._buffer)
            self._buffer += self._receive()
        if end < 0 or end - self._at > _MAX_LINE:
            raise HttpFault(400, "A line of chunk framing is too long")
        line, self._at = self._buffer[self._at : end + 1], end + 1
        return line

    def leftover(self) -> bytes:
        return self._buffer[self._at :]
