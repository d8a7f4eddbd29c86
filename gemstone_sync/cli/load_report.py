"""What ``gemstone bench`` shows of a run: figures for programs, text for readers."""

from __future__ import annotations

import math
import shutil
import sys
from typing import TYPE_CHECKING, Any

import click

from ..broker_urls import without_passwords
from .faults import printable
from .histogram import bars_of, draw, text_of
from .output import show

if TYPE_CHECKING:
    from .load import LoadRun

__all__ = ["figures_of", "show_figures"]

_PERCENTILES = (50.0, 90.0, 99.0, 99.9)

#: Of one core. Above it, calls wait for the generator and not only for the service.
_BUSY = 0.9

#: Columns at most: longer bars say no more.
_WIDEST = 120


def figures_of(run: LoadRun, url: str, method: str) -> dict[str, Any]:
    """Everything that was measured, with the units in the names."""
    plan, latencies = run.plan, run.latencies
    per_second = latencies.count / run.seconds if run.seconds else 0.0
    times = {"mean": latencies.mean, "min": latencies.min}
    times |= {_name_of(percent): latencies.percentile(percent) for percent in _PERCENTILES}
    times["max"] = latencies.max
    return {
        "url": without_passwords(url),
        "method": method,
        "concurrency": plan.concurrency,
        "rate_calls_per_second": plan.rate,
        "duration_s": round(run.seconds, 6),
        "interrupted": run.is_stopped,
        "calls": run.finished,
        "succeeded": latencies.count,
        "failed": run.failed,
        "errors": dict(run.errors.most_common()),
        "unsent": run.unsent,
        "abandoned": run.abandoned,
        "succeeded_per_second": round(per_second, 3),
        "received_bytes": run.received_bytes,
        **{
            f"latency_{name.replace('.', '_')}_ms": _milliseconds(seconds, latencies.count)
            for name, seconds in times.items()
        },
        "histogram": [
            {
                "from_ms": _milliseconds(bar.start),
                "to_ms": _milliseconds(bar.end),
                "calls": bar.calls,
            }
            for bar in bars_of(latencies)
        ],
        "generator_cpu_share": round(run.cpu_share, 3),
        "notes": _notes_of(run),
    }


def _name_of(percent: float) -> str:
    return f"p{percent:g}"


def _milliseconds(seconds: float, count: int = 1) -> float | None:
    """Rounded to nanoseconds; None when nothing was counted."""
    return round(seconds * 1000, 6) if count else None


def _notes_of(run: LoadRun) -> list[str]:
    notes = []
    if run.cpu_share > _BUSY:
        notes.append(
            f"the load generator was the limit: it used {100 * run.cpu_share:.0f} % of a core; the "
            "service may answer more calls than this, and faster"
        )
    if run.unsent:
        notes.append(
            f"{run.unsent:,} calls were due and not sent: {run.plan.rate:g} calls/s are too many "
            f"for the service, or for {run.plan.concurrency} at once"
        )
    if run.is_stopped:
        notes.append(f"stopped early; {run.abandoned:,} calls had no answer yet")
    return notes


def show_figures(run: LoadRun, url: str, method: str, *, as_json: bool) -> None:
    """Write what was measured to stdout.

    :param as_json: everything, as one line of JSON.
    """
    figures = figures_of(run, url, method)
    if as_json:
        show(figures, as_json=True)
        return
    lines = [*_summary_of(figures), *_errors_of(figures), ""]
    if run.latencies.count:
        is_plain = not _can_write("█▏")
        bars = draw(bars_of(run.latencies), min(_columns(), _WIDEST), plain=is_plain)
        lines += [*_latencies_of(run), "", *bars, ""]
    lines += [f"note: {note}" for note in figures["notes"]]
    text = "\n".join(map(printable, lines)).rstrip("\n")
    if not _can_write("µ"):
        text = text.replace("µ", "u")
    click.echo(text.encode(_encoding(), "backslashreplace").decode(_encoding()))


def _columns() -> int:
    return shutil.get_terminal_size().columns - 1


def _encoding() -> str:
    return sys.stdout.encoding or "ascii"


def _can_write(characters: str) -> bool:
    try:
        characters.encode(_encoding())
    except UnicodeEncodeError:
        return False
    return True


def _summary_of(figures: dict[str, Any]) -> list[str]:
    succeeded, size = figures["succeeded"], figures["received_bytes"]
    rate = figures["rate_calls_per_second"]
    asked = "" if rate is None else f", {rate:g} calls/s asked for"
    return [
        f"{figures['method']} at {figures['url']}: "
        f"{figures['concurrency']} at once{asked}, {figures['duration_s']:.2f} s",
        "",
        f"succeeded   {succeeded:>12,}   {figures['succeeded_per_second']:,.1f} calls/s",
        f"failed      {figures['failed']:>12,}   {_percent(figures['failed'], figures['calls'])}",
        f"received    {size:>12,}   bytes"
        + (f", {size / succeeded:,.0f} a call" if succeeded else ""),
        f"generator   {100 * figures['generator_cpu_share']:>12.0f}   % of a core",
    ]


def _percent(part: int, whole: int) -> str:
    """Never 0 % for something, nor 100 % for not everything."""
    share = 100 * part / whole if whole else 0.0
    if 0 < share < 0.1:
        return "under 0.1 %"
    return f"{math.floor(share * 10) / 10:g} %"


def _errors_of(figures: dict[str, Any]) -> list[str]:
    errors = figures["errors"]
    return ["", "failures", *(f"{n:>12,}   {kind}" for kind, n in errors.items())] * bool(errors)


def _latencies_of(run: LoadRun) -> list[str]:
    times = [(_name_of(percent), run.latencies.percentile(percent)) for percent in _PERCENTILES]
    times.append(("max", run.latencies.max))
    return ["latency", *(f"  {name:6}{text_of(seconds):>10}" for name, seconds in times)]
