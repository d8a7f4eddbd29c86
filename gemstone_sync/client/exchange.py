"""One request and its response on one connected socket, within a deadline and a size.

No pool, no retry, no JSON. llhttp (through httptools, no lenient flag) parses.

Hot path: `exchange` runs for each call.
"""

from __future__ import annotations

import time
import zlib
from typing import Any

import httptools

from ..broker_urls import without_passwords
from ..concurrency import is_patched, let_others_run
from ..errors import BadResponse, Timeout
from . import faults

__all__ = ["HttpResponse", "exchange"]

#: Bytes of status line and fields, and of what comes between two pieces of the body or after it
#: (trailers, extensions of chunks); servers send a few hundred.
MAX_HEAD = 64 * 1024
_PIECE = 64 * 1024

#: Seconds for which reading one answer may keep everybody else waiting, and one piece more: a
#: socket that has bytes never waits, and 64 KB may hold 11,000 chunks.
_SLICE = 0.005

#: RFC 9110, section 8.4.1; 47 lets zlib tell gzip and zlib by their headers.
_CODINGS = {"gzip", "x-gzip", "deflate"}
_EITHER_HEADER = 47


class HttpResponse:
    """A response as it is fed.

    :param max_size: bytes of the body at most, decompressed too.
    :param url: for messages.
    :ivar body: decompressed, once `complete`.
    :ivar keep_alive: whether the connection may be used again.
    """

    __slots__ = (
        "_aside",
        "_in_body",
        "_max_size",
        "_parser",
        "_pieces",
        "_size",
        "_url",
        "complete",
        "fields",
        "keep_alive",
        "status",
    )

    def __init__(self, max_size: int, url: str) -> None:
        self.status = 0
        self.fields: list[tuple[bytes, bytes]] = []
        self.complete = False
        self.keep_alive = True
        self._in_body = False
        self._pieces: list[bytes] = []
        self._size = 0
        #: Bytes that have arrived since the last piece of the body.
        self._aside = 0
        self._max_size = max_size
        self._url = url
        self._parser = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        """Take what has arrived.

        :raises BadResponse: when it is no HTTP, or too much.
        """
        size_before, pieces = self._size, self._pieces
        kept = len(pieces)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:
            if isinstance(error.__context__, BadResponse):
                raise error.__context__ from None
            raise
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if self.complete:
                self.keep_alive = False  # nonsense after the response is the next one's trouble
            else:
                raise self._bad(f"the answer is not HTTP/1.1: {error or 'an upgrade'}") from None
        if len(pieces) > kept + 1:  # of chunks of two bytes each takes 50 of memory
            pieces[kept:] = [b"".join(pieces[kept:])]
        self._aside = self._aside + len(data) if self._size == size_before else 0
        if self._aside > MAX_HEAD and not self.complete:
            where = "beside the body" if self._in_body else "in the head"
            raise self._bad(f"the answer has more than {MAX_HEAD} bytes {where}")

    def end(self) -> None:
        """The connection has ended.

        :raises BadResponse: when that was in the middle of a response.
        """
        self.keep_alive = False
        if not self._in_body or any(
            name.lower() in (b"content-length", b"transfer-encoding") for name, _ in self.fields
        ):
            status = self.status or None
            raise faults.TruncatedResponse(
                f"{without_passwords(self._url)}: the connection ended in the middle of the answer",
                status=status,
            )
        self.complete = True  # RFC 9112, section 6.3: the end of the connection is the end of it

    @property
    def has_begun(self) -> bool:
        """Whether anything of it has arrived."""
        return self._aside > 0 or self._in_body

    @property
    def body(self) -> bytes:
        """The body, without its content coding.

        :raises BadResponse: when it is too large, or its coding is broken or not understood.
        """
        body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        coding = next((v for n, v in self.fields if n.lower() == b"content-encoding"), b"")
        if not coding or not body or coding.lower() == b"identity":
            return body
        if coding.decode("latin-1").lower() not in _CODINGS:
            raise self._bad(f"the content coding {coding[:50]!r} is not understood")
        return self._decompress(body)

    def _decompress(self, body: bytes) -> bytes:
        inflate = zlib.decompressobj(_EITHER_HEADER)
        try:
            text = inflate.decompress(body, self._max_size + 1)
        except zlib.error as error:
            raise self._bad(f"the compressed answer is broken: {error}") from None
        if len(text) > self._max_size:
            raise self._too_large()
        if not inflate.eof:
            raise self._bad("the compressed answer is incomplete")
        return text

    def _bad(self, message: str) -> BadResponse:
        return BadResponse(f"{without_passwords(self._url)}: {message}", status=self.status or None)

    def _too_large(self) -> BadResponse:
        return self._bad(f"the answer is larger than {self._max_size} bytes")

    # Called by llhttp

    def on_message_begin(self) -> None:
        if self.complete:
            self.keep_alive = False  # more than was asked for: nothing after it can be trusted

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_body:  # trailers are no headers (RFC 9110, section 6.5.1)
            self.fields.append((name, value))

    def on_headers_complete(self) -> None:
        if not self.complete:
            self.status = self._parser.get_status_code()
            self._in_body = self.status >= 200

    def on_body(self, piece: bytes) -> None:
        if self.complete:
            return
        self._size += len(piece)
        if self._size > self._max_size:
            raise self._too_large()
        self._pieces.append(piece)

    def on_message_complete(self) -> None:
        if self.complete:
            return
        if self.status < 200:  # an interim response (RFC 9110, section 15.2)
            self.fields.clear()
            return
        self.complete = True
        if not self._parser.should_keep_alive():
            self.keep_alive = False


def exchange(
    sock: Any, message: bytes, *, seconds: float, deadline: float, max_size: int, url: str
) -> HttpResponse:
    """Send a whole request and read its response.

    :param sock: a connected socket; the caller closes it when this raises.
    :param seconds: for each wait.
    :param deadline: for everything, by ``time.monotonic()``.
    :raises ConnectionFailed: nothing of the request was sent.
    :raises ConnectionLost, Timeout, BadResponse: something was.
    """
    began = time.monotonic()
    try:
        return _exchange(sock, message, seconds, deadline, max_size, url)
    except TimeoutError as error:
        seconds = time.monotonic() - began
        raise Timeout(f"{without_passwords(url)}: no answer within {seconds:.3g} s") from error


def _exchange(
    sock: Any, message: bytes, seconds: float, deadline: float, max_size: int, url: str
) -> HttpResponse:
    broken = _send(sock, message, seconds, deadline, url)
    response = HttpResponse(max_size, url)
    until = time.monotonic() + _SLICE
    while not response.complete:
        if time.monotonic() > until:
            if is_patched():
                let_others_run()
            until = time.monotonic() + _SLICE
        try:
            _set_timeout(sock, seconds, deadline)
            data = sock.recv(_PIECE)
        except TimeoutError:
            if broken is None:
                raise
            raise faults.exchanging(broken, url, sent=True) from broken
        except OSError as error:
            if response.has_begun:
                response.end()
            raise faults.exchanging(broken or error, url, sent=True) from error
        if data:
            response.feed(data)
        elif response.has_begun:
            response.end()
        else:
            closed = broken or ConnectionError("it was closed")
            raise faults.exchanging(closed, url, sent=True) from None
    if broken is not None:
        response.keep_alive = False
    return response


def _send(sock: Any, message: bytes, seconds: float, deadline: float, url: str) -> OSError | None:
    """Send; what broke off the sending, once a part was sent.

    A server that refuses a large body answers and closes while it is still being sent: the answer
    is there to be read all the same.
    """
    _set_timeout(sock, seconds, deadline)
    try:
        sent = sock.send(message)
    except TimeoutError:
        raise
    except OSError as error:
        # Not one byte was taken, or over TLS not one record: the peer has seen nothing.
        raise faults.exchanging(error, url, sent=False) from error
    if sent < len(message):
        try:
            sock.sendall(memoryview(message)[sent:])
        except TimeoutError:
            raise
        except OSError as error:
            return error
    return None


def _set_timeout(sock: Any, seconds: float, deadline: float) -> None:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    sock.settimeout(left if left < seconds else seconds)
