"""Services as a program: signals, workers, exit codes. One service, or several in one process."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence

import gevent

from ..concurrency import end_children, host, is_at_prompt, kill_children
from ..errors import ServiceConfigurationError, ServiceStartError
from ..ops import remove_directory, share_metrics_no_more, show_logs
from ..server import Balance
from ..server.prefork import leave_with_parent, supervise
from ..server.processes import StopRequests, stop_signals
from .base import ServiceBase
from .explorer import tell_of_pages
from .metrics import share_with_workers
from .runner import Runner, describe_failure
from .settings import check_settings

__all__ = [
    "start_errors_in_one_line",
    "run_together",
    "run_until_stopped",
    "run_workers",
    "running_refused",
]

#: What keeps a service from starting, and is told in one line.
_START_ERRORS = (ServiceStartError, ServiceConfigurationError)

#: Makes the exception that running a service raises just now, of its name; None when it may run.
_refuse: Callable[[str], Exception] | None = None


@contextlib.contextmanager
def running_refused(refuse: Callable[[str], Exception]) -> Iterator[None]:
    """Have whatever would serve until a signal raise what `refuse` makes of the service's name."""
    global _refuse
    _refuse = refuse
    try:
        yield
    finally:
        _refuse = None


def run_together(runners: Sequence[Runner]) -> None:
    """Run several services in one process; see `gemstone_sync.run`.

    :raises ServiceConfigurationError: when a service wants several workers: this is one process.
    """
    for runner in runners:
        service = runner.service
        runner.configure([])
        with start_errors_in_one_line(service):
            check_settings(service, only=("workers",))
        if service.workers > 1:
            raise ServiceConfigurationError(
                f"{service.name} wants {service.workers} workers; run() is one process for all: "
                "start it by itself, with service.start()"
            )
    run_until_stopped(runners)


def run_until_stopped(runners: Sequence[Runner]) -> None:
    """Start services, and stop them all when a signal comes or they have stopped by themselves."""
    _check_allowed(*runners)
    first = runners[0].service
    show_logs(first.log_format, first.log_level)
    for runner in runners:
        runner.check_stopped()  # before any is started: what fails then stops them all
    if host() is not None:
        _run_in_own_threads(runners)
        return
    started: list[Runner] = []
    with _stop_signals(runners, stop_signals()) as received:
        try:
            for runner in runners:
                if not received:
                    started.append(runner)
                    runner.start()
        except BaseException:
            gevent.joinall([gevent.spawn(runner.stop) for runner in started])
            with start_errors_in_one_line(started[-1].service):
                raise
        for runner in started:
            runner.wait()
        if received:
            end_children()


def _run_in_own_threads(runners: Sequence[Runner]) -> None:
    """Run them until Ctrl-C beside an event loop, whose signals these are."""
    started: list[Runner] = []
    try:
        for runner in runners:
            started.append(runner)
            runner.start(in_own_thread=True)
        for runner in started:
            runner.wait()
    except KeyboardInterrupt:
        pass
    finally:
        for runner in started:
            runner.stop()


def run_workers(runner: Runner, count: int) -> None:
    """Serve one address with `count` processes until SIGTERM or Ctrl-C.

    :raises ServiceConfigurationError: beside an event loop, which forks would double.
    """
    service = runner.service
    _check_allowed(runner)
    if (beside := host()) is not None:
        raise ServiceConfigurationError(
            f"{service.name} wants {count} workers: {beside} must not be forked. "
            "Put the class into a file and start it with `gemstone run`"
        )
    show_logs(service.log_format, service.log_level)
    runner.warn_if_unpatched()
    with start_errors_in_one_line(service):
        listener = runner.bind()
    if runner.parts().metrics is not None:
        share_with_workers()
    parent = os.getpid()
    balance = Balance(count)

    def work(number: int, ready: Callable[[], None], stop_all: Callable[[], None]) -> int:
        # A terminal signals the whole process group; the parent hears it and says SIGTERM.
        for signal_number in set(stop_signals()) - {signal.SIGTERM}:
            signal.signal(signal_number, signal.SIG_IGN)
        runner.stop_others = stop_all
        # A second SIGTERM, as of a supervisor that signals the group, is for the parent too.
        with _stop_signals([runner], [signal.SIGTERM], second_ends=False):
            leave_with_parent(parent, runner.stop)
            try:
                balance.join(number)
                runner.serve(listener, balance)
            except _START_ERRORS as error:
                service.logger.error("%s", error)
                return 1
            except SystemExit as error:
                service.logger.error("worker %d: a start hook ended it: %s", number, error.code)
                return 1
            except Exception:
                service.logger.exception("worker %d could not start", number)
                return 1
            ready()
            runner.stopped.wait()
            end_children(daemons=True)  # what comes next is no end of the interpreter
        return 0

    def say_ready() -> None:
        service.logger.info("%s listens on %s with %d workers", service.name, service.url, count)
        tell_of_pages(service, service.url)

    # Five seconds more than the workers give their calls: they end by themselves if they can.
    timeout = service.drain_delay + service.stop_timeout + 5
    try:
        code = supervise(count, work, timeout, say_ready, listener.close)
    finally:
        if runner.parts().metrics is not None:
            share_metrics_no_more()
        if runner.parts().status is not None:
            remove_directory(parent)
    service.logger.info("%s and its workers stopped", service.name)
    if code:
        raise SystemExit(code)


@contextlib.contextmanager
def start_errors_in_one_line(service: ServiceBase) -> Iterator[None]:
    """End the program with one line on stderr where the service cannot start; not at a prompt."""
    try:
        yield
    except _START_ERRORS as error:
        if is_at_prompt():
            raise
        if isinstance(error, ServiceStartError):
            sys.stderr.write(f"{error}\n")
            raise SystemExit(1) from None
        sys.stderr.write(f"{service.name}: {describe_failure(service.name, error)}\n")
        raise SystemExit(2) from None


def _check_allowed(*runners: Runner) -> None:
    for runner in runners:
        if _refuse is not None:
            raise _refuse(runner.service.name)


@contextlib.contextmanager
def _stop_signals(
    runners: Sequence[Runner], numbers: Sequence[signal.Signals], *, second_ends: bool = True
) -> Iterator[list[int]]:
    """Stop at signals: at Ctrl-C at once, else with each service's grace, at a second one hard.

    Yields the list of the signals received.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:  # nobody else stops it
            for runner in runners:
                runner.service.logger.warning(
                    "%s is started outside the main thread, where no signal is heard: SIGTERM ends "
                    "the process at once, without stop hooks. Start it in the main thread, with "
                    "start(block=False) if that has more to do",
                    runner.service.name,
                )
        yield received
        return
    requests = StopRequests()

    def stop(number: int) -> None:
        received.append(number)
        if second_ends and requests.record(number):
            kill_children()
            os._exit(128 + number)
        for runner in runners:
            gevent.spawn(runner.stop if number == signal.SIGINT else runner.stop_gently)

    before = {n: signal.getsignal(n) for n in numbers}
    watchers = [gevent.signal_handler(n, stop, n) for n in before]
    try:
        yield received
    finally:
        for watcher in watchers:
            watcher.cancel()
        for number, handler in before.items():
            # The event loop leaves its own, and Ctrl-C at the prompt would do nothing.
            if handler is not None:
                signal.signal(number, handler)
