"""Telling that the process stands still, because its hub's thread waits for a native lock.

Then no greenlet can tell, nor can a signal: a native thread does. Once a second it asks the hub for
a sign of life, which costs calls nothing. A hub that gives none may compute, or wait for a server
or a file; that it waits for a lock is known on Linux only, from the kernel.

Watched are hubs that this can happen to: where objects that are older than the patch stay native.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
import traceback
import types
from collections.abc import Iterator
from typing import Any

import gevent
from gevent import monkey

from . import patching

__all__ = ["watch_this_hub"]

#: Seconds between two looks.
PERIOD = 1.0

#: After how many looks that find it in the same place the hub stands still.
LOOKS = 3

_logger = logging.getLogger("gemstone_sync.blocked")

_native_lock, _start_native_thread, _native_ident = monkey.get_original(
    "_thread", ["allocate_lock", "start_new_thread", "get_ident"]
)


def watch_this_hub() -> None:
    """Watch the current thread's hub from now on, if it may be blocked; once in each process."""
    if not patching.may_block():
        return
    hub = gevent.get_hub()
    watch: _Watch | None = getattr(hub, "gemstone_sync_watch", None)
    if watch is None or watch.pid != os.getpid():
        hub.gemstone_sync_watch = watch = _Watch(hub)
        _start_native_thread(watch.run, ())
        atexit.register(watch.stop)


class _Watch:
    """Looks after the hub of the thread that makes it."""

    def __init__(self, hub: Any) -> None:
        self.pid = os.getpid()
        self._thread = _native_ident()
        self._task = f"/proc/self/task/{threading.get_native_id()}"
        self._alive = False
        self._question = hub.loop.async_(ref=False)
        self._question.start(self._answer)
        self._stopping, self._ended = _native_lock(), _native_lock()
        self._stopping.acquire()
        self._ended.acquire()

    def _answer(self) -> None:
        """Runs in the hub."""
        self._alive = True

    def run(self) -> None:
        """Look until the process or the hub's thread ends."""
        looks, last = 0, None
        try:
            self._question.send()
            while not self._stopping.acquire(timeout=PERIOD):
                place = None if self._alive else self._place()
                looks = looks + 1 if place is not None and place == last else 0
                last = place
                if looks == LOOKS:
                    self._tell(sys._current_frames()[self._thread])
                if self._alive:
                    self._alive = False
                    self._question.send()
        except (OSError, KeyError, ValueError):
            pass  # the hub is gone
        finally:
            self._ended.release()

    def stop(self) -> None:
        """End the thread: one that runs while the interpreter ends may crash it."""
        if self.pid == os.getpid():
            self._stopping.release()
            self._ended.acquire(timeout=1)

    def _place(self) -> tuple[int, int, list[str]] | None:
        """Tell where the hub's thread waits for a lock, and the processor time it has had."""
        with open(f"{self._task}/wchan") as wchan:
            if "futex" not in wchan.read():
                return None
        with open(f"{self._task}/stat") as stat:
            times = stat.read().rpartition(")")[2].split()[11:13]
        frame = sys._current_frames()[self._thread]
        return id(frame), frame.f_lasti, times

    def _tell(self, frame: types.FrameType) -> None:
        code = frame.f_code
        text = (
            f"the process stands still: {code.co_name} at {code.co_filename}:{frame.f_lineno} has "
            f"been waiting for a native lock for {LOOKS * PERIOD:.0f} s. Until that is released no "
            "call is answered, no time-out strikes, and SIGTERM is not obeyed: SIGKILL ends it. "
            f"{patching.REMEDY}\n" + "".join(traceback.format_stack(frame))
        )
        if all(_is_free(handler.lock) for handler in _handlers()):
            _logger.error("%s", text)
        else:  # the lock is waited for by what logs
            os.write(2, text.encode(errors="backslashreplace"))


def _handlers() -> Iterator[logging.Handler]:
    logger: logging.Logger | None = _logger
    while logger is not None:
        yield from logger.handlers
        logger = logger.parent if logger.propagate else None


def _is_free(lock: Any) -> bool:
    if lock is None or not lock.acquire(blocking=False):
        return lock is None
    lock.release()
    return True
