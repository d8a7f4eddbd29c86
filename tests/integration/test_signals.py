"""Signals to a parent and its group; parents that are killed; stop() in a worker."""

import itertools
import os
import signal
import time

import pytest

from tests.support.http import Connection, call_message, refuses_connections, result_of
from tests.support.programs import is_alive, program
from tests.support.waiting import wait_until

from . import signals_table
from .processes import OURS, calls_in_flight, connections_to, pids_of_replies, start

slow = pytest.mark.slow


@slow  # four services at a time
@pytest.mark.parametrize("number", signals_table.SIGNALS, ids=lambda number: number.name)
@pytest.mark.parametrize(
    ("under", "workers"),
    signals_table.SERVERS,
    ids=lambda value: "start" if value is None else str(value).rpartition(".")[2],
)
def test_calls_in_flight(tmp_path, under, workers, number):
    """Once, wherever it is sent: all are answered. Twice: what README says."""
    expected = [signals_table.promised(under, number, *t) for t in signals_table.TARGETS]
    assert signals_table.row(tmp_path, under, workers, number) == expected


@pytest.mark.parametrize("workers", [1, 2])
def test_the_same_signal_that_comes_twice_is_one(tmp_path, workers):
    """As `timeout` sends it to the process and then to its group, and some supervisors do."""
    for attempt in itertools.count():
        if tell_twice(tmp_path / f"{attempt}", workers):
            break


def tell_twice(folder, workers):
    """False when this process had no processor between the two: they count as two then."""
    with (
        start(folder, workers=workers) as service,
        connections_to(service.port, 8) as busy,
    ):
        for connection in busy:
            connection.send(call_message("hold"))
        service.wait_for_notes("holding", len(busy))
        began = time.monotonic()
        service.program.send_signal(signal.SIGTERM)
        os.killpg(service.parent, signal.SIGTERM)
        if time.monotonic() - began > 0.1:
            return False
        wait_until(lambda: refuses_connections(service.port), "the end of listening")
        service.release()
        assert pids_of_replies(busy) == service.pids("holding")
        assert service.program.wait() == 0
    assert service.pids("stopped") == service.pids("started")
    return True


KEEPING = """
import signal, gevent, gemstone_sync

def note(*signal):
    print("heard", flush=True)

class Service(gemstone_sync.MicroService):
    name, port, skip_configuration = "service", 0, True

    def on_service_start(self):
        print(self.url, flush=True)

    @gemstone_sync.exposed_method()
    def answer(self):
        return 42

signal.signal(signal.SIGHUP, HANDLER)
Service().start(workers=WORKERS)
"""


@pytest.mark.parametrize("handler", ["signal.SIG_IGN", "note"])
@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=slow)])
def test_sighup_that_is_ignored_or_handled_stays_so(tmp_path, workers, handler):
    """As `nohup` has it ignored, and programs that read their configuration again."""
    text = KEEPING.replace("HANDLER", handler).replace("WORKERS", str(workers))
    with program(text, tmp_path) as started:
        started.wait_for_ports(workers)
        started.wait_until_ready()
        os.killpg(started.process.pid, signal.SIGHUP)
        if handler == "note":
            wait_until(lambda: started.stdout.count("heard") == (3 if workers > 1 else 1), "it")
        with Connection(started.port) as connection:
            assert result_of(connection.call("answer")) == 42
        assert started.terminate() == 0


@slow  # the worker looks once a second
@pytest.mark.parametrize("under", [OURS, "gevent"], ids=["GunicornWorker", "gevent"])
def test_gunicorns_workers_finish_their_calls_when_the_master_is_killed(tmp_path, under):
    with start(tmp_path, under=under, workers=2) as service, calls_in_flight(service) as busy:
        workers = service.workers()
        service.program.send_signal(signal.SIGKILL)
        wait_until(lambda: refuses_connections(service.port), "the end of listening")
        service.release()

        assert pids_of_replies(busy) == workers
        wait_until(lambda: not any(map(is_alive, workers)), "the end of the workers")
        assert service.pids("stopped") == workers


@pytest.mark.parametrize(
    "stops_in",
    ["a call", *(pytest.param(place, marks=slow) for place in ("a periodic task", "a start hook"))],
)
def test_stop_in_a_worker_stops_all(tmp_path, stops_in):
    """None is started in its place, and calls in flight are answered in each."""
    start_hook = stops_in == "a start hook"
    ready = {"ready": None} if start_hook else {}
    with start(tmp_path, workers=2, stops_in=stops_in, **ready) as service:
        if not start_hook:
            service.wait_for_workers(2)
            with calls_in_flight(service) as busy, Connection(service.port) as connection:
                connection.send(call_message("bye"))
                wait_until(lambda: refuses_connections(service.port), "the end of listening")
                service.release()
                assert pids_of_replies(busy) == service.pids("holding")
                assert result_of(connection.read_reply()) == "bye"
        assert service.program.wait() == 0
    assert len(service.pids("started")) <= 2
    assert service.pids("stopped") == service.pids("started")


BESIDE_A_THREAD = """
import os, signal, sys, time
from gevent.monkey import get_original
from gemstone_sync.server.prefork import supervise

def sleep_in_a_native_thread():
    get_original("time", "sleep")(60)

def work(number, ready, stop_all):
    ready()
    get_original("time", "sleep")(60)

def on_ready():
    os.kill(os.getpid(), signal.SIGTERM)  # the thread gets it: here it is blocked

def on_stop():
    for worker in open(f"/proc/self/task/{os.getpid()}/children").read().split():
        os.kill(int(worker), signal.SIGKILL)
    get_original("time", "sleep")(0.3)  # the thread gets each SIGCHLD, and ignores it

get_original("_thread", "start_new_thread")(sleep_in_a_native_thread, ())
print("ended with", supervise(2, work, 60, on_ready, on_stop), flush=True)
os._exit(0)
"""


def test_no_signal_is_lost_to_a_native_thread(tmp_path):
    """One that is older than the workers has nothing blocked: as one that looked a name up."""
    with program(BESIDE_A_THREAD, tmp_path) as started:
        assert started.wait() == 0, started.stderr
        assert started.stdout == "ended with 0\n"
