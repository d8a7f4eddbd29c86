"""A native thread with a hub of its own, for a service beside a prompt or an event loop."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

import gevent
from gevent import monkey

from ..concurrency import is_patched
from ..event.wakeups import Receipt, Signal, thread_id

__all__ = ["OwnThread"]

#: Seconds: for ever. A hub that only other threads can wake gives up without a time-out.
_LONG = 1e6


def _receipt() -> Receipt:
    """Make what a thread waits for: natively, unless that would hold up greenlets of its own.

    A hub in which Ctrl-C comes prints it.
    """
    return Receipt() if is_patched() else Receipt.native()


class OwnThread:
    """Runs what other threads hand over in greenlets of its own, until `end`.

    :ivar process: the one that has it; a child that is forked has not.
    """

    def __init__(self, name: str) -> None:
        self.process = os.getpid()
        self._signal: Signal | None = None
        self._ended = False
        self._waiting: list[Receipt] = []
        begun = _receipt()
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
        """Run a function there; what it returns or raises."""
        outcome: list[Any] = []
        done = _receipt()

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
        ended = _receipt()
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
