"""Services that find each other, each in a process of its own, while processes are killed.

A caller calls the workers that registries know of, 50 times a second, and records every call. What
may fail is a call that was sent to a worker which was then killed, and nothing else ever: a call
that was not sent goes to another worker, and one that is idempotent is made again.

All processes read the same monotonic clock, so "a call that began after the kill" can be told.
"""

import contextlib
import json
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.support.faulty_server import FaultyServer, close
from tests.support.http import call, is_ready, result_of
from tests.support.machine import free_port
from tests.support.programs import Program, program
from tests.support.redis import shared_redis
from tests.support.waiting import gather, wait_until

pytestmark = pytest.mark.slow

SERVICES = Path(__file__).parent / "discovery_services.py"

#: Seconds for what takes one interval of the pings, which is 1 s, on a machine that is busy.
INTERVAL_LIMIT = 10.0
#: Calls of about two seconds.
MANY = 100


class Cluster:
    """Registries, workers and a caller: processes."""

    def __init__(self, folder, stack):
        self.folder = folder
        self.stack = stack
        self.environment = {}
        self.registry_ports = []
        self.caller = None

    def start_registry(self, port):
        """Start an empty registry on a port, and wait until it answers."""
        command = [sys.executable, "-m", "gemstone_sync.registry"]
        started = Program([*command, "--host", "127.0.0.1", "--port", str(port)], self.folder)
        self.stack.callback(started.kill)
        started.port = port
        started.wait_until(lambda: is_ready(port), "a registry")
        return started

    def start_worker(self, **attributes):
        return self._start("worker", attributes)

    def _start(self, which, attributes):
        attributes["service_registry_urls"] = [
            f"http://127.0.0.1:{port}/api" for port in self.registry_ports
        ]
        environment = {**self.environment, "ATTRIBUTES": json.dumps(attributes)}
        running = program(SERVICES, self.folder, which, environment=environment)
        started = self.stack.enter_context(running)
        started.wait_until_ready()
        return started

    def listed(self, port):
        """The number of instances that a registry knows, by name."""
        listing = result_of(call(port, "list_services"))
        return {name: len(places) for name, places in listing.items()}

    def wait_until_listed(self, port, name, count):
        """Wait until a registry knows so many instances."""
        wait_until(
            lambda: self.listed(port).get(name) == count,
            f"{count} x {name} in a registry",
            INTERVAL_LIMIT,
        )

    def begin(self, registries, workers, **attributes):
        """Start so many of each and the caller, and wait until all the workers are being called."""
        self.registry_ports = [free_port() for _ in range(registries)]
        known = gather([lambda p=port: self.start_registry(p) for port in self.registry_ports])
        started = gather([lambda: self.start_worker(**attributes)] * workers)
        self.caller = self._start("caller", {})
        for port in self.registry_ports:
            self.wait_until_listed(port, "test.worker", workers)
        result_of(call(self.caller.port, "begin", "test.worker"))
        self.wait_for_share(*started)
        return known, started

    def records(self, first=0):
        """Every call from number `first` on, also those that are running."""
        return result_of(call(self.caller.port, "get_records", first))

    def find(self, name):
        return result_of(call(self.caller.port, "find", name))

    def calls_from_now(self, count=MANY):
        """The records of calls that begin from now on and have ended, once there are so many."""
        first = len(self.records())

        def ended():
            later = [r for r in self.records(first) if r["ended"] is not None]
            return later if len(later) >= count else None

        return wait_until(ended, f"{count} calls", 60)

    def assert_shared(self, *workers, count=MANY):
        """Calls from now on are answered by these workers only, each of which has a fair part.

        One that has no processor for a second has less, as others have fewer calls in flight.
        """

        def is_fair():
            records = self.calls_from_now(count)
            assert_none_failed(records)
            counts = Counter(r["pid"] for r in records)
            assert set(counts) <= {pid_of(worker) for worker in workers}
            fair = count / len(workers) / 3
            return all(counts[pid_of(worker)] >= fair for worker in workers)

        wait_until(is_fair, "a fair part for each")

    def wait_for_share(self, *workers):
        """Wait until each of the workers answers calls."""
        for worker in workers:
            wait_until(
                lambda pid=worker.process.pid: any(r["pid"] == pid for r in self.records()),
                "calls to each worker",
                INTERVAL_LIMIT,
            )

    def kill_worker(self, worker):
        """kill -9; the moment from which on it cannot be reached."""
        worker.kill()  # waits for its end: the system has closed its sockets then
        return time.monotonic()


@pytest.fixture
def cluster(tmp_path):
    with contextlib.ExitStack() as stack:
        yield Cluster(tmp_path, stack)


def pid_of(worker):
    return worker.process.pid


def assert_none_failed(records):
    assert [r for r in records if r["error"] is not None] == []


def assert_only_calls_on_it_failed(records, killed):
    """Those that had been sent to the worker that was killed; the moment it is `killed`."""
    failed = [r for r in records if r["error"] is not None]
    for record in failed:
        assert (record["error"], record["may_have_run"]) == ("ConnectionLost", True), record
        assert record["began"] <= killed, record
        assert record["method"] == "work", "a call that is idempotent is made again"
    if failed:
        first = min(record["ended"] for record in failed)
        assert max(record["began"] for record in failed) <= first


# A worker goes, or comes


@pytest.mark.parametrize("known_to", ["registries", "redis"])
def test_kill_9_of_a_worker(cluster, known_to):
    if known_to == "redis":  # the processes end before the keys are taken out
        cluster.environment["REDIS_PREFIX"] = cluster.stack.enter_context(shared_redis())
    _, workers = cluster.begin(registries=2 if known_to == "registries" else 0, workers=3)
    cluster.assert_shared(*workers)

    result_of(call(cluster.caller.port, "burst", 5))  # so that some are likely to be on it
    killed = cluster.kill_worker(workers[0])

    # For 3 s or more those who know of the worker still name it: the caller must know better.
    cluster.assert_shared(*workers[1:], count=3 * MANY)
    assert_only_calls_on_it_failed(cluster.records(), killed)


def test_calls_in_flight_on_a_worker_that_is_killed(cluster):
    """It hangs first, so that there are some for certain."""
    _, workers = cluster.begin(registries=2, workers=3)

    workers[0].send_signal(signal.SIGSTOP)
    result_of(call(cluster.caller.port, "burst", 15))
    cluster.calls_from_now(MANY // 2)
    now = time.monotonic()
    cluster.calls_from_now(MANY // 2)
    stuck = [n for n, r in enumerate(cluster.records()) if r["ended"] is None and r["began"] < now]
    killed = cluster.kill_worker(workers[0])

    cluster.assert_shared(*workers[1:])
    records = cluster.records()
    assert_only_calls_on_it_failed(records, killed)
    outcomes = {(r["method"], r["error"], r["pid"]) for r in map(records.__getitem__, stuck)}
    survivors = map(pid_of, workers[1:])
    made_again = {("look", None, pid) for pid in survivors}
    assert ("work", "ConnectionLost", None) in outcomes
    assert outcomes & made_again
    assert outcomes <= {("work", "ConnectionLost", None), *made_again}


def test_the_place_of_a_dead_worker_is_left_alone(cluster):
    """Its calls go elsewhere, and it is not tried with each of them."""
    registries, workers = cluster.begin(registries=1, workers=2)

    registries[0].kill()  # nobody takes the worker off the list
    cluster.kill_worker(workers[0])
    # Somebody who takes connections and ends them.
    with FaultyServer(greeting=close, port=workers[0].port) as server:
        calls = cluster.calls_from_now(2 * MANY)

    # Alone for 0.5 s at least, and twice as long each time: of 4 s there are three times to try.
    assert server.connections < len(calls) / 10
    answered = [r for r in calls if r["error"] is None]
    assert {r["pid"] for r in answered} == {pid_of(workers[1])}
    assert len(calls) - len(answered) <= server.connections


def test_a_worker_that_is_stopped_and_a_new_one(cluster):
    _, workers = cluster.begin(registries=2, workers=3)

    assert workers[0].terminate() == 0
    cluster.assert_shared(*workers[1:])
    for port in cluster.registry_ports:
        assert cluster.listed(port)["test.worker"] == 2  # at once: it said goodbye

    new = cluster.start_worker()
    cluster.wait_for_share(new)
    cluster.assert_shared(new, *workers[1:])
    assert_none_failed(cluster.records())


# A registry goes, or comes


def test_kill_9_of_one_registry_after_the_other(cluster):
    (first, second), workers = cluster.begin(registries=2, workers=3)

    first.kill()
    cluster.assert_shared(*workers)

    cluster.start_registry(first.port)
    cluster.wait_until_listed(first.port, "test.worker", 3)

    second.kill()
    other = cluster.start_worker(name="test.other")
    cluster.wait_until_listed(first.port, "test.other", 1)
    assert cluster.find("test.other") == pid_of(other)
    cluster.assert_shared(*workers)
    assert_none_failed(cluster.records())


def test_kill_9_of_all_registries(cluster):
    registries, workers = cluster.begin(registries=2, workers=3)

    for registry in registries:
        registry.kill()
    cluster.assert_shared(*workers, count=2 * MANY)
    assert_none_failed(cluster.records())

    killed = cluster.kill_worker(workers[0])
    cluster.assert_shared(*workers[1:], count=2 * MANY)
    assert_only_calls_on_it_failed(cluster.records(), killed)
    assert cluster.find("test.worker") in map(pid_of, workers[1:])


def test_two_of_three_registries_lost(cluster):
    (*lost, left), workers = cluster.begin(registries=3, workers=2)

    for registry in lost:
        registry.kill()
    new = cluster.start_worker()
    other = cluster.start_worker(name="test.other")
    cluster.wait_until_listed(left.port, "test.worker", 3)
    cluster.wait_until_listed(left.port, "test.other", 1)

    cluster.wait_for_share(new)
    cluster.assert_shared(new, *workers)
    assert cluster.find("test.o*") == pid_of(other)
    assert_none_failed(cluster.records())


def test_a_registry_that_knows_nobody_any_more(cluster):
    """Its answers, which are right and empty, do not take away what still works."""
    # Told once, at the start: after its restart the registry is told of none of them again.
    (registry,), workers = cluster.begin(1, 2, service_registry_ping_interval=300)

    registry.kill()
    cluster.start_registry(registry.port)
    # The caller asks every second, and keeps the registry told of itself.
    cluster.wait_until_listed(registry.port, "test.caller", 1)
    cluster.assert_shared(*workers, count=3 * MANY)
    assert "test.worker" not in cluster.listed(registry.port)

    assert_none_failed(cluster.records())
