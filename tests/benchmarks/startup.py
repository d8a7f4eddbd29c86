"""What it takes to start the command: ``gemstone --help`` beside an interpreter that does nothing.

    python tests/benchmarks/startup.py
    python tests/benchmarks/startup.py --runs 50 -- list --help

Runs of all programs alternate, so that a slow moment hits all alike. CPU is user and system time of
the process (`os.wait4`); the limit of 250 ms is for the wall time of ``gemstone --help``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from program import interleaved, table

GEMSTONE = Path(sys.executable).with_name("gemstone")


def run_once(command: list[str]) -> tuple[float, float]:
    """Run a program to its end; milliseconds of CPU and of time.

    :raises SystemExit: when it fails.
    """
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return (usage.ru_utime + usage.ru_stime) * 1000, wall * 1000


def main() -> None:
    """Measure, and print a line for each program."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=20, help="of each program (default: 20)")
    parser.add_argument("words", nargs="*", default=["--help"], help="for gemstone, after --")
    options = parser.parse_args()
    programs = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "python -c 'import click'": [sys.executable, "-c", "import click"],
        f"gemstone {' '.join(options.words)}": [str(GEMSTONE), *options.words],
    }
    for command in programs.values():  # the first run writes and reads the files to be cached
        run_once(command)
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in programs}
    for name in interleaved(list(programs), options.runs):
        samples[name].append(run_once(programs[name]))
    rows = {}
    for name, found in samples.items():
        cpu, wall = zip(*found, strict=True)
        rows[name] = [f"{value:.0f}" for value in (median(cpu), median(wall), max(wall))]
    print(table(f"median of {options.runs}", ("CPU ms", "wall ms", "slowest"), rows))


if __name__ == "__main__":
    main()
