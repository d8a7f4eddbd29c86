"""``gemstone bench``: a small load run, with a progress bar, latencies and a histogram."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from .faults import REFUSED, USAGE, CommandFailed
from .parameters import TEXT, Access, Duration, Params, access_options, method_arguments

if TYPE_CHECKING:
    from ..client import MethodCall, RemoteService
    from .load import LoadRun, Plan, PreparedCall

__all__ = ["bench"]

#: Steps of the progress bar: it moves with a hundredth of the run.
_STEPS = 100

#: Files that a process has open beside its connections: the standard streams, the event loop's.
_OTHER_FILES = 50


class _Rate(click.types.FloatParamType):
    name = "rate"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        try:
            rate = float(value)
        except ValueError:
            rate = -1.0
        if not 0 < rate <= 1e6:  # NaN is refused too
            self.fail(f"{value} is no number of calls a second above 0", param, ctx)
        return rate


@click.command()
@click.argument("url", type=TEXT)
@method_arguments
@click.option(
    "--duration",
    type=Duration(),
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
    type=_Rate(),
    metavar="CALLS/S",
    help="Begin so many calls a second, however slow the answers are, and measure each from the "
    "moment it was due.  [default: the next call when an answer is there]",
)
@click.option(
    "--warmup",
    type=Duration(may_be_zero=True),
    metavar="SECONDS",
    help="Calls that are not counted, before the others.  [default: 1; 0 with --calls]",
)
@access_options
@click.option("--json", "as_json", is_flag=True, help="All figures as one line of JSON.")
def bench(
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
    from .load import Plan
    from .load_report import show_figures
    from .remote import client_of

    plan, call = Plan(concurrency, calls, duration, rate), MethodCall(method, params)
    with client_of(url, access, access.timeout) as client:
        prepared = _first_call(client, call, plan, access, as_json)
        with contextlib.closing(prepared):
            if warmup:
                _run(Plan(concurrency, None, warmup, rate), prepared, "warm-up", is_counted=False)
            run = _run(plan, prepared, "calls")
        show_figures(run, client.url, method, as_json=as_json)
    if not run.latencies.count:
        raise CommandFailed(f"none of {run.finished:,} calls succeeded", REFUSED)


def _prepare_process(connections: int) -> None:
    """Patch the process, and see to it that it may have so many connections.

    :raises CommandFailed, click.UsageError: when it cannot be.
    """
    import resource

    from ..concurrency import is_patched, patch

    needed = connections + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise click.UsageError(
            f"--concurrency {connections} needs {needed} open files, and {hard} are allowed "
            "(ulimit -Hn)"
        )
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    patch()
    if not is_patched():
        raise CommandFailed("GEMSTONE_MONKEY_PATCH=0 is set, and calls would not overlap", USAGE)
    import gevent

    hub = gevent.get_hub()  # else it prints a Ctrl-C that comes while all greenlets wait
    hub.NOT_ERROR = (*hub.NOT_ERROR, KeyboardInterrupt)


# The run


def _first_call(
    client: RemoteService, call: MethodCall, plan: Plan, access: Access, as_json: bool
) -> PreparedCall:
    """The call, made once: what is wrong with it is told as ``call_raw`` tells it.

    :param access: whose time-out is for each time that it is made.
    :raises CommandFailed, RemoteError: when the service answered with an error.
    :raises TransportError: when there was no answer.
    """
    from ..errors import RemoteError
    from .load import PreparedCall
    from .remote import refusal

    prepared = PreparedCall(client, call, access, connections=plan.concurrency)
    try:
        prepared.make()
    except RemoteError as error:
        if as_json:
            raise
        raise refusal(error, client, access.timeout) from error
    return prepared


def _run(plan: Plan, call: PreparedCall, label: str, *, is_counted: bool = True) -> LoadRun:
    """Make a run. Ctrl-C and SIGTERM end it early; one without a figure they end as any command.

    :raises KeyboardInterrupt: when it was stopped, and nothing was measured.
    """
    from .load import LoadRun

    run = LoadRun(plan, call.make)
    with _stopped_by_signals(run), _bar(label) as progress:
        run.run(progress)
    if run.is_stopped and not (is_counted and run.finished):
        raise KeyboardInterrupt
    return run


@contextlib.contextmanager
def _stopped_by_signals(run: LoadRun) -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda *_: run.stop()) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


@contextlib.contextmanager
def _bar(label: str) -> Iterator[Callable[[float], None]]:
    """A progress bar on stderr, when that is a terminal; what is told the share that is done."""
    if not sys.stderr.isatty():
        yield lambda share: None
        return
    with click.progressbar(length=_STEPS, label=f"{label:7}", file=sys.stderr) as bar:
        yield lambda share: bar.update(int(share * _STEPS) - bar.pos)
