"""How many calls run at once, and what the others get.

What a place is and who gets it next is in tests/concurrency/test_slots.py, batches are in
tests/dispatch/test_batch.py; here it is seen over sockets, by many clients at once.
"""

import contextlib
import gc
import itertools
import time

import pytest
import requests
from gevent.event import Event

import gemstone_sync
from gemstone_sync.concurrency import outgoing_headers
from tests.support.http import Connection, call, call_message, exchange, message, result_of
from tests.support.waiting import LIMIT, gather, wait_until


class Load(gemstone_sync.MicroService):
    """Counts what runs in it."""

    name = "load"

    def __init__(self):
        super().__init__()
        self.running = self.peak = self.finished = 0
        self.released = Event()
        self.peer = None

    @contextlib.contextmanager
    def counted(self):
        self.running += 1
        self.peak = max(self.peak, self.running)
        try:
            yield
        finally:
            self.running -= 1
            self.finished += 1

    @gemstone_sync.exposed_method()
    def nap(self, seconds: float, value: object = None) -> object:
        """Sleep as plain blocking code does."""
        with self.counted():
            time.sleep(seconds)
        return value

    @gemstone_sync.exposed_method()
    def hold(self, value: object = None) -> object:
        with self.counted():
            self.released.wait(LIMIT)
        return value

    @gemstone_sync.exposed_method()
    def bounce(self) -> None:
        """Call the peer's, which calls the next one's, and so on; its error is ours."""
        body = {"jsonrpc": "2.0", "method": "bounce", "id": 1}
        with self.counted():
            reply = requests.post(self.peer.url, json=body, headers=outgoing_headers(), timeout=60)
        error = reply.json()["error"]
        raise gemstone_sync.RpcError(error["message"], code=error["code"])


def test_200_calls_on_100_places_beside_500_idle_connections(running_service):
    """Half of them silent from the start, half between two calls: they delay nobody."""
    limits = {"max_parallel_blocking_tasks": 100, "header_timeout": 60, "keep_alive_timeout": 60}
    load = running_service(Load, **limits)
    with contextlib.ExitStack() as stack:
        for number in range(500):
            connection = stack.enter_context(Connection(load.port))
            if number % 2:
                assert result_of(connection.call("nap", 0, number)) == number

        calls = [lambda n=n: result_of(call(load.port, "nap", 0.1, n)) for n in range(200)]
        assert gather(calls, LIMIT) == list(range(200))

        assert load.peak <= 100
        assert (load.running, load.finished, load.dispatcher.slots.waiting) == (0, 450, 0)


def test_six_times_the_bound(running_service):
    """Answers and refusals, nothing else; health answers meanwhile, and all is well afterwards."""
    bound, waiting = 50, 100
    load = running_service(
        Load, max_parallel_blocking_tasks=bound, max_waiting_calls=waiting, max_wait_seconds=60.0
    )
    replies = []

    def look_and_release():
        wait_until(lambda: len(replies) == 5 * bound - waiting, "the refusals")
        assert load.dispatcher.slots.waiting == waiting
        for path in ("/health/live", "/health/ready"):
            assert exchange(load.port, message("GET", path)).status == 200
        load.released.set()

    calls = [lambda n=n: replies.append((n, call(load.port, "hold", n))) for n in range(6 * bound)]
    gather([*calls, look_and_release])

    for number, reply in replies[: 5 * bound - waiting]:
        assert reply.status == 503, number
        assert int(reply.headers.get("Retry-After")) >= 1
        assert reply.json["error"]["code"] == -32000
    assert all(result_of(reply) == number for number, reply in replies[5 * bound - waiting :])
    assert (load.running, load.peak, load.finished) == (0, bound, bound + waiting)
    assert [result_of(call(load.port, "nap", 0, n)) for n in range(20)] == list(range(20))


def test_a_call_waits_no_longer_than_it_may(running_service):
    load = running_service(Load, max_parallel_blocking_tasks=1, max_wait_seconds=0.1)
    with Connection(load.port) as holder:
        holder.send(call_message("hold", "held"))
        wait_until(lambda: load.running, "the first call")

        replies = gather([lambda: call(load.port, "nap", 0)] * 10)

        assert [reply.status for reply in replies] == [503] * 10
        assert {reply.json["error"]["code"] for reply in replies} == {-32000}
        load.released.set()
        assert result_of(holder.read_reply()) == "held"


# Services that call each other in a circle

#: How many there are; their attributes; what each caller says; how it may end.
CIRCLES = {
    "places for all": (2, {"max_parallel_blocking_tasks": 50}, {}, {-32003}),
    # Each caller says how long it waits; nothing else would end it for a minute.
    "a deadline": (
        2,
        {"max_parallel_blocking_tasks": 2, "max_wait_seconds": 60.0},
        {"X-Gemstone-Deadline": "700"},
        {-32002},
    ),
    # The callers say nothing; the services have their own time-out.
    "default_timeout": (
        2,
        {"max_parallel_blocking_tasks": 2, "max_wait_seconds": 60.0, "default_timeout": 0.7},
        {},
        {-32002},
    ),
    # Neither: the wait for a place is bounded.
    "max_wait_seconds": (
        2,
        {"max_parallel_blocking_tasks": 2, "max_wait_seconds": 0.2},
        {},
        {-32000, -32003},
    ),
    # A service that calls itself: the prototype of the standstill.
    "of one": (1, {"max_parallel_blocking_tasks": 1, "default_timeout": 0.7}, {}, {-32002}),
}


def all_nap(service):
    """Whether 20 calls at once are answered with their result."""
    replies = gather([lambda: call(service.port, "nap", 0, 1)] * 20)
    return all(reply.json.get("result") == 1 for reply in replies)


# requests leaves a socket on which a deadline strikes to the garbage collector.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.parametrize("which", CIRCLES)
def test_a_circle_is_no_standstill(running_service, which):
    """Every place of all is taken by a call that waits for a place of the next one."""
    count, attributes, headers, codes = CIRCLES[which]
    services = [running_service(Load, **attributes) for _ in range(count)]
    for number, service in enumerate(services):
        service.peer = services[number - 1]
    callers = itertools.islice(itertools.cycle(services), 12)

    replies = gather(
        [lambda s=s: call(s.port, "bounce", headers=headers) for s in callers], limit=LIMIT
    )

    assert {reply.json["error"]["code"] for reply in replies} <= codes
    for service in services:
        # The places are free again, and nothing goes on in secret.
        wait_until(lambda s=service: s.running == 0, "the end of every call")
        # With time-outs this short, a call may be too late when the machine is busy.
        wait_until(lambda s=service: all_nap(s), "20 calls that all find a place")
    gc.collect()


def test_a_circle_ends_by_hops(running_service):
    a, b = running_service(Load), running_service(Load)
    a.peer, b.peer = b, a

    reply = call(a.port, "bounce")

    assert reply.json["error"] == {"code": -32003, "message": "Too many hops"}
    # max_hops is 8: the first call and eight more.
    assert (a.finished, b.finished) == (5, 4)
