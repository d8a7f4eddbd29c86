"""What a run says: header, table, ratios, JSON and the bar chart. Nothing here measures."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass, field
from html import escape
from pathlib import Path

from measure import Measured
from servers import BY_NAME, CATALOGUE

#: Colours of the chart: ours, the limit, the others.
OURS, LIMIT, OTHER = "#2563eb", "#16a34a", "#94a3b8"
FONT = "font-family='sans-serif' font-size='13'"


@dataclass
class Run:
    """All that one run found out."""

    rounds: int
    calls: int
    core: int
    cores: int
    results: dict[str, Measured] = field(default_factory=dict)
    versions: dict[str, dict[str, str]] = field(default_factory=dict)
    #: why a server was not started (one line each)
    missing: dict[str, str] = field(default_factory=dict)
    #: calls/s with one worker and with two, or why not
    scaling: tuple[float, float] | str = "not asked for"
    load_average: tuple[float, float, float] = field(default_factory=os.getloadavg)

    def value(self, server: str, phase: str, quantity: str) -> float | None:
        measured = self.results.get(server)
        return measured.median(phase, quantity) if measured is not None else None


@dataclass(frozen=True)
class Ratio:
    """A row of the ratio table; when `value` is None `why` says why."""

    label: str
    value: float | None
    reach: str
    moonshot: str
    #: the same quotient of the CPU per call at 32 connections
    at_load: float | None = None
    why: str = ""

    @property
    def verdict(self) -> str:
        """Return how far the value gets: "moonshot", "reach" or "short of it"; or the reason."""
        if self.value is None:
            return self.why
        if _meets(self.value, self.moonshot):
            return "moonshot"
        return "reach" if _meets(self.value, self.reach) else "short of it"


def _meets(value: float, mark: str) -> bool:
    if not mark:
        return False
    limit = float(mark.split()[1])
    return value <= limit if mark.startswith("<=") else value >= limit


#: label, numerator, denominator, reach, moonshot
CPU_RATIOS = (
    ("ours, own server ÷ raw gevent echo", "ours", "echo", "<= 4", "<= 3"),
    ("hand-written ASGI on uvicorn ÷ ours", "uvicorn-asgi", "ours", ">= 0.95", ">= 1.2"),
    ("the same as RSGI on granian ÷ ours", "granian-rsgi", "ours", ">= 1", ">= 1.3"),
    ("pjrpc on aiohttp ÷ ours", "pjrpc", "ours", ">= 2.8", ">= 4"),
    ("old gemstone 0.10.1 ÷ ours", "old-gemstone", "ours", ">= 8", ">= 12"),
    ("flask-jsonrpc ÷ ours", "flask-jsonrpc", "ours", ">= 13", ">= 18"),
    (
        "flask-jsonrpc ÷ ours, gunicorn -k gevent",
        "flask-jsonrpc",
        "ours-gunicorn",
        ">= 2",
        ">= 2.2",
    ),
    ("ours, GunicornWorker ÷ own server", "ours-gunicornworker", "ours", "<= 1.15", ""),
)


def ratios(run: Run) -> list[Ratio]:
    """Return the rows: quotients of the medians of one run."""
    rows = []
    for label, above, below, reach, moonshot in CPU_RATIOS:
        value, at_load = (
            _quotient(run.value(above, phase, "cpu"), run.value(below, phase, "cpu"))
            for phase in ("cpu", "load")
        )
        rows.append(Ratio(label, value, reach, moonshot, at_load, _why(run, above, below)))
    why = _why(run, "ours")
    batch = _quotient(run.value("ours", "batch", "cpu"), run.value("ours", "cpu", "cpu"))
    rows.append(Ratio("batch of 100: per item ÷ single call", batch, "<= 0.4", "<= 0.2", why=why))
    tail = _quotient(run.value("ours", "load", "p99"), run.value("ours", "load", "p50"))
    rows.append(Ratio("p99 ÷ median, 32 connections", tail, "<= 5", "<= 3", why=why))
    label = "two workers ÷ one, 1 ms CPU each, unpinned"
    if isinstance(run.scaling, str):
        rows.append(Ratio(label, None, ">= 1.7", ">= 1.9", why=run.scaling))
    else:
        rows.append(Ratio(label, run.scaling[1] / run.scaling[0], ">= 1.7", ">= 1.9"))
    return rows


def _quotient(above: float | None, below: float | None) -> float | None:
    return above / below if above is not None and below else None


def _why(run: Run, *names: str) -> str:
    """Return why a ratio of these servers may be missing."""
    for name in names:
        if name in run.missing:
            return f"{name}: {run.missing[name].split(':')[0]}"
        measured = run.results.get(name)
        if measured is None:
            return f"{name} not asked for"
        if measured.fault is not None:
            return f"{name} failed"
    return ""


def header(run: Run) -> str:
    """Return what a reader needs to judge the figures: machine, versions, how it was pinned."""
    load = " ".join(f"{average:.2f}" for average in run.load_average)
    return "\n".join(
        [
            f"{platform.python_implementation()} {platform.python_version()}, {platform.system()} "
            f"{platform.release()} {platform.machine()}, {_processor()}, {run.cores} cores, "
            f"load average at start {load}",
            f"Pinned: every server and the load generator share core {run.core}. (Unpinned, waking "
            "a sleeping other core is charged to the call.)",
            f"Medians of {run.rounds} rounds interleaved over the servers, {run.calls} calls each.",
            "CPU µs/call: user + system of the server's process tree, one keep-alive connection. "
            "CPU at 32, calls/s, p50, p99: 32 connections.",
            "No access logs. Every answer is checked.",
            "",
            *(f"  {name:20} {_listed(found)}" for name, found in run.versions.items()),
        ]
    )


def _listed(versions: dict[str, str]) -> str:
    return ", ".join(f"{package} {version}" for package, version in versions.items())


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return "unknown processor"


def table(run: Run) -> str:
    """Return one line per server, and one for each that has no figures or failed later."""
    head = (
        "server",
        "CPU µs/call",
        "spread",
        "÷ ours",
        "calls/s",
        "p50 µs",
        "p99 µs",
        "p99÷p50",
        "CPU at 32",
    )
    lines = [f"{head[0]:44}" + "".join(f"{column:>12}" for column in head[1:])]
    ours = run.value("ours", "cpu", "cpu")
    notes = []
    for server in CATALOGUE:
        cpu = run.value(server.name, "cpu", "cpu")
        measured = run.results.get(server.name)
        if server.name in run.missing:
            notes.append(f"{server.title}: {run.missing[server.name]}")
        if measured is not None and measured.fault is not None:
            notes.append(f"{server.title}: failed: {measured.fault}")
        if cpu is None or measured is None:
            continue
        values = measured.values("cpu", "cpu")
        p50, p99 = run.value(server.name, "load", "p50"), run.value(server.name, "load", "p99")
        cells = (
            f"{cpu:.1f}",
            f"{(max(values) - min(values)) / cpu:.0%}",
            _number(_quotient(cpu, ours), ".2f"),
            _number(run.value(server.name, "load", "rate"), ",.0f"),
            _number(p50, ",.0f"),
            _number(p99, ",.0f"),
            _number(_quotient(p99, p50), ".1f"),
            _number(run.value(server.name, "load", "cpu"), ".1f"),
        )
        lines.append(f"{server.title:44}" + "".join(f"{cell:>12}" for cell in cells))
    return "\n".join(lines + notes)


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def ratio_table(run: Run) -> str:
    """Return the rows of :func:`ratios` beside their marks; the verdict is on the first value."""
    head = ("value", "at 32", "reach", "moonshot")
    lines = [f"{'ratio':44}" + "".join(f"{column:>10}" for column in head)]
    for row in ratios(run):
        cells = (_number(row.value, ".2f"), _number(row.at_load, ".2f"), row.reach, row.moonshot)
        line = f"{row.label:44}" + "".join(f"{cell:>10}" for cell in cells)
        lines.append(f"{line}  {row.verdict}")
    return "\n".join(lines)


def as_json(run: Run) -> dict[str, object]:
    """Return everything of the run, the samples of each round too."""
    plain = asdict(run)
    plain["ratios"] = [{**asdict(row), "verdict": row.verdict} for row in ratios(run)]
    plain["machine"] = {
        "python": platform.python_version(),
        "kernel": platform.release(),
        "processor": _processor(),
    }
    return plain


def as_svg(run: Run) -> str:
    """Return a bar chart of the CPU per call, the cheapest on top."""
    bars = sorted(
        (cpu, name) for name in run.results if (cpu := run.value(name, "cpu", "cpu")) is not None
    )
    longest = bars[-1][0] if bars else 1.0
    left, width, step = 300, 420, 26
    height = 56 + step * len(bars)
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{left + width + 90}' height='{height}' "
        f"{FONT}>",
        "<rect width='100%' height='100%' fill='white'/>",
        "<text x='12' y='24' font-weight='bold'>"
        "Server CPU per JSON-RPC call (µs, less is better)</text>",
    ]
    for number, (cpu, name) in enumerate(bars):
        top = 42 + step * number
        colour = LIMIT if name == "echo" else OURS if name.startswith("ours") else OTHER
        length = max(1.0, cpu / longest * width)
        parts += [
            f"<text x='{left - 8}' y='{top + 14}' text-anchor='end'>"
            f"{escape(BY_NAME[name].title)}</text>",
            f"<rect x='{left}' y='{top}' width='{length:.1f}' height='18' fill='{colour}'/>",
            f"<text x='{left + length + 6:.1f}' y='{top + 14}'>{cpu:.1f}</text>",
        ]
    return "\n".join([*parts, "</svg>", ""])
