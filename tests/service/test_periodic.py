"""Periodic tasks: they begin with the service, keep their beat, and survive their errors."""

import contextvars
import functools
import math
import time
from typing import Any

import gevent
import pytest
from gevent.event import Event

import gemstone_sync
from gemstone_sync.concurrency import current_call
from gemstone_sync.testing import ServiceClient, running_service

LIMIT = 10


class Ticks:
    """Counts runs, and lets a test wait for so many of them."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self._wanted = 0
        self._reached = Event()

    def __call__(self, *_: Any) -> None:
        self.times.append(time.monotonic())
        if len(self.times) >= self._wanted:
            self._reached.set()

    def wait_for(self, count: int) -> None:
        self._wanted = count
        self._reached.clear()
        if len(self.times) < count:
            assert self._reached.wait(LIMIT), f"{len(self.times)} of {count} runs"


def test_both_spellings_run_for_as_long_as_the_service_does() -> None:
    listed, decorated = Ticks(), Ticks()

    class Service(gemstone_sync.MicroService):
        name = "ticking"
        periodic_tasks = [(functools.partial(listed, "parameter"), 0.01)]

        @gemstone_sync.periodic(seconds=0.01)
        def tick(self) -> None:
            decorated()

    service = Service()
    gevent.sleep(0.03)
    assert not listed.times  # nothing starts in a constructor
    with running_service(service):
        listed.wait_for(3)
        decorated.wait_for(3)
    before = len(listed.times), len(decorated.times)
    gevent.sleep(0.05)
    assert (len(listed.times), len(decorated.times)) == before


def test_modules_may_have_periodic_methods_too(make_service: Any) -> None:
    ticks = Ticks()

    class Cleaner(gemstone_sync.Module):
        @gemstone_sync.periodic(0.01)
        def clean(self) -> None:
            ticks(self.microservice)

    with ServiceClient(make_service(modules=[Cleaner()])):
        ticks.wait_for(2)


def test_the_first_run_comes_after_one_period(make_service: Any) -> None:
    ticks = Ticks()
    started = time.monotonic()
    with ServiceClient(make_service(periodic_tasks=[(ticks, 0.05)])):
        ticks.wait_for(1)

    assert ticks.times[0] - started >= 0.045


def beats_from(first: float, times: list[float], period: float) -> list[float]:
    return [(at - first) / period for at in times]


def in_time(beats: list[float]) -> int:
    """How many of them are whole, nearly."""
    return sum(abs(beat - round(beat)) < 0.1 for beat in beats)


def test_a_task_that_takes_a_part_of_its_period_does_not_drift(make_service: Any) -> None:
    """With a plain sleep between runs, ten runs would take a third as long again."""
    ticks = Ticks()

    def work() -> None:
        ticks()
        gevent.sleep(0.014)

    with ServiceClient(make_service(periodic_tasks=[(work, 0.04)])):
        ticks.wait_for(11)

    # Each run comes at a multiple of the period, a busy machine's delay aside, counted from one
    # that was not late; and none twice.
    beats = max((beats_from(first, ticks.times, 0.04) for first in ticks.times), key=in_time)
    assert in_time(beats) >= 6
    numbers = [math.floor(beat + 0.1) for beat in beats]
    assert len(set(numbers)) == len(numbers)


def test_a_task_never_overlaps_itself_and_skips_what_it_missed(make_service: Any) -> None:
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
def test_an_error_is_logged_with_its_traceback_and_the_next_run_comes(
    make_service: Any, failure: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    ticks = Ticks()

    def fail() -> None:
        ticks()
        raise failure

    with ServiceClient(make_service(periodic_tasks=[(fail, 0.01)])):
        ticks.wait_for(3)

    assert "periodic task" in caplog.text
    assert "Traceback" in caplog.text
    assert type(failure).__name__ in caplog.text


def test_what_a_run_sets_is_gone_in_the_next(make_service: Any) -> None:
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


def test_stop_waits_for_a_run_that_is_under_way(make_service: Any) -> None:
    begun, log = Event(), []

    def work() -> None:
        begun.set()
        gevent.sleep(0.05)
        log.append("run ended")

    service = make_service(periodic_tasks=[(work, 0.01)], port=0)
    service.on_service_stop = lambda: log.append("stopped")
    service.start(block=False)
    assert begun.wait(LIMIT)
    service.stop()

    assert log == ["run ended", "stopped"]


def test_stop_does_not_wait_longer_than_stop_timeout_for_a_run(make_service: Any) -> None:
    begun = Event()

    def work() -> None:
        begun.set()
        Event().wait(LIMIT)

    service = make_service(periodic_tasks=[(work, 0.01)], port=0, stop_timeout=0.05)
    service.start(block=False)
    assert begun.wait(LIMIT)
    started = time.monotonic()
    service.stop()

    assert time.monotonic() - started < LIMIT / 2


def test_a_periodic_task_may_stop_its_service() -> None:
    log = []
    stopped = Event()

    class Service(gemstone_sync.MicroService):
        name = "stops.itself"
        port = 0

        @gemstone_sync.periodic(0.01)
        def tick(self) -> None:
            self.stop()
            log.append("asked")

        def on_service_stop(self) -> None:
            gevent.sleep(0.01)  # blocks, as closing a database does
            log.append("stopped")
            stopped.set()

    service = Service()
    service.start(block=False)
    assert stopped.wait(LIMIT)
    assert log == ["asked", "stopped"]


def test_a_service_can_be_started_again_and_ticks_again(make_service: Any) -> None:
    ticks = Ticks()
    service = make_service(periodic_tasks=[(ticks, 0.01)], port=0)
    for _ in range(2):
        service.start(block=False)
        ticks.wait_for(len(ticks.times) + 2)
        service.stop()
