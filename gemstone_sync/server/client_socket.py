"""Move bytes over one accepted socket, plain or TLS, with a deadline for whatever goes on.

It keeps one watcher on its socket, started all the time. It wakes the greenlet when bytes
come, it makes every connection wait its turn after every answer (gevent's own ``recv`` switches
only when it would block, so one quick client could keep all others waiting), and it notices a
client that goes away while its call runs.

Hot path: `ClientSocket._receive`, `send` and `_on_readable` run for each request.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
import time
from collections.abc import Callable, Hashable
from typing import Any

import gevent
import gevent.socket
import greenlet

from ..concurrency import let_others_run
from .state import ServerState
from .streams import DRAIN_BYTES, DRAIN_SECONDS, ClientGone

__all__ = ["AT_ONCE", "NEVER", "SEND_SECONDS", "TLS_PIECE", "ClientSocket"]

NEVER = float("inf")
_RECEIVE = 64 * 1024
#: A client that has not finished its handshake by then never will.
TLS_HANDSHAKE_SECONDS = 5.0
#: A client that takes nothing of an answer for so long is gone.
SEND_SECONDS = 30.0
#: Bytes that the kernel takes of us ahead of what it can send. Else it takes up to 4 MB, and says
#: that there is room again when a third of that is gone: a client that reads 40 kB/s needs 33 s.
UNSENT_IN_KERNEL = 128 * 1024
_UNSENT_OPTION = getattr(socket, "TCP_NOTSENT_LOWAT", None)
#: Lines of chunk framing that one may have read in a row, some 3 µs each: 64 KB hold 11,000 chunks.
AT_ONCE = 256
#: What OpenSSL is given at a time: it tells of no progress before all of it is written.
TLS_PIECE = 64 * 1024


class ClientSocket:
    """Wrap one socket. `HttpConnection` speaks HTTP over it; see also `state.Connection`."""

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
        "_work",
        "address",
        "deadline",
        "idle",
        "last_taken",
        "leaving",
        "socket",
        "state",
    )

    def __init__(self, sock: Any, address: Any, state: ServerState) -> None:
        self.socket = sock
        self.address = address
        self.state = state
        self.deadline = NEVER
        self.idle = True
        self.leaving = False
        self.last_taken = 0.0
        #: Read while a call was running, to see whether the client is still there (TLS only).
        self._early = b""
        self._expired = False
        #: To be ended once it is idle.
        self._ending = False
        self._gone = False
        self._counted = False
        self._readable = False
        self._work = 0
        self._waiting: Any = None
        self._watcher: Any = None
        self._hub = gevent.get_hub()

    def _open(self) -> None:
        """Prepare the socket; with TLS, shake hands.

        :raises OSError: when the client does not speak TLS, or not in time.
        """
        tls = self.state.tls_context
        sock = self.socket
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if _UNSENT_OPTION is not None:
                sock.setsockopt(socket.IPPROTO_TCP, _UNSENT_OPTION, UNSENT_IN_KERNEL)
        # The objects under gevent's sockets: both know how to wait, these cost less.
        if tls is None:
            self._receive_raw, self._send_raw = sock._sock.recv, sock._sock.send
        else:
            self.deadline = time.monotonic() + TLS_HANDSHAKE_SECONDS
            # In two steps: self.socket must be the one that holds the descriptor meanwhile.
            sock = self.socket = tls.wrap_socket(
                sock, server_side=True, do_handshake_on_connect=False
            )
            sock.do_handshake()
            self._receive_raw, self._send_raw = self._receive_tls, self._send_tls
        self._watcher = self._hub.loop.io(sock.fileno(), 1)
        self._watcher.start(self._on_readable)

    @property
    def is_ending(self) -> bool:
        """Tell whether the answer being made is the last on this connection."""
        return self._ending or self.state.ending

    @property
    def waits_for_client(self) -> bool:
        """Tell whether nothing is being done for the client: it is its turn."""
        return self._waiting is not None

    def rank(self, now: float) -> int:
        """Tell how well it can be done without; see `state.Connection`."""
        raise NotImplementedError

    # Bytes in

    def receive_by(self, deadline: float) -> bytes:
        """Wait for bytes of a body until then; none when the client sends no more.

        :raises ClientGone: when the connection breaks.
        :raises TimeoutError: when nothing has come by then.
        """
        self.deadline = deadline
        try:
            data = self._receive()
        except OSError as error:
            raise ClientGone(str(error)) from error
        finally:
            self.deadline = NEVER  # the application's own time is not the client's
        if self._expired:
            raise TimeoutError
        return data

    def _receive(self) -> bytes:
        """Wait for bytes; none when the connection ended or its time is over."""
        if self._early:
            data, self._early = self._early, b""
            return data
        while True:
            if not self._watcher.active:
                self._watcher.start(self._on_readable)
            self._waiting = greenlet.getcurrent()
            try:
                while not (self._readable or self._expired or (self._ending and self.idle)):
                    self._hub.switch()
            finally:
                self._waiting = None
            if self._expired:
                return self._last_look() if self.idle else b""
            self._readable = False
            try:
                received: bytes = self._receive_raw(_RECEIVE)
            except BlockingIOError:
                if self._ending and self.idle:
                    return b""
                continue
            return received

    def _last_look(self) -> bytes:
        """Read what came as the time ended, unseen yet: a reset is no answer to a request."""
        try:
            received: bytes = self._receive_raw(_RECEIVE)
        except BlockingIOError:
            return b""
        self._expired = False
        return received

    def _on_readable(self) -> None:
        """Note in the hub that the socket has bytes, or its end, to read."""
        self._readable = True
        if self._waiting is not None:
            self._waiting.switch()
            return
        # A call is running. Bytes are the next request and can wait; an end means that nobody will
        # take the answer (or that the client only closed its half: the answer is sent anyway).
        self._watcher.stop()
        try:
            if self.state.tls_context is None:
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

    def spend(self, work: int) -> None:
        """Count work, and after `AT_ONCE` go on in a later turn of the hub."""
        self._work += work
        if self._work >= AT_ONCE:
            self._work = 0
            let_others_run()

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
        unsent = self.state.unsent
        # The time is for each step: a slow client that goes on taking is served.
        self.last_taken = time.monotonic()
        self.deadline = self.last_taken + SEND_SECONDS
        unsent.add(self, len(data))
        piece = len(data) if self.state.tls_context is None else TLS_PIECE
        try:
            while data:
                data = data[self.socket.send(data[:piece]) :]
                self.last_taken = time.monotonic()
                self.deadline = self.last_taken + SEND_SECONDS
        except OSError as error:
            if self._expired:
                self.log(f"took nothing of its answer for {SEND_SECONDS:g} s", "stalled")
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

    def log(self, message: str, kind: Hashable, request_id: str | None = None) -> None:
        """Log that the client was refused, or cut off: seldom, and how many more there were."""
        source = self.address[0] if self.address and isinstance(self.address, tuple) else "-"
        text = f"refused {source}: {message} [request_id={request_id or '-'}]"
        self.state.log_throttle.log(logging.WARNING, kind, text, request_id or "")

    def expire(self) -> None:
        """End what goes on: its time is over."""
        self._expired = True
        self.deadline = NEVER
        if self._waiting is None:
            self.cut_off()  # it sends, or shakes hands
        else:
            self._hub.loop.run_callback(self._wake)

    def close_idle(self) -> None:
        """End an idle connection; a request that has arrived already is still answered."""
        self._ending = True
        if self._watcher is None:
            self.cut_off()  # it shakes hands
        else:
            self._hub.loop.run_callback(self._wake)

    def _wake(self) -> None:
        """Switch to a waiting greenlet, from the hub: the only place from where one may."""
        if self._waiting is not None:
            self._waiting.switch()

    def cut_off(self) -> None:
        """End the connection whatever it does."""
        self.shut_down(socket.SHUT_RDWR)

    def shut_down(self, how: int) -> None:
        """Shut the socket down, whatever TLS would have to say."""
        with contextlib.suppress(OSError):  # closed in the meantime
            # Not SSLSocket's own, which drops its state first.
            gevent.socket.socket.shutdown(self.socket, how)

    def end_sending(self) -> None:
        """Announce the end of what is sent, and end it."""
        self._say_goodbye()
        self.shut_down(socket.SHUT_WR)

    def wait_for_end(self) -> None:
        """Read a little of what still comes, so that the answer is not lost to a reset."""
        self.end_sending()
        self.deadline = time.monotonic() + DRAIN_SECONDS
        left = DRAIN_BYTES
        with contextlib.suppress(OSError):
            while left > 0 and (data := self._receive()):
                left -= len(data)

    def hand_over(self, end_input: Callable[[], None]) -> tuple[bytes, Callable[[Any], int]]:
        """Leave the socket to the application; no more is sent, nor read, as HTTP.

        :param end_input: lets the application read the end of what the client sends.
        :returns: what was read already while the application ran, and what sends without waiting.
        """
        self._watcher.stop()
        early, self._early = self._early, b""
        send_now, self._send_raw = self._send_raw, _refuse_to_send
        self._counted = True  # as gone: to HTTP it is
        self.state.hand_over(self, end_input)
        return early, send_now

    def _client_is_gone(self) -> None:
        self._gone = True
        self._count_as_gone()

    def _count_as_gone(self) -> None:
        if not self._counted:
            self._counted = True
            self.state.clients_gone += 1

    def _close(self) -> None:
        self.deadline = NEVER
        if self._watcher is not None:
            self._watcher.close()
            self._watcher = None
            self._say_goodbye()
        self.socket.close()

    def _say_goodbye(self) -> None:
        """Announce the end, with TLS (RFC 8446, section 6.1): it could be an attacker's cut."""
        if self.state.tls_context is not None:
            # It writes the alert, and then wants to read the client's: nobody waits for that.
            with contextlib.suppress(OSError, ValueError, AttributeError):
                self.socket._sslobj.shutdown()


def _refuse_to_send(data: Any) -> int:
    raise ClientGone("the socket was handed over")
