"""Native threads of a service: the one that it runs in, and those for what blocks in C."""

from __future__ import annotations

import concurrent.futures
import functools
import os
import sys
import threading
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

import gevent
from gevent import monkey
from gevent.threadpool import ThreadPoolExecutor

from ..concurrency import (
    CallSlots,
    Doing,
    Waiting,
    current_call,
    is_patched,
    tells_doing,
    tells_waiting,
)
from ..concurrency.native import NativeThreads
from ..event.wakeups import Receipt, Signal, thread_id

__all__ = ["OwnThread", "ThreadedCalls", "WorkerThreads"]

#: Seconds for which a thread that computes keeps the interpreter. With Python's own 5 ms every
#: step of other calls waits for as long: 60-110 ms at the 99th percentile, instead of 4-6.
_SWITCH_INTERVAL = 0.0005

#: Seconds: for ever. A hub that only other threads can wake gives up without a time-out.
_LONG = 1e6


def _make_receipt() -> Receipt:
    """Make what a thread waits for: natively, unless that would hold up greenlets of its own.

    A hub in which Ctrl-C comes prints it.
    """
    return Receipt() if is_patched() else Receipt.native()


class ContextExecutor(ThreadPoolExecutor):  # type: ignore[misc]  # gevent has no types here
    """Runs functions in native threads, in the context of the call that hands them over."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        return super().submit(copy_context().run, fn, *args, **kwargs)


class WorkerThreads:
    """The executor of one service, made when it is first asked for."""

    def __init__(self) -> None:
        self._executor: concurrent.futures.ThreadPoolExecutor | None = None

    def executor(self) -> concurrent.futures.ThreadPoolExecutor:
        """Return the executor; a new one after `shutdown`."""
        if self._executor is None:
            self._executor = ContextExecutor(min(32, (os.cpu_count() or 1) + 4))
        return self._executor

    def shutdown(self) -> None:
        """Wait for what was handed over, and end the threads."""
        executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown()


class ThreadedCalls:
    """Makes the calls of ``threaded=True`` methods in native threads.

    :param size: how many at once.
    :param max_waiting, max_wait: see `CallSlots`.
    """

    def __init__(self, size: int, max_waiting: int, max_wait: float) -> None:
        self.slots = CallSlots(size, max_waiting, max_wait)
        self._threads = NativeThreads(size)

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return what calls a function in a thread, in the context of whoever calls that."""

        @tells_waiting(lambda local: Waiting("a native thread", *local["thread"]))
        def run(*args: Any, **kwargs: Any) -> Any:
            thread: list[int] = []  # while it runs there
            self.slots.acquire()
            try:
                call = functools.partial(
                    copy_context().run, _run_in, thread, function, *args, **kwargs
                )
                if sys.getswitchinterval() > _SWITCH_INTERVAL:
                    sys.setswitchinterval(_SWITCH_INTERVAL)
                outcome = self._threads.begin(call)
            except BaseException:
                self.slots.release()
                raise
            # Not when its caller goes on: a thread cannot be interrupted.
            outcome.rawlink(lambda _: self.slots.release())
            result, error = outcome.get()
            if error is not None:
                raise error
            return result

        return run

    def join(self) -> None:
        """Wait for the threads that are at work."""
        while self.slots.in_use:
            gevent.sleep(0.01)


@tells_doing(lambda local: Doing("method", local["call"].work.name, local["call"]))
def _run_in(thread: list[int], function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    call = current_call.get()  # noqa: F841  # for who looks at the stack
    thread.append(thread_id())
    try:
        return function(*args, **kwargs)
    finally:
        thread.clear()


class OwnThread:
    """A native thread with a hub of its own, for a service beside a prompt or an event loop.

    It runs what other threads hand over in greenlets of its own, until `end`.

    :ivar process: the one that has it; a child that is forked has not.
    """

    def __init__(self, name: str) -> None:
        self.process = os.getpid()
        self._signal: Signal | None = None
        self._ended = False
        self._waiting: list[Receipt] = []
        begun = _make_receipt()
        if is_patched():
            monkey.get_original("_thread", "start_new_thread")(self._run, (begun,))
        else:
            threading.Thread(target=self._run, args=(begun,), name=name, daemon=True).start()
        begun.wait(_LONG)

    def is_current(self) -> bool:
        """Tell whether this is called in the thread."""
        return self._signal is not None and thread_id() == self._signal.thread

    def spawn(self, function: Callable[[], Any]) -> None:
        """Have a function run in a greenlet of the thread, in the context of the caller."""
        run = copy_context().run
        if self._signal is not None:
            self._signal.call(lambda: gevent.spawn(run, function))

    def call(self, function: Callable[[], Any]) -> Any:
        """Run a function there; return what it returns, or raise what it raises."""
        outcome: list[Any] = []
        done = _make_receipt()

        def work() -> None:
            try:
                outcome.extend((function(), None))
            except BaseException as error:
                outcome.extend((None, error))
            done.settle()

        self.spawn(work)
        done.wait(_LONG)
        result, error = outcome
        if error is not None:
            raise error
        return result

    def end(self) -> None:
        """Have the thread end, once the greenlet that asks lets the others run."""
        if self._signal is not None:
            self._signal.set()

    def join(self, timeout: float = _LONG) -> bool:
        """Wait until it has ended; False when so many seconds went by."""
        ended = _make_receipt()
        self._waiting.append(ended)
        return self._ended or ended.wait(timeout)

    def _run(self, begun: Receipt) -> None:
        hub = gevent.get_hub()
        try:
            self._signal = Signal()
            begun.settle()
            while not self._signal.wait(_LONG):
                pass
        finally:
            # First: a process that ends while a thread destroys its loop may crash.
            hub.destroy(destroy_loop=True)
            self._ended = True
            for waiting in list(self._waiting):
                waiting.wake()
