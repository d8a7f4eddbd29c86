"""Py-amqp's connection with another way to read and write, and how it is made from a URL.

Py-amqp reads a frame by three calls of recv, writes each with sendall, and its time-outs begin
anew with every frame. Here nothing blocks: everything that has arrived is read at once and kept as
frames; what is to be sent is kept until `flush`, which sends what the socket takes; and whoever
needs an answer waits in gevent's hub, by the clock. That holds in a process that gevent has not
patched too, and a broker that reads nothing, or drips, holds up nobody.

Only addresses, frames and sockets belong here: what is said with them is in the other modules.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import struct
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import gevent
from amqp import Message, spec
from amqp.exceptions import UnexpectedFrame
from amqp.transport import SSLTransport, TCPTransport
from gevent import monkey
from gevent.event import Event
from kombu.connection import Connection
from kombu.transport import pyamqp

from ....concurrency.native import native_lock
from ...link import LinkLost
from .faults import FAULTS, fault

if TYPE_CHECKING:
    from ...wakeups import Signal

__all__ = ["AmqpConnection", "connect", "describe", "place_of"]

_start_native_thread = monkey.get_original("_thread", "start_new_thread")

#: Bytes read and sent at once.
_CHUNK = 1 << 16
#: Seconds until an answer must be there, unless `deadline` is set.
_PATIENCE = 10.0
#: The socket can do nothing at the moment.
_NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)

_FRAME = struct.Struct(">BHI")
_FRAME_END = 0xCE
_HEARTBEAT = _FRAME.pack(8, 0, 0) + bytes([_FRAME_END])
_HEADER_FRAME = 2

#: Py-amqp's second is too short: with a broker that stops reading, what was written is lost.
_SOCKET = {socket.TCP_USER_TIMEOUT: 30_000} if hasattr(socket, "TCP_USER_TIMEOUT") else {}


class _Buffered:
    """Mixed into py-amqp's transports: what is written is kept in `outgoing`."""

    sock: Any

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.outgoing = bytearray()

    def _init_socket(self, *args: Any) -> None:
        super()._init_socket(*args)  # type: ignore[misc]
        self.sock.settimeout(0)

    def write(self, data: bytes | memoryview) -> None:
        self.outgoing += data


class _Tcp(_Buffered, TCPTransport):  # type: ignore[misc]
    pass


class _Tls(_Buffered, SSLTransport):  # type: ignore[misc]
    pass


class AmqpConnection(pyamqp.Connection):  # type: ignore[misc]
    """A connection whose link calls `receive` and `dispatch`, `flush` and `wait_ready`."""

    # Py-amqp leaves out the reason of connection.blocked.
    _METHODS = {
        **pyamqp.Connection._METHODS,
        spec.Connection.Blocked: spec.method(spec.Connection.Blocked, "s"),
    }

    _transport: Any

    def __init__(self, *args: Any, deadline: float | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        #: Moment of ``time.monotonic()`` by which every answer must be there.
        self.deadline = deadline
        self._frames: deque[tuple[int, int, bytes]] = deque()
        self._partial = b""
        self._wakeup = Event()
        self._watchers: dict[int, Any] = {}
        #: When the socket last took something, or had nothing to take.
        self.last_sent = time.monotonic()
        self._next_tick = 0.0
        #: Held while the socket is used: `keep_alive` has a thread that uses it, too.
        self._using = native_lock()
        self._beating: Any = None

    def Transport(  # noqa: N802  # py-amqp's name and parameters
        self, host: str, connect_timeout: float, ssl: Any = False, *_timeouts: Any, **options: Any
    ) -> Any:
        transport = _Tls if ssl else _Tcp
        return transport(host, connect_timeout=connect_timeout, ssl=ssl, **options)

    def connect(self, callback: Any = None) -> None:
        """Connect; whatever stops it, no socket is left behind."""
        try:
            super().connect(callback)
        except BaseException:
            self.collect()
            raise

    def _on_blocked(self, reason: str = "") -> None:
        self.on_blocked(reason)

    def on_inbound_method(
        self, channel_id: int, method: tuple[int, int], payload: bytes, content: Any
    ) -> None:
        """Treat a method; a message whose routing key is no text is received all the same.

        It may be another program's, and would end this connection again and again.
        """
        try:
            super().on_inbound_method(channel_id, method, payload, content)
        except UnicodeDecodeError:
            readable = _readable(payload) if method == spec.Basic.Deliver else payload
            if readable == payload:
                raise
            super().on_inbound_method(channel_id, method, readable, content)

    # Reading

    def receive(self) -> bool:
        """Read a piece of what has arrived; False when there is nothing.

        :raises OSError: when the connection has ended.
        """
        sock = self._socket()
        try:
            with self._using:
                data = sock.recv(_CHUNK)
        except _NOT_NOW:
            return False
        if not data:
            raise ConnectionResetError("the broker closed the connection")
        self._split(self._partial + data if self._partial else data)
        return True

    def _split(self, data: bytes) -> None:
        offset, end = 0, len(data)
        while end - offset >= 8:
            kind, channel, size = _FRAME.unpack_from(data, offset)
            if size > self.frame_max:
                raise UnexpectedFrame("what answers there does not speak AMQP 0-9-1")
            after = offset + 7 + size
            if end <= after:
                break
            if data[after] != _FRAME_END:
                raise UnexpectedFrame("what answers there does not speak AMQP 0-9-1")
            self._frames.append((kind, channel, data[offset + 7 : after]))
            offset = after + 1
        self._partial = data[offset:]

    def dispatch(self) -> bool:
        """Treat what was received until a whole method is through; False when there was none."""
        frames = self._frames
        while frames:
            # One at a time, out of a queue: what a frame sets off may wait for further ones, and
            # then those go on here, in order.
            frame = frames.popleft()
            try:
                done = self._on_inbound_frame(frame)
            except Exception:
                # Properties that nothing can read, from another program. Without them the message
                # can be handled, which ends it; otherwise it would end each connection anew.
                if frame[0] != _HEADER_FRAME or _is_readable(frame[2]):
                    raise
                done = self._on_inbound_frame((*frame[:2], frame[2][:12] + b"\0\0"))
            if done:
                return True
        return False

    def drain_events(self, timeout: float | None = None) -> None:
        """Wait for one method and treat it; py-amqp calls this for every answer it needs.

        :raises TimeoutError: when there is none in time.
        """
        end = time.monotonic() + (_PATIENCE if timeout is None else timeout)
        if self.deadline is not None:
            end = min(end, self.deadline)
        while not self.dispatch():
            self.flush()
            if self.receive():
                continue
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError("the broker gave no answer in time")
            self.tick()
            self.wait_ready(min(left, self.heartbeat / 4) if self.heartbeat else left)

    # Writing

    def flush(self) -> None:
        """Send what the socket takes."""
        sock = self._socket()
        outgoing = self._transport.outgoing
        while outgoing:
            try:
                with self._using:
                    sent = sock.send(
                        outgoing if len(outgoing) <= _CHUNK else bytes(outgoing[:_CHUNK])
                    )
                    if not sent:  # gevent's TLS sockets say so
                        return
                    del outgoing[:sent]
            except _NOT_NOW:
                return
            self.last_sent = time.monotonic()
        self.last_sent = time.monotonic()

    def tick(self) -> None:
        """Send a heartbeat when it is time, and see whether the other side sends its own."""
        now = time.monotonic()
        if self.heartbeat and now >= self._next_tick:
            self._next_tick = now + self.heartbeat / 4
            self.heartbeat_tick()

    @property
    def waiting_bytes(self) -> int:
        """Return how much is to be sent."""
        return len(self._transport.outgoing) if self._transport is not None else 0

    def keep_alive(self) -> None:
        """Send heartbeats from a native thread too: a greenlet may compute for long."""
        if self.heartbeat and self._beating is None:
            self._beating = native_lock()
            self._beating.acquire()
            _start_native_thread(self._beat, (self._beating,))

    def _beat(self, beating: Any) -> None:
        while not beating.acquire(True, self.heartbeat / 4):
            with self._using:
                transport = self._transport
                sock = None if transport is None else transport.sock
                # Never within a frame of the hub's, nor while the hub turns.
                if sock is None or transport.outgoing:
                    continue
                if time.monotonic() - self.last_sent < self.heartbeat / 2:
                    continue
                try:
                    sent = sock.send(_HEARTBEAT)
                except _NOT_NOW:
                    continue
                except OSError:
                    return  # the hub will see
                transport.outgoing[:0] = _HEARTBEAT[sent:]

    def _stop_beating(self) -> None:
        beating, self._beating = self._beating, None
        if beating is not None:
            beating.release()

    # Waiting

    def wait_ready(self, timeout: float, signal: Signal | None = None) -> None:
        """Return when the socket can go on, `signal` is set or so many seconds are over."""
        sock = self._socket()
        if timeout <= 0 or self._frames or (hasattr(sock, "pending") and sock.pending()):
            return
        self._wakeup.clear()
        watcher = self._watcher(sock, 3 if self._transport.outgoing else 1)
        watcher.start(self._wakeup.set)
        if signal is not None:
            signal.notify(self._wake)
        try:
            self._wakeup.wait(timeout)
        finally:
            watcher.stop()
            if signal is not None:
                signal.unnotify(self._wake)

    def _wake(self, _event: Any) -> None:
        self._wakeup.set()

    def _watcher(self, sock: Any, events: int) -> Any:
        watcher = self._watchers.get(events)
        if watcher is None:
            watcher = gevent.get_hub().loop.io(sock.fileno(), events)
            self._watchers[events] = watcher
        return watcher

    # The end

    def _socket(self) -> Any:
        # Not `self.transport`: once closed, it connects again on its own.
        sock = None if self._transport is None else self._transport.sock
        if sock is None:
            raise ConnectionResetError("the connection is closed")
        return sock

    def collect(self) -> None:
        """Close the socket, after the last words if it takes them at once."""
        self._stop_beating()
        watchers, self._watchers = self._watchers, {}
        for watcher in watchers.values():
            watcher.close()
        with contextlib.suppress(OSError):
            self.flush()
        super().collect()

    def abandon(self) -> None:
        """Let go of the socket as another process's: no goodbye, no shutdown."""
        self._watchers = {}  # their loop is the other process's too
        transport, self._transport = self._transport, None
        if transport is not None and transport.sock is not None:
            os.close(transport.sock.detach())
            transport.sock = None


def _is_readable(header: bytes) -> bool:
    """Tell whether py-amqp can read the properties in a frame: text, times, how deep they go."""
    try:
        Message().inbound_header(header)
    except Exception:
        return False
    return True


def _readable(payload: bytes) -> bytes:
    """Write a question mark for all that is not ASCII in basic.deliver's exchange and key."""
    texts = bytearray(payload)
    # Behind class and method, consumer tag, delivery tag, and whether it was redelivered.
    start = 14 + texts[4]
    for _ in range(2):
        end = start + 1 + texts[start]
        text = texts[start + 1 : end].decode("ascii", "replace")
        texts[start + 1 : end] = text.encode("ascii", "replace")
        start = end
    return bytes(texts)


class _Transport(pyamqp.Transport):  # type: ignore[misc]
    Connection = AmqpConnection


def describe(
    url: str,
    *,
    name: str,
    heartbeat: float,
    connect_timeout: float,
    tls: Mapping[str, Any],
    login_method: str | None,
    on_blocked: Callable[[str], None],
    on_unblocked: Callable[[], None],
) -> Any:
    """Make a `kombu.Connection`, which connects to nothing by itself.

    :raises ValueError: for a URL that is none.
    """
    scheme = url.partition("://")[0]
    if scheme not in ("amqp", "amqps"):
        raise ValueError("a URL of RabbitMQ starts with amqp:// or amqps://")
    try:
        description = Connection(
            url,
            transport=_Transport,
            heartbeat=heartbeat,
            connect_timeout=connect_timeout,
            login_method=login_method,
            transport_options={
                "client_properties": {"connection_name": name, "product": "gemstone_sync"},
                "on_blocked": on_blocked,
                "on_unblocked": on_unblocked,
                "socket_settings": _SOCKET,
            },
        )
    except (ValueError, TypeError):
        # Its text may quote a part of the password.
        raise ValueError(
            "not a URL of RabbitMQ: amqp://user:password@host:port/virtual-host, where "
            "special characters in the password are percent-encoded"
        ) from None
    if scheme == "amqps":
        description.ssl = _tls_options(tls, description.hostname)
    description.port = description.port or (5671 if scheme == "amqps" else 5672)
    return description


def _tls_options(given: Mapping[str, Any], host: str | None) -> dict[str, Any]:
    options = dict(given)
    if options.get("cert_reqs", ssl.CERT_REQUIRED) != ssl.CERT_NONE:
        # Without a name py-amqp takes any host's certificate.
        options.setdefault("server_hostname", host or "localhost")
        options.setdefault("cert_reqs", ssl.CERT_REQUIRED)
    return options


def connect(description: Any) -> AmqpConnection:
    """Open the connection that was described, within about twice its connect time-out.

    :raises LinkLost: when nobody answers.
    :raises LinkRefused: when the broker wants nothing of us.
    """
    place, seconds = place_of(description), 2 * description.connect_timeout
    description.transport_options["deadline"] = time.monotonic() + seconds
    # Looking up the host's name has no time-out of its own.
    timeout = gevent.Timeout(seconds + 1)
    try:
        with timeout:
            connection: AmqpConnection = description.transport.establish_connection()
    except gevent.Timeout as error:
        if error is not timeout:
            raise
        raise LinkLost(f"RabbitMQ at {place}: no connection in time") from None
    except FAULTS as error:
        raise fault(error, place) from error
    connection.deadline = None
    return connection


def place_of(description: Any) -> str:
    """Tell where it is, without the password."""
    place = f"{description.hostname or 'localhost'}:{description.port}"
    return place if description.virtual_host == "/" else f"{place}/{description.virtual_host}"
