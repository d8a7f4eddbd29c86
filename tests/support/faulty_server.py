"""A server that answers as a test tells it to: properly, wrongly, slowly, or not at all.

A real socket and a greenlet for each connection. Every whole request is recorded before anything is
done about it, so that a test can count what a client really sent.

::

    with FaultyServer(reset, answer("pong")) as server:  # the last behaviour repeats
        ...
        assert server.received["ping"] == 2
"""

import collections
import contextlib
import json
import re
import select
import socket
import ssl
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import gevent
from gevent.event import Event

from .http import Headers
from .programs import REPOSITORY
from .waiting import LIMIT, wait_until

#: A key and a certificate for localhost and 127.0.0.1 that is its own authority.
CERTIFICATE = str(REPOSITORY / "tests" / "data" / "localhost.pem")

HTML = "<html><body>The proxy is unwell</body></html>"


class Request(NamedTuple):
    """One whole HTTP request."""

    head: bytes
    body: bytes
    connection: int

    @property
    def headers(self) -> Headers:
        lines = self.head.decode("latin-1").split("\r\n")[1:]
        pairs = [line.partition(":") for line in lines]
        return Headers([(name, value.strip()) for name, _, value in pairs])

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def items(self) -> list[Any]:
        """The items of a batch, or the one there is."""
        sent = self.json
        return sent if isinstance(sent, list) else [sent]

    @property
    def methods(self) -> list[str]:
        """The JSON-RPC methods it asks for, each time one is named."""
        try:
            return [item["method"] for item in self.items]
        except (ValueError, TypeError, KeyError):
            return []

    @property
    def id(self) -> str:
        """The id as JSON text, of the first item in a batch; ``null`` without one."""
        return json.dumps(self.items[0].get("id"))


class Exchange:
    """A request and the connection on which it waits for what a behaviour does about it."""

    def __init__(self, connection: socket.socket, request: Request) -> None:
        self.socket = connection
        self.request = request

    def filled(self, text: bytes | str) -> bytes:
        """The text, with the request's own id where it says ``ID``."""
        return _bytes(text).replace(b"ID", self.request.id.encode())

    def send(self, text: bytes | str) -> None:
        """Send it; ``ID`` in it stands for the request's own."""
        self.socket.sendall(self.filled(text))

    def reply(self, text: bytes | str, status: str = "200 OK", **headers: str) -> None:
        """Send a reply that is proper HTTP, whatever its body."""
        data = self.filled(text)
        fields = {"Content-Type": "application/json", "Content-Length": str(len(data))}
        fields.update({name.replace("_", "-"): value for name, value in headers.items()})
        lines = [f"HTTP/1.1 {status}", *(f"{key}: {value}" for key, value in fields.items())]
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode("latin-1") + data)


def _bytes(text: bytes | str) -> bytes:
    return text.encode() if isinstance(text, str) else text


class Ended(Exception):
    """Raised by a behaviour after which the connection is closed."""


Behaviour = Callable[[Exchange], None]


def answer(value: Any = "pong", **headers: str) -> Behaviour:
    """The proper answer: a result for a call, 204 for a notification, a list for a batch."""

    def act(exchange: Exchange) -> None:
        ids = [item["id"] for item in exchange.request.items if "id" in item]
        results = [{"jsonrpc": "2.0", "result": value, "id": id} for id in ids]
        if not results:
            exchange.socket.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
        else:
            is_batch = isinstance(exchange.request.json, list)
            exchange.reply(json.dumps(results if is_batch else results[0]), **headers)

    return act


def body(text: bytes | str, status: str = "200 OK", **headers: str) -> Behaviour:
    """A reply with this body; ``ID`` in it stands for the request's own."""
    return lambda exchange: exchange.reply(text, status, **headers)


def html(status: str = "200 OK", **headers: str) -> Behaviour:
    """What a proxy says when it does not reach the service."""
    return body(HTML, status, **{"Content_Type": "text/html; charset=utf-8", **headers})


def redirect(url: str, status: str = "307 Temporary Redirect") -> Behaviour:
    return body("", status, Location=url)


def keep(exchange: Exchange) -> None:
    """Nothing; the next request may follow on the same connection."""


def close(exchange: Exchange) -> None:
    """End the connection in order."""
    raise Ended


def reset(exchange: Exchange) -> None:
    """End the connection with a reset."""
    exchange.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raise Ended


def hang(exchange: Exchange) -> None:
    """Say nothing until the client leaves."""
    while exchange.socket.recv(1 << 16):
        pass
    raise Ended


def raw(text: bytes | str, then: Behaviour = keep) -> Behaviour:
    """These bytes and no others; ``ID`` in them stands for the request's own."""
    return both(lambda exchange: exchange.send(text), then)


def both(first: Behaviour, second: Behaviour) -> Behaviour:
    def act(exchange: Exchange) -> None:
        first(exchange)
        second(exchange)

    return act


def in_turn(*behaviours: Behaviour) -> Behaviour:
    """The first, then the next …; the last one repeats. For greetings."""
    left = list(behaviours)
    return lambda exchange: (left.pop(0) if len(left) > 1 else left[0])(exchange)


def drip(text: bytes | str, every: float) -> Behaviour:
    """These bytes, one of them every so many seconds."""

    def act(exchange: Exchange) -> None:
        for byte in _bytes(text):
            exchange.socket.sendall(bytes([byte]))
            gevent.sleep(every)

    return act


def endless(start: bytes, piece: bytes) -> Behaviour:
    """The start, and then the piece again and again until the client leaves."""

    def act(exchange: Exchange) -> None:
        exchange.socket.sendall(start)
        while True:
            exchange.socket.sendall(piece)
            gevent.sleep(0)

    return act


def when(event: Event, behaviour: Behaviour) -> Behaviour:
    """The behaviour once the event is set."""

    def act(exchange: Exchange) -> None:
        assert event.wait(LIMIT), "a test did not set its event"
        behaviour(exchange)

    return act


def forward(port: int, then: Behaviour | None = None) -> Behaviour:
    """Have a service on this port answer; or, with `then`, only execute it."""

    def act(exchange: Exchange) -> None:
        with socket.create_connection(("127.0.0.1", port), timeout=LIMIT) as service:
            head = re.sub(rb"\r\nConnection:[^\r]*", b"", exchange.request.head, flags=re.I)
            service.sendall(head + b"\r\nConnection: close\r\n\r\n" + exchange.request.body)
            answered = b"".join(iter(lambda: service.recv(1 << 16), b""))
        if then is None:
            exchange.socket.sendall(answered)
            raise Ended
        then(exchange)

    return act


def gzip_bomb(size: int) -> bytes:
    """About a thousandth of `size` in gzip, with that many bytes of a JSON text in it."""
    pack = zlib.compressobj(9, wbits=31)
    spaces = b" " * (1 << 20)
    pieces = [pack.compress(b'{"jsonrpc":"2.0","id":1,"result":')]
    pieces += [pack.compress(spaces) for _ in range(size >> 20)]
    return b"".join([*pieces, pack.compress(b"1}"), pack.flush()])


class FaultyServer:
    """A server for the length of a with block.

    :param script: what to do about each request, in order; the last one repeats.
    :param tls: whether to speak TLS, with `CERTIFICATE`.
    :param greeting: what to do about each new connection, before any request and any TLS.
    :param port: listen here, on `host`; a free one when left out.

    :ivar requests: everything that arrived whole, but for what is `aside`.
    :ivar received: how often each JSON-RPC method arrived.
    :ivar connections: how many there were so far.
    :ivar aside: what to do about a method that is no part of the script. The gemstone command asks
        what a service has when it lacks a method; this one says that it cannot tell.
    """

    def __init__(
        self,
        *script: Behaviour,
        tls: bool = False,
        greeting: Behaviour | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.requests: list[Request] = []
        self.asked_aside: list[Request] = []
        self.received: collections.Counter[str] = collections.Counter()
        no_such_method = '{"jsonrpc":"2.0","error":{"code":-32601,"message":"no"},"id":ID}'
        self.aside: dict[str, Behaviour] = {"get_service_specs": body(no_such_method)}
        self.connections = 0
        self.failures: list[Exception] = []
        self.script(*script or [answer()])
        self.greeting = greeting
        self.host = host
        self.port = port
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if tls else None
        if self._tls is not None:
            self._tls.load_cert_chain(CERTIFICATE)
        self._greenlets: list[gevent.Greenlet] = []
        self._sockets: dict[int, socket.socket] = {}

    def script(self, *behaviours: Behaviour) -> None:
        """What to do from now on."""
        self._script = list(behaviours)

    @property
    def url(self) -> str:
        return f"{'http' if self._tls is None else 'https'}://{self.host}:{self.port}/api"

    @property
    def open_connections(self) -> int:
        return len(self._sockets)

    def __enter__(self) -> "FaultyServer":
        self._listener = socket.create_server((self.host, self.port), backlog=512)
        self.port = self._listener.getsockname()[1]
        self._greenlets.append(gevent.spawn(self._accept))
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()
        assert not self.failures, self.failures

    def stop(self) -> None:
        """End every connection, and refuse new ones."""
        gevent.killall(self._greenlets)
        for one in [self._listener, *self._sockets.values()]:
            one.close()

    def refuse(self) -> None:
        """Refuse new connections; those that are open go on."""
        self._greenlets[0].kill()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            self.connections += 1
            self._sockets[self.connections] = connection
            self._greenlets.append(gevent.spawn(self._serve, connection, self.connections))

    def _serve(self, connection: socket.socket, number: int) -> None:
        try:
            # What the client ends from its side is no fault of the server's.
            with contextlib.suppress(OSError, Ended):
                if self.greeting is not None:
                    self.greeting(Exchange(connection, Request(b"", b"{}", number)))
                if self._tls is not None:
                    # Two steps, so that a handshake that is broken off leaves no socket behind.
                    connection = self._tls.wrap_socket(
                        connection, server_side=True, do_handshake_on_connect=False
                    )
                    self._sockets[number] = connection
                    connection.do_handshake()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for request in self._requests(connection, number):
                    self._record(request)(Exchange(connection, request))
        except Exception as error:
            self.failures.append(error)
        finally:
            self._sockets.pop(number).close()

    def _record(self, request: Request) -> Behaviour:
        methods = request.methods
        self.received.update(methods)
        if len(methods) == 1 and methods[0] in self.aside:
            self.asked_aside.append(request)
            return self.aside[methods[0]]
        self.requests.append(request)
        return self._script.pop(0) if len(self._script) > 1 else self._script[0]

    def _requests(self, connection: socket.socket, number: int) -> Iterator[Request]:
        received = b""
        while True:
            while b"\r\n\r\n" not in received:
                received += _more(connection)
            head, _, received = received.partition(b"\r\n\r\n")
            length = re.search(rb"\r\nContent-Length: *(\d+)", head, re.IGNORECASE)
            size = int(length[1]) if length else 0
            while len(received) < size:
                received += _more(connection)
            yield Request(head, received[:size], number)
            received = received[size:]


def _more(connection: socket.socket) -> bytes:
    received = connection.recv(1 << 16)
    if not received:
        raise Ended
    return received


@contextlib.contextmanager
def full_backlog() -> Iterator[str]:
    """The URL of a listener that accepts nothing and has no room for another connection."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        waiting = [stack.enter_context(socket.socket()) for _ in range(5)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
        wait_until(lambda: select.select([], waiting, [], 0)[1], "the one that finds room")
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/api"
