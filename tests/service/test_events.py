"""What a service says and hears: its attributes, emitting, its handlers' start and end, readiness.

The transports here are a user's own: `Radio` has gemstone's four methods, `Line` shows what the
framework asks of a transport. What brokers do is in tests/event/.
"""

import datetime
import functools
import json
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

import gevent
import msgspec
import pytest
from gevent.event import Event

import gemstone_sync
from gemstone_sync import (
    EventNotDelivered,
    MicroService,
    RpcError,
    ServiceConfigurationError,
    event_handler,
    exposed_method,
)
from gemstone_sync.concurrency import Call, current_call
from gemstone_sync.event.envelope import Envelope
from gemstone_sync.event.handlers import Handler, Subscriber
from gemstone_sync.event.transport import BaseEventTransport, Reception
from gemstone_sync.testing import ServiceClient, running_service
from tests.helpers import LIMIT, call, exchange, message, result_of, wait_until


class Radio(BaseEventTransport):
    """A user's own transport, with the document's four methods and no more."""

    def __init__(self) -> None:
        self.handlers: dict[str, list[Callable[[Any], Any]]] = {}
        self.sent: list[tuple[str, Any, bool]] = []
        self.closed = Event()
        self.fault: BaseException | None = None

    def register_event_handler(
        self, handler_func: Callable[[Any], Any], handled_event_name: str
    ) -> None:
        self.handlers.setdefault(handled_event_name, []).append(handler_func)

    def start_accepting_events(self) -> None:
        self.closed.wait()

    def on_event_received(self, event_name: str, event_body: Any) -> None:
        for function in self.handlers.get(event_name, []):
            function(event_body)

    def emit_event(self, event_name: str, event_body: Any, *, broadcast: bool = True) -> None:
        if self.fault is not None:
            raise self.fault
        self.sent.append((event_name, event_body, broadcast))
        gevent.spawn(self.on_event_received, event_name, event_body)


class Line(BaseEventTransport):
    """A transport that shows what the framework asks of it.

    :ivar log: what it was told, in order.
    :ivar before_sending: called by `publish`.
    """

    has_own_store = True

    def __init__(self, name: str = "line") -> None:
        self.name = name
        self.log: list[str] = []
        self.envelopes: list[Envelope] = []
        self.receptions: list[LineReception] = []
        self.extras: dict[str, Any] = {}
        self.before_sending: Callable[[float], Any] = lambda timeout: None
        self.reason: str | None = None
        self.refuses: str | None = None
        #: Of new receptions.
        self.reception_reason: str | None = None

    def __str__(self) -> str:
        return self.name

    def register_event_handler(self, *args: Any) -> None: ...
    def start_accepting_events(self) -> None: ...
    def on_event_received(self, event_name: str, event_body: Any) -> None: ...
    def emit_event(self, *args: Any, **kwargs: Any) -> None: ...

    def publish(self, envelopes: Sequence[Envelope], *, timeout: float) -> None:
        self.before_sending(timeout)
        self.log.append("publish")
        self.envelopes += envelopes
        for reception in self.receptions:
            reception.deliver(envelopes)

    def receive(
        self,
        subscriber: Subscriber,
        run: Callable[[Handler, Any], Any],
        *,
        processed: Any = None,
        recent: Any = None,
    ) -> Reception:
        if self.refuses is not None:
            raise ServiceConfigurationError(self.refuses)
        self.log.append("receive")
        self.extras = {"processed": processed, "recent": recent}
        self.receptions.append(LineReception(self, subscriber, run))
        return self.receptions[-1]

    def start(self) -> None:
        self.log.append("start")

    def stop(self, timeout: float = 10.0) -> None:
        self.log.append("stop")

    def why_not_ready(self) -> str | None:
        return self.reason


class LineReception(Reception):
    def __init__(self, line: Line, subscriber: Subscriber, run: Any) -> None:
        self.line = line
        self.subscriber = subscriber
        self.reason = line.reception_reason
        self._run = run
        self._running: list[Any] = []

    def deliver(self, envelopes: Sequence[Envelope]) -> None:
        for envelope in envelopes:
            for handler in self.subscriber.handlers_for(envelope.name):
                body = json.loads(envelope.body)
                value = body if handler.convert is None else handler.convert(body)
                self._running.append(gevent.spawn(self._run, handler, value))

    def stop(self, timeout: float) -> bool:
        self.line.log.append("stop receiving")
        self.line.receptions.remove(self)
        gevent.joinall(self._running, timeout=timeout)
        finished = all(greenlet.ready() for greenlet in self._running)
        gevent.killall(self._running, block=False)
        return finished

    def why_not_ready(self) -> str | None:
        return self.reason


class Heard(MicroService):
    """Remembers what it hears."""

    name = "heard"
    port = 0

    def __init__(self, *transports: BaseEventTransport) -> None:
        self.event_transports = transports
        self.heard: list[Any] = []
        super().__init__()

    @event_handler("said_hello")
    def on_hello(self, body: Any) -> None:
        """Remembers a greeting."""
        self.heard.append(body)

    @exposed_method()
    def emit(self, name: str, body: Any) -> str:
        return self.emit_event(name, body)


@pytest.fixture
def line() -> Line:
    return Line()


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]


def service_with(function: Callable[..., Any], *names: str, **attributes: Any) -> MicroService:
    for name in names:
        function = event_handler(name)(function)
    members = {"name": "test.service", "port": 0, function.__name__: function, **attributes}
    return type("Service", (MicroService,), members)()


def handlers_of(service: MicroService) -> tuple[Handler, ...]:
    return service._assemble().event_handlers


# The decorator


@pytest.mark.parametrize(
    ("name", "options", "complaint"),
    [
        ("", {}, "invalid event name ''"),
        ("a b", {}, "invalid event name 'a b'"),
        (5, {}, "invalid event name 5"),
        ("a*", {}, "stands for a whole word"),
        ("a", {"scope": "all"}, "scope is 'service' or 'instance', not 'all'"),
        ("a", {"retries": -1}, "retries is a whole number"),
        ("a", {"retries": None}, "retries is a whole number"),
        ("a", {"backoff": "1"}, "backoff is a number of seconds"),
        ("a", {"backoff": []}, "backoff is a number of seconds"),
        ("a", {"timeout": 0}, "a timeout is a number of seconds above 0"),
        ("a", {"concurrency": 0}, "concurrency is a whole number above 0"),
        ("a", {"idempotent": "no"}, "idempotent is True or False"),
    ],
)
def test_a_mistake_is_told_where_the_handler_is_decorated(
    name: Any, options: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        event_handler(name, **options)


def test_an_option_that_is_misspelt_is_named_with_the_right_one() -> None:
    with pytest.raises(TypeError, match=r"has no option 'retrys'; did you mean 'retries'\?"):
        event_handler("a", retrys=3)
    with pytest.raises(TypeError, match="has no option 'queue'; there are scope, retries, backoff"):
        event_handler("a", queue="q")


def test_a_forgotten_name_is_told_how_to_write_it() -> None:
    with pytest.raises(TypeError, match="write @event_handler"):

        @event_handler  # type: ignore[arg-type]
        def on_event(self: Any, body: Any) -> None: ...


def test_one_method_may_handle_several_events_but_none_twice() -> None:
    class Service(MicroService):
        name = "several"

        @event_handler("a", retries=1)
        @event_handler("b.*", retries=2)
        def on_event(self, body: Any) -> None: ...

    handlers = handlers_of(Service())

    assert [(h.pattern, h.retries, h.name) for h in handlers] == [
        ("a", 1, "Service.on_event"),
        ("b.*", 2, "Service.on_event"),
    ]
    with pytest.raises(ValueError, match=r"on_event handles 'a' twice"):
        event_handler("a")(Service.on_event)


def test_modules_and_base_classes_bring_their_handlers() -> None:
    class Base(MicroService):
        @event_handler("a")
        def on_a(self, body: Any) -> str:
            return "base"

    class Part(gemstone_sync.Module):
        @event_handler("a")
        def on_a(self, body: Any) -> str:
            assert self.microservice is not None
            return f"part of {self.microservice.name}"

    class Service(Base):
        name = "derived"
        modules = [Part(), Part()]

        def on_a(self, body: Any) -> str:  # not decorated again
            return "derived"

    handlers = handlers_of(Service())

    assert [handler.function(None) for handler in handlers] == [
        "derived",
        "part of derived",
        "part of derived",
    ]
    assert [handler.name for handler in handlers] == ["Service.on_a", "Part.on_a", "Part.on_a#2"]


def no_body(self: Any) -> None: ...
def two(self: Any, body: Any, more: Any) -> None: ...
def by_name(self: Any, *, body: Any) -> None: ...
@staticmethod
def too_static() -> None: ...


@pytest.mark.parametrize("function", [no_body, two, by_name, too_static])
def test_a_method_that_cannot_take_a_body_is_refused_before_the_start(function: Any) -> None:
    service = service_with(function, "a", event_transports=[Line()])

    with pytest.raises(
        ServiceConfigurationError, match=r"handles events: it takes exactly one argument besides"
    ):
        service.start(block=False)


def with_default(self: Any, body: Any, more: int = 1) -> Any:
    return body


def with_rest(self: Any, *bodies: Any) -> Any:
    return bodies[0]


@staticmethod
def static(body: Any) -> Any:
    return body


@pytest.mark.parametrize("function", [with_default, with_rest, static])
def test_whatever_can_be_called_with_a_body_handles_events(function: Any) -> None:
    (handler,) = handlers_of(service_with(function, "a"))

    assert handler.function("body") == "body"


class Order(msgspec.Struct):
    id: int


def test_the_type_hint_of_the_body_is_what_the_handler_gets() -> None:
    def on_order(self: Any, order: Order) -> Any:
        return order

    (handler,) = handlers_of(service_with(on_order, "a"))

    assert handler.convert is not None
    assert handler.convert({"id": 3}) == Order(3)
    with pytest.raises(ValueError, match=r"Expected `int`, got `str` - at `\$.id`"):
        handler.convert({"id": "three"})


def test_a_hint_that_cannot_be_checked_is_told(caplog: pytest.LogCaptureFixture) -> None:
    def on_event(self: Any, body: "Unknown") -> None: ...  # type: ignore[name-defined] # noqa: F821

    (handler,) = handlers_of(service_with(on_event, "a"))

    assert handler.convert is None
    assert ["'body' is not validated" in text for text in warnings_in(caplog)] == [True]


def test_a_body_without_a_hint_is_taken_as_it_is() -> None:
    (handler,) = handlers_of(Heard())
    assert handler.convert is None


# Four methods are enough


def test_an_event_reaches_another_service_through_a_users_own_transport() -> None:
    radio = Radio()
    with running_service(Heard(radio)) as first, running_service(Heard(radio)) as second:
        event_id = first.emit_event("said_hello", {"name": "world", "to": (1, 2)})
        first.emit_event("nobody_listens", None, broadcast=False)

        wait_until(lambda: first.heard and second.heard, "the event")  # type: ignore[attr-defined]
        assert first.heard == second.heard == [{"name": "world", "to": [1, 2]}]  # type: ignore
        assert isinstance(event_id, str)
        assert radio.sent[1] == ("nobody_listens", None, False)
        assert [f.__name__ for f in radio.handlers["said_hello"]] == ["Heard.on_hello"] * 2
        assert radio.handlers["said_hello"][0].__doc__ == "Remembers a greeting."


def test_two_handlers_of_one_event_are_both_called() -> None:
    class Twice(Heard):
        @event_handler("said_hello")
        def also_on_hello(self, body: Any) -> None:
            self.heard.append("again")

    with running_service(Twice(Radio())) as service:
        service.emit_event("said_hello", "once")
        wait_until(lambda: len(service.heard) == 2, "both")  # type: ignore[attr-defined]
        assert service.heard == ["once", "again"]  # type: ignore[attr-defined]


def test_what_a_users_own_transport_raises_is_told_as_not_delivered() -> None:
    radio = Radio()
    radio.fault = OSError("no aerial")
    with (
        running_service(Heard(radio)) as service,
        pytest.raises(EventNotDelivered, match="Radio: OSError: no aerial") as caught,
    ):
        service.emit_event("said_hello", {})
    assert isinstance(caught.value.__cause__, OSError)


def test_a_transport_that_sends_for_ever_is_given_up() -> None:
    radio = Radio()
    radio.emit_event = lambda *args, **kwargs: gevent.sleep(LIMIT)  # type: ignore[method-assign]
    with running_service(Heard(radio)) as service:
        began = time.monotonic()
        with pytest.raises(EventNotDelivered, match=r"not sent within 0\.05 s"):
            service.emit_event("said_hello", {}, timeout=0.05)
        assert time.monotonic() - began < 2


@pytest.mark.parametrize("option", [{"delay": 30}, {"key": "k"}])
def test_what_four_methods_cannot_do_is_refused_rather_than_lost(option: Any) -> None:
    with (
        running_service(Heard(Radio())) as service,
        pytest.raises(ServiceConfigurationError, match="Radio knows no"),
    ):
        service.emit_event("said_hello", {}, **option)


@pytest.mark.parametrize("option", [{"scope": "instance"}, {"idempotent": False}])
def test_a_handler_that_a_transport_cannot_serve_ends_the_start(option: Any) -> None:
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

    assert service.lifecycle.why_not_live() is not None
    with pytest.raises(ConnectionRefusedError):
        call(service.port, "emit", "a", 1)


# What travels


def test_an_event_carries_what_the_caller_said_and_who_it_was(line: Line) -> None:
    with running_service(Heard(line)) as service:
        before = time.time()
        event_id = service.emit_event("a.b", [1], broadcast=False, key="k", delay=30, expires_in=60)
    (envelope,) = line.envelopes

    assert (envelope.id, envelope.name, envelope.body) == (event_id, "a.b", b"[1]")
    assert (envelope.broadcast, envelope.key, envelope.emitter) == (False, "k", "heard")
    assert envelope.due == pytest.approx(before + 30, abs=5)
    assert envelope.deadline == pytest.approx(before + 60, abs=5)


def test_the_calls_request_id_and_trace_go_along(line: Line) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    headers = {"X-Request-Id": "r-1", "traceparent": trace}
    with ServiceClient(Heard(line), headers) as client:
        client.call("emit", "a", 1)

    assert [(e.request_id, e.traceparent) for e in line.envelopes] == [("r-1", trace)]


def test_a_moment_is_an_alternative_to_a_delay(line: Line) -> None:
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
        (("a", 1), {"key": ""}, "key is a text"),
        (("a", 1), {"timeout": 0}, "a timeout is a number of seconds above 0"),
        (("a", 1), {"timeout": "1"}, "a timeout is a number of seconds above 0"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_sent(
    event: Any, options: dict[str, Any], complaint: str, line: Line
) -> None:
    service = Heard(line)
    service.max_event_size = 100
    with pytest.raises((ValueError, TypeError), match=complaint):
        service.emit_event(*event, **options)
    assert line.envelopes == []


def test_several_events_are_sent_at_once_and_in_order(line: Line) -> None:
    service = Heard(line)
    ids = service.emit_events([("a", 1), ("b", 2, {"broadcast": False, "key": "k"}), ("a", 3)])

    assert [e.id for e in line.envelopes] == ids
    assert [(e.name, e.body) for e in line.envelopes] == [("a", b"1"), ("b", b"2"), ("a", b"3")]
    assert line.envelopes[1].key == "k"
    assert line.log.count("publish") == 1
    assert service.emit_events([]) == []
    assert line.log.count("publish") == 1


def test_one_bad_event_of_several_keeps_all_of_them_back(line: Line) -> None:
    for bad in [("b",), ("b", 1, {"dely": 1}), ("", 1)]:
        with pytest.raises(ValueError, match="event"):
            Heard(line).emit_events([("a", 1), bad])
    assert line.envelopes == []


def test_a_service_without_a_transport_says_how_to_set_one(make_client: Any) -> None:
    with pytest.raises(ServiceConfigurationError, match=r"no event transport .* set event_transp"):
        Heard().emit_event("a", 1)
    with pytest.raises(ServiceConfigurationError, match="no event transport is configured"):
        Heard().emit_events([("a", 1)])


# From where one may emit


def test_events_may_be_emitted_from_everywhere(line: Line) -> None:
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


def test_a_service_that_was_not_started_may_emit_and_be_started_later(line: Line) -> None:
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


def test_an_event_goes_out_through_all_transports_under_one_id() -> None:
    lines = [Line("first"), Line("second")]
    with running_service(Heard(*lines)) as service:
        event_id = service.emit_event("a", 1)

    assert [[e.id for e in line.envelopes] for line in lines] == [[event_id]] * 2


def fail(error: BaseException) -> Callable[[float], None]:
    def before_sending(timeout: float) -> None:
        raise error

    return before_sending


def test_all_transports_are_tried_and_those_that_failed_are_named() -> None:
    lines = [Line("first"), Line("second"), Line("third")]
    lines[0].before_sending = fail(EventNotDelivered("not confirmed within 1 s"))
    lines[1].before_sending = fail(EventNotDelivered("second: connection refused"))
    with (
        running_service(Heard(*lines)) as service,
        pytest.raises(EventNotDelivered) as caught,
    ):
        service.emit_event("a", 1)

    assert str(caught.value) == "first: not confirmed within 1 s; second: connection refused"
    assert [len(line.envelopes) for line in lines] == [0, 0, 1]


def test_what_one_of_several_transports_cannot_do_is_a_mistake_in_the_program() -> None:
    line = Line()
    with (
        running_service(Heard(line, Radio())) as service,
        pytest.raises(ServiceConfigurationError, match="Radio knows no delays"),
    ):
        service.emit_event("a", 1, delay=5)


@pytest.mark.parametrize("how", ["greenlet", "thread"])
def test_slow_transports_share_the_time_that_emitting_may_take(how: str) -> None:
    def sleep(timeout: float) -> None:
        if timeout < LIMIT:
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
        assert 0.15 < time.monotonic() - began < 2
    assert len(lines[2].envelopes) == 1


def test_one_transport_that_ignores_its_time_does_not_hold_up_the_others() -> None:
    lines = [Line("first"), Line("second")]
    lines[0].before_sending = lambda timeout: gevent.sleep(LIMIT)
    with (
        running_service(Heard(*lines)) as service,
        pytest.raises(EventNotDelivered, match=r"^first: not sent within 0\.05 s$"),
    ):
        service.emit_event("a", 1, timeout=0.05)
    assert len(lines[1].envelopes) == 1


def test_the_time_of_the_call_bounds_the_wait_for_the_broker(line: Line) -> None:
    given: list[float] = []
    line.before_sending = given.append
    service = Heard(line)
    token = current_call.set(Call(deadline=time.monotonic() + 3))
    try:
        service.emit_event("a", 1)
        service.emit_event("a", 1, timeout=1)
    finally:
        current_call.reset(token)
    service.emit_event("a", 1)

    assert given == [pytest.approx(3, abs=0.5), 1, 10.0]


def test_duplicates_over_several_transports_have_one_memory() -> None:
    lines = [Line("first"), Line("second")]
    with running_service(Heard(*lines)):
        assert lines[0].extras["recent"] is lines[1].extras["recent"] is not None
    single = Line()
    with running_service(Heard(single)):
        assert single.extras["recent"] is None


# Start and end


def test_handlers_are_called_between_the_start_hook_and_the_stop_hook(line: Line) -> None:
    class Service(Heard):
        def on_service_start(self) -> None:
            line.log.append("start hook")

        def on_service_stop(self) -> None:
            line.log.append("stop hook")

    service = Service(line)
    assert line.log == []
    for _ in range(2):
        with running_service(service):
            pass

    once = ["start", "start hook", "receive", "stop receiving", "stop hook", "stop"]
    assert line.log == once * 2


def test_each_run_of_a_service_is_another_instance(line: Line) -> None:
    seen = []
    service = Heard(line)
    for _ in range(2):
        with running_service(service):
            seen.append(line.receptions[0].subscriber)

    assert [subscriber.service for subscriber in seen] == ["heard", "heard"]
    assert seen[0].instance != seen[1].instance


def test_two_services_may_share_a_transport(line: Line) -> None:
    with running_service(Heard(line)) as first:
        with running_service(Heard(line)) as second:
            pass
        first.emit_event("said_hello", 1)
        wait_until(lambda: first.heard, "the event")  # type: ignore[attr-defined]
        assert second.heard == []  # type: ignore[attr-defined]
    assert line.log.count("start") == line.log.count("stop") == 2


def test_a_handler_that_runs_is_finished_and_may_still_emit(line: Line) -> None:
    begun = Event()

    class Slow(Heard):
        def on_hello(self, body: Any) -> None:
            begun.set()
            gevent.sleep(0.1)
            self.emit_event("done", body)

    service = Slow(line)
    with running_service(service):
        service.emit_event("said_hello", 5)
        begun.wait(LIMIT)

    assert [envelope.name for envelope in line.envelopes] == ["said_hello", "done"]
    assert line.log[-1] == "stop"


def test_a_handler_that_takes_too_long_is_cut_off(
    line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    begun = Event()

    class Endless(Heard):
        stop_timeout = 0.1

        def on_hello(self, body: Any) -> None:
            begun.set()
            gevent.sleep(LIMIT)

    service = Endless(line)
    with running_service(service):
        service.emit_event("said_hello", 5)
        begun.wait(LIMIT)
        began = time.monotonic()

    assert time.monotonic() - began < 5
    assert warnings_in(caplog) == ["heard: event handlers were cut off after 0.1 s"]


def test_a_call_that_runs_while_the_service_stops_can_emit(line: Line) -> None:
    begun, go = Event(), Event()

    class Service(Heard):
        @exposed_method()
        def slow(self) -> str:
            begun.set()
            go.wait(LIMIT)
            return self.emit_event("late", 1)

    with running_service(Service(line)) as service:
        calling = gevent.spawn(call, service.port, "slow")
        begun.wait(LIMIT)
        stopping = gevent.spawn(service.stop)
        wait_until(lambda: "stop receiving" in line.log, "the stop")
        go.set()
        assert result_of(calling.get(timeout=LIMIT)) == line.envelopes[0].id
        stopping.join(LIMIT)
    assert line.log[-1] == "stop"


def test_a_start_hook_that_fails_leaves_no_transport_running(line: Line) -> None:
    class Fails(Heard):
        def on_service_start(self) -> None:
            raise OSError("no database")

    with pytest.raises(OSError, match="no database"):
        Fails(line).start(block=False)

    assert line.log == ["start", "stop"]


def test_a_start_hook_that_stops_the_service_stops_its_events_too(line: Line) -> None:
    class Stops(Heard):
        def on_service_start(self) -> None:
            self.stop()

    service = Stops(line)
    service.start(block=False)
    assert service._runner.stopped.wait(LIMIT)
    assert line.receptions == []
    assert line.log[-1] == "stop"


def test_a_transport_that_refuses_to_start_ends_the_start() -> None:
    first, second = Line("first"), Line("second")

    def refuse() -> None:
        raise ServiceConfigurationError("second loses events")

    second.start = refuse  # type: ignore[method-assign]
    with pytest.raises(ServiceConfigurationError, match="second loses events"):
        Heard(first, second).start(block=False)
    assert first.log == ["start", "stop"]


def test_a_transport_that_refuses_to_receive_ends_the_start(line: Line) -> None:
    second = Line("second")
    second.refuses = "no such exchange"
    service = Heard(line, second)
    with pytest.raises(ServiceConfigurationError, match="no such exchange"):
        service.start(block=False)

    assert line.log == ["start", "receive", "stop receiving", "stop"]
    assert second.log == ["start", "stop"]
    second.refuses = None
    with running_service(service):
        service.emit_event("said_hello", 1)
        wait_until(lambda: service.heard, "the event")


def test_a_transport_that_cannot_be_stopped_does_not_keep_the_service(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gemstone_sync.service.traffic._PARTING", 0.05)
    monkeypatch.setattr("gemstone_sync.service.traffic._CUTTING_OFF", 0.05)
    hanging, failing = Line("hanging"), Line("failing")
    hanging.stop = lambda timeout=10.0: gevent.sleep(LIMIT)  # type: ignore[method-assign]
    failing.stop = fail(OSError("broken"))  # type: ignore[method-assign]
    began = time.monotonic()
    with running_service(Heard(hanging, failing)):
        pass

    assert time.monotonic() - began < 5
    assert "failing could not be stopped" in [r.getMessage() for r in caplog.records]


def test_a_service_that_runs_hears_what_is_emitted_from_then_on(line: Line) -> None:
    line.reception_reason = "connecting"
    service = Heard(line)
    starting = gevent.spawn(service.start, block=False)
    wait_until(lambda: line.receptions, "the subscription")
    gevent.sleep(0.05)
    assert not starting.ready()

    line.receptions[0].reason = None
    starting.get(timeout=LIMIT)
    service.stop()


def test_a_broker_that_is_away_does_not_keep_a_service_from_starting(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gemstone_sync.service.traffic._SUBSCRIBING", 0.05)
    line.reception_reason = "connection refused"
    with running_service(Heard(line)) as service:
        assert health(service) == (
            503,
            {"status": "unavailable", "reason": "connection refused"},
        )


# What is checked before the start


class Own:
    """Looks like a transport."""

    def emit_event(self, *args: Any, **kwargs: Any) -> None: ...


@pytest.mark.parametrize("wrong", [[Own()], [Radio], "amqp://", Radio(), [None]])
@pytest.mark.parametrize(
    "start",
    [lambda service: service.start(block=False), lambda s: ServiceClient(s).__enter__()],
    ids=["own server", "in process"],
)
def test_what_is_no_transport_is_refused_at_start(
    make_service: Any, wrong: Any, start: Any
) -> None:
    service = make_service(port=0, event_transports=wrong)
    with pytest.raises(
        ServiceConfigurationError, match="event_transports must be a list of event transports"
    ):
        start(service)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("event_timeout", 0),
        ("event_timeout", "10"),
        ("max_event_size", 0),
        ("max_event_size", 1.5),
        ("event_deduplication", 5),
        ("event_deduplication", ""),
        ("outbox", 5),
        ("outbox", ""),
    ],
)
def test_a_wrong_attribute_is_refused(make_service: Any, name: str, wrong: Any) -> None:
    service = make_service(port=0, **{name: wrong})
    with pytest.raises(ServiceConfigurationError, match=f"{name} must be "):
        service.start(block=False)


def test_handlers_that_nobody_will_call_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    with running_service(Heard()):
        pass
    assert warnings_in(caplog) == ["Heard.on_hello will never be called: set event_transports"]


class Careful(Heard):
    @event_handler("paid", idempotent=False)
    def on_paid(self, body: Any) -> None: ...


@pytest.mark.parametrize("stores", [(False,), (True, False), (True, True)])
def test_a_handler_that_must_not_run_twice_needs_a_memory_that_all_transports_share(
    stores: tuple[bool, ...],
) -> None:
    lines = [Line() for _ in stores]
    for one, has_own_store in zip(lines, stores, strict=True):
        one.has_own_store = has_own_store  # type: ignore[misc]
    with pytest.raises(
        ServiceConfigurationError, match=r"Careful.on_paid has idempotent=False: set event_dedup"
    ):
        Careful(*lines).start(block=False)
    assert [one.log for one in lines] == [[]] * len(lines)


def test_a_transport_with_a_store_of_its_own_remembers_what_was_handled(line: Line) -> None:
    with running_service(Careful(line)):
        assert line.extras["processed"] is None


# Readiness


def health(service: MicroService, path: str = "/health/ready") -> tuple[int, Any]:
    reply = exchange(service.port, message("GET", path))
    return reply.status, reply.json


def test_a_service_is_not_ready_while_its_events_are_not(line: Line) -> None:
    with running_service(Heard(line)) as service:
        assert health(service)[0] == 200
        line.reason = 'line: "refused" by\nthe broker'
        assert health(service) == (503, {"status": "unavailable", "reason": line.reason})
        assert health(service, "/health/live")[0] == 200
        assert result_of(call(service.port, "emit", "a", 1))
        line.reason, line.receptions[0].reason = None, "no queue"
        assert health(service)[1]["reason"] == "no queue"
        line.receptions[0].reason = None
        assert health(service)[0] == 200


def test_a_transport_that_cannot_say_whether_it_is_ready_is_not(line: Line) -> None:
    with running_service(Heard(line)) as service:
        line.why_not_ready = lambda: 1 / 0  # type: ignore
        status, reply = health(service)
    assert (status, reply["reason"]) == (503, "line: division by zero")


# What others are told


def test_a_service_tells_its_transports_and_the_events_that_it_handles() -> None:
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


def test_a_failed_emit_is_an_internal_error_for_the_caller(line: Line) -> None:
    line.before_sending = fail(EventNotDelivered("not confirmed"))
    with ServiceClient(Heard(line)) as client, pytest.raises(RpcError) as caught:
        client.call("emit", "a", 1)
    assert caught.value.code == -32603
