"""How many calls run at once, and what the others get. Each service is a process of its own."""

import contextlib
import itertools
import json
import time
from pathlib import Path

import pytest

from tests.support.http import (
    JSON,
    Connection,
    call,
    call_message,
    exchange,
    message,
    result_of,
)
from tests.support.programs import program
from tests.support.waiting import gather, wait_until

HERE = Path(__file__).parent
LOAD = HERE / "load_service.py"
CYCLE = HERE / "cycle_service.py"

#: Seconds within which a call must come back that has nothing to wait for. A starved one takes as
#: long as the connections that starve it live: 20 s and more.
SOON = 10.0


@contextlib.contextmanager
def running(source, folder, **limits):
    """The port of a service with these attributes, in a process."""
    with program(source, folder, environment={"LIMITS": json.dumps(limits)}) as started:
        yield started.wait_until_ready()
        assert started.terminate() == 0
        assert "Traceback" not in started.stderr


def counts(port):
    return exchange(port, message("GET", "/counts")).json


def release(port):
    assert exchange(port, message("POST", "/release", {}, b"")).status == 200


def timed_call(port, *call_arguments):
    began = time.monotonic()
    reply = call(port, *call_arguments)
    return reply, time.monotonic() - began


def batch(port, requests):
    items = [
        {"jsonrpc": "2.0", "method": method, "params": params, "id": number}
        for number, (method, params) in enumerate(requests)
    ]
    return exchange(port, message("POST", "/api", JSON, json.dumps(items).encode()))


@contextlib.contextmanager
def idle_connections(port, count):
    """Half of them silent from the start, half between two calls."""
    with contextlib.ExitStack() as stack:
        for number in range(count):
            connection = stack.enter_context(Connection(port))
            if number % 2:
                assert result_of(connection.call("nap", 0, number)) == number
        yield


def test_200_calls_on_100_places(tmp_path):
    with running(LOAD, tmp_path, max_parallel_blocking_tasks=100) as port:
        calls = [lambda n=n: result_of(call(port, "nap", 0.2, n)) for n in range(200)]

        assert gather(calls) == list(range(200))
        after = counts(port)
        assert after.pop("peak") <= 100
        assert after == {"running": 0, "finished": 200, "waiting": 0}


def test_500_idle_connections_delay_nobody(tmp_path):
    limits = {
        "max_parallel_blocking_tasks": 100,
        "header_timeout": 60.0,
        "keep_alive_timeout": 60.0,
    }
    with running(LOAD, tmp_path, **limits) as port, idle_connections(port, 500):
        reply, took = timed_call(port, "nap", 0, "new")
        assert result_of(reply) == "new"
        assert took < SOON

        calls = [lambda n=n: result_of(call(port, "nap", 0.2, n)) for n in range(200)]
        assert gather(calls) == list(range(200))
        assert counts(port)["peak"] <= 100

        reply, took = timed_call(port, "nap", 0, "newer")
        assert result_of(reply) == "newer"
        assert took < SOON


def test_six_times_the_bound(tmp_path):
    """Answers and refusals, nothing else; health is quick meanwhile, and all is well afterwards."""
    bound, waiting = 50, 100
    limits = {
        "max_parallel_blocking_tasks": bound,
        "max_waiting_calls": waiting,
        "max_wait_seconds": 60.0,
    }
    with running(LOAD, tmp_path, **limits) as port:
        replies = []

        def call_and_keep(number):
            replies.append((number, call(port, "hold", number)))

        def look_and_release():
            wait_until(lambda: len(replies) == 6 * bound - bound - waiting, "the refusals")
            assert counts(port)["waiting"] == waiting
            for path in ("/health/live", "/health/ready"):
                began = time.monotonic()
                assert exchange(port, message("GET", path)).status == 200
                assert time.monotonic() - began < SOON
            release(port)

        calls = [lambda n=n: call_and_keep(n) for n in range(6 * bound)]
        gather([*calls, look_and_release])

        refused = [reply for _, reply in replies if reply.status != 200]
        answered = [(number, reply) for number, reply in replies if reply.status == 200]
        assert len(refused) == 6 * bound - bound - waiting
        for reply in refused:
            assert reply.status == 503
            assert int(reply.headers.get("Retry-After")) >= 1
            assert reply.json["error"]["code"] == -32000
        assert all(reply.json["result"] == number for number, reply in answered)
        expected = bound + waiting
        assert counts(port) == {
            "running": 0,
            "peak": bound,
            "finished": expected,
            "waiting": 0,
        }
        assert [result_of(call(port, "nap", 0, n)) for n in range(20)] == list(range(20))


def test_a_call_waits_no_longer_than_it_may(tmp_path):
    limits = {"max_parallel_blocking_tasks": 1, "max_wait_seconds": 0.2}
    with running(LOAD, tmp_path, **limits) as port, Connection(port) as holder:
        holder.send(call_message("hold", "held"))
        wait_until(lambda: counts(port)["running"] == 1, "the first call")

        replies = gather([lambda: call(port, "nap", 0)] * 10)

        assert [reply.status for reply in replies] == [503] * 10
        assert {reply.json["error"]["code"] for reply in replies} == {-32000}
        release(port)
        assert result_of(holder.read_reply()) == "held"
        assert result_of(call(port, "nap", 0, 1)) == 1


def test_waiting_calls_are_served_in_the_order_they_came(tmp_path):
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(running(LOAD, tmp_path, max_parallel_blocking_tasks=1))
        holder = stack.enter_context(Connection(port))
        holder.send(call_message("hold", "held"))
        wait_until(lambda: counts(port)["running"] == 1, "the first call")

        def queue(number):
            connection = stack.enter_context(Connection(port))
            connection.send(call_message("nap", 0, number))
            wait_until(lambda: counts(port)["waiting"] == number + 1, "its place in the queue")
            return connection

        waiting = [queue(number) for number in range(10)]
        release(port)
        assert gather([lambda c=c: result_of(c.read_reply()) for c in waiting]) == list(range(10))

        # As the service tells: here replies that come together are read in any order.
        assert exchange(port, message("GET", "/order")).json == ["held", *range(10)]


# Batches


@pytest.mark.parametrize("mode", ["parallel", "serial"])
@pytest.mark.parametrize("bound", [1, 2, 7])
def test_batches_cannot_deadlock(tmp_path, bound, mode):
    """Ten batches of twenty at once, each larger than the bound: every item is answered."""
    limits = {
        "max_parallel_blocking_tasks": bound,
        "max_wait_seconds": 60.0,
        "batch_mode": mode,
    }
    with running(LOAD, tmp_path, **limits) as port:
        requests = [("nap", [0.002, number]) for number in range(20)]

        replies = gather([lambda: batch(port, requests)] * 10)

        for reply in replies:
            assert reply.status == 200
            assert [item["result"] for item in reply.json] == list(range(20))
        assert counts(port)["peak"] <= bound


def test_an_item_without_a_place_has_its_own_error(tmp_path):
    limits = {"max_parallel_blocking_tasks": 2, "max_waiting_calls": 3, "max_wait_seconds": 60.0}
    with running(LOAD, tmp_path, **limits) as port, Connection(port) as connection:

        def send():
            return batch(port, [("hold", [number]) for number in range(10)])

        def look_and_release():
            wait_until(lambda: counts(port)["waiting"] == 3, "the queue to be full")
            release(port)

        reply, _ = gather([send, look_and_release])

        assert reply.status == 200
        items = reply.json
        assert [item["id"] for item in items] == list(range(10))
        assert [item["result"] for item in items if "result" in item] == [0, 1, 2, 3, 4]
        assert [item["error"]["code"] for item in items if "error" in item] == [-32000] * 5
        assert result_of(connection.call("nap", 0, 1)) == 1


# Services that call each other in a circle


@contextlib.contextmanager
def circle(folder, **limits):
    """Two services whose `bounce` calls the other's: their ports."""
    folders = [folder / "a", folder / "b"]
    for each in folders:
        each.mkdir()
    with contextlib.ExitStack() as stack:
        a, b = (stack.enter_context(running(CYCLE, each, **limits)) for each in folders)
        for port, peer in ((a, b), (b, a)):
            assert result_of(call(port, "set_peer", f"http://127.0.0.1:{peer}/api")) is None
        yield a, b
        for port in (a, b):
            # The places are free again, and nothing goes on in secret.
            wait_until(lambda port=port: counts(port)["running"] == 0, "the end of every call")
            assert gather([lambda port=port: result_of(call(port, "quick"))] * 20) == ["quick"] * 20


def test_a_circle_ends_by_hops(tmp_path):
    with circle(tmp_path) as (a, b):
        reply = call(a, "bounce")

        assert reply.json["error"] == {"code": -32003, "message": "Too many hops"}
        # max_hops is 8: the first call and eight more.
        assert (counts(a)["entered"], counts(b)["entered"]) == (5, 4)


def test_circles_at_the_bound_end_by_hops(tmp_path):
    """Many at once, with just enough places for all of them."""
    with circle(tmp_path, max_parallel_blocking_tasks=50) as (a, b):
        replies = gather([lambda port=port: call(port, "bounce") for port in (a, b)] * 5)

        assert {reply.json["error"]["code"] for reply in replies} == {-32003}


@pytest.mark.parametrize(
    ("limits", "headers", "codes"),
    [
        # Each caller says how long it waits; nothing else would end it for a minute.
        ({"max_wait_seconds": 60.0}, {"X-Gemstone-Deadline": "1500"}, {-32002}),
        # The callers say nothing; the services have their own time-out.
        ({"max_wait_seconds": 60.0, "default_timeout": 1.5}, {}, {-32002}),
        # Neither: the wait for a place is bounded.
        ({"max_wait_seconds": 0.5}, {}, {-32000, -32003}),
    ],
    ids=["the caller's deadline", "default_timeout", "max_wait_seconds"],
)
def test_a_circle_at_the_bound_is_no_standstill(tmp_path, limits, headers, codes):
    """Every place of both is taken by a call that waits for a place of the other."""
    with circle(tmp_path, max_parallel_blocking_tasks=2, **limits) as ports:
        callers = itertools.islice(itertools.cycle(ports), 12)
        began = time.monotonic()

        replies = gather([lambda p=p: call(p, "bounce", headers=headers) for p in callers])

        assert {reply.json["error"]["code"] for reply in replies} <= codes
        assert time.monotonic() - began < 15


def test_a_circle_of_one(tmp_path):
    """A service that calls itself, with one place: the prototype of the standstill."""
    with running(CYCLE, tmp_path, max_parallel_blocking_tasks=1, default_timeout=1.0) as port:
        assert result_of(call(port, "set_peer", f"http://127.0.0.1:{port}/api")) is None

        replies = gather([lambda: call(port, "bounce")] * 10)

        assert {reply.json["error"]["code"] for reply in replies} == {-32002}
        assert result_of(call(port, "quick")) == "quick"
