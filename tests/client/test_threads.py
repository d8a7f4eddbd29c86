"""One client in several threads and processes: each uses only sockets that are its own."""

import os
from typing import Any
from urllib.parse import urlsplit

import gevent
import pytest
from gevent import monkey

from gemstone_sync.client.connections import ConnectionPool
from tests.support.faulty_server import FaultyServer, answer
from tests.support.waiting import LIMIT, wait_until

from .faults import client_of

pytestmark = pytest.mark.usefixtures("no_sockets_left")


def test_a_child_does_not_use_its_parents_connections() -> None:
    def who(exchange: Any) -> None:
        answer(exchange.request.connection)(exchange)

    with FaultyServer(who) as server, client_of(server) as client:
        assert client.methods.ping() == 1
        # The pool's own view, as in a child: a real fork is in the test below.
        pool = ConnectionPool(urlsplit(server.url), size=1)
        connection = pool.connect(server.url, LIMIT)
        pool.give_back(connection)
        pool._pid = os.getpid() + 1
        assert pool.take() is None
        assert connection.sock.fileno() == -1
        assert client.methods.ping() == 1


FORKING = """
{patch}
import os, sys
from gemstone_sync import RemoteService

with RemoteService(sys.argv[1], timeout=20, total_timeout=20) as client:
    assert client.methods.ping.async_().result(wait=True)  # a thread, which close() ends
    client.close()
    mine = client.methods.ping()
    assert client.methods.ping() == mine
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        its = [client.methods.ping() for _ in range(3)]
        assert client.methods.ping.async_().result(wait=True)
        os.write(write, str(its).encode())
        client.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    its = eval(os.read(read, 100))
    assert len(set(its)) == 1 and its[0] != mine, (its, mine)
    assert [client.methods.ping() for _ in range(3)] == [mine] * 3
    assert client.methods.ping.async_().result(wait=True)
    print("well")
"""


@pytest.mark.parametrize("patch", ["", "import gevent.monkey; gevent.monkey.patch_all()"])
def test_a_forked_child_has_connections_of_its_own(run_python: Any, patch: str) -> None:
    def who(exchange: Any) -> None:
        answer(exchange.request.connection)(exchange)

    with FaultyServer(who) as server:
        ended = run_python(FORKING.replace("{patch}", patch), server.url)
        assert (ended.stdout, ended.stderr) == ("well\n", "")


def test_native_threads_of_a_patched_program_share_a_client() -> None:
    """Each has an event loop of its own, to which its sockets belong."""
    with FaultyServer() as server, client_of(server) as client:
        pool = gevent.get_hub().threadpool
        for _ in range(3):
            calls = [pool.spawn(client.methods.ping) for _ in range(5)]
            calls.append(gevent.spawn(client.methods.ping))
            assert [call.get(timeout=LIMIT) for call in calls] == ["pong"] * 6
        assert server.received["ping"] == 18


def test_a_thread_that_ended_leaves_its_connections_to_nobody() -> None:
    """The next thread may have the same identity, and has another event loop."""
    start = monkey.get_original("_thread", "start_new_thread")
    with FaultyServer() as server, client_of(server) as client:
        for number in range(1, 6):
            found: list[Any] = []

            def call(found: list[Any] = found) -> None:
                found.append(client.methods.ping())
                gevent.get_hub().destroy(destroy_loop=True)
                found.append("ended")

            start(call, ())
            wait_until(lambda found=found: len(found) == 2, "the thread")
            assert found == ["pong", "ended"]
            assert server.received["ping"] == number
            assert server.open_connections <= 2  # those of earlier threads are closed
