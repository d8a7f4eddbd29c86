"""What it takes to start: ``gemstone --help`` beside an interpreter that does nothing; a service.

    python tests/benchmarks/startup.py
    python tests/benchmarks/startup.py --runs 50 -- list --help
    python tests/benchmarks/startup.py --service . --service ../another-checkout

With ``--service`` it is startup_service.py instead, a service that nobody asks for its contract, on
the package of each of these checkouts. Of it the least of all runs counts: the machine adds more.

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


def measure_service(checkout: Path, hints: str) -> list[float]:
    """Run a checkout's service; return what it printed."""
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("startup_service.py"), hints],
        env={**os.environ, "PYTHONPATH": str(checkout.resolve())},
        capture_output=True,
        text=True,
        check=True,
    )
    return [float(number) for number in done.stdout.split()]


def measure_services(checkouts: list[Path], runs: int) -> None:
    """Measure services of some checkouts in turn, and print a line for each."""
    programs = [(checkout, hints) for hints in ("plain", "text") for checkout in checkouts]
    samples: dict[tuple[Path, str], list[list[float]]] = {each: [] for each in programs}
    for checkout, hints in interleaved(programs, runs):
        samples[checkout, hints].append(measure_service(checkout, hints))
    rows = {
        f"{checkout}, hints {hints}": [f"{min(values):.1f}" for values in zip(*found, strict=True)]
        for (checkout, hints), found in samples.items()
    }
    print(table(f"least of {runs}", ("class, CPU ms", "app, CPU ms", "RSS MB"), rows))


def main() -> None:
    """Measure, and print a line for each program."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=20, help="of each program (default: 20)")
    parser.add_argument("words", nargs="*", default=["--help"], help="for gemstone, after --")
    parser.add_argument("--service", type=Path, action="append", metavar="CHECKOUT")
    options = parser.parse_args()
    if options.service:
        measure_services(options.service, options.runs)
        return
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
