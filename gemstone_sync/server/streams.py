"""Read bodies that are not in memory yet, as ``wsgi.input``: with a length, and in chunks.

A stream asks the client for bytes, and knows at the end which of them belong to the next request.
"""

from __future__ import annotations

import contextlib
import io
import time
from typing import Any, Protocol

import httptools

from .head import MAX_FIELDS, MAX_HEAD, HttpFault, feed

__all__ = [
    "DRAIN_BYTES",
    "DRAIN_SECONDS",
    "BodyStream",
    "ChunkedStream",
    "Client",
    "ClientGone",
    "LengthStream",
]

#: After an early answer this much is still read, for this long: closing at once would make the
#: client's system throw the answer away (a reset) while it is still sending.
DRAIN_BYTES = 256 * 1024
DRAIN_SECONDS = 1.0

#: Bytes a second that a body must keep up, but for `body_timeout` seconds: a byte each 9 s would
#: hold the connection for years.
MIN_BODY_RATE = 1000

#: Trailer fields that would change the meaning of the head (RFC 9110, section 6.5.1).
_FORBIDDEN_TRAILERS = frozenset(
    b"transfer-encoding content-length host connection content-type content-encoding "
    b"content-range authorization proxy-authorization cookie set-cookie expect te trailer "
    b"upgrade range max-forwards cache-control".split()
)
#: A line of chunk framing: a size and extensions, or a trailer field.
_MAX_LINE = 8 * 1024

_LINE_PIECE = 8 * 1024
_UNKNOWN = float("inf")
#: Brings a parser to the beginning of a chunked body.
_CHUNKED_HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


class ClientGone(ConnectionError):
    """The client went away; nobody is left to answer."""


class Client(Protocol):
    """Describe what body streams and responses need of the connection to a client."""

    @property
    def is_ending(self) -> bool:
        """Tell whether the answer being made is the last on this connection."""

    def send(self, data: bytes) -> None:
        """Send all of it.

        :raises ClientGone: when the client is gone, or takes nothing for too long.
        """

    def receive_by(self, deadline: float) -> bytes:
        """Wait for bytes until then (``time.monotonic()``); none when the client sends no more.

        :raises ClientGone: when the connection breaks.
        :raises TimeoutError: when nothing has come by then.
        """

    def spend(self, work: int) -> None:
        """Count work, after enough of which other connections have their turn."""


class BodyStream(io.RawIOBase):
    """Read a body; the part that both kinds share. Reading is blocking, and ends with the body.

    :param buffered: what has come of it already.
    :param expects: the client waits for "100 Continue" before it sends the body.
    :param timeout: seconds without a byte after which it is given up.
    :param left: bytes that are still to be read, if that is known.

    :ivar finished: the whole body was read.
    :ivar fault: why it cannot be read to its end.
    """

    def __init__(
        self, client: Client, buffered: bytes, expects: bool, timeout: float, left: float = _UNKNOWN
    ) -> None:
        self._client = client
        self._buffer = buffered
        self._expects_continue = expects
        self._timeout = self._patience = timeout
        self._deadline = float("inf")
        self._left = left
        self.finished = False
        self.fault: HttpFault | None = None

    def can_be_skipped(self) -> bool:
        """Tell whether what the application leaves unread is little, and on its way."""
        return self.finished or (not self._expects_continue and self._left <= DRAIN_BYTES)

    def end_expecting(self) -> None:
        """Send no 100 any more: the answer begins, and it would stand in the middle of it."""
        self._expects_continue = False

    def skip(self) -> None:
        """Read what the application left, if it is little and comes soon."""
        self._deadline = time.monotonic() + DRAIN_SECONDS
        with contextlib.suppress(OSError):
            self.read(DRAIN_BYTES)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._read_or_note_fault(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def read(self, size: int | None = -1) -> bytes:
        """Read as from a file: exactly `size` bytes unless the body ends before."""
        left = -1 if size is None else size
        first = self._read_or_note_fault(left if left > 0 else 1 << 20) if left != 0 else b""
        if not first or len(first) == left:
            return first
        # Not a list of pieces: one of two bytes takes 43 of memory.
        whole = io.BytesIO()
        whole.write(first)
        while left < 0 or whole.tell() < left:
            piece = self._read_or_note_fault(left - whole.tell() if left > 0 else 1 << 20)
            if not piece:
                break
            whole.write(piece)
        return whole.getvalue()

    def readline(self, size: int | None = -1) -> bytes:
        """Read a line as from a file. io.RawIOBase would read byte by byte, 2 µs each."""
        pieces: list[bytes] = []
        left = -1 if size is None else size
        while left != 0:
            piece = self._read_or_note_fault(min(left, _LINE_PIECE) if left > 0 else _LINE_PIECE)
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

    def _read_or_note_fault(self, most: int) -> bytes:
        try:
            return self._read_some(most)
        except HttpFault as fault:
            self.fault = fault
            raise

    def _read_some(self, most: int) -> bytes:
        """Read at least one byte, at most `most`; none at the end of the body."""
        raise NotImplementedError

    def _receive(self) -> bytes:
        if self._expects_continue:
            self._expects_continue = False
            self._client.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        began = time.monotonic()
        try:
            data = self._client.receive_by(
                min(self._deadline, began + min(self._timeout, self._patience))
            )
        except TimeoutError:
            raise HttpFault(408, "The body did not come in time") from None
        # As Apache's mod_reqtimeout: what comes earns time for what is to come.
        self._patience += len(data) / MIN_BODY_RATE - (time.monotonic() - began)
        if not data:
            raise ClientGone("the client closed the connection within the body")
        return data

    def leftover(self) -> bytes:
        """Return what came after the body: the beginning of the next request."""
        return self._buffer


class LengthStream(BodyStream):
    """Read a body of a known length."""

    def _put_back(self, data: bytes) -> None:
        self._buffer = data + self._buffer
        self._left += len(data)
        self.finished = self._left == 0

    def _read_some(self, most: int) -> bytes:
        if self._left == 0:
            return b""
        if not self._buffer:
            self._buffer = self._receive()
        data = self._buffer[: int(min(most, self._left))]
        self._buffer = self._buffer[len(data) :]
        self._left -= len(data)
        self.finished = self._left == 0
        return data


class ChunkedStream(BodyStream):
    """Read a body in chunks (RFC 9112, section 7.1).

    llhttp judges every byte of the framing. It is fed line by line and chunk by chunk, so that it
    never sees a byte of the next request.
    """

    def __init__(self, client: Client, buffered: bytes, expects: bool, timeout: float) -> None:
        super().__init__(client, buffered, expects, timeout)
        self._data = b""
        self._chunk_left = 0
        self._in_trailers = False
        self._trailers = self._trailer_bytes = 0
        #: Up to where `_buffer` was read.
        self._at = 0
        # A parser of its own: the head's may have stopped at an Upgrade field.
        self._parser = httptools.HttpRequestParser(self)
        self._parser.feed_data(_CHUNKED_HEAD)

    # Called by llhttp

    def on_body(self, data: bytes) -> None:
        self._data += data

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_trailers:
            return  # of `_CHUNKED_HEAD`
        # Never merged into the head's fields; the forbidden ones are not even tolerated.
        if name.lower() in _FORBIDDEN_TRAILERS:
            raise HttpFault(400, "A forbidden field in the trailers")
        self._trailers += 1
        if self._trailers > MAX_FIELDS:
            raise HttpFault(431, f"More than {MAX_FIELDS} trailer fields")

    def on_message_complete(self) -> None:
        self.finished = True

    def _put_back(self, data: bytes) -> None:
        self._data = data + self._data

    def _read_some(self, most: int) -> bytes:
        while not self._data and not self.finished:
            self._feed_parser()
        data, self._data = self._data[:most], self._data[most:]
        return data

    def _feed_parser(self) -> None:
        """Feed llhttp one line of framing, or what is there of a chunk."""
        if self._chunk_left:
            if self._at == len(self._buffer):
                self._buffer, self._at = self._receive(), 0
            data = self._buffer[self._at : self._at + self._chunk_left]
            self._at += len(data)
            self._chunk_left -= len(data)
            feed(self._parser, data)
            return
        line = self._read_line()
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

    def _read_line(self) -> bytes:
        self._client.spend(1)
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
