"""What every program of the benchmarks has: options, pinning, rounds, what was measured, tables."""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from types import FrameType
from typing import Any, NoReturn

from loadgen import Fault
from venvs import Subject, VenvFault

# Running


def start(main: Callable[[], int]) -> NoReturn:
    """Run a program. The first SIGINT or SIGTERM unwinds it, later ones do not disturb that."""

    def handle(_number: int, _frame: FrameType | None) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    if platform.system() != "Linux":
        sys.exit("this benchmark needs Linux (/proc, CPU clocks, affinity)")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handle)
    try:
        sys.exit(main())
    except (Fault, OSError) as fault:
        sys.exit(f"failed: {fault}")
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)


def between(low: float, high: float, kind: Callable[[str], Any] = int) -> Callable[[str], Any]:
    def number(text: str) -> Any:
        if not low <= kind(text) <= high:
            raise argparse.ArgumentTypeError(f"{low} to {high}, not {text}")
        return kind(text)

    return number


def some_of(known: Sequence[str]) -> dict[str, Any]:
    """Keywords for an option that takes some of these names, with commas."""

    def names(text: str) -> list[str]:
        chosen = text.split(",")
        if unknown := set(chosen) - set(known):
            unknown_names, known_names = ", ".join(sorted(unknown)), ", ".join(known)
            raise argparse.ArgumentTypeError(f"unknown {unknown_names}; known: {known_names}")
        return chosen

    listed = f"names, with commas: {','.join(known)}"
    return {"type": names, "default": list(known), "help": listed, "metavar": "NAMES"}


class Options(argparse.ArgumentParser):
    """A command line with ``--core`` and ``--json``, and with ``--rounds`` unless it is left out.

    :param quick: what ``--quick`` stands for, and the values of its options then.
    """

    def __init__(
        self, description: str, rounds: int = 0, quick: tuple[str, Any] = ("", {})
    ) -> None:
        super().__init__(description=description)
        self._quick = quick[1]
        if rounds:
            self.add_number("--rounds", rounds, between(1, 100))
        if self._quick:
            self.add_argument("--quick", action="store_true", help=f"{quick[0]}, a first look")
        cores = sorted(os.sched_getaffinity(0))
        text = "the core to pin to; default: the last one allowed"
        self.add_argument("--core", type=int, choices=cores, default=cores[-1], help=text)
        self.add_argument("--json", type=Path, metavar="FILE", help="write everything measured")

    def add_number(
        self, name: str, default: float, kind: Callable[[str], Any], text: str = ""
    ) -> None:
        text += " (default: %(default)s)"
        self.add_argument(name, type=kind, metavar="N", default=default, help=text)

    def read(self) -> argparse.Namespace:
        if "--quick" in sys.argv:
            self.set_defaults(**self._quick)
        return self.parse_args()


def look_on(core: int) -> None:
    """Leave a core to what is measured."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, allowed - {core} or allowed)


def interleaved(names: Sequence[Any], rounds: int, title: str = "") -> Iterator[Any]:
    """Every name once per round, so that a slow minute hits all alike; the order rotates."""
    for number in range(rounds if names else 0):
        print(f"{title}round {number + 1} of {rounds}", file=sys.stderr, flush=True)
        shift = number * len(names) // rounds
        yield from [*names[shift:], *names[:shift]]


def cost(work: Callable[[], Any], calls: int, clock: Callable[[], float], warm: int) -> float:
    """Return the seconds of a clock for one of so many calls; others are made before."""
    for _ in range(warm):
        work()
    before = clock()
    for _ in range(calls):
        work()
    return (clock() - before) / calls


# What was measured


@dataclass
class Run:
    """All that one run found out.

    :ivar samples: by section and row, of each round.
    :ivar faults: why a row has none, or no more.
    """

    options: argparse.Namespace
    samples: dict[str, dict[str, list[dict[str, float]]]] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    versions: dict[str, dict[str, str]] = field(default_factory=dict)
    load_average: tuple[float, float, float] = field(default_factory=os.getloadavg)

    def prepare(self, subjects: Sequence[Subject]) -> list[str]:
        """Make the environments and note their versions; the names of those that are there."""
        for subject in subjects:
            place = subject.package or "this environment"
            try:
                if place not in self.versions:
                    self.versions[place] = subject.versions()
            except VenvFault as fault:
                self.faults[subject.name] = f"no venv: {fault}"
        return [subject.name for subject in subjects if subject.name not in self.faults]

    def measure(
        self, section: str, row: str, work: Callable[[], dict[str, float]], part: str = ""
    ) -> None:
        """Note what it returns, or why it failed; what has failed is not tried again.

        :param part: of the row, when the rest of it goes on after a failure.
        """
        key = f"{part} {row}".strip()
        if key not in self.faults:
            try:
                sample = work()
            except (Fault, OSError) as fault:
                self.faults[key] = f"failed: {fault}"
            else:
                self.add(section, row, sample)

    def add(self, section: str, row: str, sample: dict[str, float]) -> None:
        self.samples.setdefault(section, {}).setdefault(row, []).append(sample)

    def values(self, section: str, row: str, quantity: str) -> list[float]:
        return [sample[quantity] for sample in self.samples.get(section, {}).get(row, [])]

    def value(self, section: str, row: str, quantity: str) -> float | None:
        values = self.values(section, row, quantity)
        return median(values) if values else None

    def spread(self, section: str, row: str, quantity: str) -> str:
        values = self.values(section, row, quantity)
        return f"{(max(values) - min(values)) / median(values):.0%}" if values else "-"

    def header(self, *lines: str) -> str:
        """Return what a reader needs to judge the figures: machine, versions, how it was pinned."""
        load = " ".join(f"{average:.2f}" for average in self.load_average)
        listed = (
            f"  {place:18} {', '.join(f'{name} {version}' for name, version in found.items())}"
            for place, found in self.versions.items()
        )
        first = f"{python()}, {processor()}, {os.cpu_count()} cores, load average at start {load}"
        return "\n".join([first, *lines, "", *listed])

    def write(self, ratios: Sequence[Ratio] = ()) -> None:
        """Write the file that ``--json`` asks for."""
        if self.options.json is not None:
            whole = {
                **vars(self),
                "options": vars(self.options),
                "machine": [python(), processor()],
            }
            whole["ratios"] = [{**asdict(row), "verdict": row.verdict} for row in ratios]
            self.options.json.write_text(json.dumps(whole, indent=1, default=str) + "\n")


def python() -> str:
    return (
        f"{platform.python_implementation()} {platform.python_version()}, {platform.system()} "
        f"{platform.release()} {platform.machine()}"
    )


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return "unknown processor"


# Showing it


def number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def quotient(above: float | None, below: float | None) -> float | None:
    return above / below if above is not None and below else None


def table(
    title: str, columns: Sequence[str], rows: dict[str, Sequence[str]], width: int = 12
) -> str:
    """Return a line for each row; what comes after the last column is put behind it."""
    lines = [f"{title:46}" + "".join(f"{column:>{width}}" for column in columns)]
    for name, row in rows.items():
        cells = "".join(f"{cell:>{width}}" for cell in row[: len(columns)])
        lines.append("  ".join([f"{name:46}{cells}", *row[len(columns) :]]).rstrip())
    return "\n".join(lines)


@dataclass(frozen=True)
class Ratio:
    """A row of the ratio table; when `value` is None `why` says why.

    :ivar at_load: the same quotient at 32 connections
    """

    label: str
    value: float | None
    reach: str = ""
    moonshot: str = ""
    at_load: float | None = None
    why: str = ""

    @property
    def verdict(self) -> str:
        """Return how far the value gets: "moonshot", "reach" or "short of it"; or the reason."""
        if self.value is None:
            return self.why
        if self._meets(self.moonshot):
            return "moonshot"
        return ("reach" if self._meets(self.reach) else "short of it") if self.reach else ""

    def _meets(self, mark: str) -> bool:
        if not mark or self.value is None:
            return False
        sign, limit = mark.split()
        return self.value <= float(limit) if sign == "<=" else self.value >= float(limit)


def ratio_table(ratios: Sequence[Ratio]) -> str:
    """Return the ratios beside their marks; the verdict is on the value."""
    columns, rows = ["value", "reach"], {row.label: [row.reach] for row in ratios}
    if any(row.moonshot for row in ratios):
        columns = ["value", "at 32", "reach", "moonshot"]
        rows = {r.label: [number(r.at_load, ".2f"), r.reach, r.moonshot] for r in ratios}
    shown = {r.label: [number(r.value, ",.2f"), *rows[r.label], r.verdict] for r in ratios}
    return table("ratio", columns, shown, 10)
