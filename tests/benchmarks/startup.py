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
from typing import NamedTuple

GEMSTONE = Path(sys.executable).with_name("gemstone")


class Sample(NamedTuple):
    """One run, in milliseconds."""

    cpu: float
    wall: float


def run_once(command: list[str]) -> Sample:
    """Run a program to its end.

    :raises SystemExit: when it fails.
    """
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return Sample((usage.ru_utime + usage.ru_stime) * 1000, wall * 1000)


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
    samples: dict[str, list[Sample]] = {name: [] for name in programs}
    for _ in range(options.runs):
        for name, command in programs.items():
            samples[name].append(run_once(command))
    print(f"{'':32} {'CPU ms':>8} {'wall ms':>8} {'slowest':>8}    median of {options.runs}")
    for name, found in samples.items():
        cpu, wall = (median(column) for column in zip(*found, strict=True))
        print(f"{name:32} {cpu:8.0f} {wall:8.0f} {max(s.wall for s in found):8.0f}")


if __name__ == "__main__":
    main()
