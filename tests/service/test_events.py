"""What a service says and hears: emitting, through a user's own transports and in memory.

What brokers do is in tests/event/.
"""

import datetime
import functools
import time
from typing import Any

import gevent
import pytest
from gevent.event import Event

import gemstone_sync
from gemstone_sync import (
    EventNotDelivered,
    InternalError,
    ServiceConfigurationError,
    event_handler,
    exposed_method,
)
from gemstone_sync.concurrency import Call, current_call
from gemstone_sync.testing import ServiceClient, running_service
from tests.support.http import call
from tests.support.waiting import LIMIT, wait_until

from .transports import Heard, Line, Radio, fail

# Four methods are enough


def test_an_event_reaches_every_handler_through_a_users_own_transport():
    class Twice(Heard):
        @event_handler("said_hello")
        def also_on_hello(self, body: Any) -> None:
            self.heard.append("again")

    radio = Radio()
    with running_service(Heard(radio)) as first, running_service(Twice(radio)) as second:
        event_id = first.emit_event("said_hello", {"name": "world", "to": (1, 2)})
        first.emit_event("nobody_listens", None, broadcast=False)

        wait_until(lambda: len(first.heard + second.heard) == 3, "the event")
        assert first.heard == [{"name": "world", "to": [1, 2]}]
        assert second.heard == [*first.heard, "again"]
        assert isinstance(event_id, str)
        assert radio.sent[1] == ("nobody_listens", None, False)
        names = [handler.__name__ for handler in radio.handlers["said_hello"]]
        assert names == ["Heard.on_hello", "Heard.on_hello", "Twice.also_on_hello"]
        assert radio.handlers["said_hello"][0].__doc__ == "Remembers a greeting."


def test_what_a_users_own_transport_raises_is_told_as_not_delivered(line):
    """One that sends for ever is given up; what four methods cannot do is refused, not lost."""
    radio = Radio()
    radio.fault = OSError("no aerial")
    with running_service(Heard(radio)) as service:
        with pytest.raises(EventNotDelivered, match="Radio: OSError: no aerial") as caught:
            service.emit_event("said_hello", {})
        assert isinstance(caught.value.__cause__, OSError)
        for option in ({"delay": 30}, {"key": "k"}):
            for emitter in (service, Heard(line, radio)):  # also one transport of several
                with pytest.raises(ServiceConfigurationError, match="Radio knows no"):
                    emitter.emit_event("said_hello", {}, **option)

        radio.emit_event = lambda *args, **kwargs: gevent.sleep(10 * LIMIT)
        with pytest.raises(EventNotDelivered, match=r"not sent within 0\.05 s"):
            service.emit_event("said_hello", {}, timeout=0.05)


@pytest.mark.parametrize("option", [{"scope": "instance"}, {"idempotent": False}])
def test_a_handler_that_a_transport_cannot_serve_ends_the_start(option):
    class Wants(Heard):
        event_deduplication = "memory://"
        log: tuple[str, ...] = ()

        @event_handler("other", **option)
        def on_other(self, body: Any) -> None: ...

        def on_service_stop(self) -> None:
            self.log = ("stopped",)

    service = Wants(Radio())
    with pytest.raises(ServiceConfigurationError, match=r"Wants\.on_other: Radio knows no"):
        service.start(block=False)

    assert service._assemble().health.live().status == "fail"
    with pytest.raises(ConnectionRefusedError):
        call(service.port, "emit", "a", 1)


# What travels


def test_an_event_carries_what_the_caller_said_and_who_it_was(line):
    """The request id and the trace of the call go along."""
    before = time.time()
    options = {"broadcast": False, "key": "k", "delay": 30, "expires_in": 60}
    event_id = Heard(line).emit_event("a.b", [1], **options)
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with ServiceClient(Heard(line), {"X-Request-Id": "r-1", "traceparent": trace}) as client:
        client.call("emit", "a", 1)
    envelope, called = line.envelopes

    assert (envelope.id, envelope.name, envelope.body) == (event_id, "a.b", b"[1]")
    assert (envelope.broadcast, envelope.key, envelope.emitter) == (False, "k", "heard")
    assert envelope.due == pytest.approx(before + 30, abs=5)
    assert envelope.deadline == pytest.approx(before + 60, abs=5)
    assert (called.request_id, called.traceparent) == ("r-1", trace)


def test_a_moment_is_an_alternative_to_a_delay(line):
    moment = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1)
    service = Heard(line)
    service.emit_event("a", 1, at=moment)
    service.emit_event("a", 1, at=moment.timestamp())
    assert [e.due for e in line.envelopes] == pytest.approx([moment.timestamp()] * 2, abs=1)


@pytest.mark.parametrize(
    ("event", "options", "complaint"),
    [
        (("", 1), {}, "invalid event name ''"),
        (("a.*", 1), {}, "for the names of handlers"),
        (("a", "x" * 200), {}, "has 202 bytes, more than 100"),
        (("a", float), {}, "the body of 'a'"),
        (("a", 1), {"delay": -1}, "delay is a number of seconds"),
        (("a", 1), {"delay": 1, "at": 1}, "not both"),
        (("a", 1), {"at": datetime.datetime(2030, 1, 1)}, "aware datetime"),
        (("a", 1), {"key": ""}, "is a text of 1 to 255"),
        (("a", 1), {"timeout": 0}, "a timeout is a number of seconds above 0"),
        (("a", 1), {"timeout": "1"}, "a timeout is a number of seconds above 0"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_sent(event, options, complaint, line):
    service = Heard(line)
    service.max_event_size = 100
    with pytest.raises((ValueError, TypeError), match=complaint):
        service.emit_event(*event, **options)
    assert line.envelopes == []


def test_several_events_are_sent_at_once_and_in_order(line):
    service = Heard(line)
    ids = service.emit_events([("a", 1), ("b", 2, {"broadcast": False, "key": "k"}), ("a", 3)])
    assert [e.id for e in line.envelopes] == ids
    assert [(e.name, e.body) for e in line.envelopes] == [("a", b"1"), ("b", b"2"), ("a", b"3")]
    assert line.envelopes[1].key == "k"
    assert line.log.count("publish") == 1
    assert service.emit_events([]) == []
    assert line.log.count("publish") == 1


def test_one_bad_event_of_several_keeps_all_of_them_back(line):
    for bad in [("b",), ("b", 1, {"dely": 1}), ("", 1)]:
        with pytest.raises(ValueError, match="event"):
            Heard(line).emit_events([("a", 1), bad])
    assert line.envelopes == []


def test_a_service_without_a_transport_says_how_to_set_one():
    with pytest.raises(ServiceConfigurationError, match=r"no event transport .* set event_transp"):
        Heard().emit_event("a", 1)
    with pytest.raises(ServiceConfigurationError, match="no event transport is configured"):
        Heard().emit_events([("a", 1)])


@pytest.mark.parametrize("transports", [0, 1])
def test_a_failed_emit_is_an_internal_error_for_the_caller(line, transports):
    line.before_sending = fail(EventNotDelivered("not confirmed"))
    service = Heard(*[line][:transports])
    with ServiceClient(service) as client, pytest.raises(InternalError):
        client.call("emit", "a", 1)


# From where one may emit


def test_events_may_be_emitted_from_everywhere(line):
    class Talks(Heard):
        def on_service_start(self) -> None:
            self.emit_event("start_hook", None)

        @gemstone_sync.periodic(0.02)
        def periodically(self) -> None:
            self.emit_event("periodic", None)

        def on_hello(self, body: Any) -> None:
            self.emit_event("handler", None)

        @exposed_method()
        def from_thread(self) -> Any:
            return self.get_executor().submit(self.emit_event, "thread", None).result()

        def on_service_stop(self) -> None:
            self.emit_event("stop_hook", None)

    with ServiceClient(Talks(line)) as client:
        client.call("emit", "said_hello", None)
        client.call("from_thread")
        wait_until(lambda: "periodic" in {e.name for e in line.envelopes}, "the periodic task")
        wait_until(lambda: "handler" in {e.name for e in line.envelopes}, "the handler")

    names = [envelope.name for envelope in line.envelopes]
    assert names[0] == "start_hook"
    assert names[-1] == "stop_hook"
    assert {"said_hello", "thread", "periodic", "handler"} < set(names)


def test_a_service_that_was_not_started_may_emit_and_be_started_later(line):
    service = Heard(line)
    assert ServiceClient(service).call("emit", "a", 1) == line.envelopes[0].id
    service.emit_event("a", 2)
    with running_service(service):
        service.emit_event("a", 3)

    assert line.log == [
        *("start", "publish", "publish"),
        *("receive", "publish", "stop receiving", "stop"),
    ]


# Several transports


def test_all_transports_are_tried_and_those_that_failed_are_named():
    lines = [Line("first"), Line("second"), Line("third")]
    with running_service(Heard(*lines)) as service:
        event_id = service.emit_event("a", 1)
        assert [[e.id for e in line.envelopes] for line in lines] == [[event_id]] * 3

        lines[0].before_sending = fail(EventNotDelivered("not confirmed within 1 s"))
        lines[1].before_sending = fail(EventNotDelivered("second: connection refused"))
        with pytest.raises(EventNotDelivered) as caught:
            service.emit_event("a", 1)

    assert str(caught.value) == "first: not confirmed within 1 s; second: connection refused"
    assert [len(line.envelopes) for line in lines] == [1, 1, 2]


@pytest.mark.parametrize("how", ["greenlet", "thread"])
def test_slow_transports_share_the_time_that_emitting_may_take(how):
    def sleep(timeout: float) -> None:
        gevent.sleep(timeout)
        raise EventNotDelivered("not confirmed")

    lines = [Line("first"), Line("second"), Line("third")]
    lines[0].before_sending = lines[1].before_sending = sleep
    with running_service(Heard(*lines)) as service:
        emit = functools.partial(service.emit_event, "a", 1, timeout=0.3)
        run = emit if how == "greenlet" else service.get_executor().submit(emit).result
        began = time.monotonic()
        with pytest.raises(EventNotDelivered, match=r"^first: not confirmed; second: not conf"):
            run()
        assert time.monotonic() - began > 0.15

        # One that ignores its time does not hold up the others.
        lines[0].before_sending = lambda timeout: gevent.sleep(10 * LIMIT)
        with pytest.raises(EventNotDelivered, match=r"^first: not sent within 0\.05 s"):
            service.emit_event("a", 1, timeout=0.05)
    assert len(lines[2].envelopes) == 2


def test_each_of_several_transports_publishes_in_the_context_of_the_call_and_no_longer_than_it():
    lines = [Line("first"), Line("second")]
    seen: list[Any] = []
    for line in lines:
        line.before_sending = lambda timeout: seen.append(current_call.get())
    with running_service(Heard(*lines)) as service:
        running = Call()
        token = current_call.set(running)
        try:
            service.emit_event("a", 1)
        finally:
            current_call.reset(token)
        assert seen == [running] * 2

        begun, go_on = [], Event()
        for line in lines:
            line.before_sending = lambda timeout: begun.append(1) or go_on.wait(LIMIT)
        emitting = gevent.spawn(service.emit_event, "a", 1)
        wait_until(lambda: len(begun) == 2, "both transports")
        emitting.kill()
        gevent.sleep(0.02)
        go_on.set()
        gevent.sleep(0.05)
    assert [len(line.envelopes) for line in lines] == [1, 1]


def test_the_time_of_the_call_bounds_the_wait_for_the_broker(line):
    given: list[float] = []
    line.before_sending = given.append
    service = Heard(line)
    token = current_call.set(Call(deadline=time.monotonic() + 9))
    try:
        service.emit_event("a", 1)
        service.emit_event("a", 1, timeout=1)
    finally:
        current_call.reset(token)
    service.emit_event("a", 1)

    assert 5 < given[0] <= 9
    assert given[1:] == [1, 10.0]


# What others are told


def test_a_service_tells_its_transports_and_the_events_that_it_handles():
    class Told(Heard):
        @event_handler("said_hello")
        def again(self, body: Any) -> None:
            """Is told less of than the first."""

        @event_handler("a.*")
        @event_handler("b")
        def on_others(self, body: Any) -> None: ...

    service = Told(Line("x"))
    specs = service.get_service_specs()

    assert specs["event_transports"] == ["x"]
    assert specs["events_handled"] == {
        "said_hello": "Remembers a greeting.",
        "a.*": None,
        "b": None,
    }
    assert service.get_current_configuration()["event"] == {"event_transports": ["x"]}
