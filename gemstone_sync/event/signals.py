"""Waking an owner and waiting for one, from greenlets and from real threads alike.

An owner runs in one thread's hub. Whoever hands work to it may be a greenlet of that hub, a real
thread of a patched process (an executor's), or a plain thread of a process that is not patched.
"""

from __future__ import annotations

import time
from typing import Any

import gevent
from gevent import monkey
from gevent.event import Event

__all__ = ["Receipt", "Signal"]

#: The real ones: in a patched process `threading`'s are of greenlets.
_thread_id = monkey.get_original("_thread", "get_ident")
_native_lock = monkey.get_original("_thread", "allocate_lock")


class Signal:
    """What one greenlet waits for, and anybody may set. Made in the thread that waits."""

    def __init__(self) -> None:
        self._hub = gevent.get_hub()
        self.thread: int = _thread_id()
        self._event = Event()

    def set(self) -> None:
        """Wake the one that waits; from any thread."""
        if _thread_id() == self.thread:
            self._event.set()
        else:
            self._hub.loop.run_callback_threadsafe(self._event.set)

    def clear(self) -> None:
        """Forget that it was set."""
        self._event.clear()

    def is_set(self) -> bool:
        """Tell whether it was set since `clear`."""
        return bool(self._event.is_set())

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for `set`; False when so many seconds went by without."""
        return bool(self._event.wait(timeout))

    def notify(self, callback: Any) -> None:
        """Call `callback(event)` in the hub when it is set; for those that wait for more."""
        self._event.rawlink(callback)

    def unnotify(self, callback: Any) -> None:
        """Take back `notify`."""
        self._event.unlink(callback)


class Receipt:
    """Whether some messages got through: settled one by one by the owner, awaited by one caller.

    Made by the caller, who waits: a greenlet of the owner's thread waits as greenlets do, any other
    thread really stops.

    :param count: how many messages there are.
    :param owner_thread: `Signal.thread` of the owner.
    """

    __slots__ = ("_event", "_lock", "errors", "left")

    def __init__(self, count: int, owner_thread: int) -> None:
        #: How many are not settled yet.
        self.left = count
        #: Why some of them did not get through.
        self.errors: list[str] = []
        self._event: Event | None = None
        self._lock: Any = None
        if _thread_id() == owner_thread:
            self._event = Event()
        else:
            self._lock = _native_lock()
            self._lock.acquire()

    def settle(self, error: str | None) -> None:
        """One more is through, or is not. Called in the owner's thread."""
        if error is not None:
            self.errors.append(error)
        self.left -= 1
        if self.left == 0:
            if self._event is not None:
                self._event.set()
            else:
                self._lock.release()

    def wait(self, timeout: float) -> bool:
        """True once all are settled; False when so many seconds went by without."""
        if self._event is not None:
            return bool(self._event.wait(timeout))
        return bool(self._lock.acquire(timeout=max(0.0, min(timeout, 1e6))))


def seconds_until(moment: float) -> float:
    """Seconds until a moment of ``time.monotonic()``, not below 0."""
    return max(0.0, moment - time.monotonic())
