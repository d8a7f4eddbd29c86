"""What observers are told of each attempt of a handler at an event."""

import time

import gevent
import pytest

from gemstone_sync import Reject, RetryLater
from gemstone_sync.event.deduplication import MemoryProcessedEvents
from gemstone_sync.event.observed import EventHooks, ObservedEvent
from tests.event.processing import Desk, Got, event, handler


class Watched(Desk):
    """A processor, and what observers of it were told.

    :ivar ended: what has finished; each began before.
    """

    def __init__(self, *handlers, **options):
        self.begun: list[ObservedEvent] = []
        self.ended: list[ObservedEvent] = []
        hooks = EventHooks(self.begun.append, self.ended.append)
        super().__init__(*handlers, hooks=hooks, **options)

    @property
    def one(self) -> ObservedEvent:
        (ended,) = self.ended
        assert self.begun == self.ended
        return ended


def test_an_event_that_is_handled_is_told_with_what_came_with_it():
    desk = Watched(handler(lambda body: gevent.sleep(0.02)))
    assert desk.deliver(event(id="e1", request_id="r1"))

    one = desk.one
    assert (one.name, one.handler, one.id, one.request_id) == ("x", "on_event", "e1", "r1")
    assert not one.failed
    assert 0.01 < one.seconds < time.monotonic() - one.started + 0.01


@pytest.mark.parametrize(
    ("error", "delay", "reason"),
    [
        (ValueError("no"), 1.0, None),
        (RetryLater(7), 7.0, None),
        (Reject("never"), None, "rejected"),
    ],
)
def test_what_follows_from_a_failure_is_told(error, delay, reason):
    desk = Watched(handler(Got(error)))
    desk.deliver(event())

    one = desk.one
    assert one.failed
    assert one.exception is error
    assert one.delay == delay
    assert (None if one.letter is None else one.letter.reason) == reason


def test_the_last_attempt_and_a_body_that_does_not_fit_go_to_the_dead_letters():
    desk = Watched(handler(Got(ValueError("no")), retries=1))
    desk.deliver(event())
    desk.deliver_again()
    assert [one.envelope.attempts for one in desk.ended if one.envelope] == [0, 1]
    assert desk.ended[1].letter is not None
    assert desk.ended[1].delay is None

    desk = Watched(handler(Got()))
    desk.deliver(event(body=b"no JSON"))
    assert desk.one.letter is not None
    assert desk.one.letter.reason == "invalid"


@pytest.mark.parametrize(
    ("name", "values", "reason"),
    [("nobodys", {}, "unhandled"), ("x", {"deadline": 1.0}, "expired")],
)
def test_a_dead_letter_that_no_handler_was_called_with_is_told(name, values, reason):
    desk = Watched(handler(Got()))
    desk.deliver(event(name, **values))

    assert desk.one.handler is None
    assert desk.one.letter is not None
    assert desk.one.letter.reason == reason


def test_one_that_was_handled_already_is_no_attempt():
    memory = MemoryProcessedEvents()
    desk = Watched(handler(Got(), idempotent=False), processed=memory)
    same = event()
    desk.deliver(same)
    desk.deliver(same)
    assert not desk.one.failed


def test_one_that_is_given_back_has_finished_too():
    desk = Watched(handler(Got(gevent.GreenletExit())))
    assert not desk.deliver(event())
    assert isinstance(desk.one.exception, gevent.GreenletExit)
