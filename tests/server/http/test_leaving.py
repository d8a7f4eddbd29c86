"""Answers before the end of the request, and clients that go away."""

import gevent
import pytest

from gemstone_sync.server import connection as connection_module
from tests.support.waiting import gather, wait_until

from .case import get, request
from .harness import SOON, Client, Clock, ask, send

# Early answers


def test_an_early_answer_reaches_a_client_that_is_still_sending(serve):
    """A close with bytes unread would reset the connection, and the answer with it."""
    server = serve()
    for size in (100_000, 250_000):
        with Client(server) as client:
            client.send(ask("/too-large", b"Content-Length: 1000000000", method="POST"))
            client.send(b"x" * size)
            reply = client.read_reply()
            assert reply.status == 413
            assert reply.body == b"too large"
            assert client.is_ended()


def test_an_early_answer_does_not_wait_for_the_body(serve):
    server = serve()
    with Client(server) as client, Clock() as clock:
        client.send(ask("/too-large", b"Content-Length: 1000000000", method="POST"))
        assert client.read_reply().status == 413
        assert client.read_to_end() == b""
    assert clock.seconds < connection_module.DRAIN_SECONDS


def test_a_client_that_never_stops_sending_is_left(serve):
    """At most 256 KB or a second after the answer."""
    server = serve()
    with Client(server) as client:
        client.send(ask("/too-large", b"Content-Length: 1000000000", method="POST"))
        assert client.read_reply().status == 413

        def go_on():
            try:
                while True:
                    client.socket.sendall(b"x" * 10_000)
                    gevent.sleep(0.001)
            except OSError:
                return

        with Clock() as clock:
            gather([go_on], SOON)
        assert clock.seconds < connection_module.DRAIN_SECONDS + SOON
    wait_until(lambda: not server.connections, "the connection ends", SOON)


def test_a_client_that_neither_sends_nor_closes_is_left(serve):
    server = serve()
    with Client(server) as client:
        client.send(ask("/too-large", b"Content-Length: 1000000000", method="POST"))
        assert client.read_reply().status == 413
        with Clock() as clock:
            wait_until(lambda: not server.connections, "the connection ends", SOON)
    assert clock.seconds < connection_module.DRAIN_SECONDS + SOON


def test_a_refused_head_reaches_a_client_that_is_still_sending(serve):
    server = serve()
    with Client(server) as client:
        client.send(request(b"POST /x HTTP/1.1", b"Content-Length: 200000", body=b"x" * 200_000))
        assert client.read_reply().status == 400
        assert client.is_ended()


@pytest.mark.parametrize("size", [1000, 200_000])
def test_an_unread_body_is_skipped(serve, application, size):
    """Small enough to be read and thrown away: the connection goes on behind it."""
    server = serve()
    body = ask("/smuggled") * (size // len(ask("/smuggled")))
    with Client(server) as client:
        client.send(send("/unread", body))
        assert client.read_reply().body == b"unread"
        assert client.exchange(get()).status == 200
    assert application.ran == ["/unread", "/x"]


def test_a_large_unread_body_ends_the_connection(serve, application):
    server = serve()
    body = ask("/smuggled") * 20_000
    with Client(server) as client:
        client.send(ask("/unread", b"Content-Length: %d" % len(body), method="POST"))
        sending = gevent.spawn(client.send, body)
        reply = client.read_reply()
        assert reply.body == b"unread"
        assert reply.closes
        assert client.is_ended()
        sending.join(SOON)
    assert application.ran == ["/unread"]


# Clients that go away


@pytest.mark.parametrize("how", ["close", "abort"])
def test_a_client_that_goes_away_mid_call_is_noticed(serve, connect, application, how):
    server = serve()
    client = connect(server)
    client.send(ask("/waits"))
    assert application.entered.wait(SOON)
    assert server.clients_gone == 0
    client.abort() if how == "abort" else client.socket.close()
    # While the call still runs, not only when it wants to answer.
    wait_until(lambda: server.clients_gone == 1, "the client is counted", SOON)
    application.release.set()
    wait_until(lambda: not server.connections, "the connection ends", SOON)
    assert server.clients_gone == 1


@pytest.mark.parametrize("how", ["close", "abort"])
def test_a_client_that_goes_away_within_the_answer_is_counted_once(
    serve, connect, application, how
):
    server = serve()
    client = connect(server)
    client.send(ask("/stream-slowly"))
    assert application.entered.wait(SOON)
    client.abort() if how == "abort" else client.socket.close()
    wait_until(lambda: server.clients_gone == 1, "the client is counted", SOON)
    application.release.set()
    wait_until(lambda: application.closed, "the application's result is closed", SOON)
    wait_until(lambda: not server.connections, "the connection ends", SOON)
    assert server.clients_gone == 1


@pytest.mark.parametrize("how", ["close", "abort"])
def test_a_client_that_goes_away_before_many_pieces_is_counted_once(
    serve, connect, application, how
):
    """Noticed while the call runs, and once more when a piece cannot be sent."""
    server = serve()
    client = connect(server)
    client.send(ask("/stream-on"))
    assert application.entered.wait(SOON)
    client.abort() if how == "abort" else client.socket.close()
    wait_until(lambda: server.clients_gone == 1, "the client is counted", SOON)
    application.release.set()
    wait_until(lambda: application.closed, "the application's result is closed", SOON)
    wait_until(lambda: not server.connections, "the connection ends", SOON)
    assert server.clients_gone == 1


@pytest.mark.parametrize("how", ["close", "abort"])
def test_a_client_that_goes_away_in_a_long_answer_is_counted_once(serve, connect, application, how):
    server = serve()
    client = connect(server)
    client.send(ask("/large-in-pieces?2000"))
    client.read_head()
    client.abort() if how == "abort" else client.socket.close()
    wait_until(lambda: application.closed, "the application's result is closed", SOON)
    wait_until(lambda: not server.connections, "the connection ends", SOON)
    assert server.clients_gone == 1


def test_a_client_that_goes_away_within_its_body_gets_no_call(serve, connect, application, errors):
    """RFC 9112, section 8: a body that was cut is not taken for a whole one."""
    server = serve()
    client = connect(server)
    client.send(ask("/waits", b"Content-Length: 100", method="POST", body=b"half"))
    wait_until(lambda: application.ran, "the application reads", SOON)
    client.socket.close()
    wait_until(lambda: not server.connections, "the connection ends", SOON)
    assert not application.entered.is_set()
    assert server.clients_gone == 1
    assert not errors.take()


def test_a_client_that_closes_its_half_gets_its_answer(serve, application):
    """Netcat does so; what it asked for is answered all the same."""
    server = serve()
    with Client(server) as client:
        client.send(ask("/waits"))
        client.finish_sending()
        assert application.entered.wait(SOON)
        application.release.set()
        assert client.read_reply().body == b"waited"
        assert client.is_ended()


def test_a_pipelined_request_waits_for_the_one_before(serve, application):
    server = serve()
    with Client(server) as client:
        client.send(ask("/waits"))
        assert application.entered.wait(SOON)
        client.send(get())
        gevent.idle()
        assert application.ran == ["/waits"]
        application.release.set()
        assert client.read_reply().body == b"waited"
        assert client.read_reply().status == 200
    assert server.clients_gone == 0


def test_half_a_head_and_away(serve, connect, application):
    server = serve()
    client = connect(server)
    client.send(get()[:20])
    wait_until(lambda: server.connections, "the connection is there", SOON)
    client.socket.close()
    wait_until(lambda: not server.connections, "the connection ends", SOON)
    assert not application.ran
