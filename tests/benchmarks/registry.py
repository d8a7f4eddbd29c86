"""What a registry of 1,000 services with 10 instances each costs: memory, look-ups, pings.

    python tests/benchmarks/registry.py [--services 1000] [--instances 10] [--seconds 60] [--json F]

`python -m gemstone_sync.registry` runs with a token and a state file, pinned to one core with its
client. Pings come at a steady 10,000 a minute, each on a connection of its own, as those of
services do that ping every 30 s. The look-ups are measured over HTTP (CPU of the server's process
per call, one connection) and within a process of its own, through the dispatcher and without it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import socket

import loadgen
import process
import rpc
from connections import rss_kb
from measure import compact

PINGS_PER_MINUTE = 10_000
TOKEN = "benchmark"
START_LIMIT = 30.0

#: What is asked, and how.
LOOKUPS = {
    "exact name": "group.07.service.0007",
    "glob, 1 name": "group.07.service.000?",
    "glob, 10 names": "group.07.service.0?07",
    "glob, from the start": "*.service.0007",
    "glob, everything": "*",
}


def name_of(number: int) -> str:
    return f"group.{number % 100:02}.service.{number:04}"


def url_of(service: int, instance: int) -> str:
    return f"http://10.{service // 250}.{service % 250}.{instance}:8000/api"


def pings(services: int, instances: int) -> list[dict[str, object]]:
    """One ping of every instance."""
    return [
        {
            "jsonrpc": "2.0",
            "method": "ping",
            "params": [name_of(s), url_of(s, i), f"{s:04x}-{i:02x}-0123456789abcdef", 30],
            "id": 1,
        }
        for s in range(services)
        for i in range(instances)
    ]


def locate(pattern: str) -> bytes:
    return compact({"jsonrpc": "2.0", "method": "locate_service", "params": [pattern], "id": 1})


# A registry in a process of its own


def post(port: int, body: bytes) -> bytes:
    """A whole HTTP request, with the token."""
    request = loadgen.http_request(port, body)
    return request.replace(b"\r\n", f"\r\nX-Api-Token: {TOKEN}\r\n".encode(), 1)


def ask(port: int, body: bytes) -> object:
    """Call on a connection of its own; the result."""
    with loadgen.connect(port) as connection:
        connection.sendall(post(port, body))
        answer = json.loads(loadgen.body_of(loadgen.finish(connection, b"")) or b"")
    faults = [each for each in (answer if type(answer) is list else [answer]) if "error" in each]
    if faults:
        raise loadgen.BadAnswer(str(faults[0]))
    return answer


@contextmanager
def running_registry(core: int, folder: str) -> Iterator[tuple[int, int]]:
    """Start one; its port and process id."""
    port = process.free_port()
    state = str(Path(folder) / "state.db")
    child = process.spawn(
        [sys.executable, "-m", "gemstone_sync.registry", "--port", str(port), "--state", state],
        cores={core},
        environment={**os.environ, "GEMSTONE_REGISTRY_TOKEN": TOKEN},
    )
    try:
        end = time.monotonic() + START_LIMIT
        while True:
            try:
                ask(port, locate("*"))
                break
            except OSError:
                if time.monotonic() > end or child.poll() is not None:
                    raise process.ServerFault("the registry did not start") from None
                time.sleep(0.05)
        yield port, child.pid
    finally:
        process.stop(child)


def cpu_of(pid: int, work: Callable[[], None], calls: int) -> float:
    """µs of the server's CPU for each of `calls` repetitions."""
    for _ in range(max(1, calls // 10)):
        work()
    before = process.cpu_seconds(pid)
    for _ in range(calls):
        work()
    return (process.cpu_seconds(pid) - before) / calls * 1e6


def over_http(options: argparse.Namespace) -> dict[str, float]:
    """Fill a registry, then measure it."""
    measured: dict[str, float] = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        running_registry(options.core, folder) as (port, pid),
    ):
        every = pings(options.services, options.instances)
        empty = rss_kb(pid)
        before = process.cpu_seconds(pid)
        for start in range(0, len(every), 100):
            ask(port, compact(every[start : start + 100]))
        measured["first ping, state written, batches of 100: µs"] = (
            (process.cpu_seconds(pid) - before) / len(every) * 1e6
        )
        grown = rss_kb(pid) - empty
        measured["RSS: MB more than empty"] = grown / 1024
        measured["RSS: kB per instance"] = grown / len(every)
        with loadgen.connect(port) as connection:
            for title, pattern in LOOKUPS.items():
                call = caller(connection, post(port, locate(pattern)))
                calls = 30 if pattern == "*" else 2000
                measured[f"locate over HTTP, {title}: CPU µs"] = cpu_of(pid, call, calls)
            call = caller(connection, post(port, compact(every[0])))
            measured["ping over HTTP, one connection: CPU µs"] = cpu_of(pid, call, 2000)
        measured |= steady_pings(port, pid, every, options.seconds)
    return measured


def caller(connection: socket, request: bytes) -> Callable[[], None]:
    def call() -> None:
        connection.sendall(request)
        loadgen.finish(connection, b"")

    return call


def steady_pings(
    port: int, pid: int, every: list[dict[str, object]], seconds: float
) -> dict[str, float]:
    """10,000 pings a minute for so long, each on a new connection."""
    requests = [post(port, compact(ping)) for ping in every]
    count = int(PINGS_PER_MINUTE / 60 * seconds)
    started, cpu = time.monotonic(), process.cpu_seconds(pid)
    slowest = 0.0
    for number in range(count):
        due = started + number * 60 / PINGS_PER_MINUTE
        if (left := due - time.monotonic()) > 0:
            time.sleep(left)
        sent = time.monotonic()
        with loadgen.connect(port) as connection:
            connection.sendall(requests[number % len(requests)])
            answer = loadgen.body_of(loadgen.finish(connection, b""))
        if json.loads(answer or b"")["result"] is not True:
            raise loadgen.BadAnswer(f"a ping was answered {answer!r}")
        slowest = max(slowest, time.monotonic() - sent)
    took = time.monotonic() - started
    used = process.cpu_seconds(pid) - cpu
    return {
        "steady pings: a minute": count / took * 60,
        "steady pings: % of one core": used / took * 100,
        "steady pings: CPU µs each": used / count * 1e6,
        "steady pings: slowest ms": slowest * 1e3,
    }


# Within this process


def in_process(options: argparse.Namespace) -> dict[str, float]:
    """Look-ups through the dispatcher, and in the directory alone."""
    from gemstone_sync.dispatch import CallContext
    from gemstone_sync.registry import ServiceRegistry

    registry = ServiceRegistry()
    directory, dispatch = registry.directory, registry.dispatcher.dispatch
    every = [ping["params"] for ping in pings(options.services, options.instances)]
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for name, url, instance, interval in every:  # type: ignore[misc]
        directory.add(name, url, instance, interval)
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    measured = {"directory: MB (tracemalloc)": held / 2**20}
    sweep = microseconds(directory.sweep, 20)
    measured["directory: walk through all entries: µs"] = sweep
    for title, pattern in LOOKUPS.items():
        calls = 30 if pattern == "*" else 5000
        body = locate(pattern)
        alone = microseconds(lambda p=pattern: directory.locate(p), calls)
        whole = microseconds(lambda b=body: dispatch(b, CallContext()), calls)
        measured[f"locate in the directory, {title}: µs"] = alone
        measured[f"locate through the dispatcher, {title}: µs"] = whole
    return measured


def microseconds(work: Callable[[], object], calls: int) -> float:
    """CPU of one repetition: this process is not alone on the machine."""
    for _ in range(max(1, calls // 10)):
        work()
    started = time.process_time()
    for _ in range(calls):
        work()
    return (time.process_time() - started) / calls * 1e6


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Memory, look-ups and pings of a registry.")
    parser.add_argument("--services", type=int, default=1000)
    parser.add_argument("--instances", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=60.0, help="of steady pings")
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure")
    options = parser.parse_args(argv)
    if not (10 <= options.services <= 10_000 and 1 <= options.instances <= 200):
        parser.error("--services is 10 to 10000, --instances 1 to 200")
    if not 1 <= options.seconds <= 3600:
        parser.error("--seconds is 1 to 3600")
    if options.core not in os.sched_getaffinity(0):
        parser.error(f"--core is one of {sorted(os.sched_getaffinity(0))}")
    return options


def main() -> int:
    options = arguments()
    rpc.stop_on_signals()
    os.sched_setaffinity(0, {options.core})
    total = options.services * options.instances
    print(
        f"{options.services:,} services x {options.instances} instances = {total:,}. Pinned: "
        f"registry and client share core {options.core}.\n",
        flush=True,
    )
    try:
        measured = over_http(options)
    except (process.ServerFault, loadgen.BadAnswer, OSError) as fault:
        print(f"failed: {fault}", file=sys.stderr)
        return 1
    measured |= in_process(options)
    for title, value in measured.items():
        print(f"{title:60}{value:>12,.1f}")
    if options.json is not None:
        options.json.write_text(json.dumps(measured, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)
