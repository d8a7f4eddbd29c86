"""Traces through several processes, as a collector gets them: the set-up that README shows.

The collector is written here: OTLP over HTTP, as OpenTelemetry's own exporter sends it.
"""

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent.pywsgi import WSGIServer

from gemstone_sync import RemoteService
from tests.support.programs import Program, gunicorn, program
from tests.support.waiting import wait_until

from .processes import OURS

trace_service = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")

pytestmark = pytest.mark.slow  # several programs, each with OpenTelemetry's SDK

# README's own lines.
SERVICE = """
import os
import gemstone_sync
from gemstone_sync import (
    MicroService, RemoteService, SqliteEventTransport, event_handler, exposed_method
)

class Traced(MicroService):
    skip_configuration = True
    port = 0
    event_transports = [SqliteEventTransport("events.db")]

    def on_service_start(self):  # in each worker, after the fork
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        provider = TracerProvider(resource=Resource.create({"service.name": self.name}))
        exporter = OTLPSpanExporter()  # to OTEL_EXPORTER_OTLP_ENDPOINT
        provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=20_000))
        trace.set_tracer_provider(provider)

class A(Traced):
    name = "a"

    @exposed_method()
    def order(self, item: str) -> int:
        self.emit_event("ordered", item)
        return os.getpid()

    @exposed_method()
    def nothing(self) -> int:
        return os.getpid()

class B(Traced):
    name = "b"

    @event_handler("ordered", retries=2, backoff=0.05)
    def ordered(self, item: str) -> None:
        with open("attempts", "a") as file:
            file.write("x")
        if os.path.getsize("attempts") == 1:
            raise RuntimeError("at the first attempt")
        RemoteService(os.environ["C"]).methods.pack(item)

class C(Traced):
    name = "c"

    @exposed_method()
    def pack(self, item: str) -> str:
        return item
"""

START = "\nimport sys\n{name}().start(workers={workers})\n"

CLIENT = """
import os, sys
from gemstone_sync import RemoteService
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

provider = TracerProvider(resource=Resource.create({"service.name": "client"}))
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(provider)
RemoteService(sys.argv[1]).methods.order("tea")
"""


class Collector:
    """Takes spans over OTLP/HTTP, in protobuf."""

    def __init__(self) -> None:
        #: With the name of the service.
        self.spans: list[tuple[str, Any]] = []
        self.posts = 0
        #: Set to have every post answered by this.
        self.status = "200 OK"
        self.server = WSGIServer(("127.0.0.1", 0), self._answer, log=None)
        self.server.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def _answer(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        assert environ["PATH_INFO"] == "/v1/traces"
        body = environ["wsgi.input"].read()
        self.posts += 1
        if self.status.startswith("200"):
            request = trace_service.ExportTraceServiceRequest.FromString(body)
            for resource in request.resource_spans:
                (name,) = [
                    each.value.string_value
                    for each in resource.resource.attributes
                    if each.key == "service.name"
                ]
                for scope in resource.scope_spans:
                    self.spans += [(name, span) for span in scope.spans]
        start_response(self.status, [("Content-Type", "application/x-protobuf")])
        return [trace_service.ExportTraceServiceResponse().SerializeToString()]


@pytest.fixture
def collector() -> Iterator[Collector]:
    started = Collector()
    yield started
    started.server.stop()


def environment(collector: Collector, **more: str) -> dict[str, str]:
    delay = {"OTEL_BSP_SCHEDULE_DELAY": "100"}
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, **delay, **more}


def port_of(started: Program) -> int:
    def said() -> str:
        return started.stderr.partition("listens on http://127.0.0.1:")[2].partition("/")[0]

    started.port = int(started.wait_until(said, "it listens"))
    return started.wait_until_ready()


def run(name: str, folder: Path, workers: int = 1, **variables: str) -> Any:
    source = SERVICE + START.format(name=name, workers=workers)
    path = folder / f"{name.lower()}.py"
    path.write_text(source)
    return program(path, folder, environment=variables)


def test_one_trace_runs_through_four_processes_and_an_event_that_is_tried_again(
    tmp_path, collector
):
    variables = environment(collector)
    with run("C", tmp_path, **variables) as c:
        more = {"C": f"http://127.0.0.1:{port_of(c)}/api"}
        with (
            run("B", tmp_path, **variables, **more) as b,
            run("A", tmp_path, workers=2, **variables) as a,
        ):
            port_of(b)
            url = f"http://127.0.0.1:{port_of(a)}/api"
            path = tmp_path / "client.py"
            path.write_text(CLIENT)
            with program(path, tmp_path, url, environment=variables) as client:
                assert client.wait() == 0, client.stderr
            wait_until(lambda: len(collector.spans) >= 7, "all spans", 60)
            for each in (a, b, c):
                assert each.terminate() == 0
    spans = {span.span_id: (service, span) for service, span in collector.spans}
    assert len({span.trace_id for _, span in spans.values()}) == 1

    def told(service: str, span: Any) -> list[str]:
        return [f"{service}: {span.name}"] + (
            told(*spans[span.parent_span_id]) if span.parent_span_id else []
        )

    paths = sorted([list(reversed(told(*each))) for each in spans.values()], key=len)
    first = ["client: order", "a: order", "a: send ordered", "b: process ordered"]
    assert paths == [
        first[:1],
        first[:2],
        first[:3],
        first,
        first,
        [*first, "b: pack"],
        [*first, "b: pack", "c: pack"],
    ]
    failed, handled = [
        span
        for _, span in sorted(spans.values(), key=lambda each: each[1].start_time_unix_nano)
        if span.name == "process ordered"
    ]
    assert failed.status.code != handled.status.code
    send = next(span for _, span in spans.values() if span.name == "send ordered")
    for span in (failed, handled):
        (link,) = span.links
        assert link.span_id == send.span_id


def call_often(url: str, times: int, at_once: int = 50) -> Counter[int]:
    """Call without spans of our own; return how many calls each process has answered."""
    service = RemoteService(url, timeout=(5, 30), total_timeout=60)
    answered: Counter[int] = Counter()

    def some() -> None:
        for _ in range(times // at_once):
            answered[service.methods.nothing()] += 1

    callers = [gevent.spawn(some) for _ in range(at_once)]
    gevent.joinall(callers, timeout=200, raise_error=True)
    assert all(caller.ready() for caller in callers)
    return answered


@pytest.fixture(params=["workers", "GunicornWorker", "gevent"])
def served(request: pytest.FixtureRequest, tmp_path: Path, collector: Collector) -> Iterator[Any]:
    variables = environment(collector)
    if request.param == "workers":
        with run("A", tmp_path, workers=2, **variables) as started:
            port_of(started)
            yield started
        return
    (tmp_path / "served.py").write_text(SERVICE + "\nservice = A()\n")
    kind = OURS if request.param == "GunicornWorker" else "gevent"
    options = ["-k", kind, "-w", "2"]
    with gunicorn("served:service", tmp_path, *options, environment=variables) as started:
        started.wait_until_ready()
        yield started


@pytest.mark.timeout(300)  # so many calls, on a machine that is busy
def test_of_ten_thousand_calls_no_span_is_missing_after_sigterm(served, collector):
    calls = 10_000
    answered = call_often(f"http://127.0.0.1:{served.port}/api", calls)
    assert sum(answered.values()) == calls
    assert served.terminate() == 0, served.stderr
    spans = Counter(span.name for _, span in collector.spans)
    assert spans["nothing"] == calls
    assert len({span.span_id for _, span in collector.spans}) == len(collector.spans)
    assert len({span.trace_id for _, span in collector.spans}) == calls


@pytest.mark.parametrize("trouble", ["down", "refusing", "hanging"])
def test_a_collector_that_is_away_costs_no_call_and_no_end(tmp_path, collector, trouble):
    hold = gevent.event.Event()
    if trouble == "down":
        collector.server.stop()
    elif trouble == "refusing":
        collector.status = "500 Internal Server Error"
    else:
        collector.server.application = lambda *_: [b"" for _ in [hold.wait(120)]]
    with run("A", tmp_path, **environment(collector)) as started:
        answered = call_often(f"http://127.0.0.1:{port_of(started)}/api", 500)
        assert sum(answered.values()) == 500
        began = time.monotonic()
        assert started.terminate(60) == 0, started.stderr
        # The exporter itself waits 10 s for its last words, after the service has stopped.
        assert time.monotonic() - began < 60
    hold.set()


def test_the_constants_of_python_lag_behind():
    """Once they do not, the literal can be theirs."""
    from opentelemetry.semconv._incubating.attributes import rpc_attributes

    from gemstone_sync.tracing import STATUS_CODE

    assert STATUS_CODE == "rpc.status_code"
    assert STATUS_CODE not in vars(rpc_attributes).values()
    assert "RPC_RESPONSE_STATUS_CODE" in vars(rpc_attributes)
