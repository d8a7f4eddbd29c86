"""``gemstone bench`` against real services: what it counts, what it says, how it ends."""

import contextlib
import json
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest

from gemstone_sync import MicroService, RpcError, ServerOverloaded, exposed_method
from gemstone_sync.testing import running_service
from tests.cli.support import GEMSTONE, environment, line_of, run, run_process
from tests.support.programs import Program
from tests.support.waiting import LIMIT, wait_until

#: Calls that wait for each other.
TOGETHER = 7


class OutOfLuck(RpcError):
    code = 1001
    message = "Out of luck"


class Measured(MicroService):
    """Counts its calls; the first one is the one that bench makes alone."""

    name = "measured"

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.in_flight = self.most_in_flight = 0
        self.all_are_here = gevent.event.Event()
        self.never = gevent.event.Event()

    def before_method_call(self, request: Any) -> None:
        self.calls += 1

    def authenticate_request(self, handler: Any) -> Any:
        return handler.request.headers.get("X-Api-Token") == "sesame"

    @exposed_method()
    def add(self, a: int, b: int) -> int:
        return a + b

    @exposed_method()
    def together(self) -> int:
        """Answers once so many calls are here at the same time."""
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        if self.in_flight == TOGETHER or self.calls == 1:
            self.all_are_here.set()
        if self.calls == 1:
            self.all_are_here.clear()
        else:
            assert self.all_are_here.wait(LIMIT)
        self.in_flight -= 1
        return self.most_in_flight

    @exposed_method()
    def every_third_fails(self) -> str:
        if self.calls % 3 == 0:
            raise OutOfLuck
        return "ok"

    @exposed_method(idempotent=True)
    def works_once(self, overloaded: bool = False) -> str:
        if self.calls > 1:
            raise ServerOverloaded if overloaded else OutOfLuck("Out of \x1b[31mluck")
        return "ok"

    @exposed_method(private=True)
    def secret(self) -> str:
        return "ok"

    @exposed_method()
    def takes(self, seconds: float) -> None:
        gevent.sleep(seconds)

    @exposed_method()
    def stalls_once(self, seconds: float) -> None:
        if self.calls == 2:
            gevent.sleep(seconds)

    @exposed_method()
    def hangs_after(self, calls: int) -> None:
        if self.calls > calls:
            self.never.wait()


@pytest.fixture
def service():
    with running_service(Measured, stop_timeout=0) as running:
        yield running


ADD = ("add", "a:=1", "b:=2")


def figures(service: MicroService, *words: str) -> dict[str, Any]:
    """What a run that is fine says with ``--json``."""
    done = run("bench", service.url, *words, "--json")
    assert (done.code, done.stderr) == (0, ""), done
    (line,) = done.stdout.splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


# What is shown


def test_a_run_shows_calls_latencies_and_a_histogram(service):
    done = run_process("bench", service.url, *ADD, "--calls", "300", "--concurrency", "4")

    assert (done.code, done.stderr) == (0, ""), "no progress bar in a pipe"
    assert done.stdout.startswith(f"add at {service.url}: 4 at once, ")
    assert re.search(r"^succeeded +300 +[\d,.]+ calls/s$", done.stdout, re.M)
    assert re.search(r"^failed +0 +0 %$", done.stdout, re.M)
    for name in ("p50", "p90", "p99", "p99.9", "max"):
        assert re.search(rf"^latency {name} +[\d.,]+ ms$", done.stdout, re.M), name
    bars = re.findall(r"^\d\S* ms - \d\S* ms +([\d,]+)", done.stdout, re.M)
    assert sum(int(count.replace(",", "")) for count in bars) == 300
    assert "###" in done.stdout
    assert service.calls == 301, "one call alone, then as many as were asked for"


def test_json_has_every_figure(service):
    found = figures(service, "add", "--args", "[1, 2]", "--calls", "100", "--concurrency", "3")

    names = ["min", "p50", "p90", "p99", "p99_9", "max"]
    latencies = [found[f"latency_{name}_ms"] for name in names]
    assert latencies == sorted(latencies)
    assert 0 < latencies[0] <= found["latency_mean_ms"] <= latencies[-1] < LIMIT * 1000
    assert sum(bar["calls"] for bar in found["histogram"]) == 100
    assert found["histogram"][0]["from_ms"] <= latencies[0] * 1.01
    assert found["histogram"][-1]["to_ms"] >= latencies[-1] * 0.99
    assert (found["url"], found["method"]) == (service.url, "add")
    assert (found["concurrency"], found["rate_calls_per_second"]) == (3, None)
    assert (found["calls"], found["succeeded"], found["failed"]) == (100, 100, 0)
    assert (found["errors"], found["unsent"], found["abandoned"]) == ({}, 0, 0)
    assert found["interrupted"] is False
    rate = found["succeeded"] / found["duration_s"]
    assert found["succeeded_per_second"] == pytest.approx(rate, rel=0.01)
    assert 0 < found["generator_cpu_share"] < 2


@pytest.mark.parametrize("columns", [60, 100])
def test_the_histogram_fits_any_terminal(service, columns):
    words = ("bench", service.url, *ADD, "--calls", "50")
    done = run(*words, env={"COLUMNS": str(columns)})
    bars = [line for line in done.stdout.splitlines() if "###" in line]
    assert columns - 2 <= max(map(len, bars)) < columns
    assert done.stdout.isascii()


def test_credentials_are_not_shown(service):
    url = service.url.replace("http://", "http://user:sesame@")
    done = run("bench", url, "secret", "--token", "sesame", "--calls", "5")

    assert done.code == 0, done.stderr
    assert "secret at http://127.0.0.1" in done.stdout
    assert "sesame" not in done.stdout


# How much, for how long


def test_so_many_calls_are_made_at_once_and_no_more(service):
    found = figures(service, "together", "--calls", "35", "--concurrency", str(TOGETHER))

    assert (found["succeeded"], found["failed"]) == (35, 0)
    assert service.most_in_flight == TOGETHER


@pytest.mark.parametrize("duration", ["300ms", "0.3", ".3s"])
def test_a_run_of_some_time(service, duration):
    found = figures(service, *ADD, "--duration", duration, "--warmup", "0")

    assert 0.3 <= found["duration_s"] < 0.3 + LIMIT
    assert found["calls"] == service.calls - 1 > 10


def test_the_calls_end_a_run_that_has_time_left_and_those_of_the_warm_up_are_not_counted(service):
    found = figures(service, *ADD, "--duration", "1h", "--calls", "9")
    assert found["calls"] == service.calls - 1 == 9
    service.calls = 0
    found = figures(service, *ADD, "--warmup", "0.2", "--calls", "9")
    assert found["calls"] == 9
    assert service.calls > 1 + 9 + 1


def test_calls_that_take_longer_than_the_run_are_waited_for(service):
    words = ("--duration", "0.35", "--warmup", "0", "--concurrency", "2")
    found = figures(service, "takes", "seconds:=0.4", *words)

    assert (found["succeeded"], found["abandoned"]) == (2, 0)
    assert found["latency_min_ms"] >= 400


# A rate


def test_a_rate_is_kept(service):
    found = figures(service, *ADD, "--rate", "100", "--duration", "0.5", "--warmup", "0")

    assert (found["calls"], found["unsent"]) == (50, 0)
    assert found["duration_s"] >= 0.49, "the last call is due then"
    assert found["rate_calls_per_second"] == 100


def test_a_stall_counts_for_every_call_that_was_due_meanwhile(service):
    words = ("stalls_once", "seconds:=0.5", "--calls", "60", "--concurrency", "1")

    def late(found: dict[str, Any]) -> int:
        return sum(bar["calls"] for bar in found["histogram"] if bar["to_ms"] > 100)

    with_rate = figures(service, *words, "--rate", "100")
    service.calls = 0
    without = figures(service, *words)

    # Those due in the first 400 ms of the stall waited for 100 ms or more.
    assert late(with_rate) >= 40
    assert 1 <= late(without) < 20, "one slow call: what callers saw is not in it"
    assert without["latency_max_ms"] >= 500


def test_a_rate_that_is_too_high_says_what_was_not_sent(service):
    words = ("takes", "seconds:=0.05", "--rate", "1000", "--duration", "0.5", "--warmup", "0")
    found = figures(service, *words, "--concurrency", "2")

    assert found["calls"] + found["unsent"] == 500
    assert found["unsent"] > 400
    assert any(f"{found['unsent']} calls were due and not sent" in n for n in found["notes"])


# Failures


def test_a_failing_call_is_counted_and_the_run_goes_on(service):
    done = run("bench", service.url, "every_third_fails", "--calls", "299", "--concurrency", "5")

    assert (done.code, done.stderr) == (0, "")
    assert re.search(r"^succeeded +199 ", done.stdout, re.M)
    assert re.search(r"^failed +100 +33.4 %$", done.stdout, re.M)
    assert re.search(r"^ +100 +1001 Out of luck$", done.stdout, re.M)
    bars = re.findall(r"^\d\S* ms - \d\S* ms +([\d,]+)", done.stdout, re.M)
    assert sum(map(int, bars)) == 199, "latencies are of the calls that succeeded"


def test_a_run_without_a_success_ends_with_1(service):
    done = run("bench", service.url, "works_once", "--calls", "20")

    assert done.code == 1
    assert done.stderr == "gemstone bench: none of 20 calls succeeded\n"
    assert re.search(r"^failed +20 +100 %$", done.stdout, re.M)
    assert "\x1b" not in done.stdout, "an error's text must not steer the terminal"


def test_a_failed_call_is_not_made_again(service):
    """A RemoteService would repeat an idempotent call that found no place."""
    words = ("works_once", "overloaded:=true", "--calls", "20", "--json")
    done = run("bench", service.url, *words)

    assert done.code == 1
    assert json.loads(done.stdout)["errors"] == {"-32000 Server overloaded": 20}
    assert json.loads(done.stdout)["latency_p50_ms"] is None
    assert service.calls == 21


@pytest.mark.slow
def test_a_service_that_goes_away_is_told_by_the_kind_of_failure(tmp_path):
    words = (*ADD, "--duration", "2", "--warmup", "0", "--json")
    with (
        running_service(Measured, stop_timeout=0) as service,
        bench(tmp_path, service.url, *words) as program,
    ):
        wait_until(lambda: service.calls > 100, "calls")
        service.stop()

        assert program.wait() == 0, program.stderr
    found = json.loads(program.stdout)
    assert found["succeeded"] > 10
    assert set(found["errors"]) <= {"no connection", "connection lost"}
    # 50 at once that try again every 50 ms, for 2 s at most.
    assert 0 < found["failed"] <= 50 * (2 / 0.05 + 2)


# The first call: nothing is measured when it fails


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("add", "a:=1"), "b: missing"),
        (("secret",), "Access denied"),
        (("secret", "--token", "wrong-token"), "Access denied"),
    ],
)
def test_what_the_service_refuses_is_one_line(service, words, told):
    done = run("bench", service.url, *words, "--duration", "1h")

    line = line_of(done, 1)
    assert line.startswith(f"gemstone bench: {words[0]} at {service.url}: ")
    assert told in line
    assert "wrong-token" not in line
    error = json.loads(line_of(run("bench", service.url, *words, "--json"), 1))["error"]
    assert set(error) >= {"code", "message"}


@pytest.mark.parametrize("words", [("--token", "sesame"), ("--header", "X-Api-Token: sesame")])
def test_every_call_has_the_credentials(service, words):
    found = figures(service, "secret", "--calls", "20", *words)

    assert (found["succeeded"], service.calls) == (20, 21)


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("--duration", "soon 0 -1 nan 100h"),
        ("--warmup", "-1s"),
        ("--calls", "0 many"),
        ("--concurrency", "0 1000000"),
        ("--rate", "0 nan inf"),
        ("--timeout", "0"),
        ("--header", "no-colon"),
    ],
)
def test_a_wrong_option_is_one_line(option, values):
    for value in values.split():
        line = line_of(run("bench", "http://127.0.0.1:1/api", "add", option, value), 2)
        assert line.startswith("gemstone bench: ")
        assert option in line


@pytest.mark.parametrize(
    ("words", "told"),
    [("a", "'a'"), ("a:=", "a:="), ("a:=1 a:=2", "twice"), ("a:=1 --args [1]", "--args")],
)
def test_a_wrong_parameter_is_one_line(words, told):
    assert told in line_of(run("bench", "http://127.0.0.1:1/api", "add", *words.split()), 2)


def test_without_hdrhistogram_it_says_what_to_install(monkeypatch):
    # A module that is None in sys.modules cannot be imported: as if it were not installed.
    monkeypatch.setitem(sys.modules, "hdrh", None)
    line = line_of(run("bench", "http://127.0.0.1:1/api", "add"), 2)

    assert line == (
        "gemstone bench: hdrhistogram is not installed: pip install 'gemstone_sync[bench]'"
    )


def test_a_process_that_must_not_be_patched_makes_no_run(service):
    done = run_process("bench", service.url, *ADD, env={"GEMSTONE_MONKEY_PATCH": "0"})

    assert "GEMSTONE_MONKEY_PATCH=0" in line_of(done, 2)
    assert service.calls == 0


# Ctrl-C


@contextlib.contextmanager
def bench(folder: Path, *words: str) -> Iterator[Program]:
    """A run that goes on while the test does something."""
    started = Program([str(GEMSTONE), "bench", *words], folder, environment=environment())
    try:
        yield started
    finally:
        started.kill()


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_a_signal_ends_it_early_and_shows_what_was_measured(service, tmp_path, number):
    words = ("hangs_after", "calls:=100", "--concurrency", "6", "--warmup", "0")
    with bench(tmp_path, service.url, *words, "--json") as program:
        wait_until(lambda: service.calls == 106, "calls that hang")
        program.send_signal(number)

        assert program.wait() == 0, program.stderr
    found = json.loads(program.stdout)
    assert (found["succeeded"], found["abandoned"]) == (99, 6)
    assert found["interrupted"] is True
    assert found["notes"] == ["stopped early; 6 calls had no answer yet"]
    assert program.stderr == ""


@pytest.mark.parametrize("calls", [0, 1])
def test_ctrl_c_with_nothing_measured_says_nothing(service, tmp_path, calls):
    """In the first call, and in the warm-up."""
    words = ("hangs_after", f"calls:={calls}", "--concurrency", "1")
    with bench(tmp_path, service.url, *words) as program:
        wait_until(lambda: service.calls == calls + 1, "the call that hangs")
        program.send_signal(signal.SIGINT)

        assert program.wait() == 130
    assert (program.stdout, program.stderr.strip()) == ("", "")
