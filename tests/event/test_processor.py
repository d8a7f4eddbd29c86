"""What becomes of a delivery: handled, again later, dead letter, given back."""

import contextvars
import logging
import sys
import time
from typing import Any

import gevent
import pytest
from gevent.event import Event

from gemstone_sync.concurrency import current_call
from gemstone_sync.errors import EventNotDelivered, Reject, RetryLater
from gemstone_sync.event.current import current_event, deduplication_key
from gemstone_sync.event.emission import make_envelope
from gemstone_sync.event.envelope import Envelope, from_message, to_message
from gemstone_sync.event.topology import Address
from tests.support.waiting import LIMIT, wait_until

from .processing import TOPOLOGY, Desk, event, handler

LOGGER = "gemstone_sync.event"


def failing(error: BaseException) -> Any:
    def act(body: Any) -> None:
        raise error

    return act


def fails_on(*bad: Any) -> tuple[list[Any], Any]:
    """What a handler got, and the handler, which fails as often as the values of `bad` say."""
    got: list[Any] = []
    left = list(bad)

    def act(body: Any) -> None:
        got.append(body)
        if left and left.pop(0):
            raise OSError("not today")

    return got, act


# Handled


def test_a_handler_gets_the_body_and_the_event_is_acknowledged():
    got: list[Any] = []
    desk = Desk(handler(got.append))
    assert desk.deliver(event(body=b'{"id": 7}'))
    assert got == [{"id": 7}]
    assert desk.published == []


def test_what_a_handler_returns_does_not_matter():
    assert Desk(handler(lambda body: False)).deliver(event())


def test_a_handler_gets_what_its_hint_says():
    got: list[Any] = []
    assert Desk(handler(got.append, convert=str)).deliver(event(body=b"5"))
    assert got == ["5"]


def test_a_handler_is_called_in_the_way_of_the_service():
    calls: list[Any] = []
    own = handler(lambda body: None)
    assert Desk(own, run=lambda handler, body: calls.append((handler, body))).deliver(event())
    assert calls == [(own, 1)]


def test_a_handler_can_ask_for_the_event_and_calls_and_emits_with_its_ids():
    seen: list[Any] = []

    def act(body: Any) -> None:
        call = current_call.get()
        assert call is not None
        seen.extend((current_event(), call.seconds_left(), make_envelope("y", 1)))

    sent = event(request_id="r1", traceparent=f"00-{'a' * 32}-{'b' * 16}-01")
    assert Desk(handler(act, timeout=5)).deliver(sent)
    got, left, emitted = seen
    assert got == sent
    assert 4 < left <= 5
    assert (emitted.request_id, emitted.traceparent) == (sent.request_id, sent.traceparent)


def test_nothing_of_an_event_is_left_behind_for_the_next_one():
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)
    seen: list[int] = []

    def act(body: Any) -> None:
        seen.append(variable.get())
        variable.set(1)

    desk = Desk(handler(act), handler(act, name="second"))
    assert desk.deliver(event())
    assert seen == [0, 0]
    assert (current_event(), current_call.get(), deduplication_key()) == (None, None, None)


def test_several_handlers_each_get_a_body_of_their_own():
    got: list[Any] = []

    def spoil(body: Any) -> None:
        got.append(dict(body))
        body.clear()

    desk = Desk(handler(spoil), handler(spoil, name="second"))
    assert desk.deliver(event(body=b'{"a": 1}'))
    assert got == [{"a": 1}, {"a": 1}]


def test_only_handlers_whose_pattern_matches_are_called():
    got: list[str] = []
    desk = Desk(
        handler(lambda body: got.append("star"), "a.*", name="star"),
        handler(lambda body: got.append("plain"), "b", name="plain"),
    )
    assert desk.deliver(event("a.x", key="k"), "keyed")
    assert got == ["star"]


# Tried again


def test_a_failed_event_comes_again_after_its_backoff_to_the_handler_that_failed():
    got, act = fails_on(True)
    other: list[Any] = []
    desk = Desk(handler(act, backoff=[3]), handler(other.append, name="second"))
    sent = event()
    before = time.time()
    assert desk.deliver(sent)
    after = time.time()
    ((again, address, delay),) = desk.published
    queue = desk.queue().name
    assert (address, delay) == (Address("", queue, mandatory=True), 3.0)
    assert again.due is not None
    assert before + 3 <= again.due <= after + 3
    due = again.due
    assert again == sent.with_changes(attempts=1, handler="on_event", queue=queue, due=due)
    assert TOPOLOGY.address_of(again) == address
    desk.deliver_again()
    assert (got, other, desk.published) == ([1, 1], [1], [])


def test_each_failure_waits_longer_until_the_event_dies(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, LOGGER)
    got, act = fails_on(*[True] * 9)
    desk = Desk(handler(act, retries=3, backoff=0.5))
    assert desk.deliver(event(id="e1"))
    delays = [desk.deliver_again()[1] for _ in range(3)]
    assert delays == [0.5, 1.0, 2.0]
    assert got == [1] * 4
    letter = desk.letter
    assert (letter.attempts, letter.handler, letter.queue, letter.due) == (
        4,
        "on_event",
        None,
        None,
    )
    assert letter.dead is not None
    assert (letter.dead.reason, letter.dead.queue) == ("failed", desk.queue().name)
    assert letter.dead.error == "OSError: not today"
    assert 'raise OSError("not today")' in letter.dead.traceback
    assert time.time() - letter.dead.time < LIMIT
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 3 + ["ERROR"]
    first, last = caplog.records[0], caplog.records[-1]
    assert first.getMessage() == ("on_event: event 'x' (e1) failed, attempt 1 of 4, again in 0.5 s")
    assert "attempt 4 of 4, to the dead letters" in last.getMessage()
    assert first.exc_info is not None
    assert last.exc_info is not None


def test_an_event_that_failed_more_often_than_is_allowed_now_has_one_more_chance():
    got, act = fails_on(True)
    desk = Desk(handler(act, retries=1))
    assert desk.deliver(event(attempts=7, handler="on_event"))
    assert got == [1]
    assert desk.letter.attempts == 8


@pytest.mark.parametrize(
    "error",
    [ValueError("no"), gevent.Timeout(3), SystemExit(1), MemoryError(), RecursionError()],
    ids=lambda error: type(error).__name__,
)
def test_whatever_a_handler_raises_is_a_failure_of_this_event_only(error: BaseException):
    desk = Desk(handler(failing(error)))
    assert desk.deliver(event())
    ((again, _, delay),) = desk.published
    assert (again.attempts, delay) == (1, 1.0)


def test_a_handler_that_exits_the_program_does_not():
    desk = Desk(handler(lambda body: sys.exit(3)))
    assert desk.deliver(event())
    assert len(desk.published) == 1


def test_an_attempt_that_takes_too_long_is_ended_and_counts_as_a_failure():
    ended: list[str] = []

    def act(body: Any) -> None:
        try:
            gevent.sleep(LIMIT)
        finally:
            ended.append("cleaned up")

    desk = Desk(handler(act, timeout=0.02, retries=0))
    began = time.monotonic()
    assert desk.deliver(event())
    assert time.monotonic() - began < LIMIT / 2
    assert ended == ["cleaned up"]
    assert desk.reason == ("failed", "TimeoutError: longer than its timeout of 0.02 s")
    assert desk.letter.dead is not None
    assert "gevent.sleep(LIMIT)" in desk.letter.dead.traceback


def test_a_handler_that_swallows_the_end_of_its_time_has_failed():
    def act(body: Any) -> None:
        try:
            gevent.sleep(LIMIT)
        except BaseException:
            return

    desk = Desk(handler(act, timeout=0.02, retries=0))
    assert desk.deliver(event())
    assert desk.reason[0] == "failed"


def test_a_handler_that_computes_past_its_time_and_ends_well_has_handled_the_event():
    def act(body: Any) -> None:
        end = time.monotonic() + 0.05
        while time.monotonic() < end:
            pass

    desk = Desk(handler(act, timeout=0.01))
    assert desk.deliver(event())
    assert desk.published == []


def test_retry_later_counts_as_no_attempt():
    desk = Desk(handler(failing(RetryLater(30)), retries=0))
    assert desk.deliver(event(attempts=0))
    ((again, address, delay),) = desk.published
    assert (again.attempts, again.handler, delay) == (0, "on_event", 30.0)
    assert address.routing_key == desk.queue().name


@pytest.mark.parametrize("backoff", [lambda n: float("inf"), lambda n: 1e300], ids=["inf", "1e300"])
def test_a_backoff_without_end_is_one_that_a_message_can_carry(backoff: Any):
    desk = Desk(handler(failing(OSError()), backoff=backoff))
    assert desk.deliver(event())
    again = desk.published[0][0]
    properties, headers = to_message(again)
    assert from_message(again.body, properties, headers, "").due is not None


@pytest.mark.parametrize(
    "backoff", [lambda n: 1 / 0, lambda n: None, lambda n: "soon"], ids=["raises", "None", "text"]
)
def test_a_backoff_that_fails_is_reported_and_the_event_is_tried_again(
    backoff: Any, caplog: pytest.LogCaptureFixture
):
    desk = Desk(handler(failing(OSError()), backoff=backoff))
    assert desk.deliver(event())
    assert desk.published[0][2] == 1.0
    assert "the backoff of on_event failed" in caplog.text


def test_a_failure_of_one_handler_does_not_keep_the_next_one_from_the_event():
    got: list[Any] = []
    desk = Desk(handler(failing(Reject("no"))), handler(got.append, name="second"))
    assert desk.deliver(event())
    assert got == [1]
    assert desk.letter.handler == "on_event"


def test_work_that_failed_may_be_taken_by_a_service_whose_handler_is_called_differently():
    got: list[Any] = []
    desk = Desk(handler(got.append, name="Other.resize"))
    failed = event(broadcast=False, attempts=1, handler="Shop.on_event", queue="q")
    assert desk.deliver(failed, "work")
    assert got == [1]
    # Also when another program has published it, which knows nothing of our headers.
    assert desk.deliver(failed.with_changes(broadcast=True), "work")
    assert got == [1, 1]


# Held here: order by key, and brokers that cannot delay


@pytest.mark.parametrize("kind", ["keyed", "keyed-work", "instance"])
def test_where_order_must_hold_an_event_is_tried_again_without_leaving_its_place(kind: str):
    got, act = fails_on(True, True)
    scope = "instance" if kind == "instance" else "service"
    desk = Desk(handler(act, backoff=0.02, scope=scope))
    began = time.monotonic()
    assert desk.deliver(event(key="k"), kind)
    assert got == [1, 1, 1]
    assert time.monotonic() - began >= 0.06
    assert desk.published == []


def test_where_the_broker_cannot_delay_an_event_waits_here():
    got, act = fails_on(True)
    desk = Desk(handler(act, backoff=0.01), delays=False)
    assert desk.deliver(event())
    assert (got, desk.published) == ([1, 1], [])


def test_held_here_too_it_dies_after_its_last_attempt():
    got, act = fails_on(*[True] * 9)
    desk = Desk(handler(act, backoff=0, retries=2))
    assert desk.deliver(event(key="k"), "keyed")
    assert got == [1, 1, 1]
    assert (desk.reason[0], desk.letter.attempts) == ("failed", 3)


def test_held_here_it_is_not_tried_again_when_its_time_is_over():
    got, act = fails_on(*[True] * 9)
    desk = Desk(handler(act, backoff=0.6))
    assert desk.deliver(event(key="k", deadline=time.time() + 0.5), "keyed")
    assert got == [1]
    assert desk.reason[0] == "expired"


def test_a_service_that_stops_gives_back_what_it_holds():
    got, act = fails_on(*[True] * 9)
    desk = Desk(handler(act, backoff=100))
    running = gevent.spawn(desk.deliver, event(key="k"), "keyed")
    wait_until(lambda: got, "an attempt")
    running.kill(timeout=LIMIT)
    assert running.value is False
    assert desk.published == []


def test_a_service_that_stops_gives_back_what_it_was_handling():
    started = Event()

    def act(body: Any) -> None:
        started.set()
        gevent.sleep(LIMIT)

    desk = Desk(handler(act))
    running = gevent.spawn(desk.deliver, event())
    assert started.wait(LIMIT)
    running.kill(timeout=LIMIT)
    assert running.value is False
    assert desk.published == []


# Dead letters


def test_a_rejected_event_dies_at_once():
    desk = Desk(handler(failing(Reject("no such customer"))))
    assert desk.deliver(event())
    assert desk.reason == ("rejected", "Reject: no such customer")
    assert desk.letter.handler == "on_event"


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"NaN", b"[" * 100_000])
def test_what_is_no_json_dies_with_the_reason(body: bytes):
    got: list[Any] = []
    desk = Desk(handler(got.append))
    assert desk.deliver(event(body=body))
    assert got == []
    assert desk.reason[0] == "invalid"
    assert desk.reason[1].startswith("the body is not JSON: ")
    assert desk.letter.body == body


def test_what_does_not_fit_the_hint_dies_with_the_reason():
    def convert(value: Any) -> Any:
        raise ValueError("Expected `int`, got `str`")

    desk = Desk(handler(print, convert=convert))
    assert desk.deliver(event())
    assert desk.reason == ("invalid", "the body does not fit on_event: Expected `int`, got `str`")


def test_a_converter_that_fails_otherwise_is_a_failure_like_any_other():
    def convert(value: Any) -> Any:
        raise KeyError("a bug")

    desk = Desk(handler(print, convert=convert))
    assert desk.deliver(event())
    assert desk.published[0][0].attempts == 1


def test_a_value_error_of_the_handler_itself_is_no_invalid_body():
    desk = Desk(handler(failing(ValueError("mine")), convert=lambda value: value, retries=0))
    assert desk.deliver(event())
    assert desk.reason == ("failed", "ValueError: mine")


def test_a_body_that_is_too_long_is_not_even_read():
    got: list[Any] = []
    desk = Desk(handler(got.append), max_body_size=10)
    assert desk.deliver(event(body=b'"12345678"'))
    assert desk.deliver(event(body=b'"123456789"'))
    assert got == ["12345678"]
    assert desk.reason == ("invalid", "the body has 11 bytes, more than 10")


def test_an_event_whose_time_is_over_is_not_handled():
    got: list[Any] = []
    desk = Desk(handler(got.append), handler(got.append, name="second"))
    assert desk.deliver(event(deadline=time.time() - 1))
    assert got == []
    assert desk.reason[0] == "expired"
    assert desk.letter.handler is None


def test_what_nobody_handles_any_more_is_kept_and_said_once(caplog: pytest.LogCaptureFixture):
    desk = Desk(handler(print, "a"))
    for _ in range(3):
        assert desk.deliver(event("removed", key="k"), "keyed")
    assert [envelope.dead.reason for envelope, _, _ in desk.published if envelope.dead] == [
        "unhandled"
    ] * 3
    (record,) = caplog.records
    assert "shop has no handler for 'removed'" in record.getMessage()


def test_a_retry_for_a_handler_that_is_gone_is_kept():
    desk = Desk(handler(print))
    assert desk.deliver(event(handler="old_name", attempts=1))
    assert desk.reason[0] == "unhandled"
    assert "no handler old_name" in desk.reason[1]
    assert desk.letter.attempts == 1


def test_an_event_that_was_delivered_often_without_an_answer_is_suspected(
    caplog: pytest.LogCaptureFixture,
):
    got: list[Any] = []
    desk = Desk(handler(got.append))
    assert desk.deliver(event(), deliveries=1)
    assert caplog.records == []
    assert desk.deliver(event(), deliveries=2)
    assert "delivered 2 times before" in caplog.text
    assert got == [1, 1]


def test_an_event_that_ends_its_process_each_time_dies_with_its_queue_on_record():
    got: list[Any] = []
    desk = Desk(handler(got.append), delivery_limit=3)
    assert desk.deliver(event(), deliveries=3)
    assert got == []
    assert desk.reason[0] == "crashed"
    assert desk.letter.dead is not None
    assert desk.letter.dead.queue == desk.queue().name


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even this")


@pytest.mark.parametrize(
    "error",
    [
        OSError("\udcff is no text"),
        OSError("é" * 100_000),
        OSError("\x00" * 100_000),
        Unprintable(),
    ],
    ids=["surrogate", "long", "control", "unprintable"],
)
def test_whatever_the_error_says_its_dead_letter_fits_into_a_header(error: Exception):
    desk = Desk(handler(failing(error), retries=0))
    assert desk.deliver(event())
    properties, headers = to_message(desk.letter)
    assert sum(len(str(value).encode()) for value in headers.values()) < 100_000
    assert from_message(b"1", properties, headers, "").dead == desk.letter.dead


def test_of_a_long_traceback_the_end_is_kept():
    def act(body: Any, depth: int = 0) -> None:
        if depth < 200:
            (act if depth % 2 else lambda b, d: act(b, d))(body, depth + 1)
        raise OSError("at the bottom")

    desk = Desk(handler(act, retries=0))
    assert desk.deliver(event())
    assert desk.letter.dead is not None
    text = desk.letter.dead.traceback
    assert len(text.encode()) <= 10_000
    assert text.endswith("OSError: at the bottom\n")


# Given back


@pytest.mark.parametrize(
    "sent",
    [event(), event(body=b"{"), event(deadline=1.0), event(handler="gone")],
    ids=["retry", "invalid", "expired", "unhandled"],
)
def test_what_the_broker_does_not_take_is_given_back(
    sent: Envelope, caplog: pytest.LogCaptureFixture
):
    desk = Desk(handler(failing(OSError("not today"))))
    desk.away = "not confirmed within 10 s"
    assert desk.deliver(sent) is False
    assert "not confirmed within 10 s" in caplog.text


def test_a_handler_whose_own_emit_fails_is_tried_again():
    desk = Desk(handler(failing(EventNotDelivered("its own"))))
    assert desk.deliver(event())
    assert desk.published[0][0].attempts == 1


# Delays that have ended


def test_a_delayed_event_goes_to_where_it_belongs_when_it_is_due():
    desk = Desk(handler(print))
    sent = event("a.b", due=time.time() - 1)
    assert desk.relay(sent)
    address = Address(TOPOLOGY.events, "a.b")
    assert desk.published == [(sent.with_changes(due=None), address, 0.0)]


def test_a_retry_goes_to_its_own_queue_when_it_is_due():
    desk = Desk(handler(print))
    assert desk.relay(event(due=time.time() + 0.04, queue="q", handler="h"))
    ((again, address, delay),) = desk.published
    assert (again.due, address, delay) == (None, Address("", "q", mandatory=True), 0.0)


def test_a_delayed_event_that_is_not_due_yet_waits_for_what_is_left():
    desk = Desk(handler(print))
    sent = event(due=time.time() + 100)
    assert desk.relay(sent)
    ((again, _, delay),) = desk.published
    assert again == sent
    assert 50 < delay <= 100


def test_a_delayed_event_that_the_broker_does_not_take_is_given_back():
    desk = Desk(handler(print))
    desk.away = "no connection"
    for deliveries in (None, 0, 2, 3, 50):
        assert desk.relay(event(due=1.0), deliveries) is False


def test_a_delayed_event_whose_queue_is_gone_dies_instead_of_going_round():
    class Gone(Desk):
        def _publish(self, messages: Any) -> None:
            if messages[0][1].routing_key != TOPOLOGY.dead:
                raise EventNotDelivered("nobody handles it")
            super()._publish(messages)

    desk = Gone(handler(print))
    assert desk.relay(event(due=1.0, queue="gone"), 2) is False
    assert desk.published == []
    assert desk.relay(event(due=1.0, queue="gone"), 3)
    assert desk.reason == ("unhandled", "EventNotDelivered: nobody handles it")
    assert desk.letter.dead is not None
    assert desk.letter.dead.queue == "gone"
