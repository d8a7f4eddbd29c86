"""Stored events in an SQLite file: the outbox's own one, or a database of the user.

Its functions block the thread that calls them, and may be called from any.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import sqlite3
import time
import urllib.parse
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from ..files import identity_of, make_private
from ..native import native_lock, native_sleep
from .box import COUNT, VERSION, WAITING_NOW, Box, BoxFault, Execute, Lease, Row, one_line

__all__ = ["CREATE_EVENTS", "SqliteBox"]

T = TypeVar("T")

#: Seconds to wait for another program's transaction.
BUSY = 5.0

#: How many values one statement gets; SQLite took 999 at most before 3.32.
_CHUNK = 500

#: AUTOINCREMENT: without it the id of a deleted row is given again.
CREATE_EVENTS = (
    "CREATE TABLE IF NOT EXISTS main.gemstone_outbox "
    "(id INTEGER PRIMARY KEY AUTOINCREMENT, event BLOB NOT NULL)"
)
_CREATE_REST = (
    "CREATE TABLE IF NOT EXISTS gemstone_outbox_waiting "
    "(id INTEGER NOT NULL, transport TEXT NOT NULL, event BLOB NOT NULL, line TEXT, due REAL, "
    "attempts INTEGER NOT NULL, reason TEXT NOT NULL, time REAL NOT NULL, "
    "PRIMARY KEY (id, transport))",
    "CREATE INDEX IF NOT EXISTS gemstone_outbox_waiting_due "
    "ON gemstone_outbox_waiting (transport, due, id)",
    "CREATE INDEX IF NOT EXISTS gemstone_outbox_waiting_line "
    "ON gemstone_outbox_waiting (transport, line, id)",
    "CREATE TABLE IF NOT EXISTS gemstone_outbox_relay "
    "(id INTEGER PRIMARY KEY, "
    "version INTEGER NOT NULL, owner TEXT NOT NULL, beat INTEGER NOT NULL)",
    f"INSERT OR IGNORE INTO gemstone_outbox_relay VALUES (1, {VERSION}, '', 0)",
)
_CREATE_DATABASES = "CREATE TABLE IF NOT EXISTS gemstone_outbox_databases (path BLOB PRIMARY KEY)"


class SqliteBox(Box):
    """Events in an SQLite file.

    :param path: of the file.
    :param own: True for the outbox's own file, which is made when it is missing, and which
        remembers the databases in which events were stored.
    """

    def __init__(self, path: str, *, own: bool = False) -> None:
        self.name = path
        self.key = key_of(path)
        self._path = path
        self._own = own
        self._lock = native_lock()
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._busy = 0.0

    # Adding

    def add(self, events: Sequence[bytes], limit: float) -> None:
        """Store events, all or none, in this order; on the disk when it returns.

        :param limit: seconds to wait for other writers.

        One statement where that is enough: after each one this thread has to get Python's lock
        back, which a busy hub holds for up to 5 ms.
        """

        def insert(connection: sqlite3.Connection) -> None:
            for start in range(0, len(events), _CHUNK):
                chunk = events[start : start + _CHUNK]
                places = ",".join(["(?)"] * len(chunk))
                connection.execute(f"INSERT INTO gemstone_outbox (event) VALUES {places}", chunk)

        if len(events) <= _CHUNK:
            self._run(insert, limit)
        else:
            self._write(insert, limit)

    def remember(self, path: str) -> None:
        """Note a database in which events are going to be stored; on the disk when it returns."""
        statement = "INSERT OR IGNORE INTO gemstone_outbox_databases VALUES (?)"
        self._run(lambda connection: connection.execute(statement, (os.fsencode(path),)))

    def remembered(self) -> list[str]:
        """The paths that were noted."""

        def select(connection: sqlite3.Connection) -> list[str]:
            found = connection.execute("SELECT path FROM gemstone_outbox_databases ORDER BY path")
            return [os.fsdecode(path) for (path,) in found]

        return self._run(select)

    # Box

    def prepare(self) -> None:
        self._write(self._create_tables)

    def has_events(self) -> bool:
        if not self._is_there():
            return False

        def select(connection: sqlite3.Connection) -> bool:
            statement, values = "SELECT 1 FROM gemstone_outbox LIMIT 1", {"now": time.time()}
            return (_has_table(connection) and bool(connection.execute(statement).fetchall())) or (
                _has_table(connection, "gemstone_outbox_waiting")
                and bool(connection.execute(WAITING_NOW, values).fetchall())
            )

        return self._run(select)

    def read(self, rows: int, size: int) -> list[Row]:
        def select(connection: sqlite3.Connection) -> list[Row]:
            statement = "SELECT id, CAST(event AS BLOB) FROM gemstone_outbox ORDER BY id LIMIT ?"
            found, length = [], 0
            with contextlib.closing(connection.execute(statement, (rows,))) as cursor:
                for row in cursor:
                    found.append(Row(*row))
                    length += len(row[1])
                    if length >= size:
                        break
            return found

        return self._run(select)

    def delete(self, ids: Sequence[int]) -> None:
        def remove(connection: sqlite3.Connection) -> None:
            for start in range(0, len(ids), _CHUNK):
                chunk = ids[start : start + _CHUNK]
                places = ",".join("?" * len(chunk))
                connection.execute(f"DELETE FROM gemstone_outbox WHERE id IN ({places})", chunk)

        self._run(remove)

    def count(self) -> int:
        waiting = self._reading(lambda execute: execute(COUNT, {}).fetchone()[0], 0)
        if not self._is_there():
            return 0

        def select(connection: sqlite3.Connection) -> int:
            if not _has_table(connection):
                return 0
            return int(connection.execute("SELECT count(*) FROM gemstone_outbox").fetchone()[0])

        return int(waiting) + self._run(select)

    def _reading(self, work: Callable[[Execute], T], missing: T) -> T:
        def read(connection: sqlite3.Connection) -> T:
            if not _has_table(connection, "gemstone_outbox_waiting"):
                return missing
            return work(functools.partial(_execute, connection))

        return self._run(read) if self._is_there() else missing

    def _writing(self, work: Callable[[Execute], T]) -> T:
        return self._write(lambda connection: work(functools.partial(_execute, connection)))

    def _is_there(self) -> bool:
        return self._own or os.path.exists(self._path)

    def lease(self) -> Lease:
        statement = "SELECT owner, beat FROM gemstone_outbox_relay WHERE id = 1"
        row = self._run(lambda connection: connection.execute(statement).fetchone())
        return Lease("", 0) if row is None else Lease(*row)

    def swap(self, seen: Lease, owner: str) -> bool:
        def update(connection: sqlite3.Connection) -> bool:
            changed = connection.execute(
                "UPDATE gemstone_outbox_relay SET owner = ?, beat = beat + 1 "
                "WHERE id = 1 AND owner = ? AND beat = ?",
                (owner, seen.owner, seen.beat),
            )
            return changed.rowcount == 1

        return self._run(update)

    def close(self) -> None:
        if self._lock.acquire(True, BUSY):
            self._drop()
            self._lock.release()

    # The connection

    def _write(self, work: Callable[[sqlite3.Connection], T], limit: float = math.inf) -> T:
        """Do several things in one transaction."""

        def transact(connection: sqlite3.Connection) -> T:
            connection.execute("BEGIN IMMEDIATE")
            result = work(connection)
            connection.execute("COMMIT")
            return result

        return self._run(transact, limit)

    def _run(self, work: Callable[[sqlite3.Connection], T], limit: float = math.inf) -> T:
        began = time.monotonic()
        # Twice what one waiter may take, so that the one behind it is told of the database.
        patience = min(2 * BUSY, limit)
        if not self._lock.acquire(True, patience):
            raise BoxFault(f"{self.name} has been busy for {patience:.2g} s")
        busy = max(0.0, min(BUSY, limit - (time.monotonic() - began)))
        try:
            result = work(self._open(busy))
            if self._file != identity_of(self._path):
                # What was written then is nowhere that anybody would find it.
                raise BoxFault(f"{self.name} was removed or replaced while it was in use")
            return result
        except (sqlite3.Error, OSError) as error:
            # Whatever was begun is rolled back, and what the file has become is found out anew.
            self._drop()
            raise BoxFault(self._explain(error, busy)) from error
        except BoxFault:
            self._drop()
            raise
        finally:
            self._lock.release()

    def _open(self, busy: float) -> sqlite3.Connection:
        """The connection; a new one when the file was replaced by another under its name.

        :param busy: seconds for which it waits for other writers.
        """
        if self._connection is not None:
            if self._file == identity_of(self._path):
                # In steps: a caller's time is hardly ever so short that it is to be said at all.
                if abs(busy - self._busy) > 0.1:
                    self._connection.execute(f"PRAGMA busy_timeout = {math.ceil(busy * 1000)}")
                    self._busy = busy
                return self._connection
            self._drop()
        made = self._own and make_private(self._path)
        # mode=rw: a database of the user is not made here.
        uri = f"file:{urllib.parse.quote(os.fsencode(self._path))}?mode=rw"
        connection = sqlite3.connect(
            uri, uri=True, timeout=busy, isolation_level=None, check_same_thread=False
        )
        self._connection, self._busy = connection, busy
        # With a rollback journal, as users' databases have, less may damage them in a power cut.
        connection.execute("PRAGMA synchronous = FULL")
        if made:
            _use_wal(connection)
        if self._own:
            connection.execute("BEGIN IMMEDIATE")
            self._create_tables(connection)
            connection.execute("COMMIT")
        self._file = identity_of(self._path)
        return connection

    def _create_tables(self, connection: sqlite3.Connection) -> None:
        databases = [_CREATE_DATABASES] if self._own else []
        for statement in (CREATE_EVENTS, *_CREATE_REST, *databases):
            connection.execute(statement)
        (version,) = connection.execute("SELECT version FROM gemstone_outbox_relay").fetchone()
        if version > VERSION:
            raise BoxFault(newer(self.name, version))

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    def _explain(self, error: Exception, busy: float) -> str:
        if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
            return f"{self.name} is locked: another program has been writing to it for {busy:.2g} s"
        folder = os.path.dirname(self._path)
        if not os.path.isdir(folder):
            return f"{self.name}: there is no folder {folder}"
        if isinstance(error, OSError):
            return f"{self.name}: {error.strerror or one_line(error)}"
        return f"{self.name}: {one_line(error)}"


def newer(name: str, version: int) -> str:
    """What to say of tables that this version does not know."""
    return (
        f"{name}: its gemstone_outbox tables are of version {version}, and this gemstone_sync "
        f"knows up to {VERSION}: upgrade it"
    )


def key_of(path: str) -> tuple[str, str]:
    """What tells one SQLite file from another."""
    return ("sqlite", os.path.realpath(path))


def _use_wal(connection: sqlite3.Connection) -> None:
    """Do so in a file that was just made; without a wait, SQLite says when another one opens it."""
    for _ in range(100):
        with contextlib.suppress(sqlite3.OperationalError):
            connection.execute("PRAGMA journal_mode = WAL")
            return
        native_sleep(0.01)


def _execute(connection: sqlite3.Connection, statement: str, values: Any) -> sqlite3.Cursor:
    if isinstance(values, list):
        return connection.executemany(statement, values)
    return connection.execute(statement, values)


def _has_table(connection: sqlite3.Connection, name: str = "gemstone_outbox") -> bool:
    statement = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
    return bool(connection.execute(statement, (name,)).fetchall())
