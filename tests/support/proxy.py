"""A TCP proxy that harms what passes through it, for tests: it stalls, drips and cuts.

In the manner of toxiproxy, within the test's own process: greenlets of the hub that it is used
from. ``with Proxy(5672) as proxy``: connect to ``proxy.port``.
"""

import contextlib
import struct
from typing import Any

import gevent
from gevent import socket
from gevent.event import Event

_LINGER = struct.pack("ii", 1, 0)

#: Bytes read at once: what a stalled connection takes besides the buffers of the sockets.
_PIECE = 16 * 1024


class Proxy:
    """A context manager that listens on `port` while it is entered, and passes on to a target.

    What is done to it holds for the connections that stand and for new ones.

    :ivar accepted: how many connections there were.
    """

    def __init__(self, target_port: int) -> None:
        self._target = ("127.0.0.1", target_port)
        self._sockets: set[Any] = set()
        self._greenlets: list[gevent.Greenlet] = []
        self._flows = Event()
        self._rate: float | None = None
        self._cuts_next = False
        self.accepted = 0
        self.resume()

    def __enter__(self) -> "Proxy":
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(128)
        self.port = self._listener.getsockname()[1]
        self._greenlets.append(gevent.spawn(self._accept))
        return self

    def __exit__(self, *exc_info: object) -> None:
        gevent.killall(self._greenlets)
        self._listener.close()
        self.cut()

    def stall(self) -> None:
        """Keep the connections and take new ones, and pass nothing: no data, no end."""
        self._flows.clear()

    def drip(self, bytes_per_second: float) -> None:
        """Pass so much of each connection each way, a few bytes at a time."""
        self._rate = bytes_per_second

    def resume(self) -> None:
        """Pass everything as it comes, what was held back at once."""
        self._rate = None
        self._flows.set()

    def cut(self) -> None:
        """Reset every connection, on both sides. New ones are taken."""
        for each in list(self._sockets):
            self._reset(each)
        gevent.sleep(0)  # gevent closes a socket that has watchers in the next turn of its loop

    def cut_next(self) -> None:
        """`cut` once, when something comes to be passed on."""
        self._cuts_next = True

    def _reset(self, each: Any) -> None:
        self._sockets.discard(each)
        with contextlib.suppress(OSError):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)
        each.close()

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            self.accepted += 1
            try:
                server = socket.create_connection(self._target)
            except OSError:
                self._reset(client)
                continue
            self._sockets |= {client, server}
            for source, sink in ((client, server), (server, client)):
                sink.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._greenlets.append(gevent.spawn(self._pass, source, sink))

    def _pass(self, source: Any, sink: Any) -> None:
        """One way of one connection, until its end."""
        try:
            while piece := source.recv(_PIECE):
                if self._cuts_next:
                    self._cuts_next = False
                    self.cut()
                self._send(piece, sink)
            self._flows.wait()
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            self._reset(source)
            self._reset(sink)

    def _send(self, piece: bytes, sink: Any) -> None:
        while piece:
            self._flows.wait()
            size = len(piece)
            if self._rate is not None:
                # Fifty times a second, at a rate that allows it.
                size = min(size, max(1, int(self._rate / 50)))
                gevent.sleep(size / self._rate)
                self._flows.wait()
            sink.sendall(piece[:size])
            piece = piece[size:]
