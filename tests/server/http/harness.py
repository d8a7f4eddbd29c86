"""A server for the tests of HTTP, and a client that reads what no other test needs to.

`served` is a real `GeventServer` on 127.0.0.1; `Client` adds replies that end with the
connection, everything until the end, and sending byte by byte.
"""

import contextlib
import io
import logging
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gevent

from gemstone_sync.server import GeventServer, ServerSettings, bind
from tests.support.http import Connection, Headers, Reply
from tests.support.waiting import LIMIT

from .case import request

#: Seconds for what takes a part of one, on a machine that is busy.
SOON = 4.0


@contextlib.contextmanager
def served(application: Callable[..., Any], **settings: Any) -> Iterator[GeventServer]:
    """Serve a WSGI application; `settings` are those of `ServerSettings`."""
    with contextlib.ExitStack() as on_failure:
        listener = on_failure.enter_context(bind("127.0.0.1", 0))
        server = GeventServer(listener, application, ServerSettings(**settings))
        on_failure.pop_all()  # it is the server's now
    server.start()
    try:
        yield server
    finally:
        ended = server.draining or server.drain(0, LIMIT)
    assert ended, "a connection did not end"


def ask(
    path: str, *fields: bytes, method: str = "GET", version: str = "1.1", body: bytes = b""
) -> bytes:
    """A request for one of the application's routes, with a Host."""
    line = f"{method} {path} HTTP/{version}".encode("latin-1")
    return request(line, b"Host: a", *fields, body=body)


def send(path: str, body: bytes, *fields: bytes) -> bytes:
    """A POST with a body and its length."""
    return ask(path, b"Content-Length: %d" % len(body), *fields, method="POST", body=body)


class Clock:
    """Measures how long something took."""

    seconds = 0.0

    def __enter__(self) -> "Clock":
        self._start = time.monotonic()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.seconds = time.monotonic() - self._start


class Client(Connection):
    """One connection to a `GeventServer`, over TLS if a context is given."""

    def __init__(self, server: GeventServer, *, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(server.address[1])
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_hostname="localhost")

    def send_by_byte(self, sent: bytes) -> None:
        """Each byte a send of its own, that the server has taken before the next one goes."""
        self.send_pieces([sent[place : place + 1] for place in range(len(sent))])

    def send_pieces(self, pieces: Sequence[bytes]) -> None:
        """Each piece a send of its own; the server runs in between."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for piece in pieces:
                self.socket.sendall(piece)
                # Once around the event loop: sleep(0) would come back before it looks at sockets.
                gevent.idle()

    def read_to_end(self) -> bytes:
        """Everything that still comes until the server ends the connection."""
        with contextlib.suppress(ConnectionResetError):
            while piece := self.socket.recv(1 << 16):
                self._received += piece
        everything, self._received = self._received, b""
        return everything

    def read_reply_to_end(self) -> Reply:
        """A reply without a length, as HTTP/1.0 has them: the connection's end ends it."""
        status, headers = self.read_head()
        return Reply(status, headers, self.read_to_end())

    def read_some(self, size: int) -> bytes:
        """So many bytes as they are, framing included."""
        return self._exactly(size)

    def abort(self) -> None:
        """Go away with a reset instead of a goodbye."""
        linger = b"\x01\0\0\0\0\0\0\0"
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.socket.close()


def check_next(client: Client) -> None:
    """The connection stands at the start of the next request."""
    assert client.exchange(ask("/x")).status == 200


class Unseen(logging.Handler):
    """What a client does not see: errors in the log, and greenlets that end with an exception."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self._messages: list[str] = []
        self.printed = io.StringIO()

    def emit(self, record: logging.LogRecord) -> None:
        reason = f": {record.exc_info[1]!r}" if record.exc_info else ""
        self._messages.append(record.getMessage() + reason)

    def take(self) -> list[str]:
        """What there was so far; it is expected by whoever takes it."""
        taken, self._messages = self._messages, []
        if printed := self.printed.getvalue():
            taken.append(printed)
            self.printed.seek(0)
            self.printed.truncate()
        return taken


@contextlib.contextmanager
def watching() -> Iterator[Unseen]:
    """Collect what goes wrong without a client seeing it."""
    unseen = Unseen()
    hub, logger = gevent.get_hub(), logging.getLogger("gemstone_sync")
    before = hub.exception_stream
    hub.exception_stream = unseen.printed  # gevent only prints those
    logger.addHandler(unseen)
    try:
        yield unseen
    finally:
        logger.removeHandler(unseen)
        hub.exception_stream = before


_HEAD = re.compile(rb"HTTP/1\.1 (\d{3}) [^\r\n]*\r\n((?:[!#$%&'*+.^_`|~\w-]+: [^\r\n]*\r\n)*)\r\n")


def parse_replies(text: bytes, heads: Sequence[bool] = ()) -> list[Reply]:
    """All replies in what a server sent until it closed, strictly; interim ones are left out.

    :param heads: which of the replies answer to HEAD.
    :raises AssertionError: when something is not a whole reply.
    """
    replies: list[Reply] = []
    while text:
        match = _HEAD.match(text)
        assert match, f"no response head: {text[:200]!r}"
        text = text[match.end() :]
        status = int(match[1])
        if status // 100 == 1:
            continue
        lines = match[2].decode("latin-1").splitlines()
        headers = Headers([tuple(line.split(": ", 1)) for line in lines])  # type: ignore[misc]
        bodiless = status in (204, 304) or (len(replies) < len(heads) and heads[len(replies)])
        body, text = (b"", text) if bodiless else _split_body(headers, text)
        replies.append(Reply(status, headers, body))
    return replies


def _split_body(headers: Headers, text: bytes) -> tuple[bytes, bytes]:
    """The body that `headers` frame, and what stands behind it."""
    lengths = headers.get_all("Content-Length")
    if "Transfer-Encoding" not in headers:
        assert len(lengths) == 1, f"not one Content-Length in {headers}"
        length = int(lengths[0])
        assert len(text) >= length, f"{length} bytes announced, {len(text)} came"
        return text[:length], text[length:]
    assert headers.get_all("Transfer-Encoding") == ["chunked"], headers
    assert not lengths, f"two framings in {headers}"
    body = b""
    while True:
        line, _, text = text.partition(b"\r\n")
        size = int(line, 16)
        assert text[size : size + 2] == b"\r\n", f"a chunk of {size} does not end there"
        body, text = body + text[:size], text[size + 2 :]
        if size == 0:
            return body, text
