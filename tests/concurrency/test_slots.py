"""Places for calls: never more than the limit, none lost, whatever happens to those who wait."""

import contextlib
import time

import gevent
import pytest
from gevent.event import Event

from gemstone_sync.concurrency import CallSlots, NoSlot
from tests.support.waiting import LIMIT


class Place:
    """A greenlet that takes a place and keeps it until told to leave."""

    def __init__(self, slots, log=None, name=None):
        self.got_it, self.leave = Event(), Event()
        self.greenlet = gevent.spawn(self._stay, slots, log if log is not None else [], name)
        gevent.sleep(0)  # let it come to its wait

    def _stay(self, slots, log, name):
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

    def end(self):
        self.leave.set()
        return self.greenlet.get(timeout=LIMIT)


def assert_all_free(slots):
    assert (slots.in_use, slots.waiting) == (0, 0)
    for _ in range(slots.limit):
        slots.acquire()
    assert slots.in_use == slots.limit
    for _ in range(slots.limit):
        slots.release()


@pytest.fixture
def slots():
    """One place, which is taken; in the end it is free."""
    slots = CallSlots(1, 10, LIMIT)
    slots.acquire()
    yield slots
    assert_all_free(slots)


def test_so_many_places_and_no_more():
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


def test_first_come_first_served_also_when_the_first_has_not_run_yet(slots):
    log = []
    places = [Place(slots, log, number) for number in range(4)]
    slots.release()  # handed over to the first of them
    places.append(Place(slots, log, "newcomer"))
    assert log == [0]
    for place in places:
        place.end()

    assert log == [0, 1, 2, 3, "newcomer"]


def test_a_full_waiting_room_refuses_at_once():
    slots = CallSlots(1, 1, LIMIT)
    inside, waiting, refused = Place(slots), Place(slots), Place(slots)

    assert refused.greenlet.get(timeout=LIMIT) == "refused"
    assert [inside.end(), waiting.end()] == ["served", "served"]
    assert_all_free(slots)


@pytest.mark.parametrize(
    ("most_waiting", "seconds"), [(0, LIMIT), (10, 0), (10, 0.01)], ids=["no room", "none", "some"]
)
def test_who_may_not_wait_or_waits_too_long_is_refused_and_leaves_no_trace(most_waiting, seconds):
    slots = CallSlots(1, most_waiting, seconds)
    slots.acquire()

    with pytest.raises(NoSlot):
        slots.acquire()
    assert slots.waiting == 0
    slots.release()
    assert_all_free(slots)


def test_one_who_gave_up_is_passed_over(slots):
    killed, next_one = Place(slots), Place(slots)
    killed.greenlet.kill()

    assert slots.waiting == 1
    slots.release()
    assert next_one.got_it.wait(LIMIT)
    next_one.end()


@pytest.mark.parametrize("killed_first", [True, False])
def test_a_place_handed_to_one_who_is_killed_in_that_moment_goes_on_to_the_next(
    slots, killed_first
):
    killed, next_one = Place(slots), Place(slots)
    if killed_first:
        killed.greenlet.kill(block=False)
    slots.release()  # the place is its own now, though it has not run yet
    if not killed_first:
        killed.greenlet.kill(block=False)

    assert next_one.got_it.wait(LIMIT)
    next_one.end()
    gevent.sleep(0)


def test_a_place_and_the_time_out_in_the_same_moment_lose_no_place():
    slots = CallSlots(1, 10, 0.01)
    slots.acquire()
    waiting = Place(slots)
    # Let the time pass without letting the event loop run: both are due in its next round.
    end = time.monotonic() + 0.02
    while time.monotonic() < end:
        pass
    slots.release()

    assert waiting.end() in ("served", "refused")
    assert_all_free(slots)


def test_a_time_out_of_the_callers_own_stays_the_callers(slots):
    with pytest.raises(gevent.Timeout) as caught, gevent.Timeout(0.01) as mine:
        slots.acquire()
    assert caught.value is mine
    slots.release()


def test_a_crowd_with_time_outs_and_kills_leaves_every_place_free():
    slots = CallSlots(3, 50, 0.005)
    seen = []

    def visit(number):
        with contextlib.suppress(NoSlot):
            slots.acquire()
            try:
                seen.append(slots.in_use)
                gevent.sleep(0.001 * (number % 3))
            finally:
                slots.release()

    visitors = [gevent.spawn(visit, number) for number in range(300)]
    for visitor in visitors[::7]:
        gevent.sleep(0)
        visitor.kill(block=False)
    gevent.joinall(visitors, timeout=LIMIT)

    assert max(seen) == 3
    assert_all_free(slots)
