"""Locks, events and queues that greenlets and native threads wait for together.

gevent tells of a lock that is free in the loop of one of the threads that use it, and that thread
may be the one that waits, or be computing: then nobody hears of it. Its queues and events belong to
the thread that used them first. Here each who waits says how to wake it: a greenlet through the
loop of its own thread, a thread without greenlets by a native lock. No other thread need run.

`threading`'s other classes and `queue.Queue` are made of these locks.
"""

from __future__ import annotations

import collections
import functools
import queue
import threading
import time
import types
from collections.abc import Callable
from typing import Any

import gevent.threading
from gevent import monkey
from gevent._hub_local import get_hub_if_exists
from gevent.exceptions import BlockingSwitchOutError
from gevent.hub import Waiter, get_hub
from gevent.lock import BoundedSemaphore
from gevent.thread import LockType

from .waiting import pause

__all__ = ["Event", "SimpleQueue", "mend"]

#: Each wakes one who waits, and may be called in any thread.
_Waiting = collections.deque[Callable[[], Any]]

#: Seconds that a loop's own greenlet waits: for a native thread, since no other greenlet can run.
_MOMENT = 0.05

_allocate_lock = monkey.get_original("_thread", "allocate_lock")
_count_others = monkey.get_original("_thread", "_count")
_take, _give = BoundedSemaphore.acquire, BoundedSemaphore.release


def mend() -> None:
    """Put these in the place of gevent's; called after each patch."""
    for name, value in _OF_LOCKS.items():
        setattr(LockType, name, value)
    threading.Condition.wait = _wait  # type: ignore
    # gevent's own prints an error when a thread that has logged ends with the process.
    active = threading._active  # type: ignore[attr-defined]
    gevent.threading._make_cleanup_id = lambda ident: functools.partial(active.pop, ident)
    monkey.patch_item(threading, "Event", Event)
    monkey.patch_item(queue, "SimpleQueue", SimpleQueue)
    for name in ("Queue", "LifoQueue", "PriorityQueue"):  # they wait for locks
        setattr(queue, name, monkey.get_original("queue", name))


# Waiting


def _wait_until(attempt: Callable[[], Any], waiting: _Waiting, limit: float | None) -> Any:
    """Attempt something whenever woken, until it gives something true; return what it gave last.

    Whoever may have made it possible calls `_wake_one` then.

    :param limit: seconds.
    """
    end = None if limit is None else time.monotonic() + limit
    sleeper = _sleeper()
    wake, enqueue, result = sleeper.wake, waiting.append, None
    try:
        while True:
            if wake not in waiting:
                enqueue(wake)
            result = attempt()
            left = None if end is None else end - time.monotonic()
            if result or (left is not None and left <= 0):
                return result
            sleeper.sleep(left)
            enqueue = waiting.appendleft
    finally:
        sleeper.close()
        try:
            waiting.remove(wake)
        except ValueError:
            if not result:  # woken, and of no use
                _wake_one(waiting)


def _wake_one(waiting: _Waiting) -> None:
    while waiting:
        try:
            waiting.popleft()()
        except IndexError:  # another thread was faster
            return
        except ValueError:  # its loop is no more
            continue
        return


class _InLoop:
    """Lets the other greenlets of the thread run."""

    def __init__(self, hub: Any) -> None:
        self._waiter = Waiter(hub)
        self.wake = functools.partial(hub.loop.run_callback_threadsafe, self._waiter.switch, None)
        self._keeping = None
        if _count_others():  # a loop without watchers ends
            self._keeping = hub.loop.async_()
            self._keeping.start(int)

    def sleep(self, limit: float | None) -> None:
        with gevent.Timeout(limit, False):
            self._waiter.get()
            self._waiter.clear()

    def close(self) -> None:
        if self._keeping is not None:
            self._keeping.close()


class _Natively:
    """Stops the thread."""

    def __init__(self) -> None:
        self._lock = _allocate_lock()
        self._lock.acquire()
        self.wake = self._lock.release

    def sleep(self, limit: float | None) -> None:
        self._lock.acquire(timeout=-1 if limit is None else limit)

    def close(self) -> None:
        pass


class _ForAMoment(_Natively):
    """Stops the thread while another one holds a lock for moments, and refuses to wait longer."""

    def sleep(self, limit: float | None) -> None:
        if not self._lock.acquire(timeout=_MOMENT) and (limit is None or limit > _MOMENT):
            raise BlockingSwitchOutError(
                "Impossible to call blocking function in the event loop callback"
            )


def _sleeper() -> _InLoop | _Natively:
    hub = get_hub_if_exists()
    if hub is None and _count_others():
        return _Natively()
    if hub is gevent.getcurrent():
        return _ForAMoment()
    return _InLoop(hub or get_hub())


# Locks


def _acquire(lock: Any, blocking: bool = True, timeout: float = -1) -> bool:
    if timeout != -1:
        if not blocking:
            raise ValueError("can't specify a timeout for a non-blocking call")
        if timeout < 0:
            raise ValueError("timeout value must be a non-negative number")
        if timeout > threading.TIMEOUT_MAX:
            raise OverflowError("timeout value is too large")
    if _take(lock, False):
        return True
    if not blocking:
        pause(0)  # for whoever tries again and again
        return False
    waiting = vars(lock).setdefault("_waiting", collections.deque())
    attempt = functools.partial(_take, lock, False)
    return bool(_wait_until(attempt, waiting, None if timeout == -1 else timeout))


def _enter(lock: Any) -> bool:
    return _take(lock, False) or _acquire(lock)


def _release(lock: Any, *_: Any) -> None:
    _give(lock)
    if lock._waiting:
        _wake_one(lock._waiting)


def _at_fork_reinit(lock: Any) -> None:
    BoundedSemaphore._at_fork_reinit(lock)
    vars(lock).pop("_waiting", None)


#: What becomes of gevent's class of locks, of which there are objects already.
_OF_LOCKS = {
    "_waiting": (),
    "acquire": _acquire,
    "release": _release,
    "__enter__": _enter,
    "__exit__": _release,
    "_at_fork_reinit": _at_fork_reinit,
    # Asked by conditions, which would try to acquire it and give way to others.
    "_is_owned": LockType.locked,
}


_native_wait = threading.Condition.wait


def _wait(condition: threading.Condition, timeout: float | None = None) -> bool:
    """Wait as the original does; if a deadline ends it just when notified, notify another."""
    try:
        return _native_wait(condition, timeout)
    except BaseException:
        if condition._is_owned():  # type: ignore[attr-defined]
            condition.notify()
        raise


# What waits without a lock: it may be used in handlers of signals, finalizers and loops


class Event:
    """As `threading.Event`."""

    def __init__(self) -> None:
        self._is_set = False
        self._times_set = 0
        self._waiting: _Waiting = collections.deque()

    def is_set(self) -> bool:
        return self._is_set

    isSet = is_set  # noqa: N815  # as it was called once

    def set(self) -> None:
        self._is_set = True
        self._times_set += 1
        for _ in range(len(self._waiting)):
            _wake_one(self._waiting)

    def clear(self) -> None:
        self._is_set = False

    def wait(self, timeout: float | None = None) -> bool:
        if self._is_set:
            return True
        times = self._times_set

        def has_been_set() -> bool:
            return self._is_set or self._times_set != times

        return bool(_wait_until(has_been_set, self._waiting, timeout))

    def _at_fork_reinit(self) -> None:
        self._waiting.clear()


class SimpleQueue:
    """As `queue.SimpleQueue`."""

    __class_getitem__: Any = classmethod(types.GenericAlias)

    def __init__(self) -> None:
        self._items: collections.deque[Any] = collections.deque()
        self._waiting: _Waiting = collections.deque()

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        self._items.append(item)
        if self._waiting:
            _wake_one(self._waiting)

    def put_nowait(self, item: Any) -> None:
        self.put(item)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        if block and timeout is not None and timeout < 0:
            raise ValueError("'timeout' must be a non-negative number")
        taken = self._take()
        if not taken and block:
            taken = _wait_until(self._take, self._waiting, timeout)
        if not taken:
            raise queue.Empty
        return taken[0]

    def get_nowait(self) -> Any:
        return self.get(block=False)

    def _take(self) -> tuple[Any, ...]:
        try:
            return (self._items.popleft(),)
        except IndexError:
            return ()

    def empty(self) -> bool:
        return not self._items

    def qsize(self) -> int:
        return len(self._items)
