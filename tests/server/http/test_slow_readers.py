"""Clients that take large answers slowly, or not at all."""

import contextlib
import socket
import tracemalloc

import gevent
import pytest

from gemstone_sync.server.state import ANSWERS_UNSENT
from tests.support.waiting import wait_until

from .harness import ask, connected, plain_and_tls

LARGE = 16_000_000
#: A server that keeps 12 MB at most.
SMALL_ROOM = {"max_response_size": 1_000_000}


@contextlib.contextmanager
def stalled(server, path):
    """A client that reads nothing of an answer; the server has begun to wait for it."""
    with connected(server) as client:
        client.send(ask(path))
        wait_until(lambda: client.socket.getsockname() in waited_for(server), "it waits for it")
        yield client


def waited_for(server):
    return [c.address for c in server.state.connections if c.last_taken]


@plain_and_tls
@pytest.mark.parametrize(
    "path", ["/large?12000000", "/large-streamed?12000000", "/large-in-pieces?180"]
)
def test_every_few_100_kb_count_as_taken(serve, connect, tls, path):
    """At 40 kB/s a third of what the system buffers, 1.3 MB, would take longer than 30 s."""
    server = serve()
    client = connect(server)
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 200_000)
    client.send(ask(path))
    wait_until(lambda: server.state.unsent.total, "the answer waits for its client")
    (connection,) = server.state.connections
    steps, read, seen = [], 0, connection.deadline
    while server.state.unsent.total:
        read += len(client.socket.recv(50_000))
        gevent.idle()
        if connection.deadline != seen:
            steps.append(read)
            read, seen = 0, connection.deadline
    assert len(steps) > 8
    assert max(steps) < 600_000


@pytest.mark.parametrize("path", ["/large", "/large-streamed", "/large-written"])
def test_an_answer_that_waits_is_held_once(serve, path):
    server = serve()
    tracemalloc.start()
    try:
        with stalled(server, f"{path}?{LARGE}"):
            assert LARGE <= tracemalloc.get_traced_memory()[0] < 1.2 * LARGE
    finally:
        tracemalloc.stop()


def test_what_waits_is_bounded_in_sum(serve, caplog):
    """Who takes nothing goes; who reads gets all, however many others do not."""
    server = serve(**SMALL_ROOM)
    bound = ANSWERS_UNSENT * SMALL_ROOM["max_response_size"]
    with contextlib.ExitStack() as clients:
        for _ in range(6):
            clients.enter_context(stalled(server, "/large?9000000"))
            assert server.state.unsent.total <= bound
        wait_until(
            lambda: server.state.clients_gone >= 3, "those that wait for longest are cut off"
        )
        assert "took its answer too slowly" in caplog.text
        with connected(server) as reader:
            reader.send(ask("/large?9000000"))
            assert len(reader.read_reply().body) == 9_000_000
    wait_until(lambda: not server.state.unsent.total, "nothing waits any more")


def test_one_that_is_larger_than_the_bound_is_sent(serve, connect):
    client = connect(serve(**SMALL_ROOM))
    client.send(ask(f"/large?{LARGE}"))
    assert len(client.read_reply().body) == LARGE
