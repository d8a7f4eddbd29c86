"""SQLite files that several processes share: `SqliteFile`, and `GroupCommit` for many writers.

Here are private files and their journals, transactions and how long they wait for each other,
forks, and files that are removed or replaced while they are in use. What is in the tables is the
matter of whoever uses it: the outbox, the memory of handled events.
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
from typing import Any, Generic, TypeVar

from gevent import monkey
from gevent.event import Event

from .concurrency import is_patched
from .concurrency.native import NativeThreads, native_lock, native_sleep
from .errors import StoreFault

__all__ = [
    "BUSY",
    "MEMORY",
    "GroupCommit",
    "SqliteFile",
    "identity_of",
    "make_private",
]

W = TypeVar("W")

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
    """One connection to a file, opened at first use. Threads may share it; its functions block.

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
        self._is_wal = False
        self._is_durable = False

    @contextlib.contextmanager
    def writing(
        self, *, durable: bool = True, limit: float = math.inf
    ) -> Iterator[sqlite3.Connection]:
        """A transaction that writes.

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
    def reading(self, *, limit: float = math.inf) -> Iterator[sqlite3.Connection]:
        """A transaction that sees one state of things. In WAL mode it waits for no writer.

        It must not be left with a statement half read: that would keep the log from being emptied.

        :raises StoreFault: when it cannot be read.
        """
        with self._locked(limit) as end:
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
            if self._identity != identity_of(self.path):
                self._drop()
            connection = self._connected(end)
            self._set_durable(connection, True)
            self._attempt(connection, end, statement, values=values)
            if self._identity != identity_of(self.path):
                # What was written is nowhere that anybody would find it.
                raise self._replaced()

    def is_current(self) -> bool:
        """Tell whether it is open, and no other file has taken its place."""
        return self._connection is not None and self._identity == identity_of(self.path)

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
            # Within the transaction: the wait for it may have been long. What is written to a file
            # that another one has taken the place of, nobody else sees.
            if self._identity == identity_of(self.path):
                return connection
            if not self._reopens:
                raise self._replaced()
            self._drop()

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
            made = self._make and make_private(self.path)
            # mode=rw: one that was removed since is not made with other permissions.
            connection = _open(f"file:{urllib.parse.quote(os.fsencode(self.path))}?mode=rw")
        try:
            self._identity = identity_of(self.path)
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


def identity_of(path: str) -> tuple[int, int] | None:
    """Tell the file at a path from one that takes its place; None when there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return (found.st_dev, found.st_ino)


def make_private(path: str) -> bool:
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


class _Ticket(Generic[W]):
    """What one caller wants written, and what became of it."""

    __slots__ = ("done", "end", "fault", "item", "outcome")

    def __init__(self, item: W, end: float) -> None:
        self.item = item
        #: When the caller's time is over, of ``time.monotonic()``.
        self.end = end
        self.done = False
        self.outcome: Any = None
        self.fault: StoreFault | None = None


class GroupCommit(Generic[W]):
    """Writes what greenlets and threads want at the same time in one transaction.

    One wait for the disk serves all who wait for it, and no greenlet's hub waits.

    :param commit: writes items, all or none, within so many seconds; returns an outcome for each.
        In a patched process it is called in a native thread.
    :param name: what errors call the file.
    """

    def __init__(self, commit: Callable[[Sequence[W], float], Sequence[Any]], name: str) -> None:
        self._commit = commit
        self._name = name
        self._start()

    def _start(self) -> None:
        self._process = os.getpid()
        self._threads = NativeThreads(2)
        self._waiting: list[_Ticket[W]] = []
        #: For a few microseconds at a time: greenlets put into the list what native threads take.
        self._mutex = native_lock()
        self._committing = native_lock()
        #: For each thread with greenlets: what is set when the commit is over that one asked for.
        self._local = monkey.get_original("threading", "local")()

    def write(self, item: W, timeout: float) -> Any:
        """Write an item; return its outcome once it is written.

        :param timeout: seconds.
        :raises StoreFault: when it is not known to be written.
        """
        if os.getpid() != self._process:
            self._start()
        ticket = _Ticket(item, time.monotonic() + timeout)
        with self._mutex:
            self._waiting.append(ticket)
        try:
            if is_patched():
                self._await(ticket)
            else:
                self._write_all(ticket)
        finally:
            if not ticket.done:
                with self._mutex:  # unless it is being written just now
                    self._waiting = [other for other in self._waiting if other is not ticket]
        if ticket.fault is not None:
            raise ticket.fault
        return ticket.outcome

    def _await(self, ticket: _Ticket[W]) -> None:
        """Commit in a native thread; of this thread's greenlets one asks, the others wait for it.

        A semaphore would not do: the one that releases it comes first again, with one more item,
        and nothing is shared (measured: 4,951 commits for 5,000 items of 50 greenlets).
        """
        while not ticket.done:
            committed = getattr(self._local, "committed", None)
            if committed is not None:
                committed.wait(_seconds_until(ticket.end))
                if not ticket.done and time.monotonic() >= ticket.end:
                    raise self._late()
                continue
            committed = self._local.committed = Event()
            try:
                self._threads.call(self._write_all, ticket, limit=_seconds_until(ticket.end))
            except TimeoutError as error:
                raise StoreFault(f"{self._name}: {error}") from error
            finally:
                self._local.committed = None
                committed.set()

    def _write_all(self, ticket: _Ticket[W]) -> None:
        """Write all that waits, unless another thread has written this one; block the thread."""
        if not self._committing.acquire(True, min(4 * BUSY, _seconds_until(ticket.end))):
            raise self._late()
        try:
            if not ticket.done:
                with self._mutex:
                    group, self._waiting = self._waiting, []
                self._write_group(group)
        finally:
            self._committing.release()

    def _late(self) -> StoreFault:
        return StoreFault(f"{self._name}: not written in time; it may still be")

    def _write_group(self, group: Sequence[_Ticket[W]]) -> None:
        fault: StoreFault | None = StoreFault(f"{self._name}: something cannot be written")
        try:
            if group:
                # A little less, so that it can still say what is in the way.
                limit = 0.9 * _seconds_until(max(ticket.end for ticket in group))
                outcomes = self._commit([ticket.item for ticket in group], limit)
                for ticket, outcome in zip(group, outcomes, strict=True):
                    ticket.outcome = outcome
            fault = None
        except StoreFault as error:
            fault = error
        finally:
            for ticket in group:
                ticket.fault = fault
                ticket.done = True


def _seconds_until(moment: float) -> float:
    return max(0.0, moment - time.monotonic())
