"""Send one WSGI response: start_response, write, framing of the body (PEP 3333, RFC 9112).

Hot path: `Response.start` and `Response.finish` run for each request.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterable
from email.utils import formatdate
from typing import Any

from .head import Head
from .streams import BodyStream, Client

__all__ = ["FIELD_NAME", "Response", "render_refusal"]

logger = logging.getLogger("gemstone_sync.server")

_NO_BODY = ("204", "304")
#: Bytes of body up to which one piece for head and body is cheaper than two.
_COPIED = 64 * 1024
_STATUS = re.compile(r"\d{3}( .*)?")
FIELD_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # RFC 9110, section 5.1


class _DateLine:
    """Make the Date field, once a second."""

    def __init__(self) -> None:
        self._second = 0
        self._line = b""

    def __call__(self) -> bytes:
        now = int(time.time())
        if now != self._second:
            self._second = now
            self._line = f"Date: {formatdate(now, usegmt=True)}\r\n".encode()
        return self._line


date_line = _DateLine()


#: Heads as rendered, by status and headers: a service repeats a few, but for their lengths.
_known_heads: dict[Any, tuple[bytes, int | None, bool, bool]] = {}
_REMEMBERED_HEADS = 512


def _render(status: str, headers: list[tuple[str, str]]) -> tuple[bytes, int | None, bool, bool]:
    """Return status line and headers as text, the length they announce, if they hold a Date, and if
    they close the connection.

    :raises ValueError: when a part is malformed, or holds a line break or NUL (response
        splitting).
    """
    if not _STATUS.fullmatch(status):
        raise ValueError(f"not an HTTP status: {status!r}")
    length: int | None = None
    dated = closes = False
    lines = [f"HTTP/1.1 {status}" if " " in status else f"HTTP/1.1 {status} "]
    for name, value in headers:
        if not FIELD_NAME.fullmatch(name):
            raise ValueError(f"not a header name: {name!r}")
        lower = name.lower()
        if lower in ("connection", "transfer-encoding"):
            # The server's own; of the application's only "close" is heard.
            closes = closes or (lower == "connection" and "close" in value.lower())
            continue
        if lower == "content-length":
            if length is not None or not (value.isascii() and value.isdigit()):
                raise ValueError(f"not one content length: {value!r}")
            length = int(value)
            if status[:3] == "204" or status[0] == "1":
                continue  # RFC 9110, section 8.6
        dated = dated or lower == "date"
        lines.append(f"{name}: {value}")
    if any("\r" in line or "\n" in line or "\0" in line for line in lines):
        raise ValueError("a response header holds a line break or NUL")
    try:
        text = "\r\n".join([*lines, ""]).encode("latin-1")
    except UnicodeEncodeError as error:
        raise ValueError(f"a response header is outside latin-1: {error}") from error
    return text, length, dated, closes


def _render_cached(
    status: str, headers: list[tuple[str, str]]
) -> tuple[bytes, int | None, bool, bool]:
    """Render and remember; but an id that no other reply has must not displace what others share.

    :raises ValueError: as `_render`.
    """
    ids = [header for header in headers if header[0] == "X-Request-Id"]
    if ids:
        headers = [header for header in headers if header[0] != "X-Request-Id"]
    key = (status, *headers)
    known = _known_heads.get(key)
    if known is None:
        known = _render(status, headers)
        if len(_known_heads) >= _REMEMBERED_HEADS:
            _known_heads.clear()
        _known_heads[key] = known
    if ids:
        return (known[0] + _render(status, ids)[0].partition(b"\r\n")[2], *known[1:])
    return known


_REFUSALS = {
    400: "400 Bad Request",
    408: "408 Request Timeout",
    414: "414 URI Too Long",
    417: "417 Expectation Failed",
    431: "431 Request Header Fields Too Large",
    500: "500 Internal Server Error",
    501: "501 Not Implemented",
    503: "503 Service Unavailable",
    505: "505 HTTP Version Not Supported",
}


def render_refusal(status: int, message: str, request_id: str) -> tuple[bytes, bytes]:
    """Make head and body of what a client is told before its connection ends."""
    body = b'{"jsonrpc":"2.0","error":{"code":%d,"message":"%b"},"id":null}' % (
        {500: -32603, 503: -32000}.get(status, -32600),
        message.encode().replace(b'"', b"'").replace(b"\\", b"/"),
    )
    head = (
        f"HTTP/1.1 {_REFUSALS[status]}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nX-Request-Id: {request_id}\r\nConnection: close\r\n"
    )
    return head.encode() + date_line() + b"\r\n", body


class BrokenResponse(Exception):
    """Say that the application broke the rules of WSGI or its own Content-Length."""


class Response:
    """Send what the application answers to one request.

    :param head: of the request.
    :param stream: the request's body, if not all of it is here yet.

    :ivar keep_alive: the connection can be used again.
    :ivar status: the status line's text, e.g. "200 OK".
    :ivar length: Content-Length as the application announced it; None when it did not.
    :ivar sent: bytes of body that were sent.
    """

    __slots__ = (
        "_chunked",
        "_client",
        "_head",
        "_head_text",
        "_left",
        "_no_body",
        "_stream",
        "headers_sent",
        "keep_alive",
        "length",
        "sent",
        "status",
    )

    def __init__(self, client: Client, head: Head, stream: BodyStream | None) -> None:
        self._client = client
        self._head = head
        self._stream = stream
        self._head_text: bytes | None = None
        self.keep_alive = head.keep_alive
        self.status = ""
        self.length: int | None = None
        self.headers_sent = False
        self.sent = 0
        self._chunked = False
        self._no_body = False
        self._left = 0

    def start(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], None]:
        """Take status and headers: PEP 3333's start_response."""
        if exc_info is not None:
            if self.headers_sent:
                raise exc_info[1].with_traceback(exc_info[2])
        elif self._head_text is not None:
            raise AssertionError("start_response was called twice without exc_info")
        self.status = status
        key = (status, *headers)
        known = _known_heads.get(key)
        if known is None:
            known = _render_cached(status, headers)
        text, self.length, dated, closes = known
        if closes:
            self.keep_alive = False
        self._head_text = text if dated else text + date_line()
        return self.write

    def write(self, data: bytes) -> None:
        """Send a piece of body: PEP 3333's write callable, and every piece of an iterable."""
        if self.headers_sent:
            self._send_body(data)
        else:
            self._send_first(data, None)

    def finish(self, result: Iterable[bytes]) -> None:
        """Send everything that the application returned."""
        if type(result) is list and len(result) == 1 and not self.headers_sent:
            self._send_first(result[0], len(result[0]))
        else:
            for data in result:
                if data:
                    self.write(data)
            if not self.headers_sent:
                self._send_first(b"", 0)
            if self._chunked:
                self._client.send(b"0\r\n\r\n")
        if self._left > 0:
            self.keep_alive = False
            raise BrokenResponse(
                f"the application announced {self.length} bytes and sent {self.sent}"
            )

    def excuses(self, error: BaseException) -> bool:
        """Tell whether what the application raised is no fault of it."""
        return False

    def _send_first(self, data: bytes, known: int | None) -> None:
        """Send the headers, and the first piece of the body."""
        message = self._start_of_message(known)
        if len(data) <= _COPIED:
            message, data = message + self._framed(data), b""
        self.headers_sent = True
        self._client.send(message)
        if data:
            self._send_body(data)

    def _start_of_message(self, known: int | None) -> bytes:
        """Make status line and headers; decide how the body is framed.

        :param known: the body's length when it is known now.
        """
        text = self._head_text
        if text is None:
            raise BrokenResponse("the application did not call start_response")
        head = self._head
        status = self.status
        if status[:3] in _NO_BODY or status[0] == "1":
            self._no_body = True
        elif self.length is not None:
            self._no_body = head.is_head
            self._left = 0 if head.is_head else self.length
        elif head.is_head:
            self._no_body = True
        elif known is not None:
            text += b"Content-Length: %d\r\n" % known
            self.length = self._left = known
        elif head.is_1_0:
            self.keep_alive = False  # the end of the connection ends the body
        else:
            self._chunked = True
            text += b"Transfer-Encoding: chunked\r\n"
        if self._client.is_ending:  # perhaps since the request began
            self.keep_alive = False
        if self._stream is not None:
            if not self._stream.can_be_skipped():
                self.keep_alive = False
            self._stream.end_expecting()
        if not self.keep_alive:
            text += b"Connection: close\r\n"
        elif head.is_1_0:
            text += b"Connection: keep-alive\r\n"
        return text + b"\r\n"

    def _framed(self, data: bytes) -> bytes:
        """Frame a piece of body for the wire."""
        if self._no_body or not data:
            return b""
        if self._chunked:
            self.sent += len(data)
            return b"%x\r\n%b\r\n" % (len(data), data)
        if self.length is not None:
            if len(data) > self._left:
                logger.error(
                    "the application sent more than the %d bytes it announced", self.length
                )
                self.keep_alive = False
                data = data[: self._left]
            self._left -= len(data)
        self.sent += len(data)
        return data

    def _send_body(self, data: bytes) -> None:
        if self._chunked and len(data) > _COPIED:
            self.sent += len(data)
            for piece in (b"%x\r\n" % len(data), data, b"\r\n"):
                self._client.send(piece)
            return
        framed = self._framed(data)
        if framed:
            self._client.send(framed)
