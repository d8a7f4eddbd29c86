"""Use every core with one command: a parent forks workers and looks after them.

The parent runs no event loop: it waits for signals and nothing else, so whatever happens in a
worker, it is there to start another one.
"""

from __future__ import annotations

import logging
import mmap
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import TypeAlias

import gevent
from gevent import monkey

from .processes import StopRequests, close_or_name, stop_signals

__all__ = ["Balance", "leave_with_parent", "supervise"]

logger = logging.getLogger("gemstone_sync.server")

#: A worker that lived for less is started again after a pause, which doubles each time.
_HEALTHY_SECONDS = 5.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 10.0

#: Seconds after which the parent looks at its workers without having heard of one.
_LOOK_EVERY = 0.5

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
    workers = [_Worker(number) for number in range(count)]
    requests = StopRequests()
    with _Signals() as signals:
        failed = _watch(workers, work, signals, requests, on_ready)
        on_stop()
        second = _stop(workers, stop_timeout, signals, requests)
    return 128 + second if second else int(failed)


class _Signals:
    """Take the stop signals and SIGCHLD one by one where the parent waits, never in between.

    They are blocked, but only in this thread: the kernel may give one to a native thread that is
    older, as of gevent's pool. A stop signal would end the process there: a handler keeps it. A
    SIGCHLD is lost: whoever waits looks at the workers now and then.
    """

    def __enter__(self) -> _Signals:
        self._numbers = {*stop_signals(), signal.SIGCHLD, signal.SIGUSR2}
        self._heard_elsewhere: list[int] = []
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, self._numbers)
        self._handlers = {}
        if threading.current_thread() is threading.main_thread():  # others may set none
            for number in (*stop_signals(), signal.SIGUSR2):
                self._handlers[number] = signal.signal(
                    number, lambda heard, _: self._heard_elsewhere.append(heard)
                )
        return self

    def __exit__(self, *_: object) -> None:
        while signal.sigtimedwait(self._numbers, 0):  # the same again would end it by itself
            pass
        self.restore()

    def restore(self) -> None:
        """Leave signals as they were; also in a worker, which has inherited them."""
        for number, handler in self._handlers.items():
            if handler is not None:
                signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)

    def wait(self, seconds: float) -> int:
        """Return the stop signal that came, or 0 when it is time to look at the workers."""
        received = signal.sigtimedwait(self._numbers, max(0.0, min(seconds, _LOOK_EVERY)))
        if received is not None and received.si_signo != signal.SIGCHLD:
            return received.si_signo
        return self._heard_elsewhere.pop(0) if self._heard_elsewhere else 0


def _watch(
    workers: list[_Worker],
    work: Work,
    signals: _Signals,
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
                _fork(worker, work, signals)
        waits = [worker.due - now for worker in workers if worker.pid == 0]
        number = signals.wait(max(0.01, min(waits, default=_LOOK_EVERY)))
        if number == signal.SIGUSR2:
            for worker in workers:  # each writes its stacks
                if worker.pid and worker.told[0]:
                    os.kill(worker.pid, signal.SIGUSR2)
        elif number:
            requests.record(number)
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


def _fork(worker: _Worker, work: Work, signals: _Signals) -> None:
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
        signals.restore()
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
    """Return the workers that have ended, with exit codes; minus the signal for a killed one."""
    ended = []
    for worker in workers:
        if worker.pid:
            pid, status = monkey.get_original("os", "waitpid")(worker.pid, os.WNOHANG)
            if pid:
                worker.pid = 0
                ended.append((worker, os.waitstatus_to_exitcode(status)))
    return ended


def _stop(workers: list[_Worker], timeout: float, signals: _Signals, requests: StopRequests) -> int:
    """Have the workers end; return the number of a second signal that had them killed, or 0."""
    for worker in workers:
        if worker.pid:
            os.kill(worker.pid, signal.SIGTERM)
    second = 0
    deadline = time.monotonic() + timeout
    while any(worker.pid for worker in workers):
        number = signals.wait(deadline - time.monotonic())
        _reap(workers)
        is_insisted = number not in (0, signal.SIGUSR2) and requests.record(number)
        if is_insisted:
            second = number
        if is_insisted or time.monotonic() >= deadline:
            for worker in workers:
                if worker.pid:
                    os.kill(worker.pid, signal.SIGKILL)
                    if not is_insisted:
                        logger.error("worker %d did not end and was killed", worker.number)
            deadline = time.monotonic() + 5.0
    return second


def leave_with_parent(parent: int, stop: Callable[[], object]) -> None:
    """Run in a worker: stop when the parent has died, however it died."""

    def watch() -> None:
        while os.getppid() == parent:
            gevent.sleep(1.0)
        logger.error("the parent process is gone; the worker stops")
        stop()

    gevent.spawn(watch)


class Balance:
    """Spread connections over the workers that accept from one socket. Made before the fork.

    Whichever worker wakes first accepts, and on a quiet machine that is the same one again and
    again. Each worker therefore tells the others, through shared memory, how many connections it
    has; one that has more than the least busy of them leaves a new one to it for a moment.

    :param count: how many workers there are.
    """

    #: Seconds for which a connection is left to the others: longer than a worker takes to wake, and
    #: short enough not to be noticed when they are all busy computing.
    PATIENCE = 0.002

    def __init__(self, count: int) -> None:
        self._counts = memoryview(mmap.mmap(-1, 4 * count)).cast("i")
        self._own = 0

    def join(self, number: int) -> None:
        """Take part as worker `number`."""
        self._own = number
        self._counts[number] = 0

    def publish(self, connections: int) -> None:
        """Tell the others how many connections this worker has."""
        self._counts[self._own] = connections

    def others_have_fewer(self) -> bool:
        """Tell whether another worker should have the next connection."""
        return self._counts[self._own] > min(self._counts)
