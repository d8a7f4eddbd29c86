"""Requests that would like to leave HTTP, and connections that did."""

import contextlib
import logging
import selectors
import socket
import ssl
import time

import gevent
import pytest
from gevent.event import Event

from gemstone_sync.server import gevent_server
from gemstone_sync.server import state as state_module
from gemstone_sync.server import upgrade as upgrade_module
from tests.support.waiting import LIMIT, gather, wait_until

from .case import CHUNKED
from .harness import (
    NEVER,
    ask,
    connected,
    plain_and_tls,
    served,
    wait_until_arrived,
    wait_until_forgotten,
)

UPGRADE = (b"Connection: keep-alive, Upgrade", b"Upgrade: echo/1")
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo/1\r\nConnection: Upgrade\r\n\r\n"
GOING_AWAY = b"\x88\x02\x03\xe9"


class Failure(Exception):
    """Raised by the application; the test expects it in the log."""


class Application:
    """Hands the socket of `/NAME` to its method of that name, which returns the WSGI result.

    :ivar ran: the paths that were run.
    :ivar ended: the paths whose method has returned or failed.
    """

    def __init__(self):
        self.ran, self.ended, self.told = [], [], []
        self.entered, self.release = Event(), Event()

    def __call__(self, environ, start_response):
        path = environ["PATH_INFO"]
        self.ran.append(path)
        try:
            sock = environ.get("gunicorn.socket")
            return getattr(self, path[1:])(sock, environ, start_response)
        finally:
            self.ended.append(path)

    def x(self, sock, environ, start_response):
        start_response("200 OK", [])
        return [b"offered" if sock is not None else b"no socket"]

    def echo(self, sock, *_):
        sock.sendall(SWITCHED)
        while data := sock.recv(4096):
            sock.sendall(data)
        return []

    def looks(self, sock, environ, start_response):
        """An ordinary answer by who looked at the socket, and kept it."""
        self.told = [sock, sock.getpeername(), sock.family, sock.gettimeout()]
        return self.x(sock, environ, start_response)

    def large(self, sock, environ, start_response):
        assert sock.send(SWITCHED) == len(SWITCHED)
        assert sock.send(b"x" * int(environ["QUERY_STRING"])) == int(environ["QUERY_STRING"])

    def two(self, sock, *_):
        sock.sendall(SWITCHED)
        gather([lambda n=n: sock.sendall(b"%d" % n * 1_000_000) for n in range(3)])

    def pushes(self, sock, *_):
        """Never reads."""
        sock.sendall(SWITCHED)
        self.entered.set()
        while True:
            sock.sendall(b"tick")
            gevent.sleep(0.01)

    def works(self, sock, *_):
        """Reads, then is busy, and answers."""
        sock.sendall(SWITCHED)
        asked = sock.recv(100)
        self.entered.set()
        assert self.release.wait(LIMIT)
        self.told.append(sock.recv(100))
        sock.sendall(b"answer to " + asked)

    def takes_late(self, sock, environ, start_response):
        self.entered.set()
        assert self.release.wait(LIMIT)
        return self.echo(sock)

    def selects(self, sock, *_):
        """Wait as simple-websocket does when it sends pings: a little at a time."""
        sock.sendall(SWITCHED)
        with selectors.DefaultSelector() as selector:
            selector.register(sock, selectors.EVENT_READ)
            left = 100_000
            while left:
                assert selector.select(LIMIT), f"not readable, {left} are left"
                if not (data := sock.recv(min(left, 4096))):
                    return
                left -= len(data)
            sock.sendall(b"all" * 100_000)

    def makes_file(self, sock, *_):
        sock.sendall(SWITCHED)
        with sock.makefile("rb") as file:
            line = file.readline()
        with contextlib.closing(sock):
            sock.sendall(line)

    def into(self, sock, *_):
        with sock:
            buffer = bytearray(5)
            sock.send(SWITCHED)
            size = sock.recv_into(buffer)
            sock.settimeout(0.01)
            with pytest.raises(TimeoutError):
                sock.recv(1)
            sock.setblocking(False)
            with pytest.raises((BlockingIOError, ssl.SSLWantReadError)):
                sock.recv(1)
            sock.settimeout(None)
            sock.sendall(buffer[:size])
        with pytest.raises(OSError, match="closed"):
            sock.recv(1)

    def shuts(self, sock, *_):
        sock.sendall(SWITCHED + b"no more")
        sock.shutdown(socket.SHUT_WR)
        self.told.append(sock.recv(100))

    # What gunicorn's users do afterwards

    def stops(self, sock, *_):
        self.echo(sock)
        raise StopIteration

    def handled(self, sock, *_):
        self.echo(sock)
        return object()

    def answers(self, sock, environ, start_response):
        self.echo(sock)
        start_response("200 OK", [])(b"as werkzeug's")
        return [b"never sent"]

    def in_body(self, sock, environ, start_response):
        yield from self.echo(sock)

    def fails(self, sock, *_):
        sock.sendall(SWITCHED)
        raise Failure("after it had the socket")


@pytest.fixture
def application():
    return Application()


def switch(client, path, after=b"", fields=UPGRADE):
    client.send(ask(path, *fields) + after)
    assert client.read_some(len(SWITCHED)) == SWITCHED


@plain_and_tls
@pytest.mark.parametrize("path", ["/echo", "/stops", "/handled", "/answers", "/in_body"])
def test_the_socket_is_the_applications(serve, connect, application, path):
    """The bytes behind the head come first; nothing of HTTP is read or written any more."""
    server = serve(keep_alive_timeout=0.1, header_timeout=0.1)
    state, client = server.state, connect(server)
    switch(client, path, b"early,")
    assert client.read_some(6) == b"early,"
    swept = state.now
    wait_until(lambda: state.now > swept + 0.3, "the time-outs of HTTP, which must not count")
    client.send(ask("/x"))
    assert client.read_some(len(ask("/x"))) == ask("/x")
    client.socket.close()
    wait_until(lambda: not state.connections and not state.upgraded, "it is forgotten")
    assert application.ran == [path]
    assert state.clients_gone == 0


@plain_and_tls
def test_what_is_read_in_pieces_arrives_in_order(serve, connect):
    client = connect(serve())
    request = ask("/echo", *UPGRADE) + b"0123456789" * 3
    client.send_by_byte(request)
    assert client.read_some(len(SWITCHED) + 30) == SWITCHED + b"0123456789" * 3


@pytest.mark.parametrize(
    "request_",
    [
        ask("/x", *UPGRADE, version="1.0"),
        ask("/x", b"Upgrade: websocket"),
        ask("/x", b"Connection: Upgrade"),
        ask("/x", b"Connection: Upgrade", b"Upgrade: h2c"),
        ask("/x", b"Connection: Upgrade", b"Upgrade: TLS/1.2"),
        ask("/x", *UPGRADE, b"Content-Length: 3", method="POST", body=b"abc"),
        ask("/x", *UPGRADE, CHUNKED, method="POST", body=b"0\r\n\r\n"),
    ],
    ids=repr,
)
def test_not_offered(serve, connect, request_):
    """RFC 9110, section 7.8; and what HTTP clients send beside every request."""
    assert connect(serve()).exchange(request_).body == b"no socket"


def test_an_offer_that_is_not_taken_is_an_ordinary_request(serve, connect, application):
    server = serve()
    client = connect(server)
    client.send(ask("/x", *UPGRADE) * 2 + ask("/x"))
    assert [client.read_reply().body for _ in "123"] == [b"offered"] * 2 + [b"no socket"]
    assert client.exchange(ask("/looks", *UPGRADE)).body == b"offered"
    kept, name, family, timeout = application.told
    assert (name, family, timeout) == (client.socket.getsockname(), socket.AF_INET, None)
    with pytest.raises(OSError, match="answered"):
        kept.sendall(b"too late")
    kept.close()
    assert client.exchange(ask("/x")).body == b"no socket"
    # Their keys differ every time: they must not drive out the heads of others.
    assert list(server.state.known_heads) == [ask("/x")]


@plain_and_tls
def test_a_large_message_is_sent_whole(serve, connect):
    """gevent's own send takes what fits, and simple-websocket knows no rest."""
    client = connect(serve())
    switch(client, "/large?5000000")
    assert client.read_to_end() == b"x" * 5_000_000


@plain_and_tls
def test_those_who_send_at_once_do_not_mix(serve, connect):
    client = connect(serve())
    switch(client, "/two")
    received = client.read_to_end()
    assert sorted(received[n * 1_000_000 :][:1_000_000] for n in range(3)) == [
        b"%d" % n * 1_000_000 for n in range(3)
    ]


def test_a_flood_does_not_hold_the_others(serve, connect):
    server = serve()
    client = connect(server)
    switch(client, "/echo")

    def flood():
        with contextlib.suppress(OSError):
            while True:
                client.socket.send(b"x" * 65536)
                gevent.sleep(0)

    def swallow():
        with contextlib.suppress(OSError):
            while client.socket.recv(1 << 20):
                gevent.sleep(0)

    others = [gevent.spawn(flood), gevent.spawn(swallow)]
    with connected(server) as other:
        for _ in range(20):
            assert other.exchange(ask("/x")).status == 200
    gevent.killall(others)


@plain_and_tls
@pytest.mark.parametrize("after", [b"", b"x" * 100_000], ids=["later", "at once"])
def test_it_can_be_waited_for_by_descriptor(serve, connect, after):
    """What is read or deciphered already makes a descriptor readable too."""
    client = connect(serve())
    switch(client, "/selects", after)
    if not after:
        client.send(b"x" * 100_000)
    assert client.read_to_end() == b"all" * 100_000


@plain_and_tls
def test_the_rest_of_a_sockets_ways(serve, connect, application):
    server = serve()
    client = connect(server)
    switch(client, "/makes_file", b"a line\n")
    assert client.read_to_end() == b"a line\n"
    client = connect(server)
    switch(client, "/into", b"bytes")
    assert client.read_to_end() == b"bytes"
    client = connect(server)
    switch(client, "/shuts")
    assert client.read_to_end() == b"no more"
    client.send(b"still read")
    client.socket.close()
    wait_until_forgotten(server)
    assert application.told == [b"still read"] or server.state.tls_context


def test_a_failure_is_logged_and_nothing_is_written(serve, connect, errors):
    client = connect(serve())
    switch(client, "/fails")
    assert client.read_to_end() == b""
    assert errors.take() == ["the application failed: Failure('after it had the socket')"]


@plain_and_tls
@pytest.mark.parametrize("path", ["/echo", "/pushes"])
def test_a_client_that_vanishes_ends_it(serve, connect, application, path):
    """With a reset; it is no fault of the application, even if that lets the error through."""
    server = serve()
    client = connect(server)
    switch(client, path)
    client.abort()
    wait_until(lambda: application.ended == [path], "the application has ended")
    wait_until_forgotten(server)
    assert server.state.clients_gone == 0


def test_a_client_that_takes_nothing_is_left(serve, connect, application, monkeypatch):
    monkeypatch.setattr(upgrade_module, "SEND_SECONDS", 0.2)
    server = serve()
    state = server.state
    switch(connect(server), "/large?50000000")
    wait_until(lambda: application.ended, "the application has ended")
    wait_until(lambda: not state.connections and not state.upgraded, "it is forgotten")


def test_one_that_is_not_there_is_asked_for(serve, connect, application):
    """By the kernel: after two minutes of silence at most."""
    server = serve()
    client = connect(server)
    switch(client, "/echo")
    (connection,) = server.state.upgraded
    option = connection.socket.getsockopt
    assert option(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    idle, interval, count = (
        option(socket.IPPROTO_TCP, name)
        for name in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
    )
    assert idle + interval * count <= 120


def test_a_child_process_would_not_hold_one_open(serve, connect):
    server = serve()
    switch(connect(server), "/echo")
    (connection,) = server.state.upgraded
    assert connection.socket.fileno() in server.descriptors()


def test_they_are_counted_apart(application):
    """They take no place of others, are never driven out, and have a bound of their own."""
    with served(application, max_connections=2) as server, contextlib.ExitStack() as clients:
        handed = [clients.enter_context(connected(server)) for _ in range(2)]
        for client in handed:
            switch(client, "/echo")
        others = [clients.enter_context(connected(server)) for _ in range(3)]
        for client in others:
            assert client.exchange(ask("/x")).status == 200
        refused = clients.enter_context(connected(server))
        reply = refused.exchange(ask("/echo", *UPGRADE))
        assert (reply.status, reply.json["error"]["code"], reply.closes) == (503, -32000, True)
        for client in handed:
            client.send(b"still here")
            assert client.read_some(10) == b"still here"
        assert len(server.state.upgraded) == 2
        handed[0].socket.close()
        wait_until(lambda: len(server.state.upgraded) == 1, "there is room again")
        switch(clients.enter_context(connected(server)), "/echo")


def test_one_that_was_to_make_room_takes_no_place_of_others(application):
    """Its request had come already, and the application took the socket."""
    with served(application, max_connections=2) as server, contextlib.ExitStack() as clients:
        first, other = (clients.enter_context(connected(server)) for _ in range(2))
        for client in (first, other):
            assert client.exchange(ask("/x")).status == 200
        first.send(ask("/echo", *UPGRADE))
        wait_until_arrived(next(iter(server.state.connections)))
        assert server.state.find_room()
        assert first.read_some(len(SWITCHED)) == SWITCHED
        other.socket.close()
        wait_until_forgotten(server)
        for _ in range(2):
            clients.enter_context(connected(server)).send(ask("/takes_late", *UPGRADE))
        wait_until(lambda: application.ran.count("/takes_late") == 2, "both places are taken")
        newcomer = clients.enter_context(connected(server))
        newcomer.send(ask("/x"))
        assert newcomer.read_to_end() == b""
        application.release.set()


@pytest.mark.parametrize(
    ("limits", "room"),
    [((1024, 1 << 20), (100, 100)), ((1024, 1024), (512, 128)), ((256, 2700), (2000, 500))],
)
def test_files_for_them_are_asked_for(monkeypatch, caplog, limits, room):
    """As many may be open as connections; where the system has fewer, connections come first."""
    asked = []
    resource = state_module.resource
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda _, new: asked.append(new))
    wanted = 100 if room[0] == 100 else 2000
    assert state_module.raise_file_limit(wanted) == room
    assert asked == ([] if wanted == 100 else [(limits[1], limits[1])])
    assert bool(caplog.records) == (limits == (1024, 1024))


@pytest.fixture
def patient_stop(monkeypatch):
    """A stop cuts no application off that ends by itself, however long it has no processor."""
    monkeypatch.setattr(gevent_server, "UPGRADED_END_SECONDS", LIMIT)


def drained(server, grace=0.0):
    """Drain with a time that must not be used up."""
    started = time.monotonic()
    assert server.drain(grace, NEVER)
    assert time.monotonic() - started < LIMIT


@plain_and_tls
@pytest.mark.parametrize("path", ["/echo", "/pushes", "/selects"])
@pytest.mark.parametrize("protocol", ["websocket", "echo/1"])
def test_a_stop_ends_them(serve, connect, application, request, path, protocol):
    """As if the client went away; one of WebSocket is told so, in its own language."""
    if path != "/pushes":  # which never reads, and is cut off
        request.getfixturevalue("patient_stop")
    server = serve()
    client = connect(server)
    switch(client, path, b"", (b"Connection: Upgrade", b"Upgrade: " + protocol.encode()))
    wait_until(lambda: len(server.state.upgraded) == 1, "the socket is handed over")
    reading = gevent.spawn(client.read_to_end)
    drained(server)
    received = reading.get(timeout=LIMIT).replace(b"tick", b"")
    told = protocol == "websocket" and path == "/echo"
    assert received == (GOING_AWAY if told else b"") or path != "/echo"
    assert application.ended == [path]


@pytest.mark.usefixtures("patient_stop")
def test_a_stop_lets_an_answer_out(serve, connect, application):
    server = serve()
    client = connect(server)
    switch(client, "/works", b"question", (b"Connection: Upgrade", b"Upgrade: websocket"))
    assert application.entered.wait(LIMIT)
    stopping = gevent.spawn(drained, server)
    wait_until(lambda: server.state.draining, "it stops")
    gevent.sleep(0.1)
    application.release.set()
    assert client.read_to_end() == b"answer to question" + GOING_AWAY
    assert application.told == [b""]
    stopping.get(timeout=LIMIT)


def test_none_is_handed_over_while_it_stops(serve, connect, application):
    server = serve()
    client = connect(server)
    assert client.exchange(ask("/x")).status == 200
    stopping = gevent.spawn(drained, server, 5)
    wait_until(lambda: server.state.draining, "it stops")
    reply = client.exchange(ask("/echo", *UPGRADE))
    assert (reply.status, reply.closes) == (503, True)
    stopping.get(timeout=LIMIT)
    assert application.ran == ["/x"]


@pytest.mark.usefixtures("patient_stop")
def test_one_that_is_taken_while_it_stops_ends(serve, connect, application):
    server = serve()
    client = connect(server)
    client.send(ask("/takes_late", b"Connection: Upgrade", b"Upgrade: websocket"))
    assert application.entered.wait(LIMIT)
    stopping = gevent.spawn(drained, server)
    wait_until(lambda: server.state.draining, "it stops")
    application.release.set()
    assert client.read_to_end() == SWITCHED + GOING_AWAY
    stopping.get(timeout=LIMIT)


def test_the_access_log_says_101(serve, connect, application, caplog):
    caplog.set_level(logging.INFO, logger="gemstone_sync.access")
    server = serve(access_log=True)
    for path in "/echo", "/stops", "/x":
        client = connect(server)
        client.send(ask(path, *UPGRADE))
        client.finish_sending()
        client.read_to_end()
    wait_until_forgotten(server)
    lines = [record.getMessage().split('"')[1:3] for record in caplog.records]
    assert lines == [
        ["GET /echo HTTP/1.1", " 101 0 "],
        ["GET /stops HTTP/1.1", " 101 0 "],
        ["GET /x HTTP/1.1", " 200 7 "],
    ]
