"""Calls in native threads, so that what blocks a thread does not stop its greenlets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import gevent
from gevent import monkey
from gevent.threadpool import ThreadPool

__all__ = ["NativeThreads", "native_lock", "native_rlock", "native_sleep"]

T = TypeVar("T")

#: Seconds after which an idle thread ends.
_IDLE = 10.0


# The originals are asked for when they are needed: names of modules that hold them are rebound by
# `concurrency.patch`, when a process is patched after this was imported.


def native_lock() -> Any:
    """Make a lock between native threads, patched or not."""
    return monkey.get_original("_thread", "allocate_lock")()


def native_rlock() -> Any:
    """Make a lock between native threads that its holder may take again, patched or not."""
    return monkey.get_original("_thread", "RLock")()


def native_sleep(seconds: float) -> None:
    """Stop this native thread for a while."""
    monkey.get_original("time", "sleep")(seconds)


class NativeThreads:
    """A few native threads for calls from greenlets.

    The hub's own pool is left alone: it looks up host names, and a locked database that holds all
    its ten threads would stop that too.

    :param size: how many calls run at once, for each thread that has greenlets.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._local = monkey.get_original("threading", "local")()

    def call(self, function: Callable[..., T], *args: Any, limit: float | None = None) -> T:
        """Call a function in another thread; return or raise what it does.

        :param limit: seconds. A call that takes longer goes on, and nobody waits for it.
        :raises TimeoutError: when it took longer.
        """
        late = None if limit is None else TimeoutError(f"no answer within {limit:.2g} s")
        with gevent.Timeout(limit, late):
            result, error = self._pool().apply(_outcome, (function, args))
        if error is not None:
            raise error
        return result  # type: ignore[no-any-return]

    def begin(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function in another thread; return what will have result and exception, a pair."""
        return self._pool().spawn(_outcome, function, args)

    def _pool(self) -> Any:
        pool = getattr(self._local, "pool", None)
        if pool is None:
            pool = self._local.pool = ThreadPool(self._size, idle_task_timeout=_IDLE)
        return pool


def _outcome(function: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Any, Any]:
    """Return result and exception: gevent prints what a pool's function raises."""
    try:
        return function(*args), None
    except BaseException as error:
        return None, error
