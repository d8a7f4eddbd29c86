"""What an idle connection costs: memory, and CPU, of a server that keeps 5,000 of them.

    python tests/benchmarks/connections.py [--connections 5000] [--rounds 3] [--json FILE]

Each round starts a server of its own with `max_connections` raised, twice: once every connection
has made a call and is kept (idle), once it has never said anything (silent). Memory is the growth
of the process's RSS, divided; what the kernel keeps for a socket is not in it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from socket import socket
from statistics import median

import loadgen
import measure
import process
import rpc
from payloads import LARGE

REACH_KB = 40.0
#: Connections made and ended first, so that what the first ones cost once is not counted.
WARM = 200
#: Seconds in which the server is watched doing nothing.
WATCHED = 3.0
LIMIT = 30.0
#: Sockets of a server without connections.
LISTENING = 1
KINDS = ("idle", "silent")


@dataclass(frozen=True)
class Sample:
    """One server: kB of RSS per connection; CPU ms per second while all are idle; CPU µs of a call.

    :param kept: kB of RSS per connection that are still there when all have gone.
    """

    kind: str
    rss: float
    kept: float
    idle_cpu: float
    call_cpu: float


class WatchedServer(measure.RunningServer):
    """A running server whose process can be looked into."""

    @property
    def pid(self) -> int:
        return self._child.pid


def rss_kb(pid: int) -> int:
    """Return a process's resident memory, as the kernel counts it."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise process.ServerFault("the server ended while it was measured")


def open_sockets(pid: int) -> int:
    """Return how many sockets a process has."""
    count = 0
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            count += os.readlink(entry).startswith("socket:")
        except OSError:
            continue  # closed in between
    return count


def wait_for_sockets(pid: int, wanted: int) -> None:
    """Wait until a process has so many sockets: until it has accepted, or closed, them.

    :raises process.ServerFault: it does not get there
    """
    end = time.monotonic() + LIMIT
    while (found := open_sockets(pid)) != wanted:
        if time.monotonic() > end:
            raise process.ServerFault(f"{found} sockets instead of {wanted} after {LIMIT} s")
        time.sleep(0.02)


def connect_all(port: int, kind: str, count: int) -> list[socket]:
    """Open connections of one kind."""
    request = loadgen.http_request(port, measure.compact(measure.SINGLE_CALL))
    connections = []
    for _ in range(count):
        connection = loadgen.connect(port)
        connections.append(connection)
        if kind == "idle":
            connection.sendall(request)
            loadgen.check(loadgen.finish(connection, b""), 0)
    return connections


def close_all(connections: list[socket]) -> None:
    for connection in connections:
        connection.close()


def measure_one(kind: str, options: argparse.Namespace) -> Sample:
    """Start a server, open the connections, measure."""
    call = measure.compact(measure.SINGLE_CALL)
    environment = {
        "BENCH_MAX_CONNECTIONS": str(options.connections + 1000),
        "BENCH_KEEP_ALIVE": "600",
    }
    core = {options.core}
    server: WatchedServer
    with WatchedServer(LARGE, sys.executable, core, call, **environment) as server:
        pid, clock = server.pid, server.cpu_clock()
        close_all(connect_all(server.port, kind, WARM))
        wait_for_sockets(pid, LISTENING)
        before = rss_kb(pid)
        connections = connect_all(server.port, kind, options.connections)
        try:
            wait_for_sockets(pid, LISTENING + options.connections)
            grown = rss_kb(pid) - before
            cpu = clock()
            time.sleep(WATCHED)
            idle_cpu = (clock() - cpu) / WATCHED
            call_cpu = cpu_of_calls(server.port, clock)
        finally:
            close_all(connections)
        wait_for_sockets(pid, LISTENING)
        kept = rss_kb(pid) - before
    per_connection = grown / options.connections, kept / options.connections
    return Sample(kind, *per_connection, idle_cpu * 1e3, call_cpu * 1e6)


def cpu_of_calls(port: int, clock: Callable[[], float], calls: int = 2000) -> float:
    """Return the server's CPU seconds per call, on one more connection."""
    request = loadgen.http_request(port, measure.compact(measure.SINGLE_CALL))
    with loadgen.connect(port) as connection:
        for number in range(200 + calls):
            if number == 200:
                before = clock()
            connection.sendall(request)
            loadgen.check(loadgen.finish(connection, b""), 0)
        return (clock() - before) / calls


def table(samples: dict[str, list[Sample]], count: int) -> str:
    head = ("kB each", "reach", "kept after", "CPU ms/s", "µs/call then")
    lines = [f"{f'{count:,} connections':28}" + "".join(f"{column:>14}" for column in head)]
    for kind, measured in samples.items():
        rss = median(sample.rss for sample in measured)
        cells = (
            f"{rss:.1f}",
            f"<= {REACH_KB:.0f}",
            f"{median(sample.kept for sample in measured):.1f}",
            f"{median(sample.idle_cpu for sample in measured):.2f}",
            f"{median(sample.call_cpu for sample in measured):.1f}",
        )
        line = f"{kind:28}" + "".join(f"{cell:>14}" for cell in cells)
        lines.append(f"{line}  {'reach' if rss <= REACH_KB else 'short of it'}")
    return "\n".join(lines)


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Memory and CPU of idle connections.")
    parser.add_argument("--connections", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample")
    options = parser.parse_args(argv)
    if not (0 < options.connections <= 50_000 and 0 < options.rounds <= 100):
        parser.error("--connections is 1 to 50000, --rounds 1 to 100")
    if options.core not in os.sched_getaffinity(0):
        parser.error(f"--core is one of {sorted(os.sched_getaffinity(0))}")
    return options


def raise_file_limit(wanted: int) -> bool:
    """Allow this process, and its children, so many open files; False when the system does not."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < wanted:
        return False
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return True


def main() -> int:
    options = arguments()
    rpc.stop_on_signals()
    if not raise_file_limit(options.connections + 2000):
        print(f"needs {options.connections + 2000} open files: ulimit -Hn", file=sys.stderr)
        return 2
    os.sched_setaffinity(0, {options.core})
    print(
        f"Pinned: server and client share core {options.core}. Medians of {options.rounds} rounds, "
        "a new server in each.\n",
        flush=True,
    )
    samples: dict[str, list[Sample]] = {kind: [] for kind in KINDS}
    try:
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
            for kind in KINDS:
                samples[kind].append(measure_one(kind, options))
    except (process.ServerFault, loadgen.BadAnswer, OSError) as fault:
        print(f"failed: {fault}", file=sys.stderr)
        return 1
    print(table(samples, options.connections))
    if options.json is not None:
        plain = {kind: [asdict(sample) for sample in found] for kind, found in samples.items()}
        options.json.write_text(json.dumps(plain, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)
