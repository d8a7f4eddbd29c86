"""Mixed calls and events with everything on: python -m tests.integration.soak --minutes 30

Two workers of one service that has metrics, spans by OpenTelemetry's SDK, JSON logs with the
access log, a log of slow calls, statistics, health checks, status page, explorer and tools for
agents. Callers make every kind of call and have events emitted, which are handled, fail, are tried
again and become dead letters. Afterwards the metrics say what the callers have counted, and no
process has grown by more than `SLOPES` allows, nor the directory of the metrics.
"""

import argparse
import contextlib
import itertools
import json
import os
import random
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import requests
from gevent.pywsgi import WSGIServer
from prometheus_client.parser import text_string_to_metric_families

import gemstone_sync.patch  # noqa: F401  # callers are greenlets of this process
from gemstone_sync import (
    MethodCall,
    MicroService,
    Notification,
    Reject,
    RemoteService,
    RpcError,
    current_event,
    event_handler,
    exposed_method,
    health_check,
    periodic,
    transport_from_url,
)
from tests.support.programs import REPOSITORY, Program, children_of
from tests.support.redis import private_redis
from tests.support.waiting import wait_until

from .growth import Sample, growth, sample

#: What a figure may grow by between the second third of the time and the last: at once, and for
#: each minute between them. Greenlets and descriptors come and go with the calls.
SLOPES = {
    "MB": (3.0, 0.2),
    "descriptors": (6.0, 0.0),
    "threads": (3.0, 0.0),
    "greenlets": (25.0, 0.0),
    "files": (0.0, 0.0),
    "kB of metrics": (70.0, 0.0),  # one piece of a file
    "processes": (4.0, 0.0),  # those of cpu=True begin with the first call
}
#: Of so many events one fails at its first attempt, or is rejected, which makes it a dead letter.
FAILS, REJECTED = 7, 31
PATIENCE = 60.0


# The service


class TooMany(RpcError):
    code = 1001
    message = "Too many"


def burn(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


class Soaked(MicroService):
    """Everything on."""

    name = "soaked"
    port = 0
    workers = 2
    skip_configuration = True
    metrics = True
    use_statistics = True
    access_log = True
    log_format = "json"
    slow_call_seconds = 0.05
    explorer = True
    status_page = True
    mcp = True
    max_processes = 1
    default_timeout = 120.0  # a process begins slowly on a machine that is busy
    keep_alive_timeout = 120.0  # a caller's session may be idle for as long there

    def authenticate_request(self, handler: object) -> bool:
        return True

    def on_service_start(self) -> None:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        provider = TracerProvider()
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(), max_queue_size=20_000))
        trace.set_tracer_provider(provider)
        print(self.url, flush=True)

    @health_check("disk", every=1)
    def check_disk(self) -> int:
        return os.statvfs(".").f_bavail

    @periodic(1)
    def look(self) -> None:
        self.logger.info("a look")

    @exposed_method()
    def echo(self, number: int) -> int:
        """Give it back."""
        return number

    @exposed_method()
    def fail(self) -> None:
        raise ValueError("as it is meant to be")

    @exposed_method(errors=[TooMany])
    def refuse(self) -> None:
        raise TooMany

    @exposed_method()
    def wait(self) -> None:
        time.sleep(0.1)

    @exposed_method(timeout=0.05)
    def overrun(self) -> None:
        time.sleep(10)

    @exposed_method(threaded=True)
    def in_thread(self) -> None:
        burn(0.002)

    @exposed_method(cpu=True)
    def in_process(self) -> None:
        burn(0.002)

    @exposed_method()
    def nested(self, number: int) -> int:
        found: int = RemoteService(self.url).methods.echo(number)
        return found

    @exposed_method()
    def emit(self, number: int) -> None:
        self.emit_event("sold", number)

    @event_handler("sold", backoff=0.05)
    def on_sold(self, number: int) -> None:
        if number % REJECTED == 0:
            raise Reject("as it is meant to be")
        if number % FAILS == 0 and current_event().attempts == 0:
            raise OSError("the first attempt fails")


def serve(url: str, application: str) -> None:
    Soaked.event_transports = [transport_from_url(url, application=application)]
    Soaked().start()


# The callers


class Callers:
    """Make calls of every kind, and count them.

    :ivar made: calls by method and code, as the metrics should have them.
    :ivar events: numbers of the events that were emitted.
    """

    def __init__(self, url: str) -> None:
        self.made: Counter[tuple[str, str]] = Counter()
        self.events: list[int] = []
        self._url, self._base = url, url.rpartition("/")[0]
        self._service = RemoteService(url, timeout=120, total_timeout=120)
        self._session = requests.Session()
        self._numbers = itertools.count(1)

    def run(self, seconds: float) -> None:
        """Call for so long."""
        end = time.monotonic() + seconds
        ways: dict[Callable[[], None], float] = {
            self._echo: 0.02,
            self._notify: 0.05,
            self._batch: 0.1,
            self._go_wrong: 0.05,
            self._misspell: 0.05,
            self._be_slow: 0.1,
            self._leave: 0.1,
            self._emit: 0.04,
            self._nest: 0.2,
            self._ask_as_agent: 0.3,
            self._look: 0.5,
        }

        def repeat(way: Callable[[], None], pause: float) -> None:
            while time.monotonic() < end:
                way()
                gevent.sleep(random.uniform(0.5, 1.5) * pause)

        gevent.joinall([gevent.spawn(repeat, *each) for each in ways.items()], raise_error=True)

    def _call(self, method: str, *params: Any, code: str = "", name: str | None = None) -> None:
        error = self._service.call_method(method, [*params]).error
        found = "" if error is None else str(error.code)
        assert found == code, (method, found)
        self.made[name or method, code] += 1

    def _echo(self) -> None:
        self._call("echo", next(self._numbers))

    def _notify(self) -> None:
        self._service.notify("echo", [next(self._numbers)])
        self.made["echo", ""] += 1

    def _batch(self) -> None:
        calls = [MethodCall("echo", [number]) for number in range(5)]
        wrong = MethodCall(f"never.{next(self._numbers)}")
        answers = self._service.call_batch(*calls, MethodCall("fail"), wrong, Notification("fail"))
        assert len(answers) == 7, answers
        self.made["echo", ""] += 5
        self.made["fail", "-32603"] += 2
        self.made["_OTHER", "-32601"] += 1

    def _go_wrong(self) -> None:
        self._call("fail", code="-32603")
        self._call("refuse", code="1001")
        self._call("echo", "a text", code="-32602")

    def _misspell(self) -> None:
        self._call(f"never.{next(self._numbers)}", code="-32601", name="_OTHER")

    def _be_slow(self) -> None:
        self._call("wait")
        self._call("overrun", code="-32002")

    def _leave(self) -> None:
        self._call("in_thread")
        self._call("in_process")

    def _emit(self) -> None:
        number = next(self._numbers)
        self._call("emit", number)
        self.events.append(number)

    def _nest(self) -> None:
        self._call("nested", 1)
        self.made["echo", ""] += 1

    def _ask_as_agent(self) -> None:
        params = {"name": "echo", "arguments": {"number": 1}}
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        headers = {"Accept": "application/json", "MCP-Protocol-Version": "2025-06-18"}
        answer = self._session.post(f"{self._base}/mcp", json=body, headers=headers, timeout=120)
        assert not answer.json()["result"].get("isError"), answer.text
        self.made["echo", ""] += 1

    def _look(self) -> None:
        for path in ("/health/ready", "/health/live", "/api/docs"):
            assert self._session.get(f"{self._base}{path}", timeout=120).status_code == 200
        # One that had no processor for a second is silent for once.
        wait_until(lambda: states(self._base) == ["running"] * 2, "both workers", PATIENCE)


# What is asked of it


def states(base: str) -> list[str]:
    """What the status page says of each worker."""
    accept = {"Accept": "application/json"}
    reply = requests.get(f"{base}/status", headers=accept, timeout=120)
    workers = reply.json()["workers"] if reply.ok else []
    return [each["state"] if each["answers"] else "silent" for each in workers]


class Found:
    """One page of metrics."""

    def __init__(self, base: str) -> None:
        text = requests.get(f"{base}/metrics", timeout=120).text
        families = text_string_to_metric_families(text)
        self.samples = [sample for family in families for sample in family.samples]

    def by(self, name: str, *labels: str) -> dict[tuple[str, ...], float]:
        """Values by the values of these labels, summed over all others."""
        found: Counter[tuple[str, ...]] = Counter()
        for each in self.samples:
            if each.name == name and each.value:
                found[tuple(each.labels.get(label, "") for label in labels)] += each.value
        return dict(found)


def disagreements(callers: Callers, found: Found) -> list[str]:
    """What the metrics do not say as the callers have counted it."""
    fails = sum(n % FAILS == 0 and n % REJECTED != 0 for n in callers.events)
    rejected = sum(n % REJECTED == 0 for n in callers.events)
    emitted = len(callers.events)
    wanted: dict[str, tuple[Any, Any]] = {
        "calls": (
            dict(callers.made),
            found.by("rpc_server_call_duration_seconds_count", "rpc_method", "error_type"),
        ),
        "nested calls": (
            callers.made["nested", ""],
            sum(found.by("rpc_client_call_duration_seconds_count").values()),
        ),
        "events": (
            emitted,
            found.by("messaging_client_sent_messages_total", "messaging_destination_name").get(
                ("sold",)
            ),
        ),
        "attempts": (
            {("",): emitted - rejected, ("OSError",): fails, ("Reject",): rejected},
            found.by("messaging_process_duration_seconds_count", "error_type"),
        ),
        "retries": (fails, sum(found.by("gemstone_event_retries_total").values())),
        "dead letters": (
            {("rejected",): rejected},
            found.by("gemstone_event_dead_letters_total", "reason"),
        ),
        "batches": (
            callers.made["_OTHER", "-32601"] > 0,
            bool(found.by("gemstone_batch_size_count")),
        ),
    }
    return [f"{what}: {a} were made, {b} are told" for what, (a, b) in wanted.items() if a != b]


@contextlib.contextmanager
def collector(posts: list[int]) -> Iterator[str]:
    """Takes spans over HTTP, and notes how many bytes came."""

    def answer(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        posts.append(len(environ["wsgi.input"].read()))
        start_response("200 OK", [("Content-Type", "application/x-protobuf")])
        return [b""]

    server = WSGIServer(("127.0.0.1", 0), answer, log=None)
    server.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.stop()


def look(folder: Path, parent: int, base: str) -> dict[str, Sample]:
    """The figures of all processes, by their names."""
    workers = Found(base).by("gemstone_greenlets", "pid")
    files = [*folder.glob("gemstone_sync-workers-*/*")]
    found = {
        "service": {
            "files": len(files),
            "kB of metrics": sum(path.stat().st_size for path in files) / 1000,
            "processes": len(children_of(parent)),
        },
        "parent": sample(parent),
    }
    for (pid,), greenlets in workers.items():
        found[f"worker {pid}"] = {**sample(int(pid)), "greenlets": greenlets}
    return found


def soak(folder: Path, minutes: float) -> None:
    """Run it, and print what it was like.

    :raises AssertionError: when something grows, or the metrics are not what was counted.
    """
    posts: list[int] = []
    with (
        contextlib.ExitStack() as stack,
        private_redis(folder) as broker,
        collector(posts) as endpoint,
    ):
        what = json.dumps([broker.url, f"soak-{uuid.uuid4().hex}"])
        started = Program(
            [sys.executable, "-m", __spec__.name],
            folder,
            environment={
                "SOAK": what,
                "PYTHONPATH": str(REPOSITORY),
                "TMPDIR": str(folder),
                "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
            },
        )
        stack.callback(started.kill)
        started.wait_until(lambda: started.stdout.count("\n") >= 2, "both workers", PATIENCE)
        started.wait_until_ready()
        parent, base = started.process.pid, f"http://127.0.0.1:{started.port}"
        wait_until(lambda: states(base) == ["running"] * 2, "both workers", PATIENCE)
        callers = Callers(f"{base}/api")
        calling = gevent.spawn(callers.run, 60 * minutes)
        samples: dict[str, list[Sample]] = {}
        while not calling.ready():
            gevent.sleep(min(5.0, minutes))
            for name, figures in look(folder, parent, base).items():
                samples.setdefault(name, []).append(figures)
        calling.get()
        faults: list[str] = []

        def agree() -> bool:
            faults[:] = disagreements(callers, Found(base))
            return not faults

        with contextlib.suppress(AssertionError):
            wait_until(agree, "what was counted", PATIENCE)
        blocked = Found(base).by("gemstone_hub_blocked_total", "held_by")
        assert started.terminate(60) == 0, started.stderr[-2000:]
        print(f"{minutes:g} minutes: {sum(callers.made.values())} calls,", end=" ")
        print(f"{len(callers.events)} events, {sum(posts) / 1e6:.1f} MB of spans")
        print("  held the hub:", blocked)
        for name, found in samples.items():
            told = ", ".join(f"{value:.1f} {what}" for what, value in found[-1].items())
            print(f"  {name}: {told}")
            print("    more in the last third than in the second:", growth(found))
        assert not faults, faults
        assert posts
        longest = max(len(found) for found in samples.values())
        for name, found in samples.items():
            assert len(found) > longest / 2, f"{name} was not there for long"
            for figure, more in growth(found).items():
                most = SLOPES[figure][0] + SLOPES[figure][1] * minutes / 3
                assert more <= most, f"{name}: {more:g} {figure} more than before"


def main() -> None:
    if "SOAK" in os.environ:
        serve(*json.loads(os.environ["SOAK"]))
        return
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--minutes", type=float, default=30)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        soak(Path(folder), given.minutes)


if __name__ == "__main__":
    main()
