"""What an idle connection costs: memory, and CPU, of a server that keeps 5,000 of them.

    python tests/benchmarks/connections.py [--connections 5000] [--rounds 3] [--json FILE]

Each round starts a server of its own with `max_connections` raised, twice: once every connection
has made a call and is kept (idle), once it has never said anything (silent). Memory is the growth
of the process's RSS, divided; what the kernel keeps for a socket is not in it.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from loadgen import Fault
from program import Options, Run, between, cost, interleaved, number, start, table
from servers import OURS, RunningServer

REACH_KB = 40.0
#: Connections made and ended first, so that what the first ones cost once is not counted.
WARM = 200
#: Seconds in which the server is watched doing nothing.
WATCHED = 3.0
#: Sockets of a server without connections.
LISTENING = 1


def rss_kb(pid: int, field: str = "VmRSS") -> int:
    """Return a process's resident memory, as the kernel counts it; ``VmHWM`` is its peak."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    raise Fault("the server ended while it was measured")


def open_sockets(pid: int) -> int:
    """Return how many sockets a process has."""
    count = 0
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            count += os.readlink(entry).startswith("socket:")
        except OSError:
            continue  # closed in between
    return count


@contextmanager
def connected(server: RunningServer, kind: str, count: int) -> Iterator[None]:
    """Open connections of one kind, until the server has accepted all; then until it has none."""

    def wait_for_sockets(wanted: int) -> None:
        server.wait_for(f"{wanted} sockets", lambda: open_sockets(server.pid) == wanted)

    connections = []
    try:
        for _ in range(count):
            connections.append(server.connect())
            if kind == "idle":
                connections[-1].add()
        wait_for_sockets(LISTENING + count)
        yield
    finally:
        for connection in connections:
            connection.close()
    wait_for_sockets(LISTENING)


def measure(kind: str, core: int, count: int) -> dict[str, float]:
    """Start a server, open the connections, measure.

    :return: kB of RSS per connection, while it is there and when it has gone; CPU ms per second
        while all are idle; CPU µs of a call
    """
    most = {"BENCH_MAX_CONNECTIONS": str(count + 1000), "BENCH_KEEP_ALIVE": "600"}
    with RunningServer(OURS, {core}, **most) as server:
        clock = server.cpu_clock()
        with connected(server, kind, WARM):
            pass
        before = rss_kb(server.pid)
        with connected(server, kind, count):
            grown = rss_kb(server.pid) - before
            cpu = clock()
            time.sleep(WATCHED)
            idle_cpu = (clock() - cpu) / WATCHED
            with server.connect() as one_more:
                call_cpu = cost(one_more.add, 2000, clock, 200)
        kept = rss_kb(server.pid) - before
    figures = {"rss": grown / count, "kept": kept / count}
    return {**figures, "idle_cpu": idle_cpu * 1e3, "call_cpu": call_cpu * 1e6}


def main() -> int:
    parser = Options("Memory and CPU of idle connections.", 3)
    parser.add_number("--connections", 5000, between(1, 50_000))
    options = parser.read()
    run, wanted = Run(options), options.connections + 2000
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < wanted:
        print(f"needs {wanted} open files: ulimit -Hn", file=sys.stderr)
        return 2
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))  # and its children
    os.sched_setaffinity(0, {options.core})
    print(
        f"Pinned: server and client share core {options.core}. Medians of {options.rounds} rounds, "
        "a new server in each.\n",
        flush=True,
    )
    kinds = ("idle", "silent")
    for kind in interleaved(kinds, options.rounds):
        run.add("connections", kind, measure(kind, options.core, options.connections))
    rows = {}
    for kind in kinds:
        rss, kept, idle_cpu, call_cpu = (
            run.value("connections", kind, what) or 0.0
            for what in ("rss", "kept", "idle_cpu", "call_cpu")
        )
        cells = (f"{rss:.1f}", f"<= {REACH_KB:.0f}", f"{kept:.1f}", number(idle_cpu, ".2f"))
        verdict = "reach" if rss <= REACH_KB else "short of it"
        rows[kind] = (*cells, f"{call_cpu:.1f}", verdict)
    columns = ("kB each", "reach", "kept after", "CPU ms/s", "µs/call then")
    print(table(f"{options.connections:,} connections", columns, rows, 14))
    run.write()
    return 0


if __name__ == "__main__":
    start(main)
