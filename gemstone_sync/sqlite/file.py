"""Share a SQLite file between processes: `SqliteFile`.

Here are private files and their journals, transactions and how long they wait for each other,
forks, and files that are removed or replaced while they are in use.
"""

from __future__ import annotations

import contextlib
import math
import os
import random
import sqlite3
import time
import urllib.parse
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..concurrency.native import native_lock, native_sleep
from ..errors import StoreFault

__all__ = ["BUSY", "MEMORY", "SqliteFile"]

MEMORY = ":memory:"

#: Seconds to wait for another process's transaction.
BUSY = 5.0
#: Seconds between two attempts to begin one. SQLite's own waiting doubles to 100 ms: with eight
#: processes that write all the time some would starve.
_RETRY = 0.001
#: Bytes that the write-ahead log keeps on the disk after it has been larger.
_WAL_LIMIT = 16 * 1024 * 1024
#: A connection that came with a fork must not be used, and not be closed either: that ends the
#: parent's locks. Collecting it would close it.
_inherited: list[Any] = []

#: What SQLite says, and what that means for whoever runs the service.
_MEANINGS = (
    ("not a database", "is not an SQLite database: choose another file"),
    ("malformed", "is damaged: stop what uses it, and restore it or move it away"),
    ("readonly", "cannot be written: change its permissions, or choose another file"),
    ("full", "cannot grow: make room on the disk"),
    ("unable to open", "cannot be opened: look at its permissions and those of its folder"),
    ("disk I/O", "cannot be read or written: look at the disk, and whether it is full"),
)


class SqliteFile:
    """A connection to a file, opened at first use. Threads may share it; its functions block.

    :param path: of the file; `MEMORY` for a database that nobody else has.
    :param make: True to make the file when it is missing, readable for its owner only and in WAL
        mode. Any other keeps its mode and its journal: it may be a database of the user.
    :param wal: True to put it into WAL mode whoever has made it.
    :param exclusive: True to keep every other process from it while it is open.
    :param prepare: makes the tables, in a transaction, whenever the file is opened. What it raises
        leaves the file as it is.
    :param version: the ``PRAGMA user_version`` of a file that needs no `prepare`.
    :param busy: seconds to wait for another process's transaction; `BUSY` unless given.
    :param reopens: False to raise `StoreFault` once when another file has taken its place.
    :ivar generation: goes up with each connection: the file may be another one.
    """

    def __init__(
        self,
        path: str,
        *,
        make: bool = True,
        wal: bool = False,
        exclusive: bool = False,
        prepare: Callable[[sqlite3.Connection], object] | None = None,
        version: int | None = None,
        busy: float | None = None,
        reopens: bool = True,
    ) -> None:
        self.name = path
        self.path = path if path == MEMORY else os.path.abspath(path)
        self.generation = 0
        self._make = make
        self._insist_on_wal = wal
        self._exclusive = exclusive
        self._prepare = prepare
        self._version = version
        self._busy = busy
        self._reopens = reopens
        self._forget()
        _files.add(self)

    def _forget(self) -> None:
        self._process = os.getpid()
        self._lock = native_lock()
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        #: Of the log, once it is there: SQLite keeps it for as long as anybody has the file open.
        self._log: tuple[int, int] | None = None
        self._log_path = ""
        self._is_wal = False
        self._is_durable = False

    @contextlib.contextmanager
    def writing(
        self, *, durable: bool = True, limit: float = math.inf
    ) -> Iterator[sqlite3.Connection]:
        """Run a transaction that writes.

        :param durable: False when a power cut may undo it. In WAL mode that saves the wait for the
            disk (340 µs to 20 here), and it still outlives the process.
        :param limit: seconds to wait for other writers, if that is less than `busy`.
        :raises StoreFault: when nothing was written, as far as is known.
        """
        with self._locked(limit) as end:
            connection = self._begin(end, durable, "BEGIN IMMEDIATE")
            yield connection
            self._attempt(connection, end, "COMMIT")

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Run a transaction that sees one state of things. In WAL mode it waits for no writer.

        It must not be left with a statement half read: that would keep the log from being emptied.

        :raises StoreFault: when it cannot be read.
        """
        with self._locked(math.inf) as end:
            # Deferred: the first SELECT begins it, so that one is done here.
            connection = self._begin(
                end, self._is_durable, "BEGIN", "SELECT 1 FROM sqlite_master LIMIT 1"
            )
            yield connection
            self._attempt(connection, end, "COMMIT")

    def execute(
        self, statement: str, values: Sequence[Any] = (), *, limit: float = math.inf
    ) -> None:
        """Execute one statement that writes, as a durable transaction of its own.

        After each statement a thread has to get Python's lock back, which a busy hub holds for up
        to 5 ms: `writing` needs it three times.

        :raises StoreFault: when nothing was written, as far as is known.
        """
        with self._locked(limit) as end:
            if self._is_elsewhere():
                self._drop()
            connection = self._connected(end)
            self._set_durable(connection, True)
            self._attempt(connection, end, statement, values=values)
            self._note_log()
            if self._is_elsewhere():
                # What was written is nowhere that anybody would find it.
                raise self._replaced()

    def is_current(self) -> bool:
        """Tell whether it is open, and no other file has taken its place."""
        return self._connection is not None and not self._is_elsewhere()

    def close(self) -> None:
        """Disconnect. Never raises. What is used again connects again; memory stays."""
        if os.getpid() == self._process and self.path != MEMORY:
            with contextlib.suppress(StoreFault), self._locked(BUSY):
                self._drop()

    # The connection

    @contextlib.contextmanager
    def _locked(self, limit: float) -> Iterator[float]:
        """Give the moment until which to wait for other processes."""
        if os.getpid() != self._process:
            _inherited.append(self._connection)
            self._forget()
        busy = min(BUSY if self._busy is None else self._busy, limit)
        # Twice what the one before may wait, so that it is told of the file first.
        patience, began = min(2 * busy, limit), time.monotonic()
        if not self._lock.acquire(True, max(0.0, patience)):
            raise StoreFault(f"{self.name} has been busy for {patience:.2g} s")
        try:
            yield min(time.monotonic() + busy, began + limit)
        except StoreFault:
            self._drop()
            raise
        except (sqlite3.Error, OSError) as error:
            # What the file has become is found out anew.
            self._drop()
            raise StoreFault(self._explain(error, busy)) from error
        except BaseException:
            self._roll_back()
            raise
        finally:
            self._lock.release()

    def _begin(self, end: float, durable: bool, *statements: str) -> sqlite3.Connection:
        while True:
            connection = self._connected(end)
            self._set_durable(connection, durable)
            self._attempt(connection, end, *statements)
            self._note_log()
            # Within the transaction: the wait for it may have been long. What is written to a file
            # that another one has taken the place of, nobody else sees.
            if not self._is_elsewhere():
                return connection
            if not self._reopens:
                raise self._replaced()
            self._drop()

    def _is_elsewhere(self) -> bool:
        """Tell whether the file that is open, or its log, is at this path no more."""
        if self._identity != _identity_of(self.path):
            return True
        if self._log is None or self._log == _identity_of(self._log_path):
            return False
        # All connections of a process share what SQLite knows of the log: a new one would go on
        # with that of the others. Those that are in use just now notice themselves.
        for other in list(_files):
            is_mine = other._log_path == self._log_path and other._process == self._process
            if is_mine and other is not self and other._lock.acquire(False):
                try:
                    other._drop()
                finally:
                    other._lock.release()
        return True

    def _note_log(self) -> None:
        if self._is_wal and self._log is None:
            self._log = _identity_of(self._log_path)

    def _replaced(self) -> StoreFault:
        return StoreFault(f"{self.name} was removed or replaced while it was in use")

    def _attempt(
        self,
        connection: sqlite3.Connection,
        end: float,
        *statements: str,
        values: Sequence[Any] = (),
    ) -> list[Any]:
        """Execute them; again and again until `end` while another process is in the way."""
        while True:
            try:
                for statement in statements:
                    rows = connection.execute(statement, values).fetchall()
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() >= end:
                    raise
                if statements[0] == "BEGIN":
                    self._roll_back()
            else:
                return rows
            native_sleep(_RETRY * (0.5 + random.random()))

    def _set_durable(self, connection: sqlite3.Connection, durable: bool) -> None:
        # With a rollback journal, as users' files have, less may damage them in a power cut.
        durable = durable or not self._is_wal
        if durable != self._is_durable:
            connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._is_durable = durable

    def _connected(self, end: float) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = self._connect(end)
            self.generation += 1
        return self._connection

    def _connect(self, end: float) -> sqlite3.Connection:
        if self.path == MEMORY:
            connection, made = _open(MEMORY), False
            # Nobody closes memory: it must outlive those who use it in turn.
            weakref.finalize(self, connection.close)
        else:
            made = self._make and _make_private(self.path)
            # mode=rw: one that was removed since is not made with other permissions.
            connection = _open(f"file:{urllib.parse.quote(os.fsencode(self.path))}?mode=rw")
        try:
            self._identity, self._log = _identity_of(self.path), None
            # SQLite puts it beside the file itself, also when the path is a symbolic link.
            self._log_path = f"{os.path.realpath(self.path)}-wal"
            if self._exclusive:
                connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            ((version,),) = self._attempt(connection, end, "PRAGMA user_version")
            if self._prepare is not None and version != self._version:
                self._attempt(connection, end, "BEGIN IMMEDIATE")
                self._prepare(connection)
                self._attempt(connection, end, "COMMIT")
            # Last: what `prepare` refuses, as no file of ours, stays as it is.
            self._use_journal(connection, end, wal=made or self._insist_on_wal)
        except BaseException:
            connection.close()
            raise
        return connection

    def _use_journal(self, connection: sqlite3.Connection, end: float, *, wal: bool) -> None:
        wanted = " = WAL" if wal else ""
        ((mode,),) = self._attempt(connection, end, f"PRAGMA journal_mode{wanted}")
        self._is_wal = mode == "wal"
        if wal and not self._is_wal and self.path != MEMORY:
            raise StoreFault(
                f"{self.name} cannot be put into SQLite's WAL mode: it must be on a local disk"
            )
        if wal:
            connection.execute(f"PRAGMA journal_size_limit = {_WAL_LIMIT}").fetchall()
        self._is_durable = False
        self._set_durable(connection, True)

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

    def _explain(self, error: Exception, busy: float) -> str:
        text = " ".join(str(error).split()) or type(error).__name__
        folder = os.path.dirname(self.path)
        if self.path != MEMORY and not os.path.isdir(folder):
            return f"{self.name}: there is no folder {folder}: make it, or choose another place"
        if os.path.isdir(self.path):
            return f"{self.name} is a folder: choose a file"
        if isinstance(error, OSError):
            return f"{self.name}: {error.strerror or text}"
        if "locked" in text:
            return f"{self.name} is locked: another program has been writing to it for {busy:.2g} s"
        for sign, meaning in _MEANINGS:
            if sign in text:
                return f"{self.name} {meaning} ({text})"
        return f"{self.name}: {text}"


_files: weakref.WeakSet[SqliteFile] = weakref.WeakSet()
#: Those that no thread is using while a child is forked: it would never get SQLite's own locks.
_held: list[SqliteFile] = []


def _before_fork() -> None:
    """Wait for the threads that are in a file, for a moment each."""
    _held.extend(each for each in list(_files) if each._lock.acquire(True, 1.0))


def _after_fork() -> None:
    while _held:
        _held.pop()._lock.release()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)


def _identity_of(path: str) -> tuple[int, int] | None:
    """Tell the file at a path from one that takes its place; None when there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return (found.st_dev, found.st_ino)


def _make_private(path: str) -> bool:
    """Make the file, for its owner only, unless it is there; -wal and -shm get the same mode.

    Only with O_EXCL: closing a descriptor of a file takes away every lock that this process holds
    on it (POSIX), those of its other SQLite connections too.
    """
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        return True
    return False


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
