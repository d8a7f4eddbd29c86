"""Spans: one trace through everything that one call sets off, and nothing where nobody wants it."""

from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import (
    jsonrpc_attributes,
    messaging_attributes,
    rpc_attributes,
)
from opentelemetry.semconv.attributes import error_attributes, server_attributes
from opentelemetry.trace import SpanKind, StatusCode

from gemstone_sync import (
    BasePlugin,
    EventEmitter,
    InternalError,
    JsonRpcHandler,
    MemoryEventTransport,
    MethodCall,
    MethodNotFound,
    MicroService,
    RemoteService,
    TransportError,
    event_handler,
    exposed_method,
    periodic,
)
from gemstone_sync.concurrency import spawn
from gemstone_sync.dispatch import ObservedCall
from gemstone_sync.event import deadletters
from gemstone_sync.testing import ServiceClient, running_service
from tests.support.waiting import LIMIT, wait_until

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACE = 0x0AF7651916CD43DD8448EB211C80319C
SENT = {"traceparent": CALLER, "tracestate": "vendor=x,other=y", "baggage": "user=ada,plan=free"}


class Traces:
    """What was recorded."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = self.provider.get_tracer("tests")

    @property
    def spans(self) -> list[ReadableSpan]:
        return sorted(self._exporter.get_finished_spans(), key=lambda span: span.start_time or 0)

    def named(self, name: str) -> ReadableSpan:
        (found,) = [span for span in self.spans if span.name == name]
        return found

    def way(self, span: ReadableSpan) -> list[str]:
        """The names from the root of its trace to the span."""
        by_id = {each.context.span_id: each for each in self.spans}
        above = by_id.get(span.parent.span_id) if span.parent else None
        return [*(self.way(above) if above else []), span.name]

    def ways(self) -> list[list[str]]:
        return sorted(self.way(span) for span in self.spans)


@pytest.fixture
def traces(monkeypatch: pytest.MonkeyPatch) -> Traces:
    made = Traces()
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", made.provider)
    return made


@pytest.fixture
def no_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    """The API is imported, and nobody has given it a provider."""
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)


class Shop(MicroService):
    name = "shop"
    me: Any = None
    fails = True

    @exposed_method()
    def order(self) -> str:
        return str(self.me.methods.pay())

    @exposed_method()
    def pay(self) -> str:
        self.emit_event("paid", 1)
        return "paid"

    @event_handler("paid", retries=1, backoff=0.01)
    def on_paid(self, body: int) -> None:
        if self.fails:
            raise OSError("not today")
        self.me.methods.pack()

    @exposed_method()
    def pack(self) -> None:
        pass

    @exposed_method()
    def fail(self) -> None:
        raise ValueError("broken")

    @exposed_method(requires_handler_reference=True)
    def told(self, handler: JsonRpcHandler) -> dict[str, str | None]:
        return {name: handler.headers.get(name) for name in SENT}

    @exposed_method()
    def relay(self) -> Any:
        return self.me.methods.told()


@pytest.fixture
def shop() -> Iterator[Shop]:
    cls = type("Shop", (Shop,), {"event_transports": [MemoryEventTransport()]})
    with running_service(cls) as service:
        service.me = RemoteService(service.url)
        yield service


def test_one_trace_runs_through_calls_events_retries_dead_letters_and_replays(traces, shop):
    shop.me.methods.order()
    (transport,) = shop.event_transports
    wait_until(lambda: deadletters.list(transport), "a dead letter")
    shop.fails = False
    assert deadletters.replay(transport) == 1
    wait_until(lambda: [s for s in traces.spans if s.name == "pack"][1:], "the replay")
    wait_until(lambda: len(traces.spans) >= 10, "all spans")
    paid = ["order", "order", "pay", "pay", "send paid"]
    process = [*paid, "process paid"]
    assert traces.ways() == sorted(
        [
            *[paid[:n] for n in (1, 2, 3, 4, 5)],
            *[process] * 3,
            [*process, "pack"],
            [*process, "pack", "pack"],
        ]
    )
    send = traces.named("send paid")
    for span in traces.spans:
        assert span.context.trace_id == send.context.trace_id
        if span.name == "process paid":
            assert [link.context.span_id for link in span.links] == [send.context.span_id]


def test_kinds_status_and_attributes_are_those_of_the_conventions(traces, shop):
    shop.fails = False
    shop.me.methods.pay()
    with pytest.raises(InternalError):
        shop.me.methods.fail()
    with pytest.raises(MethodNotFound):
        shop.me.methods.no_such()
    wait_until(lambda: "process paid" in str(traces.ways()), "an event")
    wait_until(lambda: "pack" in [s.name for s in traces.spans], "what it calls")
    client, server = [span for span in traces.spans if span.name == "pay"]
    assert (client.kind, server.kind) == (SpanKind.CLIENT, SpanKind.SERVER)
    assert server.status.status_code == StatusCode.UNSET
    common = {"rpc.system.name": "jsonrpc", "rpc.method": "pay", "jsonrpc.protocol.version": "2.0"}
    for span in (client, server):
        assert common.items() <= dict(span.attributes).items()
        assert span.attributes["jsonrpc.request.id"].isdigit()
    assert client.attributes["server.port"] == shop.port

    client, server = [span for span in traces.spans if span.name == "fail"]
    for span in (client, server):
        assert span.status.status_code == StatusCode.ERROR
        assert span.attributes["error.type"] == span.attributes["rpc.status_code"] == "-32603"
    (event,) = server.events
    assert event.attributes["exception.type"] == "ValueError"

    unknown = traces.named("jsonrpc")
    assert unknown.attributes["rpc.method"] == "_OTHER"
    assert unknown.attributes["rpc.method_original"] == "no_such"

    send, process = traces.named("send paid"), traces.named("process paid")
    assert (send.kind, process.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER)
    for span, operation in ((send, "send"), (process, "process")):
        assert span.attributes["messaging.operation.name"] == operation
        assert span.attributes["messaging.operation.type"] == operation
        assert span.attributes["messaging.system"] == "memory"
        assert span.attributes["messaging.destination.name"] == "paid"
    assert process.attributes["messaging.consumer.group.name"] == "shop"
    assert process.attributes["messaging.message.id"] == send.attributes["messaging.message.id"]

    modules = [rpc_attributes, jsonrpc_attributes, messaging_attributes]
    modules += [error_attributes, server_attributes]
    known = {value for each in modules for value in vars(each).values() if isinstance(value, str)}
    used = {name for span in traces.spans for name in span.attributes}
    assert {n for n in used if not n.startswith("gemstone.")} <= known | {"rpc.status_code"}


def test_items_of_a_batch_are_children_of_its_caller(traces, shop):
    shop.me.call_batch(MethodCall("pack"), MethodCall("pack"), MethodCall("fail"))
    assert traces.ways() == [
        ["jsonrpc"],
        ["jsonrpc", "fail"],
        ["jsonrpc", "pack"],
        ["jsonrpc", "pack"],
    ]


def test_greenlets_threads_and_background_calls_stay_in_the_trace(traces, shop):
    def work(name: str) -> None:
        with traces.tracer.start_as_current_span(name):
            pass

    def method() -> None:
        spawn(work, "greenlet").get()
        shop.start_thread(work, ["thread"]).join()
        shop.get_executor().submit(work, "executor").result()
        shop.me.methods.pack.async_().wait()

    with traces.tracer.start_as_current_span("method"):
        method()
    assert traces.ways() == [
        ["method"],
        ["method", "executor"],
        ["method", "greenlet"],
        ["method", "pack"],
        ["method", "pack", "pack"],
        ["method", "thread"],
    ]


def test_each_run_of_a_periodic_task_is_a_trace_of_its_own(traces):
    class Ticking(Shop):
        name = "ticking"
        event_transports = [MemoryEventTransport()]

        @periodic(0.05)
        def tick(self) -> None:
            if self.me is not None:
                self.me.methods.pack()
                self.emit_event("ticked", 1)

    with running_service(Ticking) as service:
        service.me = RemoteService(service.url)
        wait_until(lambda: len([s for s in traces.spans if s.name == "send ticked"]) > 1, "ticks")
    ticks = [span for span in traces.spans if span.name.endswith("tick")]
    assert len({span.context.trace_id for span in ticks}) == len(ticks) > 1
    name = ticks[0].name
    assert [name, "pack", "pack"] in traces.ways()
    assert [name, "send ticked"] in traces.ways()


def test_the_callers_trace_and_baggage_go_on(traces, shop):
    seen: list[Any] = []
    parent = trace.NonRecordingSpan(trace.SpanContext(TRACE, 1, True, trace.TraceFlags(1)))
    token = context.attach(baggage.set_baggage("user", "ada", trace.set_span_in_context(parent)))
    try:
        seen.append(shop.me.methods.relay())
    finally:
        context.detach(token)
    (told,) = seen
    assert told["baggage"] == "user=ada"
    last = next(span for span in traces.spans if span.name == "told")
    assert told["traceparent"] == f"00-{TRACE:032x}-{last.context.span_id:016x}-01"
    assert {span.context.trace_id for span in traces.spans} == {TRACE}


def test_a_plain_program_has_spans_of_what_it_sends_and_publishes(traces):
    """Without any service: nothing is started, nothing patched for it."""
    with pytest.raises(TransportError):
        RemoteService("http://127.0.0.1:1/api").methods.pay()
    with EventEmitter(MemoryEventTransport()) as emitter:
        emitter.emit_event("a", 1)
        emitter.emit_events([("b", 1), ("b", 2)])
        with pytest.raises(ValueError, match="name"):
            emitter.emit_event("", 1)
    assert [span.name for span in traces.spans] == ["pay", "send a", "send b", "send"]
    failed = traces.named("pay")
    assert failed.attributes["error.type"] == "ConnectionFailed"
    assert "rpc.status_code" not in failed.attributes
    assert traces.named("send b").attributes["messaging.batch.message_count"] == 2
    assert traces.named("send").attributes["error.type"] == "ValueError"


HOSTILE = [
    "x" * 5000,
    "00-" + "0" * 32 + "-" + "0" * 16 + "-01",
    "ff-" + "a" * 32 + "-" + "b" * 16 + "-01",
    "00-" + "A" * 32 + "-" + "b" * 16 + "-01",
    "\x85\xff",
    "00-a-b-c",
    "{}",
    "",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_context_costs_no_call_and_begins_a_new_trace(traces, shop, text):
    headers = {"traceparent": text, "tracestate": text + "=,=" * 200, "baggage": "=;=" + text * 9}
    with ServiceClient(shop, {k: v.encode().decode("latin-1") for k, v in headers.items()}) as c:
        c.call("pack")
    span = [each for each in traces.spans if each.name == "pack"][-1]
    assert span.parent is None


class Broken(SpanProcessor):
    def on_start(self, span: Any, parent_context: Any = None) -> None:
        raise RuntimeError("broken")


def test_a_provider_that_fails_costs_no_call_and_is_told_once(traces, shop, caplog, monkeypatch):
    from gemstone_sync import tracing

    monkeypatch.setattr(tracing, "_is_told", False)
    traces.provider.add_span_processor(Broken())
    for _ in range(3):
        assert shop.me.methods.pay() == "paid"
    assert caplog.text.count("spans are missing") == 1


class Steps(MicroService):
    """Methods that end within a generator that has a span of its own current."""

    def steps(self) -> Iterator[int]:
        with trace.get_tracer("users.own").start_as_current_span("step"):
            yield 1
            yield 2

    @exposed_method(timeout=0.05)
    def late(self) -> None:
        for _ in self.steps():
            gevent.sleep(LIMIT)

    @exposed_method()
    def fail(self) -> None:
        for number in self.steps():
            raise ValueError(number)

    @exposed_method()
    def leave(self) -> int:
        return next(self.steps())

    @exposed_method()
    def current(self) -> bool:
        return "step" in str(trace.get_current_span())


@pytest.mark.parametrize("method", ["late", "fail", "leave"])
@pytest.mark.parametrize("metrics", [False, True])
def test_what_a_method_leaves_open_ends_in_its_own_context(traces, caplog, method, metrics):
    """OpenTelemetry logs "Failed to detach context" where a generator ends in another one."""
    service = type("Steps", (Steps,), {"name": method, "use_statistics": metrics})
    with running_service(service, metrics=metrics) as running:
        remote = RemoteService(running.url)
        for _ in range(2):
            remote.call_method(method)
            assert remote.methods.current() is False
            remote.call_batch(MethodCall(method), MethodCall("current"))
    assert "detach" not in caplog.text
    assert {tuple(way[-2:]) for way in traces.ways() if way[-1] == "step"} == {(method, "step")}


def test_observers_are_told_within_the_span(traces):
    seen: list[tuple[str, str]] = []

    class Watching(BasePlugin):
        name = "watching"

        def _see(self, what: str) -> None:
            seen.append((what, trace.get_current_span().name))  # type: ignore[attr-defined]

        def on_call_begun(self, call: Any) -> None:
            self._see("begun")

        def on_call_finished(self, call: Any) -> None:
            self._see("finished")

        def on_publish_finished(self, events: Any) -> None:
            self._see("published")

    cls = type("Watched", (Shop,), {"plugins": [Watching()], "name": "watched"})
    cls.event_transports = [MemoryEventTransport()]  # type: ignore[attr-defined]
    with ServiceClient(cls()) as client:
        client.call("pay")
    assert seen == [("begun", "pay"), ("published", "send"), ("finished", "pay")]


def test_without_a_provider_nothing_is_made(no_provider, shop, monkeypatch):
    def refuse(*_: Any) -> None:
        raise AssertionError("made")

    monkeypatch.setattr(ObservedCall, "__init__", refuse)
    assert shop.me.methods.pay() == "paid"


@pytest.mark.parametrize("provider", [True, False])
def test_context_of_any_vendor_passes_through_calls(request, shop, provider):
    request.getfixturevalue("traces" if provider else "no_provider")
    told = ServiceClient(shop, SENT).call("relay")
    assert told["tracestate"] == SENT["tracestate"]
    assert sorted(told["baggage"].split(",")) == sorted(SENT["baggage"].split(","))
    assert told["traceparent"].split("-")[1] == CALLER.split("-")[1]
    assert (told["traceparent"] == CALLER) is not provider


@pytest.mark.parametrize("provider", [True, False])
@pytest.mark.parametrize("outbox", [True, False], ids=["outbox", "direct"])
def test_context_passes_through_events_and_outboxes(request, tmp_path, provider, outbox):
    request.getfixturevalue("traces" if provider else "no_provider")
    seen: list[Any] = []

    class Hearing(Shop):
        name = "hearing"
        event_transports = [MemoryEventTransport()]

        @event_handler("heard")
        def heard(self, body: int) -> None:
            seen.append(self.me.methods.told())

        @exposed_method()
        def say(self) -> None:
            self.emit_event("heard", 1)

    attributes = {"outbox": str(tmp_path / "outbox.db")} if outbox else {}
    with running_service(Hearing, **attributes) as service:
        service.me = RemoteService(service.url)
        ServiceClient(service, SENT).call("say")
        (told,) = wait_until(lambda: seen, "the event")
    assert told["tracestate"] == SENT["tracestate"]
    assert sorted(told["baggage"].split(",")) == sorted(SENT["baggage"].split(","))
    assert told["traceparent"].split("-")[1] == CALLER.split("-")[1]


@pytest.mark.parametrize("name", ["tracestate", "baggage"])
@pytest.mark.parametrize("value", ["x" * 9000, "a=\x85"])
def test_what_cannot_travel_on_is_left_behind(no_provider, shop, name, value):
    headers = {"traceparent": CALLER, name: value.encode().decode("latin-1")}
    told = ServiceClient(shop, headers).call("relay")
    assert told[name] is None
    assert told["traceparent"] == CALLER


def test_two_calls_at_once_are_two_traces(traces, shop):
    gevent.joinall([gevent.spawn(shop.me.methods.order) for _ in range(20)], raise_error=True)
    orders = [way for way in traces.ways() if way == ["order", "order", "pay", "pay"]]
    assert len(orders) == 20
    assert len({span.context.trace_id for span in traces.spans if span.name == "pay"}) == 20
