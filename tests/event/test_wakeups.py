"""Signal and Receipt: greenlets and real threads wake each other, and nobody misses it."""

from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from gevent import monkey
from gevent.threadpool import ThreadPool

from gemstone_sync.event.wakeups import Receipt, Signal
from tests.support.waiting import LIMIT, wait_until

native_sleep = monkey.get_original("time", "sleep")


@pytest.fixture
def in_thread() -> Iterator[Any]:
    """Run a function in a real thread."""
    pool = ThreadPool(4)
    yield pool.spawn
    pool.kill()


@pytest.fixture(params=["greenlet", "thread"])
def spawn(request: pytest.FixtureRequest, in_thread: Any) -> Any:
    """Run a function in a greenlet of this hub, or in a real thread."""
    return gevent.spawn if request.param == "greenlet" else in_thread


def test_a_signal_wakes_the_greenlet_that_waits(spawn: Any):
    signal = Signal()
    assert signal.wait(0.01) is False
    spawn(signal.set)
    assert signal.wait(LIMIT) is True


def test_no_set_is_lost_between_clear_and_wait(in_thread: Any):
    signal, seen, handed = Signal(), 0, []

    def hand_over() -> None:
        for number in range(3000):
            handed.append(number)
            signal.set()
            if number % 100 == 0:
                native_sleep(0.0005)

    for _ in range(2):
        in_thread(hand_over)
    while seen < 6000:
        signal.clear()
        seen = len(handed)
        assert seen == 6000 or signal.wait(LIMIT), f"woken for {seen} only"


def test_a_callback_is_told_until_it_is_taken_back():
    signal, told = Signal(), []
    signal.notify(told.append)
    signal.set()
    wait_until(lambda: told, "the callback")
    signal.unnotify(told.append)
    signal.clear()
    signal.set()
    gevent.sleep(0.01)
    assert len(told) == 1


def test_a_function_is_called_in_the_hub_of_the_signal(in_thread: Any):
    signal, hubs = Signal(), []
    in_thread(signal.call, lambda: hubs.append(gevent.get_hub()))
    assert wait_until(lambda: hubs, "the call") == [gevent.get_hub()]


def test_a_receipt_waits_for_all(spawn: Any):
    receipts: list[Receipt] = []

    def wait() -> bool:
        receipts.append(Receipt(3))
        return receipts[0].wait(LIMIT)

    waiter = spawn(wait)
    [receipt] = wait_until(lambda: receipts, "the waiter")
    receipt.settle()
    receipt.settle()
    gevent.sleep(0.01)
    assert not waiter.ready()
    receipt.settle()
    assert waiter.get(timeout=LIMIT) is True


@pytest.mark.parametrize("timeout", [0, -1, 0.01])
def test_a_receipt_that_is_not_settled_ends_by_its_time_out(spawn: Any, timeout: float):
    def wait() -> bool:
        receipt = Receipt()
        settled = receipt.wait(timeout)
        receipt.settle()  # too late, and harmless
        return settled

    assert spawn(wait).get(timeout=LIMIT) is False


def test_a_receipt_can_wait_for_ever_and_does_not_when_it_was_settled_before(spawn: Any):
    receipt = Receipt()
    spawn(receipt.settle)
    assert receipt.wait(float("inf")) is True
    assert receipt.wait(0) is True


def test_waking_twice_is_harmless(spawn: Any):
    def twice() -> bool:
        receipt = Receipt()
        receipt.wake()
        receipt.wake()
        return receipt.wait(LIMIT)

    assert spawn(twice).get(timeout=LIMIT) is True
