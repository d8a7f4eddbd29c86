"""Every core with one command: a parent that forks workers and looks after them.

The parent runs no event loop: it waits for signals and nothing else, so whatever happens in a
worker, it is there to start another one.
"""

from __future__ import annotations

import logging
import mmap
import os
import signal
import time
from collections.abc import Callable
from typing import TypeAlias

import gevent
from gevent import monkey

from .handed_down import close_or_name
from .stop_signals import StopRequests, stop_signals

__all__ = ["leave_with_parent", "supervise"]

logger = logging.getLogger("gemstone_sync.server")

#: A worker that lived for less is started again after a pause, which doubles each time.
_HEALTHY_SECONDS = 5.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 10.0

#: See `supervise`.
Work: TypeAlias = Callable[[int, Callable[[], None], Callable[[], None]], int]


class _Worker:
    def __init__(self, number: int) -> None:
        self.number = number
        #: Shared with the process: bytes that are 1 once it serves, and once it wants all to stop.
        self.told = mmap.mmap(-1, 2)
        self.pid = 0
        self.started = 0.0
        self.pause = 0.0
        #: When to start it again (``time.monotonic()``).
        self.due = 0.0


def supervise(
    count: int,
    work: Work,
    stop_timeout: float,
    on_ready: Callable[[], object] = lambda: None,
    on_stop: Callable[[], object] = lambda: None,
) -> int:
    """Fork `count` workers, replace those that die, until a stop signal or until one wants it.

    :param work: runs in each worker with its number, 0 to `count` - 1, a function to call once it
        serves, and one that has all workers stop; returns its exit code. A worker that ends before
        it ever served ends all.
    :param stop_timeout: seconds that workers have after the signal; then they are killed.
    :param on_ready: called once, when all of them serve: those that do not yet answer callers too.
    :param on_stop: called before the workers are told to stop.
    :returns: the exit code for the process: 0, 1 when a worker could not start, or 128 and the
        number of a second signal, which kills them at once.
    """
    # Signals are taken one by one where the parent waits for them, never in between.
    signals = {*stop_signals(), signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    workers = [_Worker(number) for number in range(count)]
    requests = StopRequests()
    try:
        failed = _watch(workers, work, before, signals, requests, on_ready)
        on_stop()
        second = _stop(workers, stop_timeout, signals, requests)
        while signal.sigtimedwait(signals, 0):  # the same again, which would end it by itself
            pass
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return 128 + second if second else int(failed)


def _watch(
    workers: list[_Worker],
    work: Work,
    mask: set[signal.Signals] | set[int],
    signals: set[signal.Signals],
    requests: StopRequests,
    on_ready: Callable[[], object],
) -> bool:
    """Keep the workers running until something says stop; True when one could not start."""
    is_told = False
    while True:
        if not is_told and all(worker.told[0] for worker in workers):
            is_told = True
            on_ready()
        now = time.monotonic()
        for worker in workers:
            if worker.pid == 0 and worker.due <= now:
                _fork(worker, work, mask)
        waits = [worker.due - now for worker in workers if worker.pid == 0]
        received = signal.sigtimedwait(signals, max(0.01, min(waits, default=3600.0)))
        if received is not None and received.si_signo != signal.SIGCHLD:
            requests.is_second(received.si_signo)  # takes note of it
            return False
        if any(worker.told[1] for worker in workers):
            return False
        for worker, code in _reap(workers):
            if worker.told[0] == 0 and code > 0:  # not one that was killed while starting
                logger.error("worker %d could not start; the service ends", worker.number)
                return True
            lived = time.monotonic() - worker.started
            worker.pause = (
                0.0
                if lived >= _HEALTHY_SECONDS
                else min(_LONGEST_PAUSE, max(_FIRST_PAUSE, worker.pause * 2))
            )
            worker.due = time.monotonic() + worker.pause
            logger.error(
                "worker %d ended with %s; another one starts in %.1f s",
                worker.number,
                f"exit code {code}" if code >= 0 else f"signal {-code}",
                worker.pause,
            )


def _fork(worker: _Worker, work: Work, mask: set[signal.Signals] | set[int]) -> None:
    close_or_name()
    worker.told[0] = 0
    parent = os.getpid()

    def tell(what: int) -> None:
        worker.told[what] = 1
        os.kill(parent, signal.SIGCHLD)  # it looks at them then

    # The original: gevent's would also watch the child from an event loop that never runs here.
    pid = monkey.get_original("os", "fork")()
    if pid:
        worker.pid = pid
        worker.started = time.monotonic()
        return
    code = 1
    try:
        gevent.reinit()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        code = work(worker.number, lambda: tell(0), lambda: tell(1))
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except KeyboardInterrupt:  # Ctrl-C before it has begun
        code = 0
    except BaseException:
        logger.exception("worker %d failed", worker.number)
    finally:
        logging.shutdown()
        os._exit(code)  # never back into the parent's code


def _reap(workers: list[_Worker]) -> list[tuple[_Worker, int]]:
    """The workers that have ended, with their exit codes; minus the signal for a killed one."""
    ended = []
    for worker in workers:
        if worker.pid:
            pid, status = monkey.get_original("os", "waitpid")(worker.pid, os.WNOHANG)
            if pid:
                worker.pid = 0
                ended.append((worker, os.waitstatus_to_exitcode(status)))
    return ended


def _stop(
    workers: list[_Worker], timeout: float, signals: set[signal.Signals], requests: StopRequests
) -> int:
    """Have the workers end; returns the number of a second signal that had them killed, or 0."""
    for worker in workers:
        if worker.pid:
            os.kill(worker.pid, signal.SIGTERM)
    second = 0
    deadline = time.monotonic() + timeout
    while any(worker.pid for worker in workers):
        received = signal.sigtimedwait(signals, max(0.0, deadline - time.monotonic()))
        number = signal.SIGCHLD if received is None else received.si_signo
        if number != signal.SIGCHLD and requests.is_second(number):
            second = number
        if received is None or number == second:  # time is over, or told twice
            for worker in workers:
                if worker.pid:
                    os.kill(worker.pid, signal.SIGKILL)
                    if number != second:
                        logger.error("worker %d did not end and was killed", worker.number)
            deadline = time.monotonic() + 5.0
        _reap(workers)
    return second


def leave_with_parent(parent: int, stop: Callable[[], object]) -> None:
    """Run in a worker: stop when the parent has died, however it died."""

    def watch() -> None:
        while os.getppid() == parent:
            gevent.sleep(1.0)
        logger.error("the parent process is gone; the worker stops")
        stop()

    gevent.spawn(watch)
