"""The benchmark: gemstone_sync beside its limit and its peers, all from one run.

    python tests/benchmarks/rpc.py [--quick] [--only ours,echo] [--json FILE] [--svg FILE]

The order to read: servers.py (what is measured, and how), loadgen.py (the client), program.py (what
all benchmarks have).
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from html import escape
from pathlib import Path
from statistics import median

import loadgen
from loadgen import Fault
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
from servers import BY_NAME, CATALOGUE, OURS, LoadGenerator, Phase, RunningServer

CONNECTIONS = 32
BATCH = 100
#: label, numerator, denominator, reach, moonshot
CPU_RATIOS = (
    ("ours, own server ÷ raw gevent echo", "ours", "echo", "<= 4", "<= 3"),
    ("hand-written ASGI on uvicorn ÷ ours", "uvicorn-asgi", "ours", ">= 0.95", ">= 1.2"),
    ("the same as RSGI on granian ÷ ours", "granian-rsgi", "ours", ">= 1", ">= 1.3"),
    ("pjrpc on aiohttp ÷ ours", "pjrpc", "ours", ">= 2.8", ">= 4"),
    ("old gemstone 0.10.1 ÷ ours", "old-gemstone", "ours", ">= 8", ">= 12"),
    ("flask-jsonrpc ÷ ours", "flask-jsonrpc", "ours", ">= 13", ">= 18"),
    ("the same, both gunicorn -k gevent", "flask-jsonrpc", "ours-gunicorn", ">= 2", ">= 2.2"),
    ("ours, GunicornWorker ÷ own server", "ours-gunicornworker", "ours", "<= 1.15", ""),
)
#: Colours of the chart: the limit, ours, the others.
LIMIT, MINE, OTHER = "#16a34a", "#2563eb", "#94a3b8"


def phases_for(server: str, calls: int) -> list[Phase]:
    """Return a round's phases: CPU over one connection, load over 32, for ours batches of 100."""
    phases = [Phase("cpu", 1, calls), Phase("load", CONNECTIONS, calls)]
    if server == "ours":
        call = {"jsonrpc": "2.0", "method": "add", "params": {"a": 1, "b": 2}}
        batch = loadgen.compact([{**call, "id": number} for number in range(1, BATCH + 1)])
        phases.append(Phase("batch", 1, max(50, calls // 50), batch, BATCH))
    return phases


def measure_pinned(names: list[str], run: Run) -> None:
    """Start all servers on the one core, and measure them in turn."""
    options, running = run.options, {}
    with ExitStack() as stack:
        for name in names:
            try:
                running[name] = stack.enter_context(RunningServer(BY_NAME[name], {options.core}))
            except Fault as fault:
                run.faults[name] = f"did not start: {fault}"
        load = stack.enter_context(LoadGenerator({options.core}))
        for name in interleaved(list(running), options.rounds):
            for phase in phases_for(name, options.calls):
                run.measure(phase.name, name, lambda n=name, p=phase: load.measure(running[n], p))


def scaling(run: Run, cores: set[int]) -> Ratio:
    """Return calls/s of the burn method with two workers, divided by those with one; unpinned."""
    label = "two workers ÷ one, 1 ms CPU each, unpinned"
    why = why_not(run, "ours") or ("" if len(cores) > 1 else "needs two cores")
    phase = Phase("burn", CONNECTIONS, max(200, run.options.calls // 5), loadgen.call_of("burn"))
    rates: dict[str, list[float]] = {"1": [], "2": []}
    try:
        with ExitStack() as stack:
            load = stack.enter_context(LoadGenerator(cores))
            both = {
                workers: stack.enter_context(RunningServer(OURS, cores, BENCH_WORKERS=workers))
                for workers in ("" if why else rates)
            }
            for _ in range(run.options.rounds):
                for workers, running in both.items():
                    rates[workers].append(load.measure(running, phase)["rate"])
    except Fault as fault:
        why = f"failed: {str(fault).split(' | ')[-1]}"
    value = None if why else median(rates["2"]) / median(rates["1"])
    return Ratio(label, value, ">= 1.7", ">= 1.9", why=why)


def why_not(run: Run, *names: str) -> str:
    """Return why a ratio of these servers may be missing."""
    for name in names:
        if name in run.faults:
            return f"{name}: {run.faults[name].split(':')[0]}"
        if name not in run.options.only:
            return f"{name} not asked for"
    return ""


def ratios(run: Run) -> list[Ratio]:
    """Return the rows: quotients of the medians of one run."""
    rows = []
    for label, above, below, reach, moonshot in CPU_RATIOS:
        value, at_load = (
            quotient(run.value(phase, above, "cpu"), run.value(phase, below, "cpu"))
            for phase in ("cpu", "load")
        )
        rows.append(Ratio(label, value, reach, moonshot, at_load, why_not(run, above, below)))
    why = why_not(run, "ours")
    batch = quotient(run.value("batch", "ours", "cpu"), run.value("cpu", "ours", "cpu"))
    rows.append(Ratio("batch of 100: per item ÷ single call", batch, "<= 0.4", "<= 0.2", why=why))
    tail = quotient(run.value("load", "ours", "p99"), run.value("load", "ours", "p50"))
    rows.append(Ratio("p99 ÷ median, 32 connections", tail, "<= 5", "<= 3", why=why))
    return rows


def servers_table(run: Run) -> str:
    columns = ("CPU µs/call", "spread", "÷ ours", "calls/s", "p50 µs", "p99 µs", "p99÷p50")
    ours, rows = run.value("cpu", "ours", "cpu"), {}
    for name in run.samples.get("cpu", {}):
        cpu = run.value("cpu", name, "cpu")
        rate, p50, p99, busy = (run.value("load", name, q) for q in ("rate", "p50", "p99", "cpu"))
        rows[BY_NAME[name].title] = (
            number(cpu, ".1f"),
            run.spread("cpu", name, "cpu"),
            number(quotient(cpu, ours), ".2f"),
            *(number(value, ",.0f") for value in (rate, p50, p99)),
            number(quotient(p99, p50), ".1f"),
            number(busy, ".1f"),
        )
    ordered = {s.title: rows[s.title] for s in CATALOGUE if s.title in rows}
    return table("server", (*columns, "CPU at 32"), ordered)


def as_svg(run: Run) -> str:
    """Return a bar chart of the CPU per call, the cheapest on top."""
    bars = sorted((run.value("cpu", name, "cpu") or 0.0, name) for name in run.samples["cpu"])
    left, width, step = 300, 420, 26
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{left + width + 90}' "
        f"height='{56 + step * len(bars)}' font-family='sans-serif' font-size='13'>",
        "<rect width='100%' height='100%' fill='white'/>",
        "<text x='12' y='24' font-weight='bold'>"
        "Server CPU per JSON-RPC call (µs, less is better)</text>",
    ]
    for place, (cpu, name) in enumerate(bars):
        top = 42 + step * place
        colour = LIMIT if name == "echo" else MINE if name.startswith("ours") else OTHER
        length = max(1.0, cpu / bars[-1][0] * width)
        parts += [
            f"<text x='{left - 8}' y='{top + 14}' text-anchor='end'>"
            f"{escape(BY_NAME[name].title)}</text>",
            f"<rect x='{left}' y='{top}' width='{length:.1f}' height='18' fill='{colour}'/>",
            f"<text x='{left + length + 6:.1f}' y='{top + 14}'>{cpu:.1f}</text>",
        ]
    return "\n".join([*parts, "</svg>", ""])


def main() -> int:
    """Run, print, write the files asked for."""
    quick = ("3 rounds of 2000 calls", {"rounds": 3, "calls": 2000})
    parser = Options("Server CPU per JSON-RPC call: gemstone_sync and its peers.", 5, quick)
    text = "per server, phase and round"
    parser.add_number("--calls", 5000, between(1, 1_000_000), text)
    parser.add_argument("--only", **some_of(list(BY_NAME)))
    parser.add_argument("--svg", type=Path, metavar="FILE", help="write a bar chart")
    options = parser.read()
    run, cores = Run(options), os.sched_getaffinity(0)
    names = run.prepare([BY_NAME[name] for name in options.only])
    head = run.header(
        f"Pinned: every server and the load generator share core {options.core}. (Unpinned, waking "
        "a sleeping other core is charged to the call.)",
        f"Medians of {options.rounds} rounds interleaved over the servers, {options.calls} calls "
        "each.",
        "CPU µs/call: user + system of the server's process tree, one keep-alive connection. "
        f"CPU at {CONNECTIONS}, calls/s, p50, p99: {CONNECTIONS} connections.",
        "No access logs. Every answer is checked.",
    )
    print(head, flush=True)
    look_on(options.core)
    measure_pinned(names, run)
    found = [*ratios(run), scaling(run, cores)]
    notes = [f"{BY_NAME[name].title}: {fault}" for name, fault in run.faults.items()]
    print("", servers_table(run), *notes, "", ratio_table(found), sep="\n")
    run.write(found)
    if options.svg is not None and run.samples:
        options.svg.write_text(as_svg(run))
    return 0 if run.samples else 1


if __name__ == "__main__":
    start(main)
