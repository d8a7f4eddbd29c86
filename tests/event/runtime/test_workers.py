"""Workers: greenlets that are used again, and what of one event the next one does not find."""

import contextvars
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from gevent.local import local

from gemstone_sync.event.runtime.workers import Workers
from tests.support.waiting import LIMIT, wait_until


@pytest.fixture
def workers() -> Iterator[Workers]:
    workers = Workers(10)
    yield workers
    workers.end()


def run(workers: Workers, *functions: Any) -> list[Any]:
    """Have functions run one after the other; the greenlets in which they did."""
    ran: list[Any] = []
    for function in functions:

        def call(function: Any = function) -> None:
            ran.append(gevent.getcurrent())
            function()

        count = len(ran)
        workers.start(call)
        wait_until(lambda: len(ran) > count, "the function")  # noqa: B023
        gevent.sleep(0)
    return ran


def nothing() -> None:
    """What a handler may do."""


def test_one_after_the_other_in_one_greenlet_and_each_in_a_context_of_its_own(workers: Workers):
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)
    seen: list[int] = []

    def act() -> None:
        seen.append(variable.get())
        variable.set(7)

    first, second = run(workers, act, act)
    assert first is second
    assert seen == [0, 0]


def test_those_that_wait_run_beside_each_other(workers: Workers):
    gate, ended = gevent.event.Event(), []
    for number in range(20):
        workers.start(lambda number=number: gate.wait() and ended.append(number))
    gevent.sleep(0)
    gate.set()
    wait_until(lambda: len(ended) == 20, "all")


def test_what_is_kept_for_its_greenlet_no_other_finds(workers: Workers):
    kept = local()

    def keep() -> None:
        kept.value = 1

    first, second = run(workers, keep, nothing)
    assert first is not second


def fail() -> None:
    raise gevent.GreenletExit


def leave_timeout() -> None:
    gevent.Timeout.start_new(0.01)


def leave_kill() -> None:
    gevent.spawn_later(0.01, gevent.getcurrent().kill)


@pytest.mark.parametrize("end", [fail, leave_timeout, leave_kill])
def test_one_that_is_ended_is_not_used_again(workers: Workers, end: Any):
    [first] = run(workers, end)
    first.join(LIMIT)
    assert first.dead
    [second] = run(workers, nothing)
    assert second is not first


def test_the_end_ends_those_that_wait_and_later_those_that_work(workers: Workers):
    gate = gevent.event.Event()
    busy = workers.start(gate.wait)
    [idle] = run(workers, nothing)
    workers.end()
    assert idle.dead
    gate.set()
    busy.join(LIMIT)
    assert busy.dead
