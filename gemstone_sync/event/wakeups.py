"""Waking a connection's loop and waiting for it, from greenlets and from real threads alike.

A loop runs in one thread's hub. Whoever hands work to it may be a greenlet of that hub, a
greenlet of another thread's hub, or a real thread without one (an executor's, or any of a process
that is not patched).

Hot path: a `Receipt` is made and awaited for every event that is emitted. It uses gevent's `Waiter`
with a bare timer (4.5 µs) where an `Event` with a time-out costs 15 (measured, same run).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import gevent
from gevent import monkey

# Without making a hub, as gevent.get_hub does: each has descriptors, and Django has many threads.
from gevent._hub_local import get_hub_if_exists
from gevent.event import Event
from gevent.hub import Waiter

__all__ = ["Receipt", "Signal", "readable", "seconds_until", "thread_id"]

#: The real ones: in a patched process `threading`'s are of greenlets.
thread_id = monkey.get_original("_thread", "get_ident")
_native_lock = monkey.get_original("_thread", "allocate_lock")

#: Seconds: more than that timers and locks do not take.
_LONGEST = 1e6


class Signal:
    """Wakes one greenlet; anybody may set it. Made in the thread that waits."""

    def __init__(self) -> None:
        self._hub = gevent.get_hub()
        self.thread: int = thread_id()
        self._event = Event()
        # Asked for since `clear`: of many that set it, one reaches for the loop.
        self._asked = False

    def set(self) -> None:
        """Wake the one that waits; from any thread."""
        if self._asked:
            return
        self._asked = True
        if thread_id() == self.thread:
            self._event.set()
        else:
            _call_in(self._hub, self._event.set)

    def call(self, function: Callable[[], None]) -> None:
        """Have a function called soon in the hub of the one that waits; from any thread."""
        if thread_id() == self.thread:
            self._hub.loop.run_callback(function)
        else:
            _call_in(self._hub, function)

    def is_dead(self) -> bool:
        """Tell whether the hub of the one that waits has ended: in most forked children it has."""
        return bool(self._hub.dead)

    def clear(self) -> None:
        """Forget that it was set. What is to be noticed must be looked at afterwards."""
        self._asked = False
        self._event.clear()

    def is_set(self) -> bool:
        """Tell whether it was set since `clear`."""
        return self._asked

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for `set`; return False when so many seconds went by without."""
        return bool(self._event.wait(timeout))

    def notify(self, callback: Any) -> None:
        """Call `callback(event)` in the hub when it is set; for those that wait for more."""
        self._event.rawlink(callback)

    def unnotify(self, callback: Any) -> None:
        """Take back `notify`."""
        self._event.unlink(callback)


class Receipt:
    """Counts down what a loop settles, and wakes the one that made it at zero.

    A greenlet waits as greenlets do; a thread that has no hub really stops.

    :param count: how many things there are to settle.
    """

    __slots__ = ("_hub", "_lock", "_waiter", "left")

    def __init__(self, count: int = 1) -> None:
        #: How many are not settled yet.
        self.left = count
        self._hub = hub = get_hub_if_exists()
        if hub is not None:
            self._waiter = Waiter(hub)
        else:
            self._lock = _native_lock()
            self._lock.acquire()

    @classmethod
    def native(cls) -> Receipt:
        """Make a receipt for which the thread really stops, though it has a hub."""
        receipt = cls.__new__(cls)
        receipt.left, receipt._hub, receipt._lock = 1, None, _native_lock()
        receipt._lock.acquire()
        return receipt

    def settle(self) -> None:
        """Count one thing more as done."""
        self.left -= 1
        if self.left == 0:
            self.wake()

    def wake(self) -> None:
        """End the wait, whatever is left; from any thread."""
        hub = self._hub
        if hub is None:
            with contextlib.suppress(RuntimeError):  # released before
                self._lock.release()
        elif get_hub_if_exists() is hub:
            hub.loop.run_callback(self._waiter.switch, True)
        else:
            _call_in(hub, self._waiter.switch, True)

    def wait(self, timeout: float) -> bool:
        """Return True once it is woken, False after so many seconds without. Once only."""
        if self.left == 0:
            return True
        if not 0.0 <= timeout <= _LONGEST:
            timeout = 0.0 if timeout < 0.0 else _LONGEST
        if self._hub is None:
            return bool(self._lock.acquire(timeout=timeout))
        timer = self._hub.loop.timer(timeout)
        timer.start(self._waiter.switch, False, update=True)
        try:
            return self._waiter.get()  # type: ignore[no-any-return]
        finally:
            timer.stop()
            timer.close()


@contextlib.contextmanager
def readable(descriptor: int, wake: Callable[[], object]) -> Iterator[None]:
    """Within the block, have `wake` called in this thread's hub when there is something to read."""
    watcher = gevent.get_hub().loop.io(descriptor, 1)
    watcher.start(wake)
    try:
        yield
    finally:
        watcher.stop()
        watcher.close()


def _call_in(hub: Any, function: Callable[..., Any], *args: Any) -> None:
    """Call a function in another thread's hub, unless that thread has ended."""
    loop = hub.loop
    if loop is not None:
        with contextlib.suppress(ValueError):  # destroyed in this very moment
            loop.run_callback_threadsafe(function, *args)


def seconds_until(moment: float) -> float:
    """Return the seconds until a moment of ``time.monotonic()``, not below 0."""
    return max(0.0, moment - time.monotonic())
