"""pytest-xdist's processes under gevent's patch.

Such a process hears of its tests in a native thread, and its main thread waits for them. Patched,
it would wait for an event of gevent's that another thread sets: a wake-up may be lost on that way,
and then all tests stand still.
"""

from __future__ import annotations

from _queue import SimpleQueue  # the native one, however late this is imported
from typing import TYPE_CHECKING, Any

from ..concurrency import is_patched

if TYPE_CHECKING:
    import pytest

__all__ = ["wait_natively"]


def wait_natively(config: pytest.Config) -> None:
    """Let the queue of tests of this process lock and wait natively, beside running greenlets."""
    from gevent import monkey

    for plugin in config.pluginmanager.get_plugins():
        if type(plugin).__name__ == "WorkerInteractor":
            tests = plugin.torun
            tests._lock = monkey.get_original("_thread", "RLock")()
            tests._has_items_event = _NativeEvent()


class _NativeEvent:
    """An event that other threads set and the main thread waits for."""

    def __init__(self) -> None:
        self._is_set = False
        self._wakes: SimpleQueue[Any] = SimpleQueue()
        self._watcher: Any = None

    def set(self) -> None:
        if not self._is_set:
            self._is_set = True
            self._wakes.put(None)

    def clear(self) -> None:
        self._is_set = False

    def wait(self) -> None:
        while not self._is_set:
            if is_patched():
                import gevent

                hub = gevent.get_hub()
                if self._watcher is None:
                    # In the end the main thread waits to be told to go, and gevent, which does not
                    # count the thread that tells it, would raise LoopExit if it had nothing else.
                    self._watcher = hub.loop.async_()
                    self._watcher.start(lambda: None)
                hub.threadpool.apply(self._wakes.get)
            else:
                self._wakes.get()
