"""Sockets in the hands of an application that speaks another protocol on them (RFC 9110, 7.8).

A request that would like to go over to WebSocket, or to anything else, brings its socket along as
``environ["gunicorn.socket"]``, which is gunicorn's name for it: flask-sock, flask-socketio and
simple-websocket look for it there. Nothing happens until the application uses it; from then on the
connection is never read as HTTP again, and ends when the application returns.

What bounds such a connection: there are at most as many as others (`HandedSockets`); a client that
takes nothing for `SEND_SECONDS` is cut off, one that is no longer there is noticed within
`_KEEPALIVE`. One that is only idle may stay. When the server stops, see `HandedSockets.end`.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import gevent
import gevent.socket
from gevent.lock import Semaphore

from .channel import SEND_SECONDS, TLS_PIECE
from .response import Response
from .streams import ClientGone

if TYPE_CHECKING:
    from .connection import HttpConnection
    from .head import Head

__all__ = ["HandedSocket", "HandedSockets", "UpgradeResponse"]

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


class HandedSocket:
    """What the application gets: a blocking socket, plain or TLS.

    As on a blocking socket of the kernel, `send` sends everything; gevent's own may send a part,
    and simple-websocket takes it for the whole. Two that send at once do not mix.

    :param send_now: sends without waiting.

    :ivar taken: the application has used it.
    """

    def __init__(
        self, connection: HttpConnection, send_now: Callable[[Any], int], head: Head
    ) -> None:
        self.taken = False
        self.is_websocket = head.environ["HTTP_UPGRADE"].lower() == "websocket"
        self._connection = connection
        self._socket = connection.socket
        self._send_now = send_now
        self._send_to_client = send_now
        #: Read by the server past the head.
        self._pending = b""
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
        self._take()
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
        self._take()
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
            self._connection.cut_off()  # a part was sent: nothing that follows could be understood
            raise TimeoutError(f"the client took nothing for {SEND_SECONDS} s")
        return size

    def sendall(self, data: Any, flags: int = 0) -> None:
        self.send(data, flags)

    def shutdown(self, how: int) -> None:
        self._take()
        if how != socket.SHUT_RD:
            self._end_sending()
        self._connection.shut_down(how)

    def close(self) -> None:
        """End the connection. The descriptor itself is the server's, to close when all is over."""
        with self._closing:  # whoever comes second waits for the end of it
            if self._closed:
                return
            self._take()
            self._closed = True
            self._end_sending()
            if self._far is not None:
                self._socket.close()
                self._far.close()
            elif self._readers:
                self._connection.shut_down(socket.SHUT_RD)  # wakes them

    def __enter__(self) -> HandedSocket:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __getattr__(self, name: str) -> Any:
        """Whatever else sockets have. To ask for an address or an option is not to take it."""
        if name in _NEEDS_DESCRIPTOR:
            self._take()
            if self._pending or self._connection.server.tls_context is not None:
                self._relay()
        elif name not in _OF_WAITING:
            return getattr(self._connection.socket, name)
        return getattr(self._socket, name)

    # Between the application and the server

    def _take(self) -> None:
        """Have it for good, with the first use.

        :raises OSError: when it is closed, or its request was answered.
        """
        if self._closed:
            raise OSError(errno.EBADF, "the connection is closed, or its request was answered")
        if self.taken:
            return
        self.taken = True
        self._pending = self._connection.hand_over(self)
        if self._socket.family in (socket.AF_INET, socket.AF_INET6):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in _KEEPALIVE.items():
                if hasattr(socket, option):  # not on every system
                    self._socket.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)

    def _relay(self) -> None:
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

    def quiet(self, application: Callable[..., Any]) -> Callable[..., Any]:
        """The application, run as `quietly` does."""

        def run(environ: dict[str, Any], start_response: Any) -> Any:
            with self.quietly():
                return application(environ, start_response)

        return run

    @contextlib.contextmanager
    def quietly(self) -> Iterator[None]:
        """Run the application; what ends it because it has taken the socket is no fault of it.

        :raises ClientGone: to HTTP there is no client any more.
        """
        try:
            yield
        except Exception as error:
            # StopIteration is how gunicorn is told.
            if self.taken and (isinstance(error, StopIteration) or error is self._fault):
                raise ClientGone("the socket was handed over") from error
            raise

    def finish(self) -> None:
        """Called when the application has returned. Not taken by then, it never can be."""
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
        self._connection.end_sending()

    def end_input(self) -> None:
        """Let the application read the end of what the client sends: the server stops."""
        self._ends = True
        self._connection.shut_down(socket.SHUT_RD)


class HandedSockets:
    """All that a server has handed over.

    :param most: how many there may be at once.
    """

    #: Seconds for which an application may still send when it has read the end.
    ENDING = 1.0

    def __init__(self, most: int) -> None:
        self._most = most
        self._all: dict[HttpConnection, HandedSocket] = {}

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[HttpConnection]:
        return iter(list(self._all))

    @property
    def has_room(self) -> bool:
        return len(self._all) < self._most

    def add(self, connection: HttpConnection, handed: HandedSocket) -> None:
        self._all[connection] = handed

    def remove(self, connection: HttpConnection) -> None:
        self._all.pop(connection, None)

    def end(self) -> None:
        """The server stops: to the applications it is as if their clients went away.

        They read the end now, and after `ENDING` cannot send any more; WebSocket clients are told
        "going away" when their application is done. For that the server waits as for a call.
        """
        for handed in list(self._all.values()):
            handed.end_input()


class UpgradeResponse(Response):
    """A response that is not sent when the application has taken the socket instead."""

    __slots__ = ("_handed",)

    def __init__(self, connection: HttpConnection, head: Head, handed: HandedSocket) -> None:
        super().__init__(connection, head, None, head.keep_alive)
        self._handed = handed

    def finish(self, result: Iterable[bytes]) -> None:
        if not self._handed.taken:
            with self._handed.quietly():
                super().finish(result)

    def _start_of_message(self, known: int | None) -> bytes:
        if self._handed.taken:
            raise ClientGone("the socket was handed over")
        return super()._start_of_message(known)
