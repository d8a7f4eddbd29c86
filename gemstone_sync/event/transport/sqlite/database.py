"""A SQLite file, or memory, in which several processes wait for each other: `Database`."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterator

import gevent

from ....sqlite import MEMORY, SqliteFile, identity_of
from ...wakeups import readable
from .inotify import tell, unwatch, watch

__all__ = ["Database"]

#: Seconds between two looks for a file that was removed, while nothing happens.
_LOOK = 1.0
#: Seconds between two looks where nobody can be woken. Each of them wakes the process, which is
#: what costs: 3% of a core.
_POLL = 0.01


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

    def copy(self) -> Database:
        """Another connection to the same file."""
        assert self._version is not None
        assert self._prepare is not None
        return Database(self.path, self._version, self._prepare)

    def open(self) -> None:
        """Connect, if it is not connected.

        :raises StoreFault: when it cannot.
        """
        with self.reading():
            pass

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
            tell(self.path)

    @contextlib.contextmanager
    def waking(self, wake: Callable[[], object]) -> Iterator[None]:
        """While in here, have `wake` called when others have told something.

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
        """The descriptor that tells of the file that is open, with all told so far read."""
        if os.getpid() != self._process:
            return None
        if self._watched != self.generation:
            self._unwatch()
            self._watch, self._watched = watch(self.path), self.generation
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
            unwatch(descriptor)

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
        """Something that is not equal to what it was, once others have committed something.

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
        if identity_of(self.path) != self._identity:
            return True
        self._look_at = now + _LOOK
        return False
