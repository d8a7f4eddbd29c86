"""A load run by itself: kinds of failures, the generator's own part."""

import pytest

from gemstone_sync import RpcError
from gemstone_sync.cli.load import LoadRun, Plan
from gemstone_sync.cli.load_report import figures_of
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
        "7 No  ]0;such  thing": 1,
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


def test_a_run_without_an_end_is_refused():
    with pytest.raises(ValueError, match="duration"):
        Plan(1)
