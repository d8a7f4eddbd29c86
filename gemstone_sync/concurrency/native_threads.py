"""Native threads with greenlets in them, when the interpreter ends.

A thread that asks for the interpreter while it ends is cut off by it (Python up to 3.13), and the
C++ frames of a greenlet on its stack may not survive that: the process ends by SIGSEGV instead of
its exit code. So those that are about to end are waited for, and those that wait in a loop of their
own are made to wait for longer than the process lives.
"""

from __future__ import annotations

import atexit
import collections
import contextlib
import gc
import sys
import time
from collections.abc import Callable
from typing import Any

import gevent
from gevent import monkey
from gevent._hub_local import get_hub_if_exists
from gevent._threading import EmptyTimeout, Queue
from gevent.hub import Hub, Waiter

from . import shared_sockets

__all__ = ["leave_cleanly"]

#: Seconds that the end of the interpreter may be held up for.
_LIMIT = 1.0

_A_DAY = 86400.0

#: The pools' threads that have begun: the worker, and what tells whether its thread has ended,
#: after some seconds at most.
_begun: list[tuple[Any, Callable[[float], bool]]] = []


def leave_cleanly() -> None:
    """See to the end from now on."""
    import gevent.threadpool  # not before: whoever only calls others has no use for it

    if gevent.threadpool.start_new_thread is not _start:
        gevent.threadpool.start_new_thread = _start
        gevent.threadpool.Queue = _TaskQueue
        atexit.register(_leave)


class _TaskQueue(Queue):  # type: ignore[misc]  # gevent has no types here
    """A pool's queue of work, in which a thread that has a hub keeps its loop going.

    gevent tells of a lock that is free in the loop of the thread that has waited for it first. One
    that slept outside its loop would let greenlets of other threads wait for ever.
    """

    def __init__(self) -> None:
        super().__init__()
        self._waking: collections.deque[Callable[[], None]] = collections.deque()

    def put(self, item: Any) -> None:
        super().put(item)
        with self._mutex:
            if self._waking:
                self._waking.popleft()()

    def get(self, cookie: Any, timeout: float = -1) -> Any:
        hub = get_hub_if_exists()
        if hub is None:
            return super().get(cookie, timeout)
        with (
            hub.loop.async_() as watcher,
            gevent.Timeout(None if timeout < 0 else timeout, EmptyTimeout),
        ):
            try:
                while True:
                    # Started first: until then a watcher takes no notice.
                    waiter = Waiter(hub)
                    watcher.start(waiter.switch, None)
                    with self._mutex:
                        if self._queue:
                            return self._queue.popleft()
                        self._waking.append(watcher.send)
                    waiter.get()
                    watcher.stop()
            finally:
                with self._mutex, contextlib.suppress(ValueError):
                    self._waking.remove(watcher.send)


def _start(begin: Callable[[], None], args: tuple[()]) -> None:
    """Begin the thread of a pool's worker, and know when it has ended."""
    shared_sockets.share()
    worker = begin.__self__  # type: ignore[attr-defined]
    _begun[:] = [(of, has_ended) for of, has_ended in _begun if not has_ended(0)]
    if sys.version_info >= (3, 13):
        handle = monkey.get_original("_thread", "start_joinable_thread")(begin, daemon=True)

        def has_ended(limit: float) -> bool:
            if limit:  # only asked, it may be the current thread
                handle.join(limit)
            return handle.is_done()  # type: ignore[no-any-return]

        _begun.append((worker, has_ended))
        return

    def run() -> None:
        # Released by Python when nothing is left of the thread.
        lock = monkey.get_original("_thread", "_set_sentinel")()
        _begun.append((worker, lambda limit: lock.acquire(timeout=limit)))
        begin()

    monkey.get_original("_thread", "start_new_thread")(run, args)


def _leave() -> None:
    _run_older_handlers()  # they may wait for threads that come to nothing afterwards
    end = time.monotonic() + _LIMIT
    for worker, has_ended in list(_begun):
        if worker._hub is None:  # it has left its pool
            has_ended(max(0.0, end - time.monotonic()))
    _halt_loops(end)


class _NotOlder:
    """Compare equal, for ``atexit``, to what is not older than we are."""

    found = False

    def __eq__(self, function: object) -> bool:
        self.found = self.found or function is _leave
        return self.found

    __hash__ = None  # type: ignore[assignment]


def _run_older_handlers() -> None:
    """Call what was registered ``atexit`` before the patch and would be called after us."""
    atexit.unregister(_NotOlder())  # type: ignore[arg-type]  # the others have been called
    atexit._run_exitfuncs()


def _halt_loops(end: float) -> None:
    """Stop the threads that wait in loops of their own."""
    me = monkey.get_original("_thread", "get_ident")()
    if len(sys._current_frames()) == 1:
        return
    halted: list[int] = []
    sleep = monkey.get_original("time", "sleep")

    def halt(ident: int) -> None:
        halted.append(ident)
        sleep(_A_DAY)

    for one in gc.get_objects():
        if type(one) is Hub and one.loop is not None and one.thread_ident != me:
            one.loop.run_callback_threadsafe(halt, one.thread_ident)
    while time.monotonic() < end and any(
        frame.f_code is Hub.run.__code__ and ident not in halted
        for ident, frame in sys._current_frames().items()
        if ident != me
    ):
        sleep(0.001)
