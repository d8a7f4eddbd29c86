"""The benchmark: gemstone_sync beside its limit and its peers, all from one run.

    python tests/benchmarks/rpc.py [--quick] [--only ours,echo] [--json FILE] [--svg FILE]

The order to read: servers.py (what is measured), measure.py (how), loadgen.py (the client),
report.py (what is printed). This file only puts them together.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

import measure
import process
import report
import servers
import venvs

NOT_THERE = "not there yet"


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Return the command line's values, `rounds` and `calls` filled in."""
    parser = argparse.ArgumentParser(
        description="Server CPU per JSON-RPC call: gemstone_sync and its peers."
    )
    parser.add_argument("--rounds", type=int, help="default 5")
    parser.add_argument("--calls", type=int, help="per server, phase and round; default 5000")
    parser.add_argument("--quick", action="store_true", help="3 rounds of 2000 calls, a first look")
    parser.add_argument("--only", help="names, with commas: " + ",".join(servers.BY_NAME))
    parser.add_argument(
        "--core", type=int, help="the core to pin to; default: the last one allowed"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="write a bar chart")
    options = parser.parse_args(argv)
    options.rounds = options.rounds or (3 if options.quick else 5)
    options.calls = options.calls or (2000 if options.quick else 5000)
    if not (0 < options.rounds <= 100 and 0 < options.calls <= 1_000_000):
        parser.error("--rounds is 1 to 100, --calls 1 to 1000000")
    allowed = os.sched_getaffinity(0)
    options.core = max(allowed) if options.core is None else options.core
    if options.core not in allowed:
        parser.error(f"--core is one of {sorted(allowed)}")
    options.only = options.only.split(",") if options.only else list(servers.BY_NAME)
    unknown = set(options.only) - set(servers.BY_NAME)
    if unknown:
        parser.error(
            f"--only: unknown {', '.join(sorted(unknown))}; known: {', '.join(servers.BY_NAME)}"
        )
    return options


def stop_on_signals() -> None:
    """Let the first SIGINT or SIGTERM unwind the program, and later ones not disturb that."""

    def handle(_number: int, _frame: FrameType | None) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handle)


def prepare(names: list[str], found: set[str], run: report.Run) -> dict[str, str]:
    """Return the interpreter of each server that can run; note versions, and why others cannot."""
    pythons = {}
    for name in names:
        server = servers.BY_NAME[name]
        lacking = [need for need in server.needs if need not in found]
        if lacking:
            run.missing[name] = f"{NOT_THERE} ({', '.join(lacking)})"
            continue
        try:
            pythons[name] = servers.python_of(server)
        except venvs.VenvFault as fault:
            run.missing[name] = f"no venv: {fault}"
            continue
        run.versions[name] = venvs.versions(pythons[name], list(server.shown))
    return pythons


def measure_pinned(pythons: dict[str, str], run: report.Run) -> None:
    """Start all servers on the one core, and measure them in turn."""
    with ExitStack() as stack:
        running: dict[str, measure.RunningServer] = {}
        call = measure.compact(measure.SINGLE_CALL)
        for name, python in pythons.items():
            starting = measure.RunningServer(servers.BY_NAME[name], python, {run.core}, call)
            try:
                running[name] = stack.enter_context(starting)
            except process.ServerFault as fault:
                run.missing[name] = f"did not start: {fault}"
                continue
            run.results[name] = measure.Measured()
        load = stack.enter_context(measure.LoadGenerator({run.core}))
        for server in running.values():  # at the end first told to stop, then waited for
            stack.callback(server.terminate)
        measure.interleaved(running, run.results, load, run.rounds, run.calls)


def measure_scaling(python: str, found: set[str], allowed: set[int], run: report.Run) -> None:
    """Measure two workers against one, where the package has workers and the machine two cores."""
    if "workers" not in found:
        run.scaling = f"{NOT_THERE} (workers)"
    elif len(allowed) < 2:
        run.scaling = "needs two cores"
    else:
        try:
            run.scaling = measure.scaling(
                servers.BY_NAME["ours"], python, allowed, run.rounds, max(200, run.calls // 5)
            )
        except process.ServerFault as fault:
            run.scaling = "failed: " + str(fault).split(" | ")[-1]


def main() -> int:
    """Run, print, write the files asked for."""
    if platform.system() != "Linux":
        print("this benchmark needs Linux (/proc, CPU clocks, affinity)", file=sys.stderr)
        return 2
    options = arguments()
    stop_on_signals()
    allowed = os.sched_getaffinity(0)
    run = report.Run(options.rounds, options.calls, options.core, len(allowed))
    found = servers.features()
    pythons = prepare(options.only, found, run)
    print(report.header(run), flush=True)
    # This process looks on from the other cores.
    os.sched_setaffinity(0, allowed - {options.core} or allowed)
    measure_pinned(pythons, run)
    if "ours" in run.missing:
        run.scaling = f"ours: {run.missing['ours'].split(':')[0]}"
    elif "ours" in run.results:
        measure_scaling(pythons["ours"], found, allowed, run)
    print("", report.table(run), "", report.ratio_table(run), sep="\n")
    if options.json is not None:
        options.json.write_text(json.dumps(report.as_json(run), indent=1) + "\n")
    if options.svg is not None:
        options.svg.write_text(report.as_svg(run))
    return 0 if run.results else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)
