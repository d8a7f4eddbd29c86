"""Answers before the end of the request, and clients that go away."""

import contextlib

import gevent
import pytest

from gemstone_sync.server import client_socket
from tests.support.waiting import LIMIT, gather, wait_until

from .case import get, request
from .harness import NEVER, ask, plain_and_tls, send, wait_until_forgotten

#: Answered with 413 before its body comes.
TOO_LARGE = send("/too-large", b"", length=1_000_000_000)


@plain_and_tls
@pytest.mark.parametrize("size", [0, 100_000, 250_000])
def test_an_early_answer_reaches_a_client_that_is_still_sending(serve, connect, monkeypatch, size):
    """It does not wait for the body; a close with bytes unread would reset the connection."""
    monkeypatch.setattr(client_socket, "DRAIN_SECONDS", NEVER)
    client = connect(serve())
    client.send(TOO_LARGE + b"x" * size)
    reply = client.read_reply()
    assert reply.status == 413
    assert reply.body == b"too large"
    assert client.is_ended()


def test_a_client_that_never_stops_sending_is_left(serve, connect, monkeypatch):
    """After 256 KB, or the seconds of the next test."""
    monkeypatch.setattr(client_socket, "DRAIN_SECONDS", NEVER)
    server = serve()
    client = connect(server)
    client.send(TOO_LARGE)
    assert client.read_reply().status == 413

    def go_on():
        with contextlib.suppress(OSError):
            while True:
                client.socket.sendall(b"x" * 10_000)
                gevent.sleep(0.001)

    gather([go_on], LIMIT)
    wait_until_forgotten(server)


def test_a_client_that_neither_sends_nor_closes_is_left(serve, connect, monkeypatch):
    monkeypatch.setattr(client_socket, "DRAIN_SECONDS", 0.1)
    server = serve()
    client = connect(server)
    client.send(TOO_LARGE)
    assert client.read_reply().status == 413
    wait_until_forgotten(server)


def test_a_refused_head_reaches_a_client_that_is_still_sending(serve, connect):
    client = connect(serve())
    client.send(request(b"POST /x HTTP/1.1", b"Content-Length: 200000", body=b"x" * 200_000))
    assert client.read_reply().status == 400
    assert client.is_ended()


@pytest.mark.parametrize("size", [1000, 200_000])
def test_an_unread_body_is_skipped(client, application, size):
    """Small enough to be read and thrown away: the connection goes on behind it."""
    client.send(send("/unread", ask("/smuggled") * (size // len(ask("/smuggled")))))
    assert client.read_reply().body == b"unread"
    assert client.exchange(get()).status == 200
    assert application.ran == ["/unread", "/x"]


def test_a_large_unread_body_ends_the_connection(client, application):
    sending = gevent.spawn(client.send, send("/unread", ask("/smuggled") * 20_000))
    reply = client.read_reply()
    assert reply.body == b"unread"
    assert reply.closes
    assert client.is_ended()
    sending.join(LIMIT)
    assert application.ran == ["/unread"]


def leave(client, how):
    client.abort() if how == "abort" else client.socket.close()


@plain_and_tls
@pytest.mark.parametrize("how", ["close", "abort"])
@pytest.mark.parametrize("path", ["/waits", "/stream-slowly", "/stream-on"])
def test_a_client_that_goes_away_mid_call_is_counted_once(serve, connect, application, path, how):
    server = serve()
    client = connect(server)
    client.send(ask(path))
    assert application.entered.wait(LIMIT)
    assert server.state.clients_gone == 0
    leave(client, how)
    # While the call still runs, not only when it wants to answer, and to send each piece.
    wait_until(lambda: server.state.clients_gone == 1, "the client is counted")
    application.release.set()
    wait_until_forgotten(server)
    assert application.closed == ([] if path == "/waits" else [path])
    assert server.state.clients_gone == 1


@pytest.mark.parametrize("how", ["close", "abort"])
def test_a_client_that_goes_away_in_a_long_answer_is_counted_once(serve, connect, application, how):
    server = serve()
    client = connect(server)
    client.send(ask("/large-in-pieces?2000"))
    client.read_head()
    leave(client, how)
    wait_until(lambda: application.closed, "the application's result is closed")
    wait_until_forgotten(server)
    assert server.state.clients_gone == 1


def test_a_client_that_goes_away_within_its_body_gets_no_call(serve, connect, application, errors):
    """RFC 9112, section 8: a body that was cut is not taken for a whole one."""
    server = serve()
    client = connect(server)
    client.send(send("/waits", b"half", length=100))
    wait_until(lambda: application.ran, "the application reads")
    client.socket.close()
    wait_until_forgotten(server)
    assert not application.entered.is_set()
    assert server.state.clients_gone == 1
    assert not errors.take()


def test_a_client_that_closes_its_half_gets_its_answer(client, application):
    """Netcat does so; what it asked for is answered all the same."""
    client.send(ask("/waits"))
    client.finish_sending()
    assert application.entered.wait(LIMIT)
    application.release.set()
    assert client.read_reply().body == b"waited"
    assert client.is_ended()


def test_a_pipelined_request_waits_for_the_one_before(server, client, application):
    client.send(ask("/waits"))
    assert application.entered.wait(LIMIT)
    client.send(get())
    gevent.idle()
    assert application.ran == ["/waits"]
    application.release.set()
    assert client.read_reply().body == b"waited"
    assert client.read_reply().status == 200
    assert server.state.clients_gone == 0


def test_half_a_head_and_away(serve, connect, application):
    server = serve()
    client = connect(server)
    client.send(get()[:20])
    wait_until(lambda: server.state.connections, "the connection is there")
    client.socket.close()
    wait_until_forgotten(server)
    assert not application.ran
