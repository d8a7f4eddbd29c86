"""Leave sockets to an application that upgrades them to another protocol (RFC 9110, section 7.8).

A request that asks for an upgrade, to WebSocket or to anything else, brings its socket along as
``environ["gunicorn.socket"]``, which is gunicorn's name for it: flask-sock, flask-socketio and
simple-websocket look for it there. Nothing happens until the application uses it; from then on the
connection is never read as HTTP again, and ends when the application returns.

What bounds such a connection: there are at most as many as others (`ServerState.may_upgrade`); a
client that takes nothing for `SEND_SECONDS` is cut off, one that is no longer there is noticed
within `_KEEPALIVE`. One that is only idle may stay. When the server stops, it is to the application
as if the client went away, and a WebSocket client is told "going away".

What was written for gevent-websocket's own server finds ``environ["wsgi.websocket"]`` as well: that
is flask-socketio wherever gevent-websocket is installed, its ``Resource``, and views that ask for
the key. Its server shakes hands before it calls the application; here that happens when the
application first sends or receives, so that a route that wants no WebSocket answers as ever.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import importlib
import logging
import socket
from collections.abc import Callable, Iterable, Iterator
from types import SimpleNamespace
from typing import Any

import gevent
import gevent.socket
from gevent.lock import Semaphore

from .client_socket import SEND_SECONDS, TLS_PIECE, ClientSocket
from .head import Head
from .response import Response
from .streams import ClientGone

__all__ = ["UpgradeResponse", "UpgradedSocket", "offered_websocket"]

#: The kernel asks after 60 s of silence whether the client is there, and gives it up 60 s later.
_KEEPALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}
#: As `connection.PIPELINED_AT_ONCE`: what is read in a row before others have their turn.
_READS_AT_ONCE = 4
#: RFC 6455, sections 5.5.1 and 7.4.1: a close frame that says "going away".
_GOING_AWAY = b"\x88\x02\x03\xe9"
#: What needs a descriptor that is readable if and only if there is something to read.
_NEEDS_DESCRIPTOR = {"fileno", "makefile", "dup", "detach", "sendfile", "sendmsg"}
_NEEDS_DESCRIPTOR |= {"recvfrom", "recvfrom_into", "recvmsg", "recvmsg_into"}
#: What is said to whichever socket the application reads.
_OF_WAITING = {"settimeout", "gettimeout", "setblocking", "getblocking", "timeout"}
_PIECE = 64 * 1024


class UpgradedSocket:
    """Give the application a blocking socket, plain or TLS.

    As on a blocking socket of the kernel, `send` sends everything; gevent's own may send a part,
    and simple-websocket takes it for the whole. Two that send at once do not mix.

    :param pending: what the server has read past the head.

    :ivar taken: the application has used it.
    """

    def __init__(self, client: ClientSocket, head: Head, pending: bytes) -> None:
        self.taken = False
        self.is_websocket = head.environ["HTTP_UPGRADE"].lower() == "websocket"
        self._client = client
        self._socket = client.socket
        self._pending = pending
        #: Send without waiting, once it is taken: what the application sends, and to the client.
        self._send_now: Callable[[Any], int]
        self._send_to_client: Callable[[Any], int]
        #: An error that `recv` or `send` raised: no fault of the application.
        self._fault: OSError | None = None
        self._sending, self._closing = Semaphore(1), Semaphore(1)
        self._reads = self._readers = 0
        self._closed = self._ends = False
        #: When there is a pair of sockets between: its far end, and what copies from there.
        self._far: Any = None
        self._copier: Any = None

    # As a socket

    def recv(self, size: int, flags: int = 0) -> bytes:
        self._take_over()
        if self._pending:
            data = self._pending[:size]
            if not flags & socket.MSG_PEEK:
                self._pending = self._pending[size:]
            return data
        if self._ends:
            return b""
        self._reads += 1
        if self._reads % _READS_AT_ONCE == 0:
            gevent.sleep(0)
        self._readers += 1
        try:
            received: bytes = self._socket.recv(size, flags)
        except OSError as error:
            self._fault = error
            raise
        finally:
            self._readers -= 1
        return received

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        view = memoryview(buffer).cast("B")
        data = self.recv(nbytes or len(view), flags)
        view[: len(data)] = data
        return len(data)

    def send(self, data: Any, flags: int = 0) -> int:
        self._take_over()
        try:
            if flags or self._socket.gettimeout() == 0.0:
                return self._socket.send(data, flags)  # type: ignore[no-any-return]
            with self._sending:
                return self._send_all(memoryview(data).cast("B"))
        except OSError as error:
            self._fault = error
            raise

    def _send_all(self, data: memoryview) -> int:
        size = len(data)
        with contextlib.suppress(BlockingIOError):
            data = data[self._send_now(data) :]
        while data:
            with gevent.Timeout(SEND_SECONDS, False):
                data = data[self._socket.send(data[:TLS_PIECE]) :]
                continue
            self._client.cut_off()  # a part was sent: nothing that follows could be understood
            raise TimeoutError(f"the client took nothing for {SEND_SECONDS} s")
        return size

    def sendall(self, data: Any, flags: int = 0) -> None:
        self.send(data, flags)

    def shutdown(self, how: int) -> None:
        self._take_over()
        if how != socket.SHUT_RD:
            self._end_sending()
        self._client.shut_down(how)

    def close(self) -> None:
        """End the connection. The descriptor itself is the server's, to close when all is over."""
        with self._closing:  # whoever comes second waits for the end of it
            if self._closed:
                return
            self._take_over()
            self._closed = True
            self._end_sending()
            if self._far is not None:
                self._socket.close()
                self._far.close()
            elif self._readers:
                self._client.shut_down(socket.SHUT_RD)  # wakes them

    def __enter__(self) -> UpgradedSocket:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __getattr__(self, name: str) -> Any:
        """Give whatever else sockets have. Asking for an address or an option does not take it."""
        if name in _NEEDS_DESCRIPTOR:
            self._take_over()
            if self._pending or self._client.state.tls_context is not None:
                self._relay_through_pair()
        elif name not in _OF_WAITING:
            return getattr(self._client.socket, name)
        return getattr(self._socket, name)

    # Between the application and the server

    def _take_over(self) -> None:
        """Have it for good, with the first use.

        :raises OSError: when it is closed, or its request was answered.
        """
        if self._closed:
            raise OSError(errno.EBADF, "the connection is closed, or its request was answered")
        if self.taken:
            return
        self.taken = True
        early, self._send_now = self._client.hand_over(self.end_input)
        self._pending += early
        self._send_to_client = self._send_now
        if self._socket.family in (socket.AF_INET, socket.AF_INET6):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in _KEEPALIVE.items():
                if hasattr(socket, option):  # not on every system
                    self._socket.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)

    def _relay_through_pair(self) -> None:
        """Put a pair of sockets between, for whoever waits by descriptor.

        What was read already, or deciphered, makes the connection's own not readable.
        """
        if self._copier is not None:
            return
        client, pending = self._socket, self._pending
        near, far = gevent.socket.socketpair()
        near.settimeout(client.gettimeout())
        client.settimeout(None)
        self._socket, self._send_now, self._pending = near, near._sock.send, b""
        self._far = far

        def copy(source: Any, target: Any, first: bytes = b"") -> None:
            with contextlib.suppress(OSError):
                if first:
                    target.sendall(first)
                while data := source.recv(_PIECE):
                    target.sendall(data)
            if target is far:
                with contextlib.suppress(OSError):
                    far.shutdown(socket.SHUT_WR)

        gevent.spawn(copy, client, far, pending)
        self._copier = gevent.spawn(copy, far, client)

    # The request

    def excuses(self, error: BaseException) -> bool:
        """Tell whether the application was ended because it has taken the socket."""
        # StopIteration is how gunicorn is told.
        return self.taken and (isinstance(error, StopIteration) or error is self._fault)

    def finish(self) -> None:
        """End what the application has taken; it has returned, and cannot take it any more."""
        if self.taken:
            self.close()
        self._closed = True

    def _end_sending(self) -> None:
        if self._copier is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_WR)
            self._copier.join(SEND_SECONDS)  # what the application has sent goes out first
        if self._ends and self.is_websocket and not self._sending.locked():
            with contextlib.suppress(OSError):
                self._send_to_client(_GOING_AWAY)
        self._client.end_sending()

    def end_input(self) -> None:
        """Let the application read the end of what the client sends: the server stops."""
        self._ends = True
        self._client.shut_down(socket.SHUT_RD)


class UpgradeResponse(Response):
    """Send a response unless the application has taken the socket instead."""

    __slots__ = ("_offered",)

    def __init__(self, client: ClientSocket, head: Head, offered: UpgradedSocket) -> None:
        super().__init__(client, head, None)
        self._offered = offered

    def finish(self, result: Iterable[bytes]) -> None:
        if not self._offered.taken:
            super().finish(result)

    def excuses(self, error: BaseException) -> bool:
        return self._offered.excuses(error)

    def _start_of_message(self, known: int | None) -> bytes:
        if self._offered.taken:
            raise ClientGone("the socket was handed over")
        return super()._start_of_message(known)


@contextlib.contextmanager
def offered_websocket(
    environ: dict[str, Any], offered: UpgradedSocket, application: Any
) -> Iterator[None]:
    """Put ``wsgi.websocket`` into `environ` for the time of the request, where gevent-websocket is
    installed."""
    handshake_class = _handshake_class() if offered.is_websocket else None
    if handshake_class is None:
        yield
        return
    handshake = handshake_class(environ, application, offered)
    with contextlib.suppress(ValueError):  # a key that is not base64
        handshake.upgrade_websocket()
    websocket = environ.get("wsgi.websocket")  # none when the library refuses
    try:
        yield
    finally:
        if websocket is not None and handshake.begun and not websocket.closed:
            websocket.close()


@functools.cache
def _handshake_class() -> Any:
    """Make the library's handler for a connection of ours; None when it is not installed."""
    try:
        library = importlib.import_module("geventwebsocket.handler")
    except ImportError:
        return None

    class Handshake(library.WebSocketHandler):  # type: ignore[misc,name-defined]
        def __init__(self, environ: Any, application: Any, offered: UpgradedSocket) -> None:
            logger = logging.getLogger("geventwebsocket")
            self.environ = environ
            self.application = application
            self.server = SimpleNamespace(application=application, logger=logger)
            self.request_version = environ["SERVER_PROTOCOL"]
            self.begun = False
            self.socket = self.rfile = self  # for the library's Stream
            self._offered = offered
            self._answer = b""

        def start_response(self, status: str, headers: Any, exc_info: Any = None) -> Any:
            lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers)]
            self._answer = "\r\n".join([*lines, "", ""]).encode("latin-1")

        def read(self, size: int) -> bytes:
            self._send_handshake()
            pieces = []
            while size and (piece := self._offered.recv(min(size, 1 << 16))):
                pieces.append(piece)
                size -= len(piece)
            return b"".join(pieces)

        def sendall(self, data: bytes) -> None:
            self._send_handshake()
            self._offered.sendall(data)

        def _send_handshake(self) -> None:
            if not self.begun:
                self._offered.sendall(self._answer)
                self.begun = True

    return Handshake
