"""The items of a batch, without a greenlet for each item that never blocks.

An item that leaves thread-locals behind has been the last in its greenlet: they are not the next's.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from gevent.event import Event

from ..concurrency import has_thread_locals, let_others_run, spawn

__all__ = ["run_in_parallel", "run_in_turn"]

#: Seconds for which the items of one batch may keep everybody else waiting, and one more item.
_SLICE = 0.005


def run_in_turn(count: int, run: Callable[[int], object]) -> None:
    """Call ``run(0)`` … ``run(count - 1)``, one after another; others get their turn in between."""
    until = time.monotonic() + _SLICE
    for index in range(count):
        if time.monotonic() > until:
            let_others_run()
            until = time.monotonic() + _SLICE
        if has_thread_locals():
            spawn(run, index).get()
        else:
            run(index)


def run_in_parallel(count: int, run: Callable[[int], object]) -> None:
    """Call ``run(0)`` … ``run(count - 1)`` at once, and return when all have returned.

    The caller's own greenlet takes items one after another. Whenever it blocks in one, a successor
    that was scheduled beforehand goes on with the next, and schedules its own successor: there are
    as many greenlets as items that wait, and a batch of quick methods needs two.
    """
    _Run(count, run).to_the_end()


class _Run:
    def __init__(self, count: int, run: Callable[[int], object]) -> None:
        self._count = count
        self._run = run
        self._next = 0
        self._finished = 0
        self._successor_scheduled = False
        self._done = Event()
        self._until = time.monotonic() + _SLICE
        self._pausing = False

    def to_the_end(self) -> None:
        self._work()
        if self._finished < self._count:
            self._done.wait()

    def _schedule_successor(self) -> None:
        if not self._successor_scheduled:
            self._successor_scheduled = True
            spawn(self._succeed)

    def _succeed(self) -> None:
        self._successor_scheduled = False
        self._work()

    def _work(self) -> None:
        while self._next < self._count and not self._pausing:
            if has_thread_locals():
                self._schedule_successor()
                return
            if time.monotonic() > self._until:
                self._pause()
            index = self._next
            self._next += 1
            if self._next < self._count:
                self._schedule_successor()
            try:
                self._run(index)
            finally:
                self._finished += 1
                if self._finished == self._count:
                    self._done.set()

    def _pause(self) -> None:
        """Give others a turn; no item of this batch begins meanwhile."""
        self._pausing = True
        try:
            let_others_run()
        finally:
            self._pausing = False
            self._until = time.monotonic() + _SLICE
