"""What a call costs its caller: CPU of RemoteService's process beside other clients, in one run.

    python tests/benchmarks/client.py [--quick] [--only ours,post] [--json FILE]

clients.py says what is measured, client_peers/ how each client makes its calls. The server
(peers/client_service.py) is the same for all, and its CPU is not counted. Conventions as in
rpc.py: one core, interleaved rounds, medians, every result checked.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

import clients
import measure
import process
import report
import rpc
import venvs
from clients import BY_NAME, CATALOGUE, TOGETHER, Client, RunningClient, Sample
from servers import Server

SERVICE = Server("called", "gemstone_sync", "client_service.py", ("gemstone_sync",))


@dataclass
class Run:
    """All that one run found out: samples by client and phase, and why some have none."""

    rounds: int
    calls: int
    core: int
    samples: dict[str, dict[str, list[Sample]]] = field(default_factory=dict)
    versions: dict[str, dict[str, str]] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    load_average: tuple[float, float, float] = field(default_factory=os.getloadavg)

    def values(self, client: str, phase: str, quantity: str = "cpu") -> list[float]:
        found = self.samples.get(client, {}).get(phase, [])
        return [getattr(sample, quantity) for sample in found]

    def value(self, client: str, phase: str, quantity: str = "cpu") -> float | None:
        values = self.values(client, phase, quantity)
        return median(values) if values else None


#: label, numerator, denominator, reach; of the CPU of single calls
SINGLE_RATIOS = (
    ("ours ÷ requests.post(…).json()", "ours", "post", "<= 0.55"),
    ("the same, both patched", "ours-patched", "post-patched", "<= 0.55"),
    ("jsonrpcclient + requests.post ÷ ours", "jsonrpcclient", "ours", "> 1"),
    ("jsonrpcclient + Session ÷ ours", "jsonrpcclient-session", "ours", "> 1"),
    ("pjrpc's requests client ÷ ours", "pjrpc", "ours", "> 1"),
    ("old gemstone ÷ ours", "old-gemstone", "ours", "> 1"),
    ("requests.Session ÷ ours", "session", "ours", "> 1"),
    ("urllib3 ÷ ours", "urllib3", "ours", ""),
    ("ours ÷ raw socket", "ours", "socket", ""),
)
#: label, phase, quantity, numerator, denominator, reach; of calls at once
AT_ONCE_RATIOS = (
    ("CPU, old thread pool ÷ our greenlets", "many", "cpu", "old-gemstone", "ours-patched"),
    ("calls/s, our greenlets ÷ old thread pool", "many", "rate", "ours-patched", "old-gemstone"),
    ("the same, a method of 10 ms", "naps", "rate", "ours-patched", "old-gemstone"),
)
AT_ONCE_REACH = ">= 3"


def ratios(run: Run) -> list[report.Ratio]:
    """Return the rows: quotients of the medians of one run; none of clients not asked for."""
    wanted = [(label, "one", "cpu", *rest) for label, *rest in SINGLE_RATIOS]
    wanted += [(*row, AT_ONCE_REACH) for row in AT_ONCE_RATIOS]
    rows = []
    for label, phase, quantity, above, below, reach in wanted:
        failed = [name for name in (above, below) if name in run.faults]
        top, bottom = (run.value(name, phase, quantity) for name in (above, below))
        if top is not None and bottom:
            rows.append(report.Ratio(label, top / bottom, reach, ""))
        elif failed:
            rows.append(report.Ratio(label, None, reach, "", why=f"no {failed[0]}"))
    return rows


def phases_of(client: Client, calls: int) -> list[tuple[str, str, int, int]]:
    """Return a round's phases: name, function, calls, how many at once."""
    many = max(calls // TOGETHER, 5) * TOGETHER
    phases = [
        ("one", client.function, calls, 0),
        ("many", client.many, many, TOGETHER),
        ("naps", client.naps, 3 * TOGETHER, TOGETHER),
    ]
    return [phase for phase in phases if phase[1]]


def prepare(names: list[str], run: Run) -> dict[str, str]:
    """Return the interpreter of each client that can run; note versions, and why others cannot."""
    pythons = {}
    for name in names:
        client = BY_NAME[name]
        try:
            pythons[name] = client.python()
        except venvs.VenvFault as fault:
            run.faults[name] = f"no venv: {fault}"
            continue
        own = ("gemstone_sync", "gevent", "requests", "urllib3")
        shown = venvs.PACKAGES[client.package].shown if client.package else own
        key = client.package or "this environment"
        if key not in run.versions:
            run.versions[key] = venvs.versions(pythons[name], list(shown))
    return pythons


def measure_all(pythons: dict[str, str], run: Run) -> None:
    """Start servers and clients on the one core, and measure the clients in turn."""
    call = measure.compact(measure.SINGLE_CALL)
    with ExitStack() as stack:
        urls = {}
        for form in {BY_NAME[name].wire_format for name in pythons}:
            server = measure.RunningServer(
                SERVICE, sys.executable, {run.core}, call, BENCH_WIRE_FORMAT=form
            )
            urls[form] = f"http://127.0.0.1:{stack.enter_context(server).port}/api"
        running = {}
        for name, python in pythons.items():
            url = urls[BY_NAME[name].wire_format]
            started = RunningClient(BY_NAME[name], python, url, {run.core})
            running[name] = stack.enter_context(started)
            run.samples[name] = {}
        names = list(running)
        for number in range(run.rounds):
            print(f"round {number + 1} of {run.rounds}", file=sys.stderr, flush=True)
            shift = number * len(names) // run.rounds
            for name in names[shift:] + names[:shift]:
                measure_one(name, running[name], run)


def measure_one(name: str, running: RunningClient, run: Run) -> None:
    """Measure one client once; one that fails is left out from then on."""
    if name in run.faults:
        return
    try:
        for phase, function, calls, together in phases_of(BY_NAME[name], run.calls):
            sample = running.measure(function, calls, together)
            run.samples[name].setdefault(phase, []).append(sample)
    except clients.ClientFault as fault:
        run.faults[name] = f"failed: {fault}"


def header(run: Run) -> str:
    load = " ".join(f"{average:.2f}" for average in run.load_average)
    listed = [
        f"  {name:18} {', '.join(f'{package} {version}' for package, version in found.items())}"
        for name, found in run.versions.items()
    ]
    return "\n".join(
        [
            f"{platform.python_implementation()} {platform.python_version()}, {platform.system()} "
            f"{platform.machine()}, load average at start {load}",
            f"Pinned: every client and the server share core {run.core}; only the client's CPU "
            "counts.",
            f"Medians of {run.rounds} interleaved rounds of {run.calls} calls. Every result is "
            "checked.",
            "",
            *listed,
        ]
    )


def single_table(run: Run) -> str:
    """Return the CPU of calls one after another."""
    columns = ("CPU µs/call", "spread", "÷ post", "calls/s")
    lines = [f"{'one call at a time':40}" + "".join(f"{column:>12}" for column in columns)]
    post = run.value("post", "one")
    for client in CATALOGUE:
        values = run.values(client.name, "one")
        if not values:
            continue
        cpu = median(values)
        cells = (
            f"{cpu:.1f}",
            f"{(max(values) - min(values)) / cpu:.0%}",
            _number(cpu / post if post else None, ".2f"),
            _number(run.value(client.name, "one", "rate"), ",.0f"),
        )
        lines.append(f"{client.title:40}" + "".join(f"{cell:>12}" for cell in cells))
    return "\n".join(lines)


def at_once_table(run: Run) -> str:
    """Return CPU and rates of calls at once."""
    columns = ("CPU µs/call", "calls/s", "10 ms, calls/s")
    head = f"{TOGETHER} calls at once"
    lines = [f"{head:40}" + "".join(f"{column:>16}" for column in columns)]
    for client in CATALOGUE:
        if run.value(client.name, "many") is None:
            continue
        cells = (
            _number(run.value(client.name, "many"), ".1f"),
            _number(run.value(client.name, "many", "rate"), ",.0f"),
            _number(run.value(client.name, "naps", "rate"), ",.0f"),
        )
        lines.append(f"{client.title:40}" + "".join(f"{cell:>16}" for cell in cells))
    return "\n".join(lines)


def ratio_table(run: Run) -> str:
    lines = [f"{'ratio':44}{'value':>10}{'reach':>10}"]
    for row in ratios(run):
        verdict = row.verdict if row.reach or row.value is None else ""
        lines.append(f"{row.label:44}{_number(row.value, '.2f'):>10}{row.reach:>10}  {verdict}")
    return "\n".join(lines)


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def as_json(run: Run) -> dict[str, object]:
    plain = asdict(run)
    plain["ratios"] = [
        {"label": row.label, "value": row.value, "reach": row.reach, "verdict": row.verdict}
        for row in ratios(run)
    ]
    return plain


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Return the command line's values, `rounds` and `calls` filled in."""
    parser = argparse.ArgumentParser(description="CPU per JSON-RPC call of clients.")
    parser.add_argument("--rounds", type=int, help="default 5")
    parser.add_argument("--calls", type=int, help="per client and round; default 1000")
    parser.add_argument("--quick", action="store_true", help="3 rounds of 300 calls, a first look")
    parser.add_argument("--only", help="names, with commas: " + ",".join(BY_NAME))
    parser.add_argument(
        "--core", type=int, help="the core to pin to; default: the last one allowed"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample")
    options = parser.parse_args(argv)
    options.rounds = options.rounds or (3 if options.quick else 5)
    options.calls = options.calls or (300 if options.quick else 1000)
    if not (0 < options.rounds <= 100 and 0 < options.calls <= 100_000):
        parser.error("--rounds is 1 to 100, --calls 1 to 100000")
    allowed = os.sched_getaffinity(0)
    options.core = max(allowed) if options.core is None else options.core
    if options.core not in allowed:
        parser.error(f"--core is one of {sorted(allowed)}")
    options.only = options.only.split(",") if options.only else list(BY_NAME)
    if unknown := set(options.only) - set(BY_NAME):
        parser.error(f"--only: unknown {', '.join(sorted(unknown))}; known: {', '.join(BY_NAME)}")
    return options


def main() -> int:
    """Run, print, write the file asked for."""
    if platform.system() != "Linux":
        print("this benchmark needs Linux (CPU clocks, affinity)", file=sys.stderr)
        return 2
    options = arguments()
    rpc.stop_on_signals()
    run = Run(options.rounds, options.calls, options.core)
    pythons = prepare(options.only, run)
    print(header(run), flush=True)
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, allowed - {options.core} or allowed)  # this process only looks on
    try:
        measure_all(pythons, run)
    except process.ServerFault as fault:
        print(f"the server failed: {fault}", file=sys.stderr)
        return 1
    notes = [f"{BY_NAME[name].title}: {fault}" for name, fault in run.faults.items()]
    tables = [single_table(run), at_once_table(run), ratio_table(run)]
    print("", *(f"{table}\n" for table in tables), *notes, sep="\n")
    if options.json is not None:
        options.json.write_text(json.dumps(as_json(run), indent=1) + "\n")
    return 0 if any(run.samples.values()) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)
