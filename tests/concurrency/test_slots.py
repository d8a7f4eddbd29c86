"""Places for calls: never more than the limit, none lost, whatever happens to those who wait."""

import time
from collections.abc import Callable
from typing import Any

import gevent
import pytest
from gevent.event import Event

from gemstone_sync.concurrency import CallSlots, NoSlot

#: Seconds for what should happen at once, on a machine that is busy.
LIMIT = 10


class Place:
    """A greenlet that takes a place and keeps it until told to leave."""

    def __init__(self, slots: CallSlots, log: list[Any] | None = None, name: Any = None) -> None:
        self.got_it, self.leave = Event(), Event()
        self.greenlet = gevent.spawn(self._stay, slots, log if log is not None else [], name)
        gevent.sleep(0)  # let it come to its wait

    def _stay(self, slots: CallSlots, log: list[Any], name: Any) -> str:
        try:
            slots.acquire()
        except NoSlot:
            return "refused"
        log.append(name)
        self.got_it.set()
        try:
            self.leave.wait()
        finally:
            slots.release()
        return "served"

    def end(self) -> str:
        self.leave.set()
        return str(self.greenlet.get(timeout=LIMIT))


def assert_all_free(slots: CallSlots) -> None:
    assert (slots.in_use, slots.waiting) == (0, 0)
    for _ in range(slots.limit):
        slots.acquire()
    assert slots.in_use == slots.limit
    for _ in range(slots.limit):
        slots.release()


def test_so_many_places_and_no_more() -> None:
    slots = CallSlots(2, 10, LIMIT)
    first, second, third = Place(slots), Place(slots), Place(slots)

    assert first.got_it.is_set()
    assert second.got_it.is_set()
    assert not third.got_it.is_set()
    assert (slots.in_use, slots.waiting) == (2, 1)
    first.end()
    assert third.got_it.wait(LIMIT)
    assert slots.in_use == 2
    assert [second.end(), third.end()] == ["served", "served"]
    assert_all_free(slots)


def test_first_come_first_served() -> None:
    slots = CallSlots(1, 10, LIMIT)
    log: list[int] = []
    places = [Place(slots, log, number) for number in range(5)]
    for place in places:
        place.end()

    assert log == [0, 1, 2, 3, 4]
    assert_all_free(slots)


def test_a_newcomer_does_not_overtake_who_was_handed_a_place() -> None:
    slots = CallSlots(1, 10, LIMIT)
    slots.acquire()
    log: list[str] = []
    waiting = Place(slots, log, "waiting")
    slots.release()  # handed over, but the one who waits has not run yet
    newcomer = Place(slots, log, "newcomer")

    assert log == ["waiting"]
    waiting.end()
    newcomer.end()
    assert log == ["waiting", "newcomer"]
    assert_all_free(slots)


def test_a_full_waiting_room_refuses_at_once() -> None:
    slots = CallSlots(1, 1, LIMIT)
    inside, waiting, refused = Place(slots), Place(slots), Place(slots)

    assert refused.greenlet.get(timeout=LIMIT) == "refused"
    assert [inside.end(), waiting.end()] == ["served", "served"]
    assert_all_free(slots)


def test_without_a_waiting_room_nobody_waits() -> None:
    slots = CallSlots(1, 0, LIMIT)
    slots.acquire()

    with pytest.raises(NoSlot):
        slots.acquire()
    slots.release()
    assert_all_free(slots)


@pytest.mark.parametrize("seconds", [0, 0.01])
def test_who_waits_too_long_is_refused_and_leaves_no_trace(seconds: float) -> None:
    slots = CallSlots(1, 10, seconds)
    slots.acquire()

    with pytest.raises(NoSlot):
        slots.acquire()
    assert slots.waiting == 0
    slots.release()
    assert_all_free(slots)


def test_one_who_gave_up_is_passed_over() -> None:
    slots = CallSlots(1, 10, LIMIT)
    slots.acquire()
    killed, next_one = Place(slots), Place(slots)
    killed.greenlet.kill()

    assert slots.waiting == 1
    slots.release()
    assert next_one.got_it.wait(LIMIT)
    next_one.end()
    assert_all_free(slots)


@pytest.mark.parametrize("killed_first", [True, False])
def test_a_place_handed_to_one_who_is_killed_in_that_moment_goes_on_to_the_next(
    killed_first: bool,
) -> None:
    slots = CallSlots(1, 10, LIMIT)
    slots.acquire()
    killed, next_one = Place(slots), Place(slots)
    if killed_first:
        killed.greenlet.kill(block=False)
    slots.release()  # the place is its own now, though it has not run yet
    if not killed_first:
        killed.greenlet.kill(block=False)

    assert next_one.got_it.wait(LIMIT)
    next_one.end()
    gevent.sleep(0)
    assert_all_free(slots)


def test_a_place_and_the_time_out_in_the_same_moment_lose_no_place() -> None:
    slots = CallSlots(1, 10, 0.01)
    slots.acquire()
    outcomes = []

    def wait() -> None:
        try:
            slots.acquire()
        except NoSlot:
            outcomes.append("refused")
        else:
            outcomes.append("served")
            slots.release()

    waiting = gevent.spawn(wait)
    gevent.sleep(0)
    # Let the time pass without letting the event loop run: both are due in its next round.
    end = time.monotonic() + 0.02
    while time.monotonic() < end:
        pass
    slots.release()
    waiting.join(LIMIT)

    assert len(outcomes) == 1
    assert_all_free(slots)


def test_a_time_out_of_the_callers_own_stays_the_callers() -> None:
    slots = CallSlots(1, 10, LIMIT)
    slots.acquire()
    mine = gevent.Timeout(0.01)
    mine.start()

    with pytest.raises(gevent.Timeout) as caught:
        slots.acquire()
    assert caught.value is mine
    slots.release()
    assert_all_free(slots)


def crowd(slots: CallSlots, seen: list[int]) -> Callable[[int], None]:
    def visit(number: int) -> None:
        try:
            slots.acquire()
        except NoSlot:
            return
        try:
            seen.append(slots.in_use)
            gevent.sleep(0.001 * (number % 3))
        finally:
            slots.release()

    return visit


def test_a_crowd_with_time_outs_and_kills_leaves_every_place_free() -> None:
    slots = CallSlots(3, 50, 0.005)
    seen: list[int] = []
    visit = crowd(slots, seen)
    visitors = [gevent.spawn(visit, number) for number in range(300)]
    for number, visitor in enumerate(visitors):
        if number % 7 == 0:
            gevent.sleep(0)
            visitor.kill(block=False)
    gevent.joinall(visitors, timeout=LIMIT)

    assert max(seen) == 3
    assert_all_free(slots)
