"""How much of each queue a consumer takes in advance, told by what it holds already."""

import pytest

from gemstone_sync.event.places import Places
from gemstone_sync.event.runtime import queue_state
from gemstone_sync.event.runtime.queue_state import Prefetch, QueueState
from gemstone_sync.event.topology import Queue

TOTAL = 10


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(queue_state.time, "monotonic", lambda: now[0])
    return now


def states(count):
    pool = Places(TOTAL)
    queues = [Queue(f"q{number}", (), ()) for number in range(count)]
    return [QueueState(queue.name, queue, pool, prefetch=1, most=TOTAL) for queue in queues]


def taken(prefetch, held):
    """Let the broker send all that it may, again and again: what is held in the end."""
    prefetch.changed(held, False)
    for state in held:
        state.unsettled_count = max(state.unsettled_count, state.prefetch)
    return sum(state.unsettled_count for state in held)


def test_what_was_just_given_is_not_taken_for_unused_before_it_has_come(clock):
    prefetch = Prefetch(TOTAL)
    first, second, *others = states(10)
    prefetch.changed([first, second, *others], False)
    for held in (1, 5):
        first.unsettled_count = held
        prefetch.changed([first, second, *others], False)
    assert first.share == TOTAL
    first.unsettled_count = 1
    for held in (1, 2):  # and what is meant for the first one is still on its way
        second.unsettled_count = held
        prefetch.changed([first, second, *others], False)
    assert (first.share, second.share) == (TOTAL, 2)
    clock[0] += 5
    prefetch.changed([first, second, *others], False)
    assert (first.share, second.share) == (2, TOTAL)


def test_queues_that_are_full_from_the_start_share(clock):
    """Else the one that was full a moment before the others had all of it for a second."""
    prefetch, held = Prefetch(TOTAL), states(3)
    for _ in range(5):
        taken(prefetch, held)
    assert min(state.share for state in held) >= TOTAL // len(held)


def test_what_is_stuck_takes_no_more_from_queue_after_queue(clock):
    prefetch = Prefetch(TOTAL)
    held = states(10)
    for _ in range(100):
        most = taken(prefetch, held)
        clock[0] += 2
    assert most <= 2 * TOTAL + 1
