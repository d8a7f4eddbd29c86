"""What 1 MB costs: server CPU of calls with large parameters and results, beside msgspec alone.

    python tests/benchmarks/payloads.py [--rounds 5] [--calls 40] [--core N] [--json FILE]

msgspec alone is `decode` of the same request and `encode` of the same response, untyped, in this
process, on the same core and in the same rounds: the least that the work can cost. Conventions as
in rpc.py: the server and its client share one core, rounds are interleaved, medians, every answer
is compared with one that was checked.
"""

from __future__ import annotations

import json
import os
import time

import msgspec
from loadgen import Connection, Fault, call_of, compact
from program import Options, Run, between, cost, interleaved, start, table
from servers import OURS, RunningServer

MEGABYTE = 1_000_000
WARM = 5


def record(number: int) -> dict[str, object]:
    return {
        "id": number,
        "name": f"record number {number:06}",
        "price": number + 0.25,
        "active": number % 2 == 0,
        "tags": ["blue", "large"],
    }


RECORDS = [record(number) for number in range(MEGABYTE // (len(compact(record(0))) + 1))]
TEXT = "x" * MEGABYTE
#: What is called, and its result; `get` returns what `keep` was given before.
PAYLOADS = {
    "parameters: records": (call_of("count", RECORDS), len(RECORDS)),
    "result: records": (call_of("get"), RECORDS),
    "both: records": (call_of("echo", RECORDS), RECORDS),
    "both: records, typed as dataclasses": (call_of("echo_records", RECORDS), RECORDS),
    "both: one text": (call_of("echo", TEXT), TEXT),
}


def first_answer(connection: Connection, title: str) -> bytes:
    """Return the answer to a call, which must have the right result."""
    request, wanted = PAYLOADS[title]
    answer = connection.call(request)
    if json.loads(answer).get("result") != wanted:
        raise Fault(f"{title}: unexpected answer {answer[:200]!r}")
    return answer


def measure(connection: Connection, title: str, answer: bytes, clock, calls: int) -> dict:
    """Return CPU seconds: of the server for a call, of msgspec for its decoding and encoding."""
    request = PAYLOADS[title][0]
    decode, encode = msgspec.json.Decoder().decode, msgspec.json.Encoder().encode
    response = decode(answer)

    def call() -> None:
        if connection.call(request) != answer:
            raise Fault(f"{title}: an answer differs from the first")

    def alone() -> None:
        decode(request)
        encode(response)

    server = cost(call, calls, clock, WARM)
    return {"server": server, "msgspec": cost(alone, calls, time.thread_time, WARM)}


def main() -> int:
    parser = Options("Server CPU of calls with 1 MB, beside msgspec.", 5)
    parser.add_number("--calls", 40, between(1, 10_000), "per payload and round")
    options = parser.read()
    run = Run(options)
    os.sched_setaffinity(0, {options.core})  # the client, and msgspec alone
    print(
        f"Pinned: server, client and msgspec share core {options.core}. Medians of "
        f"{options.rounds} rounds of {options.calls} calls.\n",
        flush=True,
    )
    with RunningServer(OURS, {options.core}) as server, server.connect() as connection:
        clock = server.cpu_clock()
        connection.call(call_of("keep", RECORDS))
        answers = {title: first_answer(connection, title) for title in PAYLOADS}
        for title in interleaved(list(PAYLOADS), options.rounds):
            sample = measure(connection, title, answers[title], clock, options.calls)
            run.add("payloads", title, sample)
    rows = {}
    for title, answer in answers.items():
        took, alone = (run.value("payloads", title, what) or 0.0 for what in ("server", "msgspec"))
        rows[title] = (
            *(f"{len(body):,}" for body in (PAYLOADS[title][0], answer)),
            f"{took * 1e3:.2f}",
            run.spread("payloads", title, "server"),
            f"{alone * 1e3:.2f}",
            f"{took / alone:.2f}",
        )
    columns = ("request", "reply", "server ms", "spread", "msgspec ms", "÷ msgspec")
    print(table("1 MB of …", columns, rows))
    run.write()
    return 0


if __name__ == "__main__":
    start(main)
