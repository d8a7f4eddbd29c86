"""Time-outs, and the number of connections; in the clear and over TLS."""

import dataclasses
import socket
import time
import tracemalloc

import gevent
import pytest

from gemstone_sync.concurrency.native import native_sleep
from gemstone_sync.server import ServerSettings, client_socket, gevent_server
from gemstone_sync.server.connection import BETWEEN_CALLS
from tests.support.http import chunk
from tests.support.waiting import LIMIT, gather, wait_until

from .case import CHUNKED, get, post
from .harness import NEVER, ask, plain_and_tls, send, wait_until_arrived, wait_until_forgotten

#: A time-out that strikes; and one that may be used up only where a test waits for that.
STRIKES = 0.1
SHORT = 0.5
SWEEP = 0.05


@pytest.fixture(autouse=True)
def quick_sweep(monkeypatch):
    monkeypatch.setattr(gevent_server, "SWEEP_SECONDS", SWEEP)


def assert_times_out(client, tls=None):
    """408, and the end; over TLS a connection that waits for a record ends without a word."""
    if tls:
        received = client.read_to_end()
        assert received == b"" or received.startswith(b"HTTP/1.1 408 ")
    else:
        reply = client.read_reply()
        assert reply.status == 408
        assert reply.closes
        assert client.is_ended()


def drip_into(client, text):
    """A byte every 50 ms: what slowloris does."""
    for place in range(len(text)):
        client.send(text[place : place + 1])
        gevent.sleep(0.05)


def test_the_defaults():
    assert client_socket.TLS_HANDSHAKE_SECONDS == 5.0
    assert ServerSettings() == ServerSettings(
        max_connections=2000, header_timeout=5.0, keep_alive_timeout=5.0, body_timeout=10.0
    )


@plain_and_tls
@pytest.mark.parametrize("requests", [0, 3])
def test_an_idle_connection_ends_without_a_word(serve, connect, tls, requests):
    client = connect(serve(keep_alive_timeout=SHORT))
    started = time.monotonic()
    for _ in range(requests):
        started = time.monotonic()  # the server's time may begin before the answer is read
        assert client.exchange(get()).status == 200
    if tls:
        client.socket.suppress_ragged_eofs = False  # a goodbye: RFC 8446, section 6.1
    assert client.read_to_end() == b""
    assert time.monotonic() - started >= SHORT - 2 * SWEEP


@plain_and_tls
def test_what_arrived_while_something_held_the_hub_is_answered(serve, connect, tls):
    client = connect(serve(keep_alive_timeout=STRIKES, header_timeout=STRIKES))
    for _ in range(3):
        assert client.exchange(get()).status == 200
        client.send(get())
        native_sleep(3 * STRIKES)
        assert client.read_reply().status == 200


@plain_and_tls
def test_what_arrives_as_the_time_ends_is_answered(serve, connect, tls):
    server = serve()
    client = connect(server)
    assert client.exchange(get()).status == 200
    (connection,) = server.state.connections
    for _ in range(3):
        wait_until(lambda: connection.idle and connection.waits_for_client, "the answer's end")
        client.send(get())
        wait_until_arrived(connection)
        connection.expire()  # in the same turn of the hub, which has not seen the request
        assert client.read_reply().status == 200


@plain_and_tls
@pytest.mark.parametrize("start", [b"G", get()[:-2], b"\r", b"\r\n"], ids=repr)
def test_half_a_head_is_answered_408(serve, connect, tls, application, start):
    client = connect(serve(header_timeout=STRIKES))
    client.send(start)
    assert_times_out(client, tls)
    assert not application.ran


@plain_and_tls
@pytest.mark.parametrize(
    ("line", "statuses"),
    [
        (b"GET /\r\n", {400}),  # HTTP/0.9
        (b"\r\nGET /x\r\n", {400}),
        (b"POST /api?a=b \r\n", {400}),
        (b"GET /\n", {400}),
        (b"OPTIONS *\r\nHost: a", {400}),
        (b"GET http://a/\r\n", {400}),
        (b"GET / HTTP/0.9\r\n", {400, 505}),  # by llhttp, or as a version
        (b"GET / HTTP/1.2\r\n", {400, 505}),
        (b"CONNECT a:1 HTTP/1.1\r\n", {501}),
    ],
    ids=lambda value: repr(value) if type(value) is bytes else "",
)
@pytest.mark.parametrize("by_byte", [False, True], ids=["whole", "by byte"])
def test_a_line_that_is_none_is_refused_at_once(
    serve, connect, application, line, statuses, by_byte
):
    """By its end: no field that might follow could mend it."""
    client = connect(serve())
    (client.send_by_byte if by_byte else client.send)(line)
    assert client.read_reply().status in statuses
    assert client.is_ended()
    assert not application.ran


def test_a_head_that_drips_is_not_waited_for(serve, connect):
    """The time is for the whole head, not for each byte of it; for the second as for the first."""
    client = connect(serve(header_timeout=STRIKES))
    assert client.exchange(get()).status == 200
    drip = gevent.spawn(drip_into, client, get(*[b"X-%d: 1" % n for n in range(90)]))
    assert_times_out(client)
    drip.kill()


@plain_and_tls
@pytest.mark.parametrize("body", [b"", b"3e8\r\n" + b"x" * 900], ids=["nothing", "drips"])
@pytest.mark.parametrize("framing", [b"Content-Length: 1000", CHUNKED])
def test_a_body_that_does_not_come_is_answered_408(serve, connect, tls, framing, body):
    client = connect(serve(body_timeout=STRIKES))
    client.send(post(framing))
    drip = gevent.spawn(drip_into, client, body)
    assert_times_out(client, tls)
    drip.kill()


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunks"])
@pytest.mark.parametrize("path", ["/x", "/lines"])
def test_what_comes_of_a_body_moves_its_time_out(
    serve, connect, application, monkeypatch, path, chunked
):
    """Silence counts, and the rate: not the whole."""
    # A sweep that comes late moves time-outs too, and may move one beyond the next.
    monkeypatch.setattr(gevent_server, "SWEEP_SECONDS", NEVER)
    server = serve()
    client = connect(server)
    piece = b"x" * 2_000
    client.send(
        ask(path, CHUNKED, method="POST") if chunked else send(path, b"", length=5 * len(piece))
    )
    wait_until(lambda: server.state.connections, "the connection")
    (connection,) = server.state.connections
    wait_until(lambda: application.ran and connection.waits_for_client, "it waits for the body")
    seen = connection.deadline
    for _ in range(4):
        client.send(chunk(piece) if chunked else piece)
        wait_until(
            lambda seen=seen: seen < connection.deadline < client_socket.NEVER, "it waits for more"
        )
        seen = connection.deadline
    client.send((chunk(piece) + b"0\r\n\r\n") if chunked else piece)
    assert client.read_reply().status == 200


@pytest.mark.parametrize("pause", [0.05, 0.2], ids=["steadily", "now and then"])
def test_a_body_below_the_least_rate_is_answered_408(serve, connect, pause):
    client = connect(serve(body_timeout=SHORT))
    client.send(send("/x", b"", length=1_000_000))
    drip = gevent.spawn(lambda: [(client.send(b"x"), gevent.sleep(pause)) for _ in range(400)])
    assert_times_out(client)
    drip.kill()


def test_a_body_that_stalls_is_answered_408_whatever_came_before(serve, connect):
    client = connect(serve(body_timeout=STRIKES))
    client.send(send("/x", b"x" * 500_000, length=1_000_000))
    assert_times_out(client)


@plain_and_tls
def test_a_call_may_take_longer_than_every_time_out(serve, connect, application):
    """How long the application takes after the body is no affair of the client's."""
    client = connect(serve(header_timeout=SHORT, keep_alive_timeout=SHORT, body_timeout=SHORT))
    client.send(send("/waits", b"", length=6))
    gevent.idle()
    client.send(b"a body")
    assert application.entered.wait(LIMIT)
    gevent.sleep(SHORT + 2 * SWEEP)  # the time that must not count
    application.release.set()
    assert client.read_reply().body == b"waiteda body"
    assert client.exchange(get()).status == 200


def test_the_body_time_out_does_not_run_while_the_application_works(serve, connect, application):
    """The client has sent everything in time; it was the application that did not read."""
    client = connect(serve(body_timeout=SHORT))
    body = b"x" * 200_000
    client.send(send("/waits?first", b"", length=len(body)))
    assert application.entered.wait(LIMIT)
    client.send(body)
    gevent.sleep(SHORT + 2 * SWEEP)  # the time that must not count
    application.release.set()
    assert client.read_reply().body == b"waited" + body


@plain_and_tls
def test_a_client_that_takes_nothing_is_given_up(serve, connect, application, monkeypatch, caplog):
    monkeypatch.setattr(client_socket, "SEND_SECONDS", STRIKES)
    server = serve()
    connect(server).send(ask("/large-in-pieces?1000", b"X-Request-Id: r-17"))
    wait_until(lambda: application.closed, "the application's result is closed")
    wait_until_forgotten(server)
    assert server.state.clients_gone == 1
    assert "took nothing of its answer for 0.1 s [request_id=r-17]" in caplog.text


def test_a_slow_client_that_goes_on_taking_is_served(serve, connect, monkeypatch):
    """The time is for each step of an answer, not for all of it."""
    pause = 0.2
    monkeypatch.setattr(client_socket, "SEND_SECONDS", 4 * pause)
    server = serve()
    client = connect(server)
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 200_000)
    client.send(ask("/large?14000000"))
    client.read_head()
    # All but the last 4 MB, which may be in the system's buffers, wait for the client.
    for _ in range(7):
        assert len(client.read_some(2_000_000)) == 2_000_000
        gevent.sleep(pause)
    assert server.state.clients_gone == 0


def test_replacing_a_time_out(serve, connect):
    """The limit can be changed while the server runs."""
    server = serve()
    settings = dataclasses.replace(server.state.settings, keep_alive_timeout=STRIKES)
    server.state.settings = settings
    assert connect(server).read_to_end() == b""


@plain_and_tls
def test_beyond_the_limit_the_oldest_idle_connection_ends(serve, connect):
    server = serve(max_connections=3)
    first, *others = [connect(server) for _ in range(3)]
    for client in (first, *others):
        assert client.exchange(get()).status == 200
    assert connect(server).exchange(get()).status == 200
    assert first.is_ended()
    for client in others:
        assert client.exchange(get()).status == 200
    assert len(server.state.connections) <= 3


def test_silent_connections_go_first_for_a_newcomer(serve, connect):
    server = serve(max_connections=20)
    for _ in range(60):
        connect(server)
    assert connect(server).exchange(get()).status == 200
    wait_until(lambda: len(server.state.connections) <= 20, "the silent ones are gone")


@pytest.mark.parametrize(
    ("start", "rest"),
    [
        (ask("/waits"), b""),
        (post(b"Content-Length: 4", body=b"ab"), b"cd"),
        (get()[:10], get()[10:]),
    ],
    ids=["call", "body", "head"],
)
def test_a_request_under_way_is_not_ended_while_others_are_idle(
    serve, connect, application, start, rest
):
    """However long it has been there: a slow upload is worth more than an idle connection."""
    server = serve(max_connections=2)
    busy, idle = connect(server), connect(server)
    busy.send(start)
    gevent.idle()
    assert idle.exchange(get()).status == 200
    gevent.sleep(2 * BETWEEN_CALLS)  # idle, and not just between two calls
    assert connect(server).exchange(get()).status == 200
    assert idle.is_ended()
    application.release.set()
    busy.send(rest)
    assert busy.read_reply().status == 200


def test_when_all_are_busy_a_newcomer_is_turned_away(serve, connect, application):
    server = serve(max_connections=1)
    busy = connect(server)
    busy.send(ask("/waits"))
    assert application.entered.wait(LIMIT)
    newcomer = connect(server)
    newcomer.send(get())
    assert newcomer.read_to_end() == b""
    application.release.set()
    assert busy.read_reply().body == b"waited"
    busy.socket.close()
    wait_until_forgotten(server)
    assert connect(server).exchange(get()).status == 200


def test_a_client_that_makes_room_is_told_of_its_own_request(serve, connect):
    """Not of an earlier one."""
    client = connect(server := serve(max_connections=1))
    first, second = (send("/x", b"abc", b"X-Request-Id: r-%d" % number) for number in (1, 2))
    for known in (second, first):
        assert client.exchange(known).status == 200
    client.send(second[:-1])
    (connection,) = server.state.connections
    wait_until_arrived(connection)
    assert server.state.find_room()
    reply = client.read_reply()
    assert reply.status == 408
    assert reply.headers.get("X-Request-Id") == "r-2"


def test_an_idle_connection_holds_nothing_of_its_last_request(serve, connect):
    server = serve()
    clients = [connect(server) for _ in range(20)]
    tracemalloc.start()
    try:
        for number, client in enumerate(clients):
            request = send("/x", b"x" * 50_000, b"X-Number: %d" % number)
            assert client.exchange(request).status == 200
        assert tracemalloc.get_traced_memory()[0] < len(clients) * 20_000
    finally:
        tracemalloc.stop()


def test_connections_are_forgotten(serve, connect):
    server = serve()
    clients = [connect(server) for _ in range(20)]
    gather([lambda client=client: client.exchange(get()) for client in clients])
    assert len(server.state.connections) == 20
    for client in clients[:10]:
        client.socket.close()
    for client in clients[10:]:
        client.abort()
    wait_until_forgotten(server)
    assert server.state.clients_gone == 0


def test_one_client_does_not_hold_the_others_up(serve, connect, application):
    """Every connection waits its turn, however much one of them has sent."""
    server = serve()
    busy, other = connect(server), connect(server)
    busy.send(get() * 5000)
    drain = gevent.spawn(busy.read_to_end)
    assert other.exchange(ask("/other")).status == 200
    assert len(application.ran) < 500
    drain.kill()


def test_draining_answers_what_still_comes_and_says_goodbye(serve, connect, application):
    server = serve()
    client = connect(server)
    assert not client.exchange(get()).closes
    draining = gevent.spawn(server.drain, LIMIT, LIMIT)
    wait_until(lambda: server.state.draining, "the server drains")
    assert client.exchange(get()).closes
    assert client.is_ended()
    assert draining.get(timeout=LIMIT) is True
    assert application.ran == ["/x", "/x"]


@plain_and_tls
def test_draining_finishes_what_runs(serve, connect, application):
    server = serve()
    idle, busy, half = (connect(server) for _ in range(3))
    assert idle.exchange(get()).status == 200
    busy.send(ask("/waits"))
    assert application.entered.wait(LIMIT)
    half.send(get()[:10])
    begun = server.state.connections
    wait_until(lambda: sum(not each.idle for each in begun) == 2, "half a head is read")
    draining = gevent.spawn(server.drain, 0, LIMIT)
    assert idle.is_ended()
    half.send(get()[10:])
    assert half.read_reply().closes
    assert not draining.ready()
    application.release.set()
    reply = busy.read_reply()
    assert reply.body == b"waited"
    assert reply.closes
    assert draining.get(timeout=LIMIT) is True


@plain_and_tls
def test_draining_gives_up_calls_that_take_too_long(serve, connect, application):
    server = serve()
    busy = connect(server)
    busy.send(ask("/waits"))
    assert application.entered.wait(LIMIT)
    assert server.drain(0, STRIKES) is False
    assert busy.read_to_end() == b""


def test_draining_waits_for_those_that_it_accepts_last(serve, connect, application):
    server = serve()
    server.stop_accepting()
    client = connect(server)
    client.send(get())
    assert server.drain(0, LIMIT) is True
    assert application.ran == ["/x"]
    assert client.read_reply().closes


def test_draining_twice(serve):
    server = serve()
    assert server.drain(0, LIMIT) is True
    assert server.drain(0, LIMIT) is True
