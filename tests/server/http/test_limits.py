"""Time-outs, and the number of connections.

Time-outs are set to a part of a second; the server looks at the clock four times a second.
"""

import dataclasses

import gevent
import pytest

from gemstone_sync.server import channel as channel_module
from gemstone_sync.server import gevent_server
from gemstone_sync.server.connection import BETWEEN_CALLS
from tests.support.waiting import gather, wait_until

from .case import CHUNKED, get, post
from .harness import SOON, Client, Clock, ask

SHORT = 0.4
#: Longer than every time-out that is SHORT: what must not count for one.
LONG = SHORT + 2 * gevent_server.SWEEP_SECONDS


def test_the_default_time_outs():
    assert gevent_server.Timeouts() == gevent_server.Timeouts(
        head=5.0, keep_alive=5.0, body=10.0, tls_handshake=5.0
    )
    assert gevent_server.ServerSettings().max_connections == 2000


def test_a_silent_connection_ends_without_a_word(serve):
    server = serve(keep_alive_timeout=SHORT)
    with Client(server) as client, Clock() as clock:
        assert client.read_to_end() == b""
    assert SHORT - gevent_server.SWEEP_SECONDS <= clock.seconds < SOON


def test_an_idle_connection_ends_without_a_word(serve):
    server = serve(keep_alive_timeout=SHORT)
    with Client(server) as client:
        for _ in range(3):
            assert client.exchange(get()).status == 200
        with Clock() as clock:
            assert client.read_to_end() == b""
    assert SHORT - gevent_server.SWEEP_SECONDS <= clock.seconds < SOON


@pytest.mark.parametrize("start", [b"G", get()[:-2], b"\r", b"\r\n"], ids=repr)
def test_half_a_head_is_answered_408(serve, application, start):
    server = serve(header_timeout=SHORT, keep_alive_timeout=60)
    with Client(server) as client:
        client.send(start)
        with Clock() as clock:
            reply = client.read_reply()
        assert reply.status == 408
        assert reply.closes
        assert client.is_ended()
    assert clock.seconds < SOON
    assert not application.ran


def test_a_head_that_drips_is_not_waited_for(serve):
    """The time is for the whole head, not for each byte of it."""
    server = serve(header_timeout=SHORT, keep_alive_timeout=60)
    with Client(server) as client, Clock() as clock:
        drip = gevent.spawn(drip_into, client, get(*[b"X-%d: 1" % n for n in range(90)]))
        assert client.read_reply().status == 408
        assert client.is_ended()
        drip.kill()
    assert clock.seconds < SOON


def test_a_second_head_that_drips(serve):
    """After a good request the time for the head counts from its first byte."""
    server = serve(header_timeout=SHORT, keep_alive_timeout=60)
    with Client(server) as client:
        assert client.exchange(get()).status == 200
        client.send(get()[:10])
        assert client.read_reply().status == 408
        assert client.is_ended()


def drip_into(client, text):
    """A byte every 50 ms: what slowloris does."""
    for place in range(len(text)):
        client.send(text[place : place + 1])
        gevent.sleep(0.05)


@pytest.mark.parametrize("framing", [b"Content-Length: 1000", CHUNKED])
def test_a_body_that_does_not_come_is_answered_408(serve, framing):
    server = serve(body_timeout=SHORT)
    with Client(server) as client, Clock() as clock:
        client.send(post(framing))
        reply = client.read_reply()
        assert reply.status == 408
        assert reply.closes
        assert client.is_ended()
    assert clock.seconds < SOON


@pytest.mark.parametrize("framing", [b"Content-Length: 1000", CHUNKED])
def test_a_body_that_drips_is_not_waited_for(serve, framing):
    server = serve(body_timeout=SHORT)
    with Client(server) as client, Clock() as clock:
        client.send(post(framing))
        drip = gevent.spawn(drip_into, client, b"3e8\r\n" + b"x" * 900)
        assert client.read_reply().status == 408
        assert client.is_ended()
        drip.kill()
    assert clock.seconds < SOON


def test_the_body_time_out_ends_with_the_body(serve, application):
    """How long the application takes afterwards is no affair of the client's."""
    server = serve(body_timeout=SHORT)
    with Client(server) as client:
        client.send(ask("/waits", b"Content-Length: 6", method="POST"))
        gevent.idle()
        client.send(b"a body")
        assert application.entered.wait(SOON)
        gevent.sleep(LONG)  # the time that must not count
        application.release.set()
        assert client.read_reply().body == b"waiteda body"
        assert client.exchange(get()).status == 200


def test_the_body_time_out_does_not_run_while_the_application_works(serve, application):
    """The client has sent everything in time; it was the application that did not read."""
    server = serve(body_timeout=SHORT)
    body = b"x" * 200_000
    with Client(server) as client:
        client.send(ask("/waits-first", b"Content-Length: %d" % len(body), method="POST"))
        assert application.entered.wait(SOON)
        client.send(body)
        gevent.sleep(LONG)  # the time that must not count
        application.release.set()
        assert client.read_reply().body == b"read" + body


def test_a_call_may_take_longer_than_every_time_out(serve, application):
    server = serve(header_timeout=SHORT, keep_alive_timeout=SHORT, body_timeout=SHORT)
    with Client(server) as client:
        client.send(ask("/waits"))
        assert application.entered.wait(SOON)
        gevent.sleep(LONG)  # the time that must not count
        application.release.set()
        assert client.read_reply().body == b"waited"
        assert client.exchange(get()).status == 200


def test_a_client_that_takes_nothing_is_given_up(serve, application, monkeypatch):
    monkeypatch.setattr(channel_module, "SEND_SECONDS", SHORT)
    server = serve()
    with Client(server) as client:
        client.send(ask("/large-in-pieces?1000"))
        wait_until(lambda: application.closed, "the application's result is closed", SOON)
        wait_until(lambda: not server.connections, "the connection ends", SOON)
    assert server.clients_gone == 1


def test_a_slow_client_that_goes_on_taking_is_served(serve, monkeypatch):
    """The time is for each step of an answer, not for all of it."""
    monkeypatch.setattr(channel_module, "SEND_SECONDS", 2 * SHORT)
    server = serve()
    with Client(server) as client:
        client.send(ask("/large?20000000"))
        _, headers = client.read_head()
        left = int(headers.get("Content-Length"))
        with Clock() as clock:
            while left:
                piece = min(left, 2_000_000)
                assert len(client.read_some(piece)) == piece
                left -= piece
                gevent.sleep(SHORT / 2)  # a slow client
        assert clock.seconds > 3 * SHORT
    assert server.clients_gone == 0


def test_replacing_a_time_out(serve):
    """Every time-out of the server is a setting or an attribute."""
    server = serve()
    server.timeouts = dataclasses.replace(server.timeouts, keep_alive=SHORT)
    with Client(server) as client, Clock() as clock:
        assert client.read_to_end() == b""
    assert clock.seconds < SOON


# Connections


def test_beyond_the_limit_the_oldest_idle_connection_ends(serve, connect):
    server = serve(max_connections=3, keep_alive_timeout=60)
    first, second, third = (connect(server) for _ in range(3))
    for client in (first, second, third):
        assert client.exchange(get()).status == 200
    with Client(server) as newcomer:
        assert newcomer.exchange(get()).status == 200
        assert first.is_ended()
        assert second.exchange(get()).status == 200
        assert third.exchange(get()).status == 200
    assert len(server.connections) <= 3


def test_silent_connections_go_first_for_a_newcomer(serve, connect):
    server = serve(max_connections=20, keep_alive_timeout=60)
    for _ in range(60):
        connect(server)
    with Client(server) as client:
        assert client.exchange(get()).status == 200
    wait_until(lambda: len(server.connections) <= 20, "the silent ones are gone", SOON)


def test_a_call_is_never_ended_for_a_newcomer(serve, application):
    server = serve(max_connections=2, keep_alive_timeout=60)
    with Client(server) as busy, Client(server) as idle:
        busy.send(ask("/waits"))
        assert application.entered.wait(SOON)
        assert idle.exchange(get()).status == 200
        with Client(server) as newcomer:
            assert newcomer.exchange(get()).status == 200
            assert idle.is_ended()
            application.release.set()
            assert busy.read_reply().body == b"waited"


@pytest.mark.parametrize(
    "start", [post(b"Content-Length: 4", body=b"ab"), get()[:10]], ids=["body", "head"]
)
def test_a_request_under_way_is_not_ended_while_others_are_idle(serve, application, connect, start):
    """However long it has been there: a slow upload is worth more than an idle connection."""
    server = serve(max_connections=2, keep_alive_timeout=60)
    sending, idle = connect(server), connect(server)
    sending.send(start)
    gevent.idle()
    assert idle.exchange(get()).status == 200
    gevent.sleep(2 * BETWEEN_CALLS)  # idle, and not just between two calls
    assert connect(server).exchange(get()).status == 200
    sending.send(b"cd" if start.startswith(b"POST") else get()[10:])
    assert sending.read_reply().status == 200
    assert idle.is_ended()


def test_when_all_are_busy_a_newcomer_is_turned_away(serve, application):
    server = serve(max_connections=1)
    with Client(server) as busy:
        busy.send(ask("/waits"))
        assert application.entered.wait(SOON)
        with Client(server) as newcomer:
            newcomer.send(get())
            assert newcomer.read_to_end() == b""
        application.release.set()
        assert busy.read_reply().body == b"waited"
    wait_until(lambda: not server.connections, "the connection is forgotten", SOON)
    with Client(server) as later:
        assert later.exchange(get()).status == 200


def test_connections_are_forgotten(serve, connect):
    server = serve()
    clients = [connect(server) for _ in range(20)]
    gather([lambda client=client: client.exchange(get()) for client in clients])
    assert len(server.connections) == 20
    for client in clients[:10]:
        client.socket.close()
    for client in clients[10:]:
        client.abort()
    wait_until(lambda: not server.connections, "all are forgotten", SOON)
    assert server.clients_gone == 0


def test_one_client_does_not_hold_the_others_up(serve):
    """Every connection waits its turn, however much one of them has sent."""
    server = serve()
    with Client(server) as busy, Client(server) as other:
        busy.send(get() * 5000)
        drain = gevent.spawn(busy.read_to_end)
        with Clock() as clock:
            assert other.exchange(get()).status == 200
        assert clock.seconds < 0.25
        drain.kill()


# Draining


def test_draining_answers_what_still_comes_and_says_goodbye(serve, application):
    server = serve()
    with Client(server) as client:
        assert not client.exchange(get()).closes
        draining = gevent.spawn(server.drain, 1.0, SOON)
        wait_until(lambda: server.draining, "the server drains", SOON)
        assert client.exchange(get()).closes
        assert client.is_ended()
        assert draining.get(timeout=SOON) is True
    assert application.ran == ["/x", "/x"]


def test_draining_finishes_what_runs(serve, application, connect):
    server = serve()
    idle, busy, half = (connect(server) for _ in range(3))
    assert idle.exchange(get()).status == 200
    busy.send(ask("/waits"))
    assert application.entered.wait(SOON)
    half.send(get()[:10])
    gevent.idle()
    draining = gevent.spawn(server.drain, 0, SOON)
    assert idle.is_ended()
    half.send(get()[10:])
    assert half.read_reply().closes
    application.release.set()
    reply = busy.read_reply()
    assert reply.body == b"waited"
    assert reply.closes
    assert draining.get(timeout=SOON) is True


def test_draining_gives_up_calls_that_take_too_long(serve, application):
    server = serve()
    with Client(server) as busy:
        busy.send(ask("/waits"))
        assert application.entered.wait(SOON)
        with Clock() as clock:
            assert server.drain(0, SHORT) is False
            assert busy.read_to_end() == b""
        assert clock.seconds < SOON


def test_draining_twice(serve):
    server = serve()
    assert server.drain(0, SOON) is True
    assert server.drain(0, SOON) is True
