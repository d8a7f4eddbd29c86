"""A SQLite file, or memory, that several processes write to: `Database`.

Here are its transactions, how long they wait for each other, what can go wrong, and forks. What is
in the tables is no matter here.
"""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import time
import urllib.parse
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import gevent

from ...concurrency.native import native_lock, native_sleep
from ...sqlite import identity_of, make_private
from ..signals import readable
from .inotify import unwatch, watch
from .store import StoreFault

__all__ = ["BUSY", "MEMORY", "Database"]

MEMORY = ":memory:"

#: Seconds to wait for another process's transaction.
BUSY = 5.0
#: Seconds between two attempts to begin one. SQLite's own waiting doubles to 100 ms: with eight
#: processes that write all the time some would starve.
_RETRY = 0.001
#: Bytes that the write-ahead log keeps on the disk after it has been larger.
_WAL_LIMIT = 16 * 1024 * 1024
#: Seconds between two looks for a file that was removed, while nothing happens.
_LOOK = 1.0
#: Seconds between two looks where nobody can be woken. Each of them wakes the process, which is
#: what costs: 3% of a core.
_POLL = 0.01
#: A connection that came with a fork must not be used, and not be closed either: that ends the
#: parent's locks. Collecting it would close it.
_inherited: list[Any] = []


class Database:
    """One connection, opened at first use. May be used by several threads.

    :param path: of the file; `MEMORY` for a database that nobody else has.
    :param synchronous: what durable transactions are committed with; see `writing`.
    :param version: the ``PRAGMA user_version`` that it is to have.
    :param prepare: makes the tables where it has another one, within a transaction.
    """

    def __init__(
        self,
        path: str,
        synchronous: str,
        version: int,
        prepare: Callable[[sqlite3.Connection], None],
    ) -> None:
        self.path = path
        self._durable = synchronous
        self._version = version
        self._prepare = prepare
        #: Goes up with each connection: what is known of the tables may have changed entirely.
        self.generation = 0
        self._forget()

    def _forget(self) -> None:
        self._process = os.getpid()
        self._lock = native_lock()
        self._connection: sqlite3.Connection | None = None
        self._synchronous = ""
        self._identity: tuple[int, int] | None = None
        self._commits = 0
        self._look_at = 0.0
        #: Whom to wake in memory.
        self._waiting: set[Callable[[], object]] = set()
        #: What tells of a file that was touched, and for which connection that was made.
        self._watch: int | None = None
        self._watched = 0

    def copy(self) -> Database:
        """Another connection to the same file."""
        return Database(self.path, self._durable, self._version, self._prepare)

    # Life

    def open(self) -> None:
        """Connect, if it is not connected. :raises StoreFault: when it cannot."""
        with self._locked():
            self._connected()

    def close(self) -> None:
        """Disconnect. Never raises. Memory stays, until nobody has the object any more."""
        if os.getpid() == self._process and self.path != MEMORY:
            with contextlib.suppress(StoreFault), self._locked():
                self._drop()
            self._unwatch()

    # Transactions

    @contextlib.contextmanager
    def writing(self, *, durable: bool) -> Iterator[sqlite3.Connection]:
        """A transaction that writes.

        :param durable: False when a power cut may undo it. In WAL mode that saves the wait for the
            disk (340 µs to 20 here), and it still outlives the process.
        :raises StoreFault: when nothing was written, as far as is known.
        """
        with self._locked():
            connection = self._connected()
            synchronous = self._durable if durable else "NORMAL"
            if synchronous != self._synchronous:
                connection.execute(f"PRAGMA synchronous = {synchronous}")
                self._synchronous = synchronous
            self._begin(connection, "BEGIN IMMEDIATE")
            self._check_identity()
            yield connection
            connection.execute("COMMIT")

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A transaction that sees one state of things. It waits for nobody who writes.

        It must not be left with a statement half read: that would keep the log from being emptied.

        :raises StoreFault: when it cannot be read.
        """
        with self._locked():
            connection = self._connected()
            # Deferred: the first SELECT begins it, so that one is done here.
            self._begin(connection, "BEGIN", "SELECT 1 FROM sqlite_master LIMIT 1")
            self._check_identity()
            yield connection
            connection.execute("COMMIT")

    def tell(self) -> None:
        """Wake whoever waits for what was just committed."""
        self._commits += 1
        if self.path == MEMORY:
            for wake in tuple(self._waiting):
                wake()
        else:
            # Not what SQLite itself writes wakes them: that is before others can see it.
            with contextlib.suppress(OSError):
                os.utime(self.path)

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

    # The connection

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        if os.getpid() != self._process:
            _inherited.append(self._connection)
            self._unwatch()
            self._forget()
        # Twice what the one before may wait, so that it is told of the database first.
        if not self._lock.acquire(True, 2 * BUSY):
            raise StoreFault(f"{self.path} has been busy for {2 * BUSY:g} s")
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            # What the file has become is found out anew.
            self._drop()
            raise StoreFault(self._explain(error)) from error
        except BaseException as error:
            self._roll_back()
            if isinstance(error, StoreFault):
                self._drop()
            raise
        finally:
            self._lock.release()

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = self._connect()
            self._look_at = time.monotonic() + _LOOK
            self.generation += 1
        return self._connection

    def _connect(self) -> sqlite3.Connection:
        if self.path == MEMORY:
            connection = _open(MEMORY)
            # Nobody closes memory: it must outlive those who use it in turn.
            weakref.finalize(self, connection.close)
        else:
            make_private(self.path)
            # mode=rw: one that was removed since is not made with other permissions.
            connection = _open(f"file:{urllib.parse.quote(os.fsencode(self.path))}?mode=rw")
        try:
            if self.path != MEMORY:
                self._identity = identity_of(self.path)
                self._use_wal(connection)
            self._synchronous = "FULL"
            connection.execute("PRAGMA synchronous = FULL")
            # Whoever only reads need not wait for whoever writes.
            if self._begin(connection, "PRAGMA user_version") != [(self._version,)]:
                self._begin(connection, "BEGIN IMMEDIATE")
                self._prepare(connection)
                connection.execute("COMMIT")
        except BaseException:
            connection.close()
            raise
        return connection

    def _use_wal(self, connection: sqlite3.Connection) -> None:
        ((mode,),) = self._begin(connection, "PRAGMA journal_mode")
        if mode != "wal":
            ((mode,),) = self._begin(connection, "PRAGMA journal_mode = WAL")
        if mode != "wal":
            raise StoreFault(
                f"{self.path} cannot be put into SQLite's WAL mode: it must be on a local disk"
            )
        connection.execute(f"PRAGMA journal_size_limit = {_WAL_LIMIT}").fetchall()

    def _begin(self, connection: sqlite3.Connection, *statements: str) -> list[Any]:
        """Execute them; again and again for a while when another process is in the way."""
        end = time.monotonic() + BUSY
        while True:
            try:
                for statement in statements:
                    rows = connection.execute(statement).fetchall()
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() >= end:
                    raise
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            else:
                return rows
            native_sleep(_RETRY * (0.5 + random.random()))

    def _check_identity(self) -> None:
        """What is written into a file that was removed is lost, and nothing new is in it."""
        if self.path != MEMORY and identity_of(self.path) != self._identity:
            raise StoreFault(
                f"{self.path} was removed or replaced while it was in use: what it held is gone, "
                "and queues must be declared again"
            )

    def _roll_back(self) -> None:
        connection = self._connection
        if connection is not None and connection.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")

    def _drop(self) -> None:
        self._roll_back()
        if self.path != MEMORY:
            connection, self._connection = self._connection, None
            if connection is not None:
                with contextlib.suppress(sqlite3.Error):
                    connection.close()

    def _explain(self, error: Exception) -> str:
        text = str(error) or type(error).__name__
        folder = os.path.dirname(self.path)
        if self.path != MEMORY and not os.path.isdir(folder):
            return f"{self.path}: there is no folder {folder}: make it, or choose another place"
        if os.path.isdir(self.path):
            return f"{self.path} is a folder: choose a file for the events"
        if isinstance(error, OSError):
            return f"{self.path}: {error.strerror or text}"
        for sign, meaning in _MEANINGS:
            if sign in text:
                return f"{self.path} {meaning} ({text})"
        return f"{self.path}: {text}"


#: What SQLite says, and what that means for whoever runs the service.
_MEANINGS = (
    ("locked", f"is locked: another program has been writing to it for {BUSY:g} s"),
    ("not a database", "is not an SQLite database: choose another file for the events"),
    ("malformed", "is damaged: stop what uses it, and restore it or move it away"),
    ("readonly", "cannot be written: change its permissions, or choose another file"),
    ("full", "cannot grow: make room on the disk"),
    ("unable to open", "cannot be opened: look at its permissions and those of its folder"),
    ("disk I/O", "cannot be read or written: look at the disk, and whether it is full"),
)


def _open(place: str) -> sqlite3.Connection:
    # No time-out: SQLite itself never waits, see `_RETRY`.
    return sqlite3.connect(
        place,
        uri=place.startswith("file:"),
        timeout=0,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=200,
    )
