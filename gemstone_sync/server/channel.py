"""Bytes in and out of one accepted socket, plain or TLS, with a deadline for whatever goes on.

The channel keeps one watcher on its socket, started all the time. It wakes the greenlet when bytes
come, it makes every connection wait its turn after every answer (gevent's own ``recv`` switches
only when it would block, so one quick client could keep all others waiting), and it notices a
client that goes away while its call runs.

Hot path: `Channel._receive`, `send` and `_on_readable` run for each request.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
import time
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import gevent
import gevent.socket
import greenlet

from .streams import ClientGone

if TYPE_CHECKING:
    from .gevent_server import GeventServer

__all__ = ["NEVER", "SEND_SECONDS", "TLS_PIECE", "Channel"]

NEVER = float("inf")
_RECEIVE = 64 * 1024
#: A client that takes nothing of an answer for so long is gone.
SEND_SECONDS = 30.0
#: Bytes that the kernel takes of us ahead of what it can send. Else it takes up to 4 MB, and says
#: that there is room again when a third of that is gone: a client that reads 40 kB/s needs 33 s.
UNSENT_IN_KERNEL = 128 * 1024
_UNSENT_OPTION = getattr(socket, "TCP_NOTSENT_LOWAT", None)
#: What OpenSSL is given at a time: it tells of no progress before all of it is written.
TLS_PIECE = 64 * 1024


class Channel:
    """One socket. `HttpConnection` speaks HTTP over it.

    :ivar idle: no request is being read or answered.
    :ivar deadline: when the server's sweep ends what goes on now (``time.monotonic()``).
    """

    __slots__ = (
        "_counted",
        "_early",
        "_ending",
        "_expired",
        "_gone",
        "_hub",
        "_readable",
        "_receive_raw",
        "_send_raw",
        "_waiting",
        "_watcher",
        "address",
        "deadline",
        "idle",
        "last_taken",
        "server",
        "socket",
    )

    def __init__(self, sock: Any, address: Any, server: GeventServer) -> None:
        self.socket = sock
        self.address = address
        self.server = server
        self.deadline = NEVER
        self.idle = True
        #: When the client last took a part of an answer that waits for it.
        self.last_taken = 0.0
        #: Read while a call was running, to see whether the client is still there (TLS only).
        self._early = b""
        self._expired = False
        #: To be ended once it is idle.
        self._ending = False
        self._gone = False
        self._counted = False
        self._readable = False
        self._waiting: Any = None
        self._watcher: Any = None
        self._hub = gevent.get_hub()

    def _open(self) -> None:
        """Prepare the socket; with TLS, shake hands.

        :raises OSError: when the client does not speak TLS, or not in time.
        """
        server = self.server
        sock = self.socket
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if _UNSENT_OPTION is not None:
                sock.setsockopt(socket.IPPROTO_TCP, _UNSENT_OPTION, UNSENT_IN_KERNEL)
        # The objects under gevent's sockets: both know how to wait, these cost less.
        if server.tls_context is None:
            self._receive_raw, self._send_raw = sock._sock.recv, sock._sock.send
        else:
            self.deadline = time.monotonic() + server.timeouts.tls_handshake
            # In two steps: self.socket must be the one that holds the descriptor meanwhile.
            sock = self.socket = server.tls_context.wrap_socket(
                sock, server_side=True, do_handshake_on_connect=False
            )
            sock.do_handshake()
            self._receive_raw, self._send_raw = self._receive_tls, self._send_tls
        self._watcher = self._hub.loop.io(sock.fileno(), 1)
        self._watcher.start(self._on_readable)

    @property
    def is_ending(self) -> bool:
        """Whether the answer being made is the last on this connection."""
        return self._ending or self.server.draining

    @property
    def waits_for_client(self) -> bool:
        """Whether nothing is being done for the client: it is its turn."""
        return self._waiting is not None

    # Bytes in

    def _receive(self) -> bytes:
        """Wait for bytes; none when the connection ended or its time is over."""
        if self._early:
            data, self._early = self._early, b""
            return data
        while True:
            self._wait_readable()
            if self._expired:
                return b""
            self._readable = False
            try:
                received: bytes = self._receive_raw(_RECEIVE)
            except BlockingIOError:
                if self._ending and self.idle:
                    return b""
                continue
            return received

    def _wait_readable(self) -> None:
        if not self._watcher.active:
            self._watcher.start(self._on_readable)
        self._waiting = greenlet.getcurrent()
        try:
            while not (self._readable or self._expired or (self._ending and self.idle)):
                self._hub.switch()
        finally:
            self._waiting = None

    def _on_readable(self) -> None:
        """Runs in the hub when the socket has bytes, or its end, to read."""
        self._readable = True
        if self._waiting is not None:
            self._waiting.switch()
            return
        # A call is running. Bytes are the next request and can wait; an end means that nobody will
        # take the answer (or that the client only closed its half: the answer is sent anyway).
        self._watcher.stop()
        try:
            if self.server.tls_context is None:
                ended = self._receive_raw(1, socket.MSG_PEEK) == b""
            else:
                early = self._receive_raw(_RECEIVE)
                self._early += early
                ended = early == b""
            if ended:
                self._count_as_gone()
        except BlockingIOError:
            self._readable = False
        except OSError:
            self._client_is_gone()

    def _receive_tls(self, size: int) -> bytes:
        try:
            return self.socket._sslobj.read(size)  # type: ignore[no-any-return]
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""

    # Bytes out

    def send(self, data: bytes) -> None:
        """Send all of it.

        :raises ClientGone: when the client is gone.
        """
        try:
            sent = self._send_raw(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise ClientGone(str(error)) from error
        if sent < len(data):
            self._send_rest(memoryview(data)[sent:])

    def _send_rest(self, data: memoryview) -> None:
        before = self.deadline
        unsent = self.server.unsent
        # The time is for each step: a slow client that goes on taking is served.
        self.last_taken = time.monotonic()
        self.deadline = self.last_taken + SEND_SECONDS
        unsent.add(self, len(data))
        piece = len(data) if self.server.tls_context is None else TLS_PIECE
        try:
            while data:
                data = data[self.socket.send(data[:piece]) :]
                self.last_taken = time.monotonic()
                self.deadline = self.last_taken + SEND_SECONDS
        except OSError as error:
            if self._expired:
                self.tell(f"took nothing of its answer for {SEND_SECONDS:g} s", "stalled")
            raise ClientGone(str(error)) from error
        finally:
            unsent.remove(self)
            self.deadline = before

    def _send_tls(self, data: bytes | memoryview) -> int:
        if len(data) > TLS_PIECE:
            data = memoryview(data)[:TLS_PIECE]
        try:
            return self.socket._sslobj.write(data)  # type: ignore[no-any-return]
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None

    # The end

    def tell(self, message: str, kind: Hashable, request_id: str | None = None) -> None:
        """Log that the client was refused, or cut off: seldom, and how many more there were."""
        source = self.address[0] if self.address and isinstance(self.address, tuple) else "-"
        text = f"refused {source}: {message} [request_id={request_id or '-'}]"
        self.server.refusals.tell(logging.WARNING, kind, text, request_id or "")

    def expire(self) -> None:
        """Called by the server's sweep: the time for what goes on is over."""
        self._expired = True
        self.deadline = NEVER
        if self._waiting is None:
            self.shut_down(socket.SHUT_RDWR)  # sending, or shaking hands
        else:
            self._hub.loop.run_callback(self._wake)

    def close_idle(self) -> None:
        """End an idle connection; a request that has arrived already is still answered."""
        self._ending = True
        if self._watcher is None:
            self.shut_down(socket.SHUT_RDWR)  # shaking hands
        else:
            self._hub.loop.run_callback(self._wake)

    def _wake(self) -> None:
        """Runs in the hub, the only place from where a waiting greenlet may be switched to."""
        if self._waiting is not None:
            self._waiting.switch()

    def cut_off(self) -> None:
        """End the connection whatever it does."""
        self.shut_down(socket.SHUT_RDWR)

    def shut_down(self, how: int) -> None:
        with contextlib.suppress(OSError):  # closed in the meantime
            # Not SSLSocket's own, which drops its state first.
            gevent.socket.socket.shutdown(self.socket, how)

    def end_sending(self) -> None:
        """Announce the end of what is sent, and end it."""
        self._say_goodbye()
        self.shut_down(socket.SHUT_WR)

    def _client_is_gone(self) -> None:
        self._gone = True
        self._count_as_gone()

    def _count_as_gone(self) -> None:
        if not self._counted:
            self._counted = True
            self.server.clients_gone += 1

    def _close(self) -> None:
        tls = self._watcher is not None and self.server.tls_context is not None
        if self._watcher is not None:
            self._watcher.stop()
            self._watcher.close()
            self._watcher = None
        self.deadline = NEVER
        if tls:
            self._say_goodbye()
        self.socket.close()

    def _say_goodbye(self) -> None:
        """RFC 8446, section 6.1: with TLS the end is announced: it could be an attacker's cut."""
        if self.server.tls_context is not None:
            # It writes the alert, and then wants to read the client's: nobody waits for that.
            with contextlib.suppress(OSError, ValueError, AttributeError):
                self.socket._sslobj.shutdown()
