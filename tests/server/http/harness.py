"""A server for the tests of HTTP, and what goes wrong in it without a client seeing it."""

import contextlib
import io
import logging
import select
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
from gevent import monkey

from gemstone_sync.server import GeventServer, ServerSettings, bind
from tests.support.http import Connection
from tests.support.waiting import LIMIT, wait_until

from .case import HOST, request

#: Seconds that no test takes: only what it sets shorter can strike.
NEVER = 60.0
#: For a test that holds in the clear and over TLS.
plain_and_tls = pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"], indirect=True)


@contextlib.contextmanager
def served(application: Callable[..., Any], **settings: Any) -> Iterator[GeventServer]:
    """Serve a WSGI application; `settings` are those of `ServerSettings`."""
    never = {"header_timeout": NEVER, "keep_alive_timeout": NEVER, "body_timeout": NEVER}
    with contextlib.ExitStack() as on_failure:
        listener = on_failure.enter_context(bind("127.0.0.1", 0))
        server = GeventServer(listener, application, ServerSettings(**{**never, **settings}))
        on_failure.pop_all()  # it is the server's now
    server.start()
    try:
        yield server
    finally:
        ended = server.state.draining or server.drain(0, LIMIT)
    assert ended, "a connection did not end"


def connected(server: GeventServer, **options: Any) -> Connection:
    return Connection(server.address[1], **options)


def ask(
    path: str, *fields: bytes, method: str = "GET", version: str = "1.1", body: bytes = b""
) -> bytes:
    """A request for one of the application's routes, with a Host."""
    line = f"{method} {path} HTTP/{version}".encode("latin-1")
    return request(line, HOST, *fields, body=body)


def send(path: str, body: bytes, *fields: bytes, length: int | None = None) -> bytes:
    """A POST with a body and its length, or another one."""
    length = len(body) if length is None else length
    return ask(path, b"Content-Length: %d" % length, *fields, method="POST", body=body)


def wait_until_forgotten(server: GeventServer) -> None:
    wait_until(lambda: not server.state.connections, "the server forgets its connections")


def wait_until_arrived(connection: Any) -> None:
    """Wait for bytes at the server's socket, and let nothing of the server run meanwhile.

    They are there when they are sent, but on a machine whose kernel puts that off.
    """
    poll = monkey.get_original("select", "poll")()
    poll.register(connection.socket.fileno(), select.POLLIN)
    assert poll.poll(LIMIT * 1000), "nothing arrived"


def check_next(client: Connection) -> None:
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
