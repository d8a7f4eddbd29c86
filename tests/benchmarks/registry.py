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
import tempfile
import time
import tracemalloc
from pathlib import Path
from typing import Any

from connections import rss_kb
from loadgen import Connection, Fault, call_of
from program import Options, Run, between, cost, start
from servers import RunningServer, Server

PINGS_PER_MINUTE = 10_000
TOKEN = "benchmark"

#: What is asked, and how.
LOOKUPS = {
    "exact name": "group.07.service.0007",
    "glob, 1 name": "group.07.service.000?",
    "glob, 10 names": "group.07.service.0?07",
    "glob, from the start": "*.service.0007",
    "glob, everything": "*",
}


def pings(services: int, instances: int) -> list[tuple[str, str, str, int]]:
    """One ping of every instance: its name, URL, instance and interval."""
    return [
        (
            f"group.{s % 100:02}.service.{s:04}",
            f"http://10.{s // 250}.{s % 250}.{i}:8000/api",
            f"{s:04x}-{i:02x}-0123456789abcdef",
            30,
        )
        for s in range(services)
        for i in range(instances)
    ]


# A registry in a process of its own


class RunningRegistry(RunningServer):
    def __init__(self, core: int, folder: str) -> None:
        state = Path(folder) / "state.db"
        arguments = f"-m gemstone_sync.registry --port {{port}} --state {state}"
        server = Server("registry", "a registry", arguments)
        super().__init__(server, {core}, GEMSTONE_REGISTRY_TOKEN=TOKEN)

    def connect(self, **fields: str) -> Connection:
        return super().connect(X_Api_Token=TOKEN, **fields)

    def answers(self) -> bool:
        self.ask(call_of("locate_service", "*"))
        return True

    def ask(self, body: bytes) -> None:
        """Call on a connection of its own."""
        with self.connect() as connection:
            answers = json.loads(connection.call(body))
        for answer in answers if isinstance(answers, list) else [answers]:
            if "error" in answer:
                raise Fault(str(answer))


def over_http(options: argparse.Namespace) -> dict[str, float]:
    """Fill a registry, then measure it."""
    measured: dict[str, float] = {}
    every = [call_of("ping", *ping) for ping in pings(options.services, options.instances)]
    with (
        tempfile.TemporaryDirectory() as folder,
        RunningRegistry(options.core, folder) as registry,
    ):
        clock, empty = registry.cpu_clock(), rss_kb(registry.pid)
        before = clock()
        for place in range(0, len(every), 100):
            registry.ask(b"[" + b",".join(every[place : place + 100]) + b"]")
        filling = (clock() - before) / len(every) * 1e6
        measured["first ping, state written, batches of 100: µs"] = filling
        grown = rss_kb(registry.pid) - empty
        measured["RSS: MB more than empty"] = grown / 1024
        measured["RSS: kB per instance"] = grown / len(every)
        with registry.connect() as connection:
            wanted = {f"locate over HTTP, {title}": of for title, of in locating().items()}
            wanted["ping over HTTP, one connection"] = (every[0], 2000)
            for title, (body, calls) in wanted.items():
                calls = min(calls, 2000)
                cpu = cost(lambda b=body: connection.call(b), calls, clock, max(1, calls // 10))
                measured[f"{title}: CPU µs"] = cpu * 1e6
        return measured | steady_pings(registry, every, options.seconds)


def locating() -> dict[str, tuple[bytes, int]]:
    """The call of each look-up, and how often it is made."""
    return {
        title: (call_of("locate_service", pattern), 30 if pattern == "*" else 5000)
        for title, pattern in LOOKUPS.items()
    }


def steady_pings(registry: RunningRegistry, every: list[bytes], seconds: float) -> dict[str, float]:
    """10,000 pings a minute for so long, each on a new connection."""
    clock = registry.cpu_clock()
    count = int(PINGS_PER_MINUTE / 60 * seconds)
    started, cpu, laps = time.monotonic(), clock(), []
    for number in range(count):
        time.sleep(max(0.0, started + number * 60 / PINGS_PER_MINUTE - time.monotonic()))
        sent = time.monotonic()
        registry.ask(every[number % len(every)])
        laps.append(time.monotonic() - sent)
    took, used = time.monotonic() - started, clock() - cpu
    return {
        "steady pings: a minute": count / took * 60,
        "steady pings: % of one core": used / took * 100,
        "steady pings: CPU µs each": used / count * 1e6,
        "steady pings: slowest ms": max(laps) * 1e3,
    }


# Within this process


def in_process(options: argparse.Namespace) -> dict[str, float]:
    """Look-ups through the dispatcher, and in the directory alone."""
    from gemstone_sync.dispatch import CallContext
    from gemstone_sync.registry import ServiceRegistry

    registry = ServiceRegistry()
    directory, dispatch = registry.directory, registry.dispatcher.dispatch
    every = pings(options.services, options.instances)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for ping in every:
        directory.add(*ping)
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()

    def microseconds(work: Any, calls: int) -> float:
        """CPU: this process is not alone on the machine."""
        return cost(work, calls, time.process_time, max(1, calls // 10)) * 1e6

    measured = {"directory: MB (tracemalloc)": held / 2**20}
    measured["directory: walk through all entries: µs"] = microseconds(directory.sweep, 20)
    for title, (body, calls) in locating().items():
        alone = microseconds(lambda t=title: directory.locate(LOOKUPS[t]), calls)
        measured[f"locate in the directory, {title}: µs"] = alone
        whole = microseconds(lambda b=body: dispatch(b, CallContext()), calls)
        measured[f"locate through the dispatcher, {title}: µs"] = whole
    return measured


def main() -> int:
    parser = Options("Memory, look-ups and pings of a registry.")
    parser.add_number("--services", 1000, between(10, 10_000))
    parser.add_number("--instances", 10, between(1, 200))
    parser.add_number("--seconds", 60.0, between(1, 3600, float), "of steady pings")
    options = parser.read()
    os.sched_setaffinity(0, {options.core})
    total = options.services * options.instances
    print(
        f"{options.services:,} services x {options.instances} instances = {total:,}. Pinned: "
        f"registry and client share core {options.core}.\n",
        flush=True,
    )
    run = Run(options)
    figures = over_http(options) | in_process(options)
    run.add("registry", "figures", figures)
    for title, value in figures.items():
        print(f"{title:60}{value:>12,.1f}")
    run.write()
    return 0


if __name__ == "__main__":
    start(main)
