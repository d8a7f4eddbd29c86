"""OpenTelemetry's current span is what other services and handlers of events go on from."""

from typing import Any

import pytest

import gemstone_sync
from gemstone_sync import MemoryEventTransport, RemoteService
from gemstone_sync.concurrency import Call, current_call, outgoing_headers
from gemstone_sync.event.emission import make_envelope
from gemstone_sync.testing import running_service
from tests.support.http import call, result_of

# Where it is missing, its row in `rows` says so.
trace = pytest.importorskip("opentelemetry.trace")
sdk = pytest.importorskip("opentelemetry.sdk.trace")
sampling = pytest.importorskip("opentelemetry.sdk.trace.sampling")
propagation = pytest.importorskip("opentelemetry.trace.propagation.tracecontext")

pytestmark = pytest.mark.slow  # not installed with the tests

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACER = sdk.TracerProvider().get_tracer("tests")
UNSAMPLED = sdk.TracerProvider(sampler=sampling.ALWAYS_OFF).get_tracer("tests")


def injected() -> dict[str, str]:
    """What OpenTelemetry itself would send."""
    headers: dict[str, str] = {}
    propagation.TraceContextTextMapPropagator().inject(headers)
    return headers


class Last(gemstone_sync.MicroService):
    name = "last"

    @gemstone_sync.exposed_method(requires_handler_reference=True)
    def told(self, handler: gemstone_sync.JsonRpcHandler) -> str | None:
        return handler.headers.get("traceparent")


class First(gemstone_sync.MicroService):
    name = "first"
    last: Any = None
    event_transports = [MemoryEventTransport()]

    @gemstone_sync.exposed_method()
    def ask(self, spans: bool = True) -> list[str | None]:
        if not spans:
            return [self.last.methods.told(), None]
        with TRACER.start_as_current_span("ask"):
            waiting = self.last.methods.told.async_()
            assert self.last.methods.told() == waiting.result()
            return [waiting.result(), injected()["traceparent"]]


@pytest.mark.parametrize("headers", [{}, {"traceparent": CALLER}], ids=["none", "a caller's"])
def test_in_a_call_it_travels_whether_the_caller_had_one_or_not(headers):
    with running_service(Last) as last, running_service(First) as first:
        first.last = RemoteService(last.url)
        told, span = result_of(call(first.port, "ask", headers=headers))
        assert told == span
        told, _ = result_of(call(first.port, "ask", False, headers=headers))
        assert told == headers.get("traceparent")


def test_outside_calls_and_in_events_too():
    with running_service(Last) as last, TRACER.start_as_current_span("script"):
        assert RemoteService(last.url).methods.told() == injected()["traceparent"]
        assert make_envelope("a", 1).traceparent == injected()["traceparent"]
    assert outgoing_headers() == {}
    assert make_envelope("a", 1).traceparent is None


def test_one_that_is_not_sampled_travels_as_that():
    with UNSAMPLED.start_as_current_span("quiet") as span:
        assert not span.get_span_context().trace_flags.sampled
        assert outgoing_headers() == injected() != {}


def test_the_state_of_vendors_travels_along():
    context = trace.SpanContext(1, 2, True, trace.TraceFlags(1), trace.TraceState([("v", "x")]))
    with trace.use_span(trace.NonRecordingSpan(context)):
        assert outgoing_headers() == injected()
        assert outgoing_headers()["tracestate"] == "v=x"


def test_without_a_span_the_callers_is_handed_on():
    token = current_call.set(Call(traceparent=CALLER))
    try:
        assert outgoing_headers()["traceparent"] == CALLER
        assert make_envelope("a", 1).traceparent == CALLER
    finally:
        current_call.reset(token)
