"""What 1 MB costs: server CPU of calls with large parameters and results, beside msgspec alone.

    python tests/benchmarks/payloads.py [--rounds 5] [--calls 40] [--core N] [--json FILE]

msgspec alone is `decode` of the same request and `encode` of the same response, untyped, in this
process, on the same core and in the same rounds: the least that the work can cost. Conventions as
in rpc.py: the server and its client share one core, rounds are interleaved, medians, every answer
is compared with one that was checked.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from socket import socket
from statistics import median

import loadgen
import measure
import msgspec
import process
import rpc
from servers import Server

MEGABYTE = 1_000_000
WARM = 5

LARGE = Server("large", "gemstone_sync, own server", "large_service.py", ("gemstone_sync",))


@dataclass
class Payload:
    """One kind of call, and what was measured of it (CPU seconds per call, one entry a round)."""

    title: str
    request: bytes
    expected: bytes = b""
    server: list[float] = field(default_factory=list)
    msgspec: list[float] = field(default_factory=list)


def record(number: int) -> dict[str, object]:
    return {
        "id": number,
        "name": f"record number {number:06}",
        "price": number + 0.25,
        "active": number % 2 == 0,
        "tags": ["blue", "large"],
    }


def records() -> list[dict[str, object]]:
    """Return records that make 1 MB of JSON."""
    size = len(measure.compact(record(0))) + 1
    return [record(number) for number in range(MEGABYTE // size)]


def call_of(method: str, *params: object) -> bytes:
    return measure.compact({"jsonrpc": "2.0", "method": method, "params": params, "id": 1})


def payloads() -> list[Payload]:
    """Return the calls; `get` returns what `keep` was given before."""
    listing, text = records(), "x" * MEGABYTE
    return [
        Payload("parameters: records", call_of("count", listing)),
        Payload("result: records", call_of("get")),
        Payload("both: records", call_of("echo", listing)),
        Payload("both: records, typed as dataclasses", call_of("echo_records", listing)),
        Payload("both: one text", call_of("echo", text)),
    ]


class Client:
    """One keep-alive connection that makes calls one after another."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket = loadgen.connect(port)
        self._buffer = bytearray(2 * MEGABYTE)

    def close(self) -> None:
        self._socket.close()

    def call(self, body: bytes) -> bytes:
        """Make one call; return the answer's body.

        :raises loadgen.BadAnswer: it is no 200, or does not come in time
        """
        self._socket.sendall(loadgen.http_request(self._port, body))
        view, received, wanted = memoryview(self._buffer), 0, 0
        while not wanted or received < wanted:
            try:
                count = self._socket.recv_into(view[received:])
            except BlockingIOError:  # SO_RCVTIMEO
                raise loadgen.BadAnswer("no whole answer in time") from None
            if not count:
                raise loadgen.BadAnswer("connection closed")
            received += count
            if not wanted:
                wanted, start = self._size_of(received)
        return bytes(view[start:wanted])

    def _size_of(self, received: int) -> tuple[int, int]:
        """Return the size of the whole answer, and of its head; zeros while that is not there."""
        end = self._buffer.find(b"\r\n\r\n", 0, received) + 4
        if end < 4:
            return 0, 0
        head = bytes(self._buffer[:end]).lower()
        if not head.startswith(b"http/1.1 200"):
            raise loadgen.BadAnswer(f"unexpected answer: {head[:200]!r}")
        return end + int(head.partition(b"content-length:")[2].split(b"\r\n")[0]), end


def check(payload: Payload, client: Client) -> None:
    """Make the call once and keep its answer, which must have the right result."""
    payload.expected = client.call(payload.request)
    request = json.loads(payload.request)
    listing = records()
    wanted = {"count": len(listing), "get": listing}.get(request["method"])
    if wanted is None:
        [wanted] = request["params"]
    answer = json.loads(payload.expected)
    if answer.get("result") != wanted:
        raise loadgen.BadAnswer(f"{payload.title}: unexpected answer {payload.expected[:200]!r}")


def measure_server(
    payload: Payload, client: Client, clock: Callable[[], float], calls: int
) -> float:
    """Return the server's CPU seconds per call."""
    for number in range(WARM + calls):
        if number == WARM:
            before = clock()
        if client.call(payload.request) != payload.expected:
            raise loadgen.BadAnswer(f"{payload.title}: an answer differs from the first")
    return (clock() - before) / calls


def measure_msgspec(payload: Payload, calls: int) -> float:
    """Return the CPU seconds of decoding the request and encoding the response."""
    decode, encode = msgspec.json.Decoder().decode, msgspec.json.Encoder().encode
    request, response = payload.request, decode(payload.expected)
    for number in range(WARM + calls):
        if number == WARM:
            before = time.thread_time()
        decode(request)
        encode(response)
    return (time.thread_time() - before) / calls


def run(options: argparse.Namespace) -> list[Payload]:
    """Measure everything; return the payloads with their samples."""
    measured = payloads()
    call = measure.compact(measure.SINGLE_CALL)
    with measure.RunningServer(LARGE, sys.executable, {options.core}, call) as server:
        clock = server.cpu_clock()
        client = Client(server.port)
        try:
            client.call(call_of("keep", records()))
            for payload in measured:
                check(payload, client)
            for number in range(options.rounds):
                print(f"round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
                for payload in measured:
                    payload.server.append(measure_server(payload, client, clock, options.calls))
                    payload.msgspec.append(measure_msgspec(payload, options.calls))
        finally:
            client.close()
    return measured


def table(measured: list[Payload]) -> str:
    head = ("request", "reply", "server ms", "spread", "msgspec ms", "÷ msgspec")
    lines = [f"{'1 MB of …':38}" + "".join(f"{column:>12}" for column in head)]
    for payload in measured:
        server, alone = median(payload.server), median(payload.msgspec)
        cells = (
            f"{len(payload.request):,}",
            f"{len(payload.expected):,}",
            f"{server * 1e3:.2f}",
            f"{(max(payload.server) - min(payload.server)) / server:.0%}",
            f"{alone * 1e3:.2f}",
            f"{server / alone:.2f}",
        )
        lines.append(f"{payload.title:38}" + "".join(f"{cell:>12}" for cell in cells))
    return "\n".join(lines)


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Server CPU of calls with 1 MB, beside msgspec.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=40, help="per payload and round")
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample")
    options = parser.parse_args(argv)
    if not (0 < options.rounds <= 100 and 0 < options.calls <= 10_000):
        parser.error("--rounds is 1 to 100, --calls 1 to 10000")
    if options.core not in os.sched_getaffinity(0):
        parser.error(f"--core is one of {sorted(os.sched_getaffinity(0))}")
    return options


def main() -> int:
    options = arguments()
    rpc.stop_on_signals()
    os.sched_setaffinity(0, {options.core})  # the client, and msgspec alone
    print(
        f"Pinned: server, client and msgspec share core {options.core}. Medians of "
        f"{options.rounds} rounds of {options.calls} calls.\n",
        flush=True,
    )
    try:
        measured = run(options)
    except (process.ServerFault, loadgen.BadAnswer) as fault:
        print(f"failed: {fault}", file=sys.stderr)
        return 1
    print(table(measured))
    if options.json is not None:
        samples = [
            {**asdict(payload), "request": len(payload.request), "expected": len(payload.expected)}
            for payload in measured
        ]
        options.json.write_text(json.dumps(samples, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)
