"""OpenTelemetry's SDK: spans of one call have no parent in another, and are sent."""

import time

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=50))
tracer = provider.get_tracer("tests")


def work(n):
    with tracer.start_as_current_span("outer", attributes={"n": n}) as outer:
        time.sleep(0.3)
        with tracer.start_as_current_span("inner") as inner:
            assert inner.parent.span_id == outer.get_span_context().span_id
            assert trace.get_current_span() is inner
    while not any(span.attributes.get("n") == n for span in exporter.get_finished_spans()):
        time.sleep(0.01)
    return n
