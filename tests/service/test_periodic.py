"""Periodic tasks: they begin with the service, keep their beat, and survive their errors."""

import contextvars
import functools
import re
import time
from typing import Any

import gevent
import pytest
from gevent.event import Event

import gemstone_sync
from gemstone_sync.concurrency import current_call
from gemstone_sync.dispatch import log_throttle
from gemstone_sync.testing import ServiceClient, running_service
from tests.support.waiting import LIMIT, wait_until


class Ticks:
    """Counts runs, and lets a test wait for so many of them."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def __call__(self, *_: Any) -> None:
        self.times.append(time.monotonic())

    def wait_for(self, count: int) -> None:
        wait_until(lambda: len(self.times) >= count, f"{count} runs")


def test_every_spelling_runs_for_as_long_as_the_service_does():
    listed, decorated, of_module = Ticks(), Ticks(), Ticks()

    class Cleaner(gemstone_sync.Module):
        @gemstone_sync.periodic(0.01)
        def clean(self) -> None:
            of_module(self.microservice)

    class Service(gemstone_sync.MicroService):
        name = "ticking"
        periodic_tasks = [(functools.partial(listed, "parameter"), 0.01)]
        modules = [Cleaner()]

        @gemstone_sync.periodic(seconds=0.01)
        def tick(self) -> None:
            decorated()

    service = Service()
    gevent.sleep(0.03)
    assert not listed.times  # nothing starts in a constructor
    for _ in range(2):
        with running_service(service):
            for ticks in (listed, decorated, of_module):
                ticks.wait_for(len(ticks.times) + 2)
        before = len(listed.times), len(decorated.times)
        gevent.sleep(0.05)
        assert (len(listed.times), len(decorated.times)) == before


def test_the_first_run_comes_after_one_period(make_service):
    ticks = Ticks()
    started = time.monotonic()
    with ServiceClient(make_service(periodic_tasks=[(ticks, 0.05)])):
        ticks.wait_for(1)
    assert ticks.times[0] - started >= 0.045


def test_a_task_that_takes_a_part_of_its_period_does_not_drift(make_service):
    """It runs more often than a loop that sleeps for a period between two runs."""
    ticks, drifting = Ticks(), Ticks()

    def work(run: Ticks = ticks) -> None:
        run()
        gevent.sleep(0.04)

    def drift() -> None:
        while True:
            gevent.sleep(0.08)
            work(drifting)

    def is_ahead() -> bool:
        seen = len(drifting.times)
        ticks.wait_for(len(ticks.times) + 11)
        return len(drifting.times) - seen <= 9  # seven, on a quiet machine

    loop = gevent.spawn(drift)
    with ServiceClient(make_service(periodic_tasks=[(work, 0.08)])):
        # A machine that comes late to each run has both of them miss beats, for a while.
        wait_until(is_ahead, "eleven runs against nine")
    loop.kill()


def test_a_task_never_overlaps_itself_and_skips_what_it_missed(make_service):
    inside, most, runs = 0, 0, Ticks()

    def slow() -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        gevent.sleep(0.035)
        inside -= 1
        runs()

    started = time.monotonic()
    with ServiceClient(make_service(periodic_tasks=[(slow, 0.01)])):
        runs.wait_for(3)
    assert most == 1
    assert time.monotonic() - started >= 3 * 0.035


@pytest.mark.parametrize("failure", [ValueError("broken task"), gevent.Timeout(1), SystemExit(1)])
def test_an_error_is_logged_with_its_traceback_and_the_next_comes(
    make_service, failure, caplog, monkeypatch
):
    # What is told once a second: a machine that stands still for one would have it told again.
    monkeypatch.setattr(log_throttle, "_LINE", LIMIT)
    ticks = Ticks()

    def fail() -> None:
        ticks()
        raise failure

    with ServiceClient(make_service(periodic_tasks=[(fail, 0.01)])):
        ticks.wait_for(3)

    told = [record for record in caplog.records if record.levelname == "ERROR"]
    assert len(told) == 2  # though it failed several times within that time
    assert told[0].getMessage() == f"periodic task {fail.__qualname__} failed"
    assert told[0].exc_info[1] is failure
    # Not a second later, when the process may be gone.
    assert re.search(rf"failed: {type(failure).__name__}: .* more like it$", told[1].getMessage())


def test_what_a_run_sets_is_gone_in_the_next(make_service):
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
    seen, ticks = [], Ticks()

    def work() -> None:
        seen.append(variable.get())
        variable.set("left over")
        ticks()

    with ServiceClient(make_service(periodic_tasks=[(work, 0.01)])):
        ticks.wait_for(3)
    assert set(seen) == {"unset"}
    assert current_call.get() is None


@pytest.mark.parametrize(("takes", "stop_timeout"), [(0.05, 10.0), (10 * LIMIT, 0.05)])
def test_stop_waits_for_a_run_under_way_as_long_as_it_may(make_service, takes, stop_timeout):
    begun, log = Ticks(), []

    def work() -> None:
        begun()
        gevent.sleep(takes)
        log.append("run ended")

    service = make_service(periodic_tasks=[(work, 0.01)], port=0, stop_timeout=stop_timeout)
    service.on_service_stop = lambda: log.append("stopped")
    service.start(block=False)
    begun.wait_for(1)
    service.stop()

    ended = len(begun.times) if takes < LIMIT else 0
    assert log == ["run ended"] * ended + ["stopped"]


def test_a_periodic_task_may_stop_its_service(make_service):
    log = []
    stopped = Event()

    def tick() -> None:
        service.stop()
        log.append("asked")

    def on_service_stop() -> None:
        gevent.sleep(0.01)  # blocks, as closing a database does
        log.append("stopped")
        stopped.set()

    service = make_service(periodic_tasks=[(tick, 0.01)], port=0)
    service.on_service_stop = on_service_stop
    service.start(block=False)
    assert stopped.wait(LIMIT)
    assert log == ["asked", "stopped"]
