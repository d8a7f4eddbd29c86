"""A SQLite file, or memory, in which several processes wait for each other: `Database`.

Processes that share a file wake each other by Linux's inotify. Whoever has committed something
opens the log and closes it again, which SQLite only does when it connects. The kernel tells every
process that watches, whatever container it is in, and forgets those that die. To watch what SQLite
writes would be too early: others see it later. To set the file's time costs 35 µs instead of 10,
most of it in the next commit, which has to keep that too. (The libraries for inotify run
``ldconfig`` to find the C library, and one of them needs asyncio.)
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from typing import Any

import gevent
from gevent import monkey

from ....sqlite import MEMORY, SqliteFile
from ...wakeups import readable

__all__ = ["Database"]

#: Seconds between two looks for a file that was removed, while nothing happens.
_LOOK = 1.0
#: Seconds between two looks where nobody can be woken. Each of them wakes the process, which is
#: what costs: 3% of a core.
_POLL = 0.01
#: inotify's events: attributes changed, a reader has closed it, removed, moved.
_ATTRIBUTES, _READER_HAS_CLOSED, _REMOVED, _MOVED = 0x4, 0x10, 0x400, 0x800


class Database(SqliteFile):
    """A file that tells of what is committed to it.

    :param path: of the file; `MEMORY` for a database that nobody else has.
    :param version, prepare: see `SqliteFile`.
    """

    #: What tells of a file that was touched, and for which connection it was made.
    _watch: int | None = None
    _watched = 0

    def __init__(
        self, path: str, version: int, prepare: Callable[[sqlite3.Connection], object]
    ) -> None:
        # What was declared in a file is gone with it: whoever uses it declares it again.
        super().__init__(path, wal=True, prepare=prepare, version=version, reopens=False)

    def _forget(self) -> None:
        self._unwatch()
        super()._forget()
        self._commits = 0
        self._look_at = 0.0
        #: Whom to wake in memory.
        self._waiting: set[Callable[[], object]] = set()

    def close(self) -> None:
        super().close()
        if os.getpid() == self._process:
            self._unwatch()

    def tell(self) -> None:
        """Wake whoever waits for what was just committed."""
        self._commits += 1
        if self.path == MEMORY:
            for wake in tuple(self._waiting):
                wake()
        else:
            _touch_log(self._log_path)

    @contextlib.contextmanager
    def waking(self, wake: Callable[[], object]) -> Iterator[None]:
        """Within the block, have `wake` called when others have told something.

        Used by one greenlet.
        """
        if self.path == MEMORY:
            self._waiting.add(wake)
            try:
                yield
            finally:
                self._waiting.discard(wake)
        elif (descriptor := self._watch_file()) is not None:
            with readable(descriptor, lambda: self._touched(wake)):
                yield
        else:
            with self._polling(wake):
                yield

    def _watch_file(self) -> int | None:
        """Return the descriptor that tells of the file that is open, with all told so far read."""
        if os.getpid() != self._process:
            return None
        if self._watched != self.generation:
            self._unwatch()
            self._watch, self._watched = _open_watch(self.path, self._log_path), self.generation
        if self._watch is not None:
            with contextlib.suppress(BlockingIOError):
                os.read(self._watch, 4096)
        return self._watch

    def _touched(self, wake: Callable[[], object]) -> None:
        self._look_at = 0.0  # it may be that the file was removed
        wake()

    def _unwatch(self) -> None:
        descriptor, self._watch, self._watched = self._watch, None, 0
        if descriptor is not None:
            _close(descriptor)

    @contextlib.contextmanager
    def _polling(self, wake: Callable[[], object]) -> Iterator[None]:
        known = self.version()
        timer = gevent.get_hub().loop.timer(_POLL, _POLL)
        timer.start(lambda: self.version() == known or wake())
        try:
            yield
        finally:
            timer.stop()
            timer.close()

    def version(self) -> object:
        """Return something that is not equal to what it was, once others have committed something.

        Hot path: 8 µs, most of it SQLite's, which looks into shared memory. Never waits.
        """
        if os.getpid() != self._process or not self._lock.acquire(False):
            return object()
        try:
            connection = self._connection
            if connection is None or (self.path != MEMORY and self._is_replaced()):
                return object()
            if self.path == MEMORY:
                return self._commits
            ((changes,),) = connection.execute("PRAGMA data_version").fetchall()
        except sqlite3.Error:
            return object()  # whoever looks what is new is told what is wrong
        else:
            return (self.generation, self._commits, changes)
        finally:
            self._lock.release()

    def _is_replaced(self) -> bool:
        now = time.monotonic()
        if now < self._look_at:
            return False
        if self._is_elsewhere():
            return True
        self._look_at = now + _LOOK
        return False


def _touch_log(path: str) -> None:
    """Wake those who watch the database with the log at a path. Never raises.

    Closing a file ends all locks of this process on it (POSIX); SQLite has none on its log.
    """
    with contextlib.suppress(OSError):  # removed: whoever watches was told
        _close(os.open(path, os.O_RDONLY))


def _open_watch(path: str, log: str) -> int | None:
    """Return a descriptor that can be read once others tell, or the file is moved or removed.

    :returns: None where the system has no inotify, no more of it, or no such file.
    """
    libc = _libc()
    if libc is None:
        return None
    descriptor: int = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if descriptor < 0:
        return None
    for name, events in (
        (path, _ATTRIBUTES | _REMOVED | _MOVED),
        (log, _READER_HAS_CLOSED),
    ):
        if libc.inotify_add_watch(descriptor, os.fsencode(name), events) < 0:
            _close(descriptor)
            return None
    return descriptor


def _close(descriptor: int) -> None:
    # The real one: gevent's waits for this thread's hub, which may never turn again.
    monkey.get_original("os", "close")(descriptor)


@functools.cache
def _libc() -> Any:
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "inotify_init1") else None
