"""Exchange a request and its reply over a connected socket, within a deadline and a size.

No pool, no retry, no JSON. llhttp (through httptools, no lenient flag) parses.

Hot path: `exchange` runs for each call.
"""

from __future__ import annotations

import time
import zlib
from typing import Any

import httptools

from ..concurrency import is_patched, let_others_run
from ..errors import BadResponse, Timeout
from . import exceptions
from .messages import HttpReply, HttpRequest

__all__ = ["ReplyParser", "exchange"]

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

#: The headers that say where a body ends.
_FRAMING = ("content-length", "transfer-encoding")


class ReplyParser:
    """Makes an `HttpReply` of the bytes that it is fed.

    :param shown: the URL, for messages.
    :param max_size: bytes of the body at most, decompressed too.
    :ivar keep_alive: whether the connection may be used again.
    """

    __slots__ = (
        "_aside",
        "_headers",
        "_in_body",
        "_max_size",
        "_parser",
        "_pieces",
        "_shown",
        "_size",
        "_status",
        "complete",
        "keep_alive",
    )

    def __init__(self, shown: str, max_size: int) -> None:
        self.complete = False
        self.keep_alive = True
        self._status = 0
        self._headers: dict[str, str] = {}
        self._in_body = False
        self._pieces: list[bytes] = []
        self._size = 0
        #: Bytes that have arrived since the last piece of the body.
        self._aside = 0
        self._max_size = max_size
        self._shown = shown
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
            if not self.complete:
                raise self._bad_response(
                    f"the answer is not HTTP/1.1: {error or 'an upgrade'}"
                ) from None
            self.keep_alive = False  # nonsense after the answer is the next one's trouble
        if len(pieces) > kept + 1:  # of chunks of two bytes each takes 50 of memory
            pieces[kept:] = [b"".join(pieces[kept:])]
        self._aside = self._aside + len(data) if self._size == size_before else 0
        if self._aside > MAX_HEAD and not self.complete:
            where = "beside the body" if self._in_body else "in the head"
            raise self._bad_response(f"the answer has more than {MAX_HEAD} bytes {where}")

    def end(self) -> None:
        """Take the end of the connection.

        :raises BadResponse: when that was in the middle of an answer.
        """
        self.keep_alive = False
        if not self._in_body or not self._headers.keys().isdisjoint(_FRAMING):
            raise exceptions.TruncatedResponse(
                f"{self._shown}: the connection ended in the middle of the answer",
                status=self._status or None,
            )
        self.complete = True  # RFC 9112, section 6.3: the end of the connection is the end of it

    @property
    def has_begun(self) -> bool:
        """Tell whether anything of the answer has arrived."""
        return self._aside > 0 or self._in_body

    def reply(self) -> HttpReply:
        """Return the reply, once it is complete, without its content coding.

        :raises BadResponse: when it is too large, or its coding is broken or not understood.
        """
        body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        coding = self._headers.get("content-encoding", "").lower()
        if body and coding not in ("", "identity"):
            if coding not in _CODINGS:
                raise self._bad_response(f"the content coding {coding[:50]!r} is not understood")
            body = self._decompress(body)
        return HttpReply(self._shown, self._status, self._headers, body)

    def _decompress(self, body: bytes) -> bytes:
        inflate = zlib.decompressobj(_EITHER_HEADER)
        try:
            text = inflate.decompress(body, self._max_size + 1)
        except zlib.error as error:
            raise self._bad_response(f"the compressed answer is broken: {error}") from None
        if len(text) > self._max_size:
            raise self._too_large()
        if not inflate.eof:
            raise self._bad_response("the compressed answer is incomplete")
        return text

    def _bad_response(self, message: str) -> BadResponse:
        return BadResponse(f"{self._shown}: {message}", status=self._status or None)

    def _too_large(self) -> BadResponse:
        return self._bad_response(f"the answer is larger than {self._max_size} bytes")

    # Called by llhttp

    def on_message_begin(self) -> None:
        if self.complete:
            self.keep_alive = False  # more than was asked for: nothing after it can be trusted

    def on_header(self, raw_name: bytes, raw_value: bytes) -> None:
        if not self._in_body:  # trailers are no headers (RFC 9110, section 6.5.1)
            name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
            before = self._headers.get(name)
            self._headers[name] = value if before is None else f"{before}, {value}"

    def on_headers_complete(self) -> None:
        if not self.complete:
            self._status = self._parser.get_status_code()
            self._in_body = self._status >= 200

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
        if self._status < 200:  # an interim response (RFC 9110, section 15.2)
            self._headers.clear()
            return
        self.complete = True
        if not self._parser.should_keep_alive():
            self.keep_alive = False


def exchange(sock: Any, message: bytes, request: HttpRequest, max_size: int) -> ReplyParser:
    """Send a whole request and read its reply.

    :param sock: a connected socket; the caller closes it when this raises.
    :param message: the request, as HTTP/1.1 has it.
    :param request: how long it may take.
    :raises ConnectionFailed: when nothing of the request was sent.
    :raises ConnectionLost, Timeout, BadResponse: when something was.
    """
    began = time.monotonic()
    try:
        return _exchange(sock, message, request, max_size)
    except TimeoutError as error:
        seconds = time.monotonic() - began
        raise Timeout(f"{request.shown}: no answer within {seconds:.3g} s") from error


def _exchange(sock: Any, message: bytes, request: HttpRequest, max_size: int) -> ReplyParser:
    broken = _send(sock, message, request)
    parser = ReplyParser(request.shown, max_size)
    until = time.monotonic() + _SLICE
    while not parser.complete:
        if time.monotonic() > until:
            if is_patched():
                let_others_run()
            until = time.monotonic() + _SLICE
        try:
            _set_timeout(sock, request)
            data = sock.recv(_PIECE)
        except TimeoutError:
            if broken is None:
                raise
            raise exceptions.of_exchanging(broken, request.shown, sent=True) from broken
        except OSError as error:
            if parser.has_begun:
                parser.end()
            raise exceptions.of_exchanging(broken or error, request.shown, sent=True) from error
        if data:
            parser.feed(data)
        elif parser.has_begun:
            parser.end()
        else:
            closed = broken or ConnectionError("it was closed")
            raise exceptions.of_exchanging(closed, request.shown, sent=True) from None
    if broken is not None:
        parser.keep_alive = False
    return parser


def _send(sock: Any, message: bytes, request: HttpRequest) -> OSError | None:
    """Send; return what broke off the sending, once a part was sent.

    A server that refuses a large body answers and closes while it is still being sent: the answer
    is there to be read all the same.
    """
    _set_timeout(sock, request)
    try:
        sent = sock.send(message)
    except TimeoutError:
        raise
    except OSError as error:
        # Not one byte was taken, or over TLS not one record: the peer has seen nothing.
        raise exceptions.of_exchanging(error, request.shown, sent=False) from error
    if sent < len(message):
        try:
            sock.sendall(memoryview(message)[sent:])
        except TimeoutError:
            raise
        except OSError as error:
            return error
    return None


def _set_timeout(sock: Any, request: HttpRequest) -> None:
    left = request.deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    seconds = request.limits.read
    sock.settimeout(left if left < seconds else seconds)
