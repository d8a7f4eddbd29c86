"""A load run by itself: kinds of failures, the generator's own part, the bars of a histogram."""

import itertools

import pytest

from gemstone_sync import RpcError
from gemstone_sync.cli.bench import figures_of
from gemstone_sync.cli.load import LoadRun, Plan
from gemstone_sync.errors import BadResponse, ConnectionLost, ConnectTimeout, GemstoneError, Timeout


def run_that_fails(errors: list[GemstoneError], concurrency: int = 1) -> LoadRun:
    """A run whose calls raise the errors, from the last to the first."""

    def call() -> int:
        raise errors.pop()

    measured = LoadRun(Plan(concurrency, calls=len(errors)), call)
    measured.run()
    return measured


def test_kinds_of_failures_are_told_apart():
    errors: list[GemstoneError] = [
        BadResponse("http://a: odd", status=502),
        BadResponse("http://a: odder", status=502),
        ConnectTimeout("http://a: no connection"),
        ConnectionLost("http://a: broke"),
        Timeout("http://a: 1"),
        Timeout("http://a: 2"),
        RpcError("No \x1b]0;such\x07 thing", code=7),
    ]

    assert dict(run_that_fails(errors).errors) == {
        "no JSON-RPC reply (HTTP 502)": 2,
        "no connection in time": 1,
        "connection lost": 1,
        "no answer in time": 2,
        r"7 No \x1b]0;such\x07 thing": 1,
    }


def test_messages_that_all_differ_do_not_fill_the_screen():
    errors: list[GemstoneError] = [RpcError(f"no user {number}") for number in range(200)]
    measured = run_that_fails(errors, concurrency=4)

    assert measured.failed == 200
    assert len(measured.errors) == 21
    assert measured.errors["others"] == 180


@pytest.mark.parametrize(("cpu_seconds", "is_the_limit"), [(9.6, True), (5.0, False)])
def test_a_busy_load_generator_says_so(cpu_seconds, is_the_limit):
    measured = LoadRun(Plan(1, calls=1), lambda: 1)
    measured.run()
    measured.seconds, measured.cpu_seconds = 10.0, cpu_seconds

    found = figures_of(measured, "http://a/api", "add")

    assert found["generator_cpu_share"] == cpu_seconds / 10
    assert any("the load generator was the limit" in n for n in found["notes"]) is is_the_limit


@pytest.mark.parametrize(
    "values",
    [
        [0],
        [0, 1, 7],
        [1000],
        [1000, 10_000, 100_000],
        [9999, 10_000, 10_001],
        [1, 3_600_000_000],
        [2300] * 50 + [2400],
        [86_400_000_000],
    ],
)
def test_bars_hold_every_call_from_the_fastest_to_the_slowest(values):
    measured = LoadRun(Plan(1, calls=1), lambda: 1)
    for microseconds in values:
        measured.latencies.record_value(microseconds)

    bars = figures_of(measured, "http://a/api", "add")["histogram"]

    assert sum(bar["calls"] for bar in bars) == len(values)
    assert bars[0]["calls"] > 0
    assert bars[-1]["calls"] > 0
    assert len(bars) <= 12
    for bar, following in itertools.pairwise(bars):
        assert bar["from_ms"] < bar["to_ms"] == following["from_ms"]
    least = max(min(values), 1) / 1000
    assert least * 0.999 <= bars[0]["from_ms"] <= least
    assert bars[-1]["to_ms"] >= max(values) / 1000
