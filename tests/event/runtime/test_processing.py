"""What becomes of a delivery: handled, again later, dead letter, given back."""

import contextvars
import logging
import re
import time
from typing import Any

import gevent
import pytest
from gevent.event import Event

from gemstone_sync.concurrency import current_call
from gemstone_sync.errors import EventNotDelivered, Reject, RetryLater
from gemstone_sync.event.emission import make_envelope
from gemstone_sync.event.envelope import from_message, to_message
from gemstone_sync.event.link import Delivery
from gemstone_sync.event.runtime.attempts import current_event, deduplication_key
from gemstone_sync.event.topology import Address
from tests.support.waiting import LIMIT

from ..processing import TOPOLOGY, Desk, Got, delivered, event, handler

NOT_TODAY = OSError("not today")


def test_each_handler_gets_a_body_of_its_own_as_its_hint_says():
    got = Got()

    def spoil(body: Any) -> bool:
        got(dict(body))
        body.clear()
        return False  # what it returns does not matter

    handlers = [handler(spoil), handler(spoil, name="second")]
    desk = delivered(event(body=b'{"id": 7}'), *handlers, handler(got, name="third", convert=str))
    assert got == [{"id": 7}, {"id": 7}, "{'id': 7}"]
    assert desk.published == []


def test_a_handler_is_called_in_the_way_of_the_service():
    calls, own = Got(), handler(print)
    delivered(event(), own, run=lambda handler, body: calls((handler, body)))
    assert calls == [(own, 1)]


def test_a_handler_can_ask_for_the_event_and_emits_with_its_ids_and_nothing_is_left_behind():
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)
    seen = Got()

    def act(body: Any) -> None:
        call = current_call.get()
        assert call is not None
        assert call.hops == 0
        seen((variable.get(), current_event(), call.seconds_left(), make_envelope("y", 1)))
        variable.set(1)

    sent = event(request_id="r1", traceparent=f"00-{'a' * 32}-{'b' * 16}-01")
    delivered(sent, *(handler(act, name=name, timeout=LIMIT) for name in ("first", "second")))
    assert len(seen) == 2
    for value, got, left, emitted in seen:
        assert (value, got) == (0, sent)
        assert 0 < left <= LIMIT
        assert (emitted.request_id, emitted.traceparent) == (sent.request_id, sent.traceparent)
    assert (current_event(), current_call.get(), deduplication_key()) == (None, None, None)


def test_only_handlers_whose_pattern_matches_are_called():
    star, plain = Got(), Got()
    delivered(event("a.x", key="k"), handler(star, "a.*"), handler(plain, "b"), kind="keyed")
    assert (star, plain) == ([1], [])


def test_a_failed_event_comes_again_after_its_backoff_to_the_handler_that_failed():
    got, other = Got(NOT_TODAY, times=1), Got()
    # The last one is called the same, as two lambdas are.
    desk = Desk(handler(other, name="a"), handler(got, backoff=[3]), handler(other))
    sent, before = event(), time.time()
    assert desk.deliver(sent)
    ((again, address, delay),) = desk.published
    queue, due = desk.queue().name, again.due
    assert (address, delay) == (Address("", queue, mandatory=True), 3.0)
    assert due is not None
    assert before + 3 <= due <= time.time() + 3
    assert again == sent.with_changes(attempts=1, handler="on_event", queue=queue, due=due)
    assert TOPOLOGY.address_of(again) == address
    desk.deliver_again()
    assert (got, other, desk.published) == ([1, 1], [1, 1], [])


def test_each_failure_waits_longer_until_the_event_dies(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "gemstone_sync.event")
    got = Got(NOT_TODAY)
    desk = delivered(event(id="e1"), handler(got, retries=3, backoff=0.5))
    assert [desk.deliver_again() for _ in range(3)] == [0.5, 1.0, 2.0]
    assert got == [1] * 4
    assert (desk.letter.attempts, desk.letter.handler) == (4, "on_event")
    assert (desk.letter.queue, desk.letter.due) == (None, None)
    assert desk.reason == ("failed", "OSError: not today")
    assert desk.death.queue == desk.queue().name
    assert "raise self.error" in desk.death.traceback
    assert time.time() - desk.death.time < LIMIT
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 3 + ["ERROR"]
    assert all(record.exc_info for record in caplog.records)
    first, last = caplog.records[0].getMessage(), caplog.records[-1].getMessage()
    assert first == "on_event: event 'x' (e1) failed, attempt 1 of 4, again in 0.5 s"
    assert "attempt 4 of 4, to the dead letters" in last


def test_an_event_that_failed_more_often_than_is_allowed_now_has_one_more_chance():
    got = Got(NOT_TODAY)
    desk = delivered(event(attempts=7, handler="on_event"), handler(got, retries=1))
    assert (got, desk.letter.attempts) == ([1], 8)


@pytest.mark.parametrize("converts", [False, True], ids=["handler", "converter"])
@pytest.mark.parametrize(
    "error",
    [KeyError("a bug"), gevent.Timeout(3), SystemExit(1), MemoryError(), EventNotDelivered("own")],
    ids=lambda error: type(error).__name__,
)
def test_whatever_a_handler_raises_is_a_failure_of_this_event_only(
    error: BaseException, converts: bool
):
    fails = Got(error)
    desk = delivered(event(), handler(print, convert=fails) if converts else handler(fails))
    ((again, _, delay),) = desk.published
    assert (again.attempts, delay) == (1, 1.0)


@pytest.mark.parametrize("swallows", [False, True], ids=["ended", "swallowing its end"])
def test_an_attempt_that_takes_too_long_is_ended_and_counts_as_a_failure(swallows: bool):
    ended: list[bool] = []

    def act(body: Any) -> None:
        try:
            gevent.sleep(2 * LIMIT)
        except BaseException:
            ended.append(swallows)
            if not swallows:
                raise

    desk = Desk(handler(act, timeout=0.02, retries=0))
    with gevent.Timeout(LIMIT):
        assert desk.deliver(event())
    assert ended == [swallows]
    assert desk.reason == ("failed", "TimeoutError: longer than its timeout of 0.02 s")
    assert swallows or "gevent.sleep(2 * LIMIT)" in desk.death.traceback


def test_a_handler_that_computes_past_its_time_and_ends_well_has_handled_the_event():
    def act(body: Any) -> None:
        end = time.monotonic() + 0.05
        while time.monotonic() < end:
            pass

    desk = delivered(event(), handler(act, timeout=0.01))
    assert desk.published == []


@pytest.mark.parametrize("seconds", [0.0, 30.0])
def test_retry_later_counts_as_no_attempt(seconds: float):
    desk = delivered(event(), handler(Got(RetryLater(seconds)), retries=0))
    ((again, address, delay),) = desk.published
    assert (again.attempts, again.handler, delay) == (0, "on_event", seconds)
    assert (again.due is None) is (seconds == 0)
    assert address.routing_key == desk.queue().name


@pytest.mark.parametrize(
    ("backoff", "fails"),
    [
        (lambda n: float("inf"), False),
        (lambda n: 1e300, False),
        (lambda n: 1 / 0, True),
        (lambda n: None, True),
        (lambda n: "soon", True),
    ],
    ids=["inf", "1e300", "raises", "None", "text"],
)
def test_a_backoff_without_end_is_shortened_and_one_that_fails_reported(
    backoff: Any, fails: bool, caplog: pytest.LogCaptureFixture
):
    desk = delivered(event(), handler(Got(NOT_TODAY), backoff=backoff))
    ((again, _, delay),) = desk.published
    assert from_message(again.body, *to_message(again), "").due is not None
    assert ("the backoff of on_event failed" in caplog.text) is fails
    assert delay == (1.0 if fails else 3660 * 86400.0)


def test_work_that_failed_may_be_taken_by_a_service_whose_handler_is_called_differently():
    got = Got()
    desk = Desk(handler(got, name="Other.resize"))
    failed = event(broadcast=False, attempts=1, handler="Shop.on_event", queue="q")
    assert desk.deliver(failed, "work")
    # Also when another program has published it, which knows nothing of our headers.
    assert desk.deliver(failed.with_changes(broadcast=True), "work")
    assert got == [1, 1]


@pytest.mark.parametrize("kind", ["keyed", "keyed-work", "instance", "service"])
def test_where_order_must_hold_or_no_broker_delays_an_event_is_tried_again_in_its_place(kind: str):
    got = Got(NOT_TODAY, times=2)
    scope = "instance" if kind == "instance" else "service"
    desk = Desk(handler(got, backoff=0.02, scope=scope), delays=kind != "service")
    began = time.monotonic()
    assert desk.deliver(event(key="k"), kind)
    assert got == [1, 1, 1]
    assert time.monotonic() - began >= 0.06
    assert desk.published == []


@pytest.mark.parametrize(
    ("options", "left", "attempts", "reason"),
    [({"backoff": 0, "retries": 2}, LIMIT, 3, "failed"), ({"backoff": 0.1}, 0.5, 1, "expired")],
)
def test_held_here_too_it_dies_after_its_last_attempt_or_with_its_time(
    options: dict[str, Any],
    left: float,
    attempts: int,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
):
    now, got = [1000.0], Got(NOT_TODAY)
    monkeypatch.setattr(time, "time", lambda: now[0])

    def act(body: Any) -> None:
        gevent.spawn_later(0.01, now.__setitem__, 0, now[0] + 1)  # in the pause that follows
        got(body)

    desk = delivered(event(key="k", deadline=now[0] + left), handler(act, **options), kind="keyed")
    assert got == [1] * attempts
    assert (desk.reason[0], desk.letter.attempts) == (reason, attempts)


@pytest.mark.parametrize("what", ["holds", "was handling"])
def test_a_service_that_stops_gives_back_what_it(what: str):
    started = Event()

    def act(body: Any) -> None:
        started.set()
        if what == "holds":
            raise NOT_TODAY
        gevent.sleep(LIMIT)

    desk = Desk(handler(act, backoff=LIMIT))
    running = gevent.spawn(desk.deliver, event(key="k"), "keyed")
    assert started.wait(LIMIT)
    running.kill(timeout=LIMIT)
    assert (running.value, desk.published) == (False, [])


@pytest.mark.parametrize(
    ("error", "options", "reason", "text"),
    [
        (Reject("no such customer"), {}, "rejected", "Reject: no such customer"),
        (ValueError("mine"), {"convert": str, "retries": 0}, "failed", "ValueError: mine"),
        (
            None,
            {"convert": Got(ValueError("Expected `int`, got `str`"))},
            "invalid",
            "the body does not fit on_event: Expected `int`, got `str`",
        ),
        (
            None,
            {"convert": Got(ValueError("unknown field `a\n\x1b`"))},
            "invalid",
            "the body does not fit on_event: unknown field `a\n\x1b`",
        ),
    ],
    ids=["rejected", "a ValueError of its own", "not what its hint says", "control characters"],
)
def test_what_a_handler_cannot_take_dies_with_the_reason_and_the_next_one_gets_it(
    error: Exception | None,
    options: dict[str, Any],
    reason: str,
    text: str,
    caplog: pytest.LogCaptureFixture,
):
    got = Got()
    desk = delivered(event(), handler(Got(error), **options), handler(got, name="second"))
    assert desk.reason == (reason, text)
    assert (desk.letter.handler, got) == ("on_event", [1])
    assert caplog.records[0].getMessage().isprintable()


def test_what_is_no_json_dies_with_the_reason():
    got = Got()
    for body in (b"", b"{", b"\xff\xfe", b"NaN", b"[" * 100_000):
        desk = delivered(event(body=body), handler(got))
        assert desk.reason[0] == "invalid"
        assert re.match("the body is not JSON: .*(truncated|byte|recursion)", desk.reason[1])
        assert (desk.letter.body, got) == (body, [])


@pytest.mark.parametrize(
    ("options", "most"), [({"max_body_size": 10}, 10), ({}, 10_000_000)], ids=["set", "default"]
)
def test_a_body_that_is_too_long_is_not_even_read(options: dict[str, Any], most: int):
    got = Got()
    desk = delivered(event(body=b"1" + b" " * (most - 1)), handler(got), **options)
    assert desk.deliver(event(body=b"1" + b" " * most))
    assert got == [1]
    assert desk.reason == ("invalid", f"the body has {most + 1} bytes, more than {most}")


def test_an_event_whose_time_is_over_is_not_handled(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(time, "time", lambda: 1000.0)
    got = Got()
    desk = delivered(event(deadline=1000.0), handler(got), handler(got, name="second"))
    assert desk.deliver(event(deadline=998.5))
    assert (got, desk.letter.handler) == ([1, 1], None)
    assert desk.reason == ("expired", "its time was over 1.5 s ago")


def test_an_event_that_expires_while_one_handler_has_it_comes_to_no_other(
    monkeypatch: pytest.MonkeyPatch,
):
    now, got = [1000.0], Got()
    monkeypatch.setattr(time, "time", lambda: now[0])

    def act(body: Any) -> None:
        now[0] += 2

    handlers = [handler(act), handler(got, name="second")]
    desk = delivered(event(deadline=1001.0), *handlers)
    assert got == []
    assert (desk.death.reason, desk.letter.handler) == ("expired", "second")


def test_what_nobody_handles_any_more_is_kept_and_said_once(caplog: pytest.LogCaptureFixture):
    desk = Desk(handler(print, "a"))
    for _ in range(3):
        assert desk.deliver(event("removed", key="k"), "keyed")
    reasons = [envelope.dead.reason for envelope, _, _ in desk.published if envelope.dead]
    assert reasons == ["unhandled"] * 3
    (record,) = caplog.records
    assert "shop has no handler for 'removed'" in record.getMessage()
    for number in range(1000):  # names from elsewhere fill neither a line nor the memory
        assert desk.deliver(event(f"{number:999}", id="i" * 101, key="k"), "keyed")
    assert len(caplog.records) == 1000
    shown = caplog.records[-1].getMessage().partition(" to the dead letters")[0]
    assert shown == f"event {' ' * 200!r} ({'i' * 100})"
    desk = delivered(event(handler="new\nline", id="a\x1b"), handler(print))
    assert caplog.records[-1].getMessage().isprintable()
    desk = delivered(event(handler="old_name", attempts=1), handler(print))
    assert desk.reason[0] == "unhandled"
    assert "no handler 'old_name'" in desk.reason[1]
    assert desk.letter.attempts == 1


def test_an_event_that_ends_its_process_is_suspected_and_then_dies_with_its_queue_on_record(
    caplog: pytest.LogCaptureFixture,
):
    got = Got()
    desk = Desk(handler(got), delivery_limit=4)
    assert desk.deliver(event(), deliveries=1)
    assert caplog.records == []
    for deliveries in (2, 3):
        assert desk.deliver(event(), deliveries=deliveries)
        assert f"delivered {deliveries} times before" in caplog.text
    for deliveries in (4, 5):
        desk.published.clear()
        assert desk.deliver(event(), deliveries=deliveries)
        assert (got, desk.reason[0]) == ([1] * 3, "crashed")
    assert desk.death.queue == desk.queue().name


def test_an_event_of_a_broker_that_counts_no_deliveries_is_not_suspected():
    got = Got()
    delivered(event(), handler(got), delivery_limit=1)
    assert got == [1]


@pytest.mark.parametrize(
    ("values", "left", "address"),
    [
        ({}, -1, Address(TOPOLOGY.events, "a.b")),
        (
            {"queue": TOPOLOGY.work_queue("a"), "handler": "h"},
            -0.1,
            Address("", TOPOLOGY.work_queue("a"), mandatory=True),
        ),
    ],
    ids=["event", "retry"],
)
def test_a_delayed_event_goes_to_where_it_belongs_when_it_is_due(
    values: dict[str, Any], left: float, address: Address
):
    desk = Desk(handler(print))
    sent = event("a.b", due=time.time() + left, **values)
    assert desk.forward(sent) is None
    assert desk.published == [(sent.with_changes(due=None), address, 0.0)]


def test_a_delayed_event_waits_here_for_a_moment_and_elsewhere_for_longer(
    monkeypatch: pytest.MonkeyPatch,
):
    desk = Desk(handler(print))
    monkeypatch.setattr(time, "time", lambda: 0.0)
    outcomes = [desk.forward(event(due=due)) for due in (None, -5.0, 0.15, 0.2, 100.0)]
    assert outcomes == [None, None, 0.15, None, None]
    left = [(sent.due, delay) for sent, _, delay in desk.published]
    assert left == [(None, 0.0)] * 2 + [(0.2, 0.2), (100.0, 100.0)]


def test_a_delayed_event_whose_queue_is_gone_dies_instead_of_going_round():
    desk = Desk(handler(print))
    sent = event(due=1.0, queue="gone")
    delivery = Delivery(None, TOPOLOGY.due, 1, sent)  # type: ignore[arg-type]
    desk.processor.forward(delivery)
    message = delivery.outgoing
    assert message is not None
    for times in (1, 2):
        assert desk.processor.on_refused(delivery, message, "no such queue", times) is message
    letter = desk.processor.on_refused(delivery, message, "no such queue", 3)
    desk.published.append(letter)
    assert desk.reason == ("unhandled", "no such queue")
    assert desk.death.queue == "gone"
    assert desk.processor.on_refused(delivery, letter, "it is full", 4) is letter


def test_what_is_no_delayed_event_stays_what_it_is_however_often_it_is_refused():
    desk = delivered(event(), handler(Got(NOT_TODAY)))
    delivery = Delivery(None, desk.queue().name, 1, event())  # type: ignore[arg-type]
    [message] = desk.published
    assert desk.processor.on_refused(delivery, message, "it is full", 100) is message
