"""Deadlines that cost next to nothing: one timer for all running calls.

A ``gevent.Timeout`` is a timer started and stopped for each call (about 3 µs). Here a call puts
itself into a set, and one timer wakes for the earliest deadline; a call that ends in time, which
is nearly every one, never touches the timer.

Hot path: `Deadlines.enter` and `leave` run once per call.
"""

from __future__ import annotations

import time
from typing import Any

import gevent
import greenlet

from .calls import Call

__all__ = ["DeadlineReached", "Deadlines"]


class DeadlineReached(BaseException):
    """Thrown into a call whose time is over.

    A BaseException, so that the method's own ``except Exception`` does not swallow it; its
    ``finally`` blocks and context managers run. A method that computes without ever blocking
    cannot be interrupted: greenlets switch only where they wait.
    """


class Deadlines:
    """The deadlines of the calls that run on one hub. `of_this_hub` finds it."""

    def __init__(self, hub: Any) -> None:
        self._hub = hub
        self._calls: set[Call] = set()
        self._timer: Any = None
        self._timer_at = float("inf")

    @classmethod
    def of_this_hub(cls) -> Deadlines:
        """Return the one of the current thread's hub."""
        hub = gevent.get_hub()
        try:
            # Kept on the hub itself, so that it goes when the hub's thread ends.
            return hub.gemstone_sync_deadlines  # type: ignore[no-any-return]
        except AttributeError:
            hub.gemstone_sync_deadlines = cls(hub)
            return hub.gemstone_sync_deadlines  # type: ignore[no-any-return]

    def enter(self, call: Call) -> None:
        """Have `DeadlineReached` thrown into the current greenlet at the call's deadline.

        The call must be given to `leave` when it ends.
        """
        call.greenlet = greenlet.getcurrent()
        self._calls.add(call)
        if call.deadline < self._timer_at:  # type: ignore[operator]  # it has a deadline
            self._start_timer(call.deadline)  # type: ignore[arg-type]

    def leave(self, call: Call) -> bool:
        """End the guard; True when the deadline had been reached."""
        self._calls.discard(call)
        return call.reached

    def _start_timer(self, at: float) -> None:
        self._stop_timer()
        self._timer_at = at
        self._timer = self._hub.loop.timer(max(0.0, at - time.monotonic()))
        self._timer.start(self._throw_reached, update=True)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer.close()
            self._timer = None
        self._timer_at = float("inf")

    def _throw_reached(self) -> None:
        """Runs in the hub, as a gevent.Timeout's own callback does."""
        self._stop_timer()
        # The event loop's clock may be a little ahead of ours.
        now = time.monotonic() + 0.001
        for call in [call for call in self._calls if call.deadline <= now]:  # type: ignore[operator]
            if call in self._calls:  # an earlier throw may have ended it
                self._calls.discard(call)
                call.reached = True
                call.greenlet.throw(DeadlineReached())
        deadlines = (call.deadline for call in self._calls)
        earliest: float = min(deadlines, default=self._timer_at)  # type: ignore[type-var,assignment]
        if earliest < self._timer_at:
            self._start_timer(earliest)
