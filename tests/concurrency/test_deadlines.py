"""One timer for all deadlines: each is thrown into its own call, at its time, and once."""

import contextlib
import time

import gevent
import pytest
from gevent.event import Event

from gemstone_sync.concurrency import Call, DeadlineReached, Deadlines
from tests.support.waiting import LIMIT, gather, wait_until


def guarded(seconds, work, since=None):
    """Run `work` under a deadline: its result or "interrupted", and whether it was reached."""
    deadlines = Deadlines.of_this_hub()
    call = Call((time.monotonic() if since is None else since) + seconds)
    deadlines.enter(call)
    try:
        outcome = work()
    except DeadlineReached:
        if not call.reached:  # meant for a guard further out, as the dispatcher has it
            raise
        outcome = "interrupted"
    finally:
        reached = deadlines.leave(call)
    return outcome, reached


def wait_for_ever():
    Event().wait(LIMIT)


def test_a_call_that_waits_is_interrupted_at_its_deadline():
    started = time.monotonic()

    assert guarded(0.05, wait_for_ever) == ("interrupted", True)
    assert time.monotonic() - started > 0.045


def test_a_call_that_ends_in_time_is_not_disturbed_later():
    assert guarded(0.01, lambda: "done") == ("done", False)
    assert not Deadlines.of_this_hub()._calls
    gevent.sleep(0.03)  # past the deadline: nothing is thrown into this greenlet


@pytest.mark.parametrize("order", [1, -1])
def test_many_deadlines_are_reached_in_their_order(order):
    def numbers_reached():
        reached = []
        began = time.monotonic()

        def run(number):
            guarded(0.01 * number, wait_for_ever, since=began)
            reached.append(number)

        gather([lambda n=n: run(n) for n in range(1, 6)[::order]])
        return reached

    # Where the machine stands still for a moment several are due at once, in any order.
    wait_until(lambda: numbers_reached() == [1, 2, 3, 4, 5], "their order in a quiet moment")


def test_an_earlier_deadline_that_comes_later_is_not_kept_waiting():
    late = gevent.spawn(guarded, LIMIT, wait_for_ever)
    gevent.sleep(0)

    assert guarded(0.02, wait_for_ever) == ("interrupted", True)
    assert guarded(-1, wait_for_ever) == ("interrupted", True), "at the first wait"
    assert not late.ready()
    late.kill()


def test_hundreds_of_calls_with_one_deadline_are_all_interrupted():
    calls = [gevent.spawn(guarded, 0.05, wait_for_ever) for _ in range(500)]
    gevent.joinall(calls, timeout=LIMIT)

    assert {call.value for call in calls} == {("interrupted", True)}


def test_except_exception_does_not_swallow_it_and_finally_runs():
    log = []

    def method():
        try:
            with contextlib.suppress(Exception):
                wait_for_ever()
            log.append("suppressed")
        finally:
            log.append("finally")

    assert guarded(0.01, method) == ("interrupted", True)
    assert log == ["finally"]


def test_a_method_that_swallows_it_is_known_to_have_reached_it():
    def stubborn():
        with contextlib.suppress(BaseException):
            wait_for_ever()

    assert guarded(0.01, stubborn) == (None, True)


def test_one_that_takes_long_to_clean_up_does_not_keep_the_others_waiting():
    cleaning, may_end = Event(), Event()

    def slow_to_end():
        try:
            wait_for_ever()
        finally:
            cleaning.set()
            may_end.wait(LIMIT)

    slow = gevent.spawn(guarded, 0.01, slow_to_end)
    assert cleaning.wait(LIMIT)
    assert guarded(0.01, wait_for_ever) == ("interrupted", True)
    may_end.set()
    assert slow.get(timeout=LIMIT) == ("interrupted", True)


def test_the_inner_of_two_nested_calls_is_interrupted_alone():
    outcome = guarded(LIMIT, lambda: guarded(0.01, wait_for_ever))

    assert outcome == (("interrupted", True), False)


def test_the_outer_of_two_nested_calls_interrupts_the_inner_too():
    after = []

    def outer():
        guarded(LIMIT, wait_for_ever)
        after.append("went on")

    assert guarded(0.01, outer) == ("interrupted", True)
    assert not after
    assert not Deadlines.of_this_hub()._calls


def test_two_nested_calls_with_the_same_deadline_both_end():
    """The inner one ends first; what is thrown for the outer one does not get lost."""
    now = time.monotonic()

    def outer():
        guarded(0.02, wait_for_ever, since=now)
        wait_for_ever()

    assert guarded(0.02, outer, since=now) == ("interrupted", True)


def test_each_thread_has_deadlines_of_its_own_hub():
    def in_thread():
        return Deadlines.of_this_hub(), guarded(0.01, wait_for_ever)

    of_thread, outcome = gevent.get_hub().threadpool.spawn(in_thread).get(timeout=LIMIT)

    assert of_thread is not Deadlines.of_this_hub()
    assert outcome == ("interrupted", True)
