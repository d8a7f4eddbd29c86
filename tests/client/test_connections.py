"""Connections are kept between calls, and no call notices.

A server may close an idle connection at any moment: that is seen before anything is sent, so no
call fails for it and none is sent twice.
"""

import functools
from collections.abc import Sequence
from typing import Any

import gevent
import pytest
from gevent import monkey
from gevent.event import Event

from gemstone_sync import MethodCall, MicroService, Notification, Timeout
from gemstone_sync.client import connections
from gemstone_sync.client.adapter import ServiceAdapter
from gemstone_sync.client.balancing import FixedEndpoints
from gemstone_sync.client.connections import MAX_IDLE
from gemstone_sync.testing import running_service
from tests.support.faulty_server import (
    Behaviour,
    FaultyServer,
    answer,
    body,
    both,
    close,
    hang,
    raw,
    reset,
    when,
)
from tests.support.waiting import LIMIT, gather, wait_until

from .faults import RESULT, SHORT, client_of, fault_of

pytestmark = pytest.mark.usefixtures("no_sockets_left")


# One call after another


def test_one_connection_carries_all_calls(tls: bool) -> None:
    with FaultyServer(tls=tls) as server, client_of(server) as client:
        for number in range(50):
            assert client.methods.ping(number) == "pong"
            client.notifications.ping()
            client.call_batch(Notification("ping"))

        assert server.connections == 1
        assert [request.json["params"] for request in server.requests[::3]] == [
            [number] for number in range(50)
        ]


def test_errors_do_not_end_a_connection() -> None:
    error = '{"jsonrpc":"2.0","error":{"code":-32603,"message":"oops"},"id":ID}'
    replies = [body(error), body(error, "500 Oops"), body("", "503 Busy"), answer()]
    with FaultyServer(*replies) as server, client_of(server) as client:
        for _ in range(3):
            assert client.call_method("ping").error is not None
        assert client.methods.ping() == "pong"
        assert server.connections == 1


ENDED_BY_THE_REPLY: dict[str, Behaviour] = {
    "Connection: close": answer(Connection="close"),
    "HTTP/1.0": lambda exchange: exchange.send(
        f"HTTP/1.0 200 OK\r\nContent-Length: {len(exchange.filled(RESULT))}\r\n\r\n{RESULT}"
    ),
    "the end of the connection": raw(f"HTTP/1.1 200 OK\r\n\r\n{RESULT}", close),
}


@pytest.mark.parametrize("name", ENDED_BY_THE_REPLY)
def test_a_reply_may_be_the_last_on_its_connection(name: str) -> None:
    with FaultyServer(ENDED_BY_THE_REPLY[name]) as server, client_of(server) as client:
        assert [client.methods.ping() for _ in range(5)] == ["pong"] * 5
        assert server.connections == 5


# The server closes an idle connection


@pytest.mark.parametrize(("end", "tls"), [(close, False), (close, True), (reset, False)])
def test_a_connection_that_ended_idle_is_replaced_unnoticed(end: Behaviour, tls: bool) -> None:
    with FaultyServer(both(answer(), end), tls=tls) as server, client_of(server) as client:
        for number in range(1, 21):
            assert client.methods.ping() == "pong"  # not marked idempotent: sent once
            wait_until(lambda: server.open_connections == 0, "the server to close")
            assert server.received["ping"] == server.connections == number


def test_a_connection_on_which_something_unasked_arrived_is_not_used(tls: bool) -> None:
    late = b'HTTP/1.1 408 Request Timeout\r\nContent-Length: 4\r\n\r\n"x"\n'
    asked, said = Event(), Event()

    def speak(exchange: Any) -> None:
        answer()(exchange)
        assert asked.wait(LIMIT)
        exchange.send(late)
        said.set()

    with FaultyServer(speak, answer("right"), tls=tls) as server, client_of(server) as client:
        assert client.methods.ping() == "pong"
        asked.set()
        assert said.wait(LIMIT)
        assert client.methods.ping() == "right"
        assert (server.connections, server.received["ping"]) == (2, 2)


def test_a_connection_is_kept_for_less_than_by_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MicroService.keep_alive_timeout > MAX_IDLE
    with FaultyServer() as server, client_of(server) as client:
        client.methods.ping()
        client.methods.ping()
        assert server.connections == 1
        monkeypatch.setattr(connections, "MAX_IDLE", 0.0)
        client.methods.ping()
        assert server.connections == 2
        wait_until(lambda: server.open_connections == 1, "the old one to be closed")


def test_connections_to_servers_that_nobody_calls_any_more_are_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    adapter = ServiceAdapter()
    with (
        FaultyServer() as gone,
        FaultyServer() as called,
        client_of(gone, adapter=adapter) as old,
        client_of(called, adapter=adapter) as client,
    ):
        gather([old.methods.ping] * 10)
        monkeypatch.setattr(adapter, "_next_close_idle", 0.0)
        client.methods.ping()
        assert gone.open_connections == 10  # not idle for long

        monkeypatch.setattr(connections, "MAX_IDLE", -1.0)  # as if the time had passed
        monkeypatch.setattr(adapter, "_next_close_idle", 0.0)
        client.methods.ping()
        wait_until(lambda: gone.open_connections == 0, "the old ones to be closed")

        assert len(adapter._pools) == 2
        monkeypatch.setattr(connections, "MAX_UNUSED", -1.0)
        monkeypatch.setattr(adapter, "_next_close_idle", 0.0)
        client.methods.ping()
        assert len(adapter._pools) == 1


class ChangingSource(FixedEndpoints):
    def __init__(self, *urls: str) -> None:
        self.known = urls

    def urls(self) -> Sequence[str]:
        return self.known


def test_an_endpoint_that_is_gone_takes_its_connections_along(tls: bool) -> None:
    go = Event()
    with (
        FaultyServer(answer(), answer(), when(go, answer("late")), tls=tls) as first,
        FaultyServer(tls=tls) as second,
    ):
        source = ChangingSource(first.url)
        with client_of(source) as client:
            client.methods.ping()
            late = gevent.spawn(client.methods.ping)
            client.methods.ping()
            wait_until(lambda: first.received["ping"] == 3, "the calls")
            source.known = (second.url,)
            assert client.methods.ping() == "pong"
            wait_until(lambda: first.open_connections == 1, "the idle ones to be closed")
            go.set()
            assert late.get(timeout=LIMIT) == "late"  # it was in flight
            wait_until(lambda: first.open_connections == 0, "its connection to be closed")


def test_a_service_that_closes_idle_connections_is_called_again(make_service: Any) -> None:
    def ping(self: Any) -> str:
        return "pong"

    service = make_service(ping, keep_alive_timeout=0.02)
    with running_service(service), client_of(service) as client:
        for _ in range(5):
            assert client.methods.ping() == "pong"
            wait_until(lambda: not service._runner._server.state.connections, "the idle one's end")


# Many at once


@pytest.mark.parametrize("pool_size", [3, 100])
def test_connections_of_a_burst_do_not_stay(
    pool_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    everybody = Event()
    with (
        FaultyServer(when(everybody, answer())) as server,
        client_of(server, pool_size=pool_size) as client,
    ):
        calls = [gevent.spawn(client.methods.ping) for _ in range(20)]
        wait_until(lambda: server.received["ping"] == 20, "all calls")
        assert server.connections == 20  # a call does not wait for another's connection
        everybody.set()
        gevent.joinall(calls, timeout=LIMIT, raise_error=True)
        wait_until(lambda: server.open_connections == min(pool_size, 20), "the others' end")
        gather([client.methods.ping] * 3)
        assert server.connections <= 22

        monkeypatch.setattr(connections, "MAX_IDLE", -1.0)  # as if the time had passed
        for _ in range(25):
            client.methods.ping()
        wait_until(lambda: server.open_connections <= 1, "the old ones to be closed")


def test_a_hundred_greenlets_share_a_client_for_every_kind_of_call() -> None:
    def echo(exchange: Any) -> None:
        answer(exchange.request.items[0]["params"])(exchange)

    with FaultyServer(echo) as server, client_of(server, pool_size=20) as client:

        def call_often(name: int) -> None:
            handles = {n: client.methods.ping.async_(name, n) for n in range(3)}
            for n in range(3):
                assert client.methods.ping(name, n) == [name, n]
                client.notifications.ping(name, n)
                batch = client.call_batch(MethodCall("ping", [name, n]), Notification("ping"))
                assert [response.result for response in batch] == [[name, n]]
                assert handles[n].result(wait=True) == [name, n]

        gather([functools.partial(call_often, name) for name in range(100)])
        assert server.received["ping"] == 1500
        client.close()
        wait_until(lambda: server.open_connections == 0, "all connections to be closed")
        assert client.methods.ping(1) == [1]  # it can be used again


def test_a_client_that_nobody_closes_leaves_nothing_open() -> None:
    with FaultyServer() as server:
        client = client_of(server)
        assert client.methods.ping() == "pong"
        del client
        wait_until(lambda: server.open_connections == 0, "the connection to be closed")


def test_what_was_in_flight_when_the_client_was_closed() -> None:
    go = Event()
    with FaultyServer(when(go, answer())) as server, client_of(server) as client:
        call = gevent.spawn(client.methods.ping)
        wait_until(lambda: server.received["ping"], "the call")
        client.close()
        go.set()
        assert call.get(timeout=LIMIT) == "pong"
        wait_until(lambda: server.open_connections == 0, "its connection to be closed")


# Calls that are given up


@pytest.mark.parametrize("how", ["kill", "gevent.Timeout", "time-out"])
def test_the_answer_to_an_abandoned_call_is_nobody_elses(how: str, tls: bool) -> None:
    late = Event()
    with (
        FaultyServer(
            answer("first"), when(late, answer("late")), answer("right"), tls=tls
        ) as server,
        client_of(server) as client,
    ):
        assert client.methods.ping() == "first"
        if how == "time-out":
            impatient = client.with_options(timeout=SHORT, total_timeout=SHORT)
            assert isinstance(fault_of(impatient.methods.ping), Timeout)
        else:
            call = gevent.spawn(client.methods.ping)
            wait_until(lambda: server.received["ping"] == 2, "the call")
            call.kill(gevent.GreenletExit if how == "kill" else gevent.Timeout(1))
        late.set()

        assert client.methods.ping() == "right"
        assert (server.connections, server.received["ping"]) == (2, 3)
        wait_until(lambda: server.open_connections == 1, "the abandoned one to be closed")


def test_a_call_killed_while_it_connects_leaves_nothing_open() -> None:
    with FaultyServer(tls=True, greeting=hang) as server, client_of(server) as client:
        call = gevent.spawn(client.methods.ping)
        wait_until(lambda: server.open_connections == 1, "the connection")
        call.kill()
        wait_until(lambda: server.open_connections == 0, "its end")


# Threads and processes: each uses only sockets that are its own


FORKING = """
{patch}
import os, sys, warnings
from gemstone_sync import RemoteService

# Python 3.12 tells of threads at a fork: the one that close() has ended may be ending still.
warnings.filterwarnings("ignore", "This process", DeprecationWarning)
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
