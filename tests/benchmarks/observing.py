"""The price of being observed, per call, from one run.

    python tests/benchmarks/observing.py            # a minute
    python tests/benchmarks/observing.py --json

One ``add(a=1, b=2)`` goes from bytes to bytes through the dispatchers of services that differ in
one setting only, in one process, in turn: each round calls each of them some hundred times, and a
column is the median of the rounds. So what the machine does meanwhile hits all of them alike. The
figure to look at is the difference to the first row.

"tracing without SDK" has OpenTelemetry's API imported and no provider; "with SDK" records every
span and exports it to nowhere. "all" is statistics, metrics that are shared with other workers, the
log of slow calls, JSON logs and the SDK. A call that logs nothing costs nothing for how logs look:
the last two rows are of a call that logs one line, to nowhere.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any, NamedTuple

BODY = b'{"jsonrpc":"2.0","method":"add","params":{"a":1,"b":2},"id":1}'
EXPECTED = b'{"jsonrpc":"2.0","result":3,"id":1}'
LOGGING = BODY.replace(b"add", b"tell")
CALLS = 200


def maker(body: bytes = BODY, /, **settings: Any) -> Callable[[], bytes]:
    """Make a service; return what answers one call."""
    import gemstone_sync
    from gemstone_sync.dispatch import CallContext

    class Adder(gemstone_sync.MicroService):
        name = "benchmark.adder"

        @gemstone_sync.exposed_method()
        def add(self, a: int, b: int) -> int:
            return a + b

        @gemstone_sync.exposed_method()
        def tell(self, a: int, b: int) -> int:
            self.logger.info("%d and %d", a, b)
            return a + b

    service = Adder()
    for name, value in settings.items():
        setattr(service, name, value)
    dispatch = service.dispatcher.dispatch
    return lambda: dispatch(body, CallContext({}))  # type: ignore[return-value]


class Way(NamedTuple):
    """A call, and whether OpenTelemetry's API is there, as if it had been imported."""

    run: Callable[[], bytes]
    has_api: bool = False


def seconds_of(way: Way) -> float:
    """Return the CPU seconds of one call, as a mean of some."""
    from gemstone_sync.tracing import API

    hidden = None if way.has_api else sys.modules.pop(API, None)
    run = way.run
    began = time.thread_time()
    for _ in range(CALLS):
        run()
    taken = time.thread_time() - began
    if hidden is not None:
        sys.modules[API] = hidden
    return taken / CALLS


def measured(ways: dict[str, Way], rounds: int) -> dict[str, float]:
    """Return the medians, in µs."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        assert way.run() == EXPECTED
    for number in range(rounds + 5):
        for name, way in ways.items():
            seconds = seconds_of(way)
            if number >= 5:  # warm
                found[name].append(seconds * 1e6)
    return {name: statistics.median(values) for name, values in found.items()}


def with_sdk() -> None:
    """Have OpenTelemetry record spans, and throw them away."""
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

    class Nowhere(SpanExporter):
        def export(self, spans: Any) -> SpanExportResult:
            return SpanExportResult.SUCCESS

    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(Nowhere()))
    trace.set_tracer_provider(provider)


def log(log_format: str) -> None:
    """Have logs look like this, and go to nowhere."""
    from gemstone_sync.ops import show_logs

    root = logging.getLogger()
    for handler in root.handlers[:]:
        root.removeHandler(handler)
    show_logs(log_format, None)
    for handler in root.handlers:
        handler.setStream(open(os.devnull, "w"))  # noqa: SIM115  # type: ignore[attr-defined]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=150)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows: dict[str, float] = {}
    nothing = maker()

    def measure(ways: dict[str, Way]) -> None:
        found = measured({"nothing on": Way(nothing), **ways}, options.rounds)
        base = found.pop("nothing on")
        plain = rows.setdefault("nothing on", base)
        rows.update({name: plain + value - base for name, value in found.items()})

    log("json")
    measure(
        {
            "statistics": Way(maker(use_statistics=True)),
            "metrics": Way(maker(metrics=True)),
            "slow-call log": Way(maker(slow_call_seconds=10.0)),
            "JSON logs": Way(maker(log_format="json")),
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        from gemstone_sync.ops.metrics_files import store

        store.share(folder)
        import opentelemetry.trace  # noqa: F401

        measure(
            {
                "metrics, several workers": Way(maker(metrics=True)),
                "tracing without SDK": Way(nothing, has_api=True),
            }
        )
        with_sdk()
        everything = maker(use_statistics=True, metrics=True, slow_call_seconds=10.0)
        measure({"tracing with SDK": Way(nothing, True), "all": Way(everything, True)})
        telling = Way(maker(LOGGING))
        measure({"one line of JSON log": telling})
        log("console")
        measure({"one line of console log": telling})
    if options.json:
        print(json.dumps({name: round(value, 3) for name, value in rows.items()}))
        return
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} cores; µs of CPU for each call\n")
    print(f"{'':28}{'µs':>8}{'more':>8}")
    for name, value in rows.items():
        print(f"{name:28}{value:8.2f}{value - rows['nothing on']:8.2f}")


if __name__ == "__main__":
    main()
