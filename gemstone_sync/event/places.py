"""Places: how many events may be handled at once, by a handler and by a process.

Consumers share them, and may be in several threads. Those that found no place stand in line, so
that a busy consumer does not take each place again that it has just given back.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol

from ..concurrency.native import native_lock

__all__ = ["Places", "Waiter"]


class Waiter(Protocol):
    """Waits for a place: a consumer's loop."""

    def wake(self) -> None:
        """Try again; called from any thread."""


class Places:
    """Gives out places, in the order in which they were asked for.

    :param limit: how many.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._start_over()
        _all.add(self)

    def _start_over(self) -> None:
        self._lock = native_lock()
        self._free = self.limit
        #: In the order in which they came.
        self._waiting: dict[Waiter, None] = {}

    def take(self, waiter: Waiter) -> bool:
        """Take a place; False when there is none, or others came before: it is woken in its turn.

        Who is woken must take a place or `leave`.
        """
        following = None
        with self._lock:
            waiting = self._waiting
            taken = self._free > 0 and (not waiting or next(iter(waiting)) is waiter)
            if taken:
                self._free -= 1
                if waiting:
                    del waiting[waiter]
                    following = self._next()
            else:
                waiting[waiter] = None
        if following is not None:
            following.wake()
        return taken

    def give(self) -> None:
        """Give a place back."""
        with self._lock:
            self._free += 1
            following = self._next() if self._waiting else None
        if following is not None:
            following.wake()

    def leave(self, waiter: Waiter) -> None:
        """Take a waiter out of the queue for places."""
        with self._lock:
            self._waiting.pop(waiter, None)
            following = self._next()
        if following is not None:
            following.wake()

    def _next(self) -> Waiter | None:
        return next(iter(self._waiting), None) if self._free > 0 else None


_all: weakref.WeakSet[Places] = weakref.WeakSet()


def _in_child() -> None:
    """Free all places: what the parent handles takes none in a forked child."""
    for places in list(_all):
        places._start_over()


os.register_at_fork(after_in_child=_in_child)
