"""A TCP proxy that harms what passes through it, for tests: stalls, cuts, drips, delays, refuses.

In the manner of toxiproxy, within the test's own process: greenlets of the hub that it is used
from. It knows nothing of what it carries.

::

    with Proxy(5672) as proxy:
        connection = connect(proxy.port)
        proxy.stall()            # the connection stands, nothing passes
        ...
        proxy.resume()
"""

from __future__ import annotations

import contextlib
import struct
import time
from collections.abc import Iterator

import gevent
from gevent import socket
from gevent.event import Event
from gevent.queue import Queue

_LINGER = struct.pack("ii", 1, 0)

#: Bytes read at once, and how many such pieces wait in between: a stalled sender soon blocks.
_PIECE = 16 * 1024
_PIECES = 8

#: Seconds for connecting to the target.
_CONNECT_LIMIT = 10.0


class Way:
    """One direction of all connections: what is done to it, and what has passed.

    :ivar passed: bytes so far.
    """

    def __init__(self) -> None:
        self.passed = 0
        self.flows = Event()
        self._eased = Event()
        self.ease()

    def ease(self) -> None:
        """Pass everything as it comes, what was held back at once."""
        self.rate: float | None = None
        self.delay = 0.0
        self.flows.set()
        eased, self._eased = self._eased, Event()
        eased.set()

    def pause(self, seconds: float) -> None:
        """Sleep, until everything passes again at most."""
        self._eased.wait(seconds)

    def slices(self, piece: bytes) -> Iterator[bytes]:
        """What may be sent, when it may be sent."""
        while piece:
            self.flows.wait()
            size = len(piece)
            if self.rate is not None:
                # Fifty times a second, at a rate that allows it.
                size = min(size, max(1, int(self.rate / 50)))
                self.pause(size / self.rate)
                self.flows.wait()
            yield piece[:size]
            piece = piece[size:]


class Proxy:
    """A context manager that listens on `port` while it is entered, and passes on to a target.

    What is done to it holds for the connections that stand and for new ones. `way` is
    ``proxy.to_server``, ``proxy.to_client``, or None for both.

    :ivar accepted: how many connections were made so far.
    """

    def __init__(self, target_port: int, *, target_host: str = "127.0.0.1") -> None:
        self._target = (target_host, target_port)
        self.to_server = Way()
        self.to_client = Way()
        self.port = 0
        self.accepted = 0
        self._listener: socket.socket | None = None
        self._acceptor: gevent.Greenlet | None = None
        self._connections: set[_Connection] = set()
        #: How many bytes may still pass before everything is cut, and which count.
        self._left: int | None = None
        self._counted: tuple[Way, ...] = ()

    def __enter__(self) -> Proxy:
        self.accept()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.refuse()
        self.cut()

    @property
    def connections(self) -> int:
        """How many connections stand."""
        return len(self._connections)

    # What can be done to it

    def stall(self, way: Way | None = None) -> None:
        """Keep the connections and take new ones, and pass nothing: no data, no end."""
        for each in self._ways(way):
            each.flows.clear()

    def drip(self, bytes_per_second: float, way: Way | None = None) -> None:
        """Pass so much of each connection, a few bytes at a time."""
        for each in self._ways(way):
            each.rate = bytes_per_second

    def latency(self, seconds: float, way: Way | None = None) -> None:
        """Pass everything so much later; an answer to a question then takes twice as long."""
        for each in self._ways(way):
            each.delay = seconds

    def cut_after(self, count: int, way: Way | None = None) -> None:
        """Pass so many bytes more, of all connections together, then `cut` once."""
        self._left, self._counted = count, self._ways(way)

    def resume(self) -> None:
        """Undo all of these. Connections that were cut stay so, and so does `refuse`."""
        self._left = None
        for each in self._ways(None):
            each.ease()

    def cut(self) -> None:
        """Reset every connection, on both sides. New ones are taken."""
        for connection in list(self._connections):
            connection.end(reset=True)
        gevent.sleep(0)  # gevent closes a socket that has watchers in the next turn of its loop

    def refuse(self) -> None:
        """Stop listening: who connects is refused. The connections that stand stay."""
        if self._listener is not None and self._acceptor is not None:
            self._acceptor.kill()
            self._listener.close()
            self._listener = self._acceptor = None
            gevent.sleep(0)

    def accept(self) -> None:
        """Listen, at the same port as before."""
        if self._listener is None:
            self._listener = listener = socket.socket()
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", self.port))
            listener.listen(128)
            self.port = listener.getsockname()[1]
            self._acceptor = gevent.spawn(self._take, listener)

    # How it is done

    def _ways(self, way: Way | None) -> tuple[Way, ...]:
        return (self.to_server, self.to_client) if way is None else (way,)

    def _take(self, listener: socket.socket) -> None:
        while True:
            client, _ = listener.accept()
            self.accepted += 1
            connection = _Connection(self, client)
            self._connections.add(connection)
            connection.start(self._target)

    def _admitted(self, way: Way, data: bytes) -> bytes:
        """What of it may pass before everything is cut."""
        if self._left is None or way not in self._counted:
            return data
        data = data[: self._left]
        self._left -= len(data)
        return data

    def _passed(self, way: Way, data: bytes) -> None:
        way.passed += len(data)
        if self._left == 0:
            self._left = None
            self.cut()

    def _forget(self, connection: _Connection) -> None:
        self._connections.discard(connection)


class _Connection:
    """One connection through the proxy: a socket to either side, two greenlets for each way."""

    def __init__(self, proxy: Proxy, client: socket.socket) -> None:
        self._proxy = proxy
        self._sockets = [client]
        self._greenlets: list[gevent.Greenlet] = []
        self._ended_ways = 0

    def start(self, target: tuple[str, int]) -> None:
        self._greenlets.append(gevent.spawn(self._connect, target))

    def _connect(self, target: tuple[str, int]) -> None:
        client, server = self._sockets[0], socket.socket()
        self._sockets.append(server)
        try:
            server.settimeout(_CONNECT_LIMIT)
            server.connect(target)
            server.settimeout(None)
        except OSError:
            self.end(reset=True)
            return
        for source, sink, way in (
            (client, server, self._proxy.to_server),
            (server, client, self._proxy.to_client),
        ):
            sink.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            pieces: Queue[tuple[float, bytes]] = Queue(_PIECES)
            self._greenlets += [
                gevent.spawn(self._read, source, pieces),
                gevent.spawn(self._write, sink, pieces, way),
            ]

    def _read(self, source: socket.socket, pieces: Queue[tuple[float, bytes]]) -> None:
        data = b"."
        while data:
            try:
                data = source.recv(_PIECE)
            except OSError:
                self.end(reset=True)
                return
            pieces.put((time.monotonic(), data))

    def _write(self, sink: socket.socket, pieces: Queue[tuple[float, bytes]], way: Way) -> None:
        while True:
            received, piece = pieces.get()
            if (early := received + way.delay - time.monotonic()) > 0:
                way.pause(early)
            try:
                for part in way.slices(piece):
                    admitted = self._proxy._admitted(way, part)
                    sink.sendall(admitted)
                    self._proxy._passed(way, admitted)
                if not self._sockets:
                    return
                if not piece:
                    way.flows.wait()
                    sink.shutdown(socket.SHUT_WR)
                    break
            except OSError:
                self.end(reset=True)
                return
        self._ended_ways += 1
        if self._ended_ways == 2:
            self.end(reset=False)

    def end(self, *, reset: bool) -> None:
        self._proxy._forget(self)
        mine = gevent.getcurrent()
        gevent.killall([each for each in self._greenlets if each is not mine], block=False)
        for each in self._sockets:
            if reset:
                with contextlib.suppress(OSError):
                    each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)
            each.close()
        self._sockets.clear()
