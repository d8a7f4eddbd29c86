"""What a trivial call takes while clients that are hard to bear use the service: eight of a kind.

    python tests/benchmarks/hostile.py [--seconds 10] [--clients 8] [--only chunks,lists]

Each kind has a service and a process of its own. The caller is this process: one connection, a call
every 5 ms, whatever the last one took. Memory is the most that the service's process ever had.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable

from connections import rss_kb
from loadgen import call_of, compact, http_request, laps_of
from program import Options, Run, between, look_on, number, some_of, start, table
from runner import percentiles
from servers import OURS, RunningServer

REACH_MS, REACH_MB = 100.0, 300.0
#: What a reader asks for.
ANSWER = 8_000_000
#: Bytes a second of those who write, and of those who read, slowly but steadily.
WRITTEN, READ = 60_000, 40_000
LISTS = b'{"jsonrpc":"2.0","id":1,"method":"count","params":[[' + b"[0]," * 2_490_000 + b"[0]]]}"
BATCH = compact(
    [{"jsonrpc": "2.0", "method": "burn", "params": [], "id": id} for id in range(1, 101)]
)
CHUNKED = (
    b"POST /api HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)

# The clients, in a process of theirs. Each goes on until the server ends its connection.


def chunks(connection: socket.socket, port: int) -> None:
    """Send a body in chunks of one byte."""
    connection.sendall(CHUNKED)
    _drip(connection, b"1\r\n \r\n")


def trailers(connection: socket.socket, port: int) -> None:
    """Send a body, and fields after it without end."""
    connection.sendall(CHUNKED + b"0\r\n")
    _drip(connection, b"x-more: 1\r\n")


def _drip(connection: socket.socket, piece: bytes) -> None:
    some = piece * 64
    while True:
        connection.sendall(some)
        time.sleep(len(some) / WRITTEN)


def lists(connection: socket.socket, port: int) -> None:
    """Send 10 MB of small lists, again and again."""
    _call(connection, http_request(port, LISTS))


def batches(connection: socket.socket, port: int) -> None:
    """Send a batch of 100 methods that compute for 1 ms each, again and again."""
    _call(connection, http_request(port, BATCH))


def _call(connection: socket.socket, request: bytes) -> None:
    while True:
        connection.sendall(request)
        connection.recv(1 << 20)


def readers(connection: socket.socket, port: int) -> None:
    """Read an answer of 8 MB slowly and steadily; ask again once it is whole."""
    while True:
        connection.sendall(http_request(port, call_of("get")))
        left = ANSWER
        while left > 0:
            received = len(connection.recv(READ // 10))
            if not received and left == ANSWER:
                return  # idle for too long: what the system had still to give took seconds
            if not received:
                raise ConnectionError
            left -= received
            time.sleep(received / READ)


def deaf(connection: socket.socket, port: int) -> None:
    """Ask for 8 MB, and read nothing."""
    connection.sendall(http_request(port, call_of("get")))
    while connection.recv(1, socket.MSG_PEEK):
        time.sleep(0.1)
    raise ConnectionError


KINDS: dict[str, tuple[str, Callable[[socket.socket, int], None]]] = {
    "none": ("nobody else", deaf),
    "chunks": ("chunks of one byte at 60 kB/s", chunks),
    "trailers": ("endless trailers", trailers),
    "lists": ("10 MB of small lists", lists),
    "batches": ("batches of 100 methods of 1 ms", batches),
    "readers": ("8 MB read at 40 kB/s", readers),
    "deaf": ("8 MB never read", deaf),
}


def attack(kind: str, port: int, clients: int, seconds: float) -> None:
    """Run the clients; print how many connections the server has ended."""
    ended: list[None] = []
    until = time.monotonic() + seconds

    def run() -> None:
        while time.monotonic() < until:
            try:
                with socket.create_connection(("127.0.0.1", port)) as connection:
                    connection.settimeout(max(1.0, seconds))
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
                    KINDS[kind][1](connection, port)
            except OSError:
                ended.append(None)

    for _ in range(clients):
        threading.Thread(target=run, daemon=True).start()
    print(flush=True)
    time.sleep(seconds)
    print(len(ended), flush=True)


def beside(kind: str, core: int, clients: int, seconds: float) -> dict[str, float]:
    """Measure the caller's calls while the others are there."""
    clients = clients if kind != "none" else 0
    with RunningServer(OURS, {core}) as server:
        with server.connect() as service:
            service.call(call_of("keep", "x" * ANSWER))
        words = [sys.executable, __file__, "--attack", kind, str(server.port)]
        words += [str(clients), str(seconds)]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as attackers:
            assert attackers.stdout is not None
            attackers.stdout.readline()
            with server.connect() as service:
                laps = laps_of(service, seconds)
            ended = int(attackers.stdout.readline())
        return {
            "calls": len(laps),
            **percentiles(laps),
            "MB": rss_kb(server.pid, "VmHWM") / 1024,
            "ended": ended,
        }


def main() -> int:
    if sys.argv[1:2] == ["--attack"]:
        kind, port, clients, seconds = sys.argv[2:]
        attack(kind, int(port), int(clients), float(seconds))
        return 0
    options = Options(__doc__.partition("\n")[0])
    options.add_number("--seconds", 10.0, between(1, 600, float), "how long, for each kind")
    options.add_number("--clients", 8, between(1, 500), "of each kind")
    options.add_argument("--only", **some_of(list(KINDS)))
    given = options.read()
    run = Run(given)
    look_on(given.core)
    for kind in given.only:
        print(KINDS[kind][0], file=sys.stderr, flush=True)
        run.measure(
            "hostile", kind, lambda k=kind: beside(k, given.core, given.clients, given.seconds)
        )
    print(run.header(f"{given.clients} clients of a kind for {given.seconds:g} s", ""))
    print()
    print(shown(run, given.only))
    for key, fault in run.faults.items():
        print(f"{key}: {fault}")
    run.write()
    return 1 if run.faults else 0


def shown(run: Run, kinds: list[str]) -> str:
    forms = {"calls": ",.0f", "p50": ".2f", "p99": ".1f", "max": ".0f", "MB": ".0f", "ended": ".0f"}
    rows = {}
    for kind in kinds:
        values = {name: run.value("hostile", kind, name) for name in forms}
        p99, memory = values["p99"], values["MB"]
        good = p99 is not None and memory is not None and p99 < REACH_MS and memory < REACH_MB
        cells = [number(values[name], form) for name, form in forms.items()]
        rows[KINDS[kind][0]] = [*cells, "reach" if good else "short of it"]
    columns = ["calls", "p50 ms", "p99 ms", "max ms", "MB", "ended"]
    return table(f"reach: p99 < {REACH_MS:.0f} ms, {REACH_MB:.0f} MB", columns, rows, 10)


if __name__ == "__main__":
    start(main)
