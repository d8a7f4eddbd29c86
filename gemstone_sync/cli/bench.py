"""``gemstone bench``: a small load run, with a progress bar, latencies and a histogram."""

from __future__ import annotations

import io
import shutil
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from ..broker_urls import without_passwords
from ..exit_codes import CommandFailed, printable
from .options import Access, Params, access_options, method_arguments, require_extra, seconds, utf8
from .output import show, table

if TYPE_CHECKING:
    from .load import LoadRun, Plan

__all__ = ["command"]

#: Steps of the progress bar: it moves with a hundredth of the run.
_STEPS = 100

#: Files that a process has open beside its connections: the standard streams, the event loop's.
_OTHER_FILES = 50

_PERCENTILES = (50.0, 90.0, 99.0, 99.9)

#: Bars of the histogram at most, and by how much the bounds of one differ at least.
_BARS = 12
_FINEST = 1.05

#: Columns at most: longer bars say no more.
_WIDEST = 120

#: Of one core. Above it, calls wait for the generator and not only for the service.
_BUSY = 0.9


def _rate(given: str) -> float:
    try:
        rate = float(given)
    except ValueError:
        rate = -1.0
    if not 0 < rate <= 1e6:  # NaN is refused too
        raise click.BadParameter(f"{given} is no number of calls a second above 0")
    return rate


@click.command("bench")
@click.argument("url", type=utf8)
@method_arguments
@click.option(
    "--duration",
    type=seconds(),
    metavar="SECONDS",
    help="How long calls are begun; 500ms, 10s and 2m are understood.  "
    "[default: 10, or as long as --calls takes]",
)
@click.option("--calls", type=click.IntRange(1), metavar="N", help="How many calls at most.")
@click.option(
    "--concurrency",
    type=click.IntRange(1, 10_000),
    default=50,
    show_default=True,
    metavar="N",
    help="Calls at once at most.",
)
@click.option(
    "--rate",
    type=_rate,
    metavar="CALLS/S",
    help="Begin so many calls a second, however slow the answers are, and measure each from the "
    "moment it was due.  [default: the next call when an answer is there]",
)
@click.option(
    "--warmup",
    type=seconds(may_be_zero=True),
    metavar="SECONDS",
    help="Calls that are not counted, before the others.  [default: 1; 0 with --calls]",
)
@access_options
@click.option("--json", "as_json", is_flag=True, help="All figures as one line of JSON.")
def command(
    url: str,
    method: str,
    params: Params,
    duration: float | None,
    calls: int | None,
    concurrency: int,
    rate: float | None,
    warmup: float | None,
    access: Access,
    as_json: bool,
) -> None:
    """Call METHOD of the service at URL many times, and show how long it took.

    PARAMS are written as for call_raw. --timeout is for each call. One call is made first, alone
    and not counted: when it fails, there is no run. After that a failing call is counted, and never
    repeated; the latencies are those of the calls that succeeded.

    Ctrl-C ends the run early and shows what was measured. The exit code is 0 when a call of the run
    succeeded, and 1 when none did.

    \b
    gemstone bench http://localhost:8000/api say_hello name=world
    gemstone bench http://localhost:8000/api add a:=1 b:=2 --rate 500 --duration 1m
    """
    if duration is None and calls is None:
        duration = 10.0
    if warmup is None:
        warmup = 1.0 if calls is None else 0.0
    _prepare_process(concurrency)
    from ..client import MethodCall
    from .load import Plan, prepared_call
    from .remote import client_of

    call = MethodCall(method, params)
    with client_of(url, access) as client:
        with prepared_call(client, call, access, concurrency) as make:
            make()  # what is wrong with it is told as call_raw tells it
            if warmup and _run(Plan(concurrency, None, warmup, rate), make, "warm-up").is_stopped:
                raise KeyboardInterrupt
            run = _run(Plan(concurrency, calls, duration, rate), make, "calls")
        figures = figures_of(run, client.url, method)
    if as_json:
        show(figures, as_json=True)
    else:
        click.echo(_text_of(figures))
    if not run.succeeded:
        raise CommandFailed(f"none of {run.finished:,} calls succeeded")


def _prepare_process(connections: int) -> None:
    """Patch the process, and see to it that it may have so many connections.

    :raises click.UsageError: when it cannot be.
    """
    import resource

    from ..concurrency import is_patched, patch

    require_extra("bench", "hdrh", "hdrhistogram")
    needed = connections + _OTHER_FILES
    _, allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed != resource.RLIM_INFINITY and allowed < needed:
        raise click.UsageError(
            f"--concurrency {connections} needs {needed} open files, and {allowed} are allowed "
            "(ulimit -Hn)"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, allowed))
    patch()
    if not is_patched():
        raise click.UsageError("GEMSTONE_MONKEY_PATCH=0 is set, and calls would not overlap")
    import gevent

    hub = gevent.get_hub()  # else it prints a Ctrl-C that comes while all greenlets wait
    hub.NOT_ERROR = (*hub.NOT_ERROR, KeyboardInterrupt)


# The run


def _run(plan: Plan, make: Callable[[], object], label: str) -> LoadRun:
    """Make a run, with a progress bar on stderr if that is a terminal.

    Ctrl-C and SIGTERM end it early.

    :raises KeyboardInterrupt: when it was stopped, and nothing was measured.
    """
    from .load import LoadRun

    run = LoadRun(plan, make)
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda *_: run.stop()) for number in numbers]
    screen = sys.stderr if sys.stderr.isatty() else io.StringIO()
    try:
        with click.progressbar(length=_STEPS, label=f"{label:7}", file=screen) as bar:
            run.run(lambda share: bar.update(int(share * _STEPS) - bar.pos))
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
    if run.is_stopped and not run.finished:
        raise KeyboardInterrupt
    return run


# What is shown


def figures_of(run: LoadRun, url: str, method: str) -> dict[str, Any]:
    """Give everything that was measured, with the units in the names."""
    plan, latencies = run.plan, run.latencies
    per_second = run.succeeded / run.seconds if run.seconds else 0.0
    times = {
        "mean": latencies.get_mean_value(),
        "min": latencies.get_min_value(),
        **{f"p{each:g}": latencies.get_value_at_percentile(each) for each in _PERCENTILES},
        "max": latencies.get_max_value(),
    }
    return {
        "url": without_passwords(url),
        "method": method,
        "concurrency": plan.concurrency,
        "rate_calls_per_second": plan.rate,
        "duration_s": round(run.seconds, 6),
        "interrupted": run.is_stopped,
        "calls": run.finished,
        "succeeded": run.succeeded,
        "failed": run.failed,
        "errors": dict(run.errors.most_common()),
        "unsent": run.unsent,
        "abandoned": run.abandoned,
        "succeeded_per_second": round(per_second, 3),
        **{
            f"latency_{name.replace('.', '_')}_ms": round(time / 1000, 6) if run.succeeded else None
            for name, time in times.items()
        },
        "histogram": _bars_of(run),
        "generator_cpu_share": round(run.cpu_share, 3),
        "notes": _notes_of(run),
    }


def _bars_of(run: LoadRun) -> list[dict[str, Any]]:
    """Count the calls between bounds that grow evenly, from the fastest call to the slowest.

    So the few slow calls are seen beside the many fast ones.
    """
    if not run.succeeded:
        return []
    latencies = run.latencies
    least = max(latencies.get_min_value(), 1)
    growth = max((latencies.get_max_value() / least) ** (1 / _BARS), _FINEST)
    bars, start = [], least / 1000
    for step in latencies.get_log_iterator(least * growth, growth):
        end = step.value_iterated_to / 1000
        bars.append({"from_ms": start, "to_ms": end, "calls": step.count_added_in_this_iter_step})
        start = end
        if sum(bar["calls"] for bar in bars) == run.succeeded:
            break  # it goes on to the end of what it counts as equal to the slowest
    return bars


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


def _text_of(figures: dict[str, Any]) -> str:
    """Write the figures for readers."""
    succeeded, failed, rate = (figures[n] for n in ("succeeded", "failed", "rate_calls_per_second"))
    asked = "" if rate is None else f", {rate:g} calls/s asked for"
    counts = [
        ("succeeded", f"{succeeded:,}", f"{figures['succeeded_per_second']:,.1f} calls/s"),
        ("failed", f"{failed:,}", f"{100 * failed / (figures['calls'] or 1):.3g} %"),
        *(("", f"{number:,}", kind) for kind, number in figures["errors"].items()),
    ]
    parts = [
        f"{printable(figures['method'])} at {printable(figures['url'])}: "
        f"{figures['concurrency']} at once{asked}, {figures['duration_s']:.2f} s",
        table(counts),
    ]
    if succeeded:
        times = [
            (name.removesuffix("_ms").replace("_", " ", 1).replace("_", "."), _time(value))
            for name, value in figures.items()
            if name.startswith(("latency_p", "latency_max"))
        ]
        parts += [table(times), _draw(figures["histogram"])]
    parts += [f"note: {note}" for note in figures["notes"]]
    return "\n\n".join(parts)


def _draw(bars: list[dict[str, Any]]) -> str:
    """Draw a line for each bar, as wide as the terminal; every call is seen."""
    rows = [
        (f"{_time(bar['from_ms'])} - {_time(bar['to_ms'])}", f"{bar['calls']:,}") for bar in bars
    ]
    taken = sum(max(map(len, column)) + 2 for column in zip(*rows, strict=True))
    room = max(min(shutil.get_terminal_size().columns - 1, _WIDEST) - taken, 8)
    most = max(bar["calls"] for bar in bars)
    lengths = [max(round(bar["calls"] / most * room), bar["calls"] > 0) for bar in bars]
    return table((*row, "#" * length) for row, length in zip(rows, lengths, strict=True))


def _time(milliseconds: float) -> str:
    """Write a time for readers, in three digits.

    >>> _time(1.2345), _time(2500)
    ('1.23 ms', '2,500 ms')
    """
    return f"{float(f'{milliseconds:.3g}'):,g} ms"
