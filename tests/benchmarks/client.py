"""What a call costs its caller: CPU of RemoteService's process beside other clients, in one run.

    python tests/benchmarks/client.py [--quick] [--only ours,post] [--json FILE]

A new client is one function in client_peers/ and one entry in CATALOGUE. Each has a process of its
own, and those of other packages an environment of their own. The server is the same for all, and
its CPU is not counted. Conventions as in rpc.py: one core, interleaved rounds, medians, every
result checked.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from process import Peer, Runner
from program import (
    Options,
    Ratio,
    Run,
    between,
    interleaved,
    look_on,
    number,
    quotient,
    ratio_table,
    some_of,
    start,
    table,
)
from servers import OURS, RunningServer

FOLDER = Path(__file__).resolve().parent / "client_peers"
#: Calls at once, of those that make several.
TOGETHER = 100


@dataclass(frozen=True)
class Client(Peer):
    """One client.

    :param one: in its module: what makes one call
    :param many: in it: what makes calls at once, of `add`; empty: it is measured one call at a time
    :param naps: the same, of the method that takes 10 ms
    :param wire_format: that it needs of the server
    """

    one: str = ""
    many: str = field(default="", kw_only=True)
    naps: str = field(default="", kw_only=True)
    wire_format: str = field(default="jsonrpc", kw_only=True)


HAND, README, SERVICE = "handwritten", "jsonrpcclient_requests", "remote_service"
AT_ONCE = {"many": "many", "naps": "naps"}
ASYNC = {"many": "many_async", "naps": "naps_async"}
GREEN = {"patched": "gevent"}
JSONRPC = {"package": "jsonrpcclient"}
OLD = {"package": "old-gemstone", "wire_format": "gemstone", **AT_ONCE}
CATALOGUE = (
    Client("socket", "raw socket and json (the limit)", HAND, "raw_socket"),
    Client("http.client", "http.client, kept connection", HAND, "http_client"),
    Client("urllib3", "urllib3.PoolManager", HAND, "urllib3_pool"),
    Client("session", "requests.Session().post(…).json()", HAND, "requests_session"),
    Client("post", "requests.post(…).json()", HAND, "requests_post"),
    Client("jsonrpcclient", "jsonrpcclient + requests.post", README, "readme", **JSONRPC),
    Client("jsonrpcclient-session", "jsonrpcclient + Session", README, "session", **JSONRPC),
    Client("pjrpc", "pjrpc's requests client", "pjrpc_requests", "proxy", package="pjrpc"),
    Client("old-gemstone", "gemstone 0.10.1 RemoteService", "old_gemstone_client", SERVICE, **OLD),
    Client("ours", "gemstone_sync RemoteService", "ours", SERVICE),
    Client("post-patched", "requests.post(…).json(), patched", HAND, "requests_post", **GREEN),
    Client("session-patched", "Session, patched", HAND, "requests_session", **GREEN, **AT_ONCE),
    Client("ours-patched", "RemoteService, patched", "ours", SERVICE, **GREEN, **AT_ONCE),
    Client("ours-async", "gemstone_sync async_(), patched", "ours", **GREEN, **ASYNC),
    Client("ours-threads", "gemstone_sync async_(), threads", "ours", **ASYNC),
)
BY_NAME = {client.name: client for client in CATALOGUE}

#: label, phase, quantity, numerator, denominator, reach
RATIOS = (
    ("ours ÷ requests.post(…).json()", "one", "cpu", "ours", "post", "<= 0.55"),
    ("the same, both patched", "one", "cpu", "ours-patched", "post-patched", "<= 0.55"),
    ("jsonrpcclient + requests.post ÷ ours", "one", "cpu", "jsonrpcclient", "ours", "> 1"),
    ("jsonrpcclient + Session ÷ ours", "one", "cpu", "jsonrpcclient-session", "ours", "> 1"),
    ("pjrpc's requests client ÷ ours", "one", "cpu", "pjrpc", "ours", "> 1"),
    ("old gemstone ÷ ours", "one", "cpu", "old-gemstone", "ours", "> 1"),
    ("requests.Session ÷ ours", "one", "cpu", "session", "ours", "> 1"),
    ("urllib3 ÷ ours", "one", "cpu", "urllib3", "ours", ""),
    ("ours ÷ raw socket", "one", "cpu", "ours", "socket", ""),
    ("CPU, old thread pool ÷ our greenlets", "many", "cpu", "old-gemstone", "ours-patched", ">= 3"),
    ("calls/s, our greenlets ÷ old pool", "many", "rate", "ours-patched", "old-gemstone", ">= 3"),
    ("the same, a method of 10 ms", "naps", "rate", "ours-patched", "old-gemstone", ">= 3"),
)


def ratios(run: Run) -> list[Ratio]:
    """Return the rows: quotients of the medians of one run; none of clients not asked for."""
    rows = []
    for label, phase, quantity, above, below, reach in RATIOS:
        value = quotient(run.value(phase, above, quantity), run.value(phase, below, quantity))
        failed = [name for name in (above, below) if name in run.faults]
        if value is not None or failed:
            rows.append(Ratio(label, value, reach, why=f"no {failed[0]}" if failed else ""))
    return rows


def phases_of(client: Client, calls: int) -> list[tuple[str, str, int, int]]:
    """Return a round's phases: name, function, calls, how many at once."""
    many = max(calls // TOGETHER, 5) * TOGETHER
    phases = [
        ("one", client.one, calls, 0),
        ("many", client.many, many, TOGETHER),
        ("naps", client.naps, 3 * TOGETHER, TOGETHER),
    ]
    return [phase for phase in phases if phase[1]]


def measure_all(names: list[str], run: Run) -> None:
    """Start servers and clients on the one core, and measure the clients in turn."""
    core = {run.options.core}
    with ExitStack() as stack:
        urls, running = {}, {}
        for form in {BY_NAME[name].wire_format for name in names}:
            # Clients by hand keep a connection while the others have their turn.
            server = RunningServer(OURS, core, BENCH_WIRE_FORMAT=form, BENCH_KEEP_ALIVE="600")
            urls[form] = f"http://127.0.0.1:{stack.enter_context(server).port}/api"
        for name in names:
            running[name] = stack.enter_context(Runner(BY_NAME[name], FOLDER, core))
        for name in interleaved(names, run.options.rounds):
            client = BY_NAME[name]
            for phase, function, calls, together in phases_of(client, run.options.calls):
                job = {"client": function, "url": urls[client.wire_format], "calls": calls}
                # Unmeasured ones come before: a fifth more.
                job |= {"together": together, "warm": max(calls // 5, 2 * together, 50)}
                run.measure(phase, name, lambda n=name, j=job: running[n].run("calls", j))


def single_table(run: Run) -> str:
    """Return the CPU of calls one after another."""
    rows, post = {}, run.value("one", "post", "cpu")
    for client in CATALOGUE:
        cpu = run.value("one", client.name, "cpu")
        if cpu is not None:
            rows[client.title] = (
                f"{cpu:.1f}",
                run.spread("one", client.name, "cpu"),
                number(quotient(cpu, post), ".2f"),
                number(run.value("one", client.name, "rate"), ",.0f"),
            )
    return table("one call at a time", ("CPU µs/call", "spread", "÷ post", "calls/s"), rows)


def at_once_table(run: Run) -> str:
    """Return CPU and rates of calls at once."""
    rows = {}
    for client in CATALOGUE:
        cpu, rate = (run.value("many", client.name, quantity) for quantity in ("cpu", "rate"))
        naps = run.value("naps", client.name, "rate")
        if cpu is not None:
            rows[client.title] = (f"{cpu:.1f}", number(rate, ",.0f"), number(naps, ",.0f"))
    columns = ("CPU µs/call", "calls/s", "10 ms, calls/s")
    return table(f"{TOGETHER} calls at once", columns, rows, 16)


def main() -> int:
    """Run, print, write the file asked for."""
    quick = ("3 rounds of 300 calls", {"rounds": 3, "calls": 300})
    parser = Options("CPU per JSON-RPC call of clients.", 5, quick)
    parser.add_number("--calls", 1000, between(1, 100_000), "per client and round")
    parser.add_argument("--only", **some_of(list(BY_NAME)))
    options = parser.read()
    run = Run(options)
    names = run.prepare([BY_NAME[name] for name in options.only])
    head = run.header(
        f"Pinned: every client and the server share core {options.core}; only the client's CPU "
        "counts.",
        f"Medians of {options.rounds} interleaved rounds of {options.calls} calls. Every result is "
        "checked.",
    )
    print(head, flush=True)
    look_on(options.core)
    measure_all(names, run)
    found = ratios(run)
    notes = [f"{BY_NAME[name].title}: {fault}" for name, fault in run.faults.items()]
    tables = [single_table(run), at_once_table(run), ratio_table(found)]
    print("", *(f"{shown}\n" for shown in tables), *notes, sep="\n")
    run.write(found)
    return 0 if run.samples else 1


if __name__ == "__main__":
    start(main)
