"""Stored events in an SQLite file: the outbox's own one, or a database of the user.

Its functions block the thread that calls them, and may be called from any.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
import urllib.parse
from collections.abc import Callable, Sequence
from typing import TypeVar

from ..files import identity_of, make_private
from ..native import native_lock, native_sleep
from .box import VERSION, Box, BoxFault, Failed, Lease, Row, one_line

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
    "CREATE TABLE IF NOT EXISTS gemstone_outbox_failed "
    "(id INTEGER PRIMARY KEY, event BLOB NOT NULL, reason TEXT NOT NULL, time REAL NOT NULL)",
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

    # Adding

    def add(self, events: Sequence[bytes]) -> None:
        """Store events, all or none, in this order; on the disk when it returns.

        One statement where that is enough: after each one this thread has to get Python's lock
        back, which a busy hub holds for up to 5 ms.
        """

        def insert(connection: sqlite3.Connection) -> None:
            for start in range(0, len(events), _CHUNK):
                chunk = events[start : start + _CHUNK]
                places = ",".join(["(?)"] * len(chunk))
                connection.execute(f"INSERT INTO gemstone_outbox (event) VALUES {places}", chunk)

        if len(events) <= _CHUNK:
            self._run(insert)
        else:
            self._write(insert)

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
        if not self._own and not os.path.exists(self._path):
            return False

        def select(connection: sqlite3.Connection) -> bool:
            if not _has_tables(connection):
                return False
            return bool(connection.execute("SELECT 1 FROM gemstone_outbox LIMIT 1").fetchall())

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

    def set_aside(self, id: int, reason: str) -> None:
        def move(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT OR REPLACE INTO gemstone_outbox_failed "
                "SELECT id, event, ?, ? FROM gemstone_outbox WHERE id = ?",
                (reason, time.time(), id),
            )
            connection.execute("DELETE FROM gemstone_outbox WHERE id = ?", (id,))

        self._write(move)

    def count(self) -> int:
        if not self.has_events():
            return 0
        statement = "SELECT count(*) FROM gemstone_outbox"
        return int(self._run(lambda connection: connection.execute(statement).fetchone()[0]))

    def failed(self) -> list[Failed]:
        statement = (
            "SELECT CAST(event AS BLOB), reason, time FROM gemstone_outbox_failed "
            "ORDER BY id LIMIT 1000"
        )

        def select(connection: sqlite3.Connection) -> list[Failed]:
            if not _has_tables(connection, "gemstone_outbox_failed"):
                return []
            return [Failed(*row) for row in connection.execute(statement)]

        return self._run(select) if self._own or os.path.exists(self._path) else []

    def retry_failed(self) -> int:
        if not self.failed():
            return 0

        def move(connection: sqlite3.Connection) -> int:
            connection.execute(
                "INSERT INTO gemstone_outbox (event) "
                "SELECT event FROM gemstone_outbox_failed ORDER BY id"
            )
            return connection.execute("DELETE FROM gemstone_outbox_failed").rowcount

        return self._write(move)

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

    def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do several things in one transaction."""

        def transact(connection: sqlite3.Connection) -> T:
            connection.execute("BEGIN IMMEDIATE")
            result = work(connection)
            connection.execute("COMMIT")
            return result

        return self._run(transact)

    def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        # Twice what one waiter may take, so that the one behind it is told of the database.
        if not self._lock.acquire(True, 2 * BUSY):
            raise BoxFault(f"{self.name} has been busy for {2 * BUSY:g} s")
        try:
            return work(self._open())
        except (sqlite3.Error, OSError) as error:
            # Whatever was begun is rolled back, and what the file has become is found out anew.
            self._drop()
            raise BoxFault(self._explain(error)) from error
        except BoxFault:
            self._drop()
            raise
        finally:
            self._lock.release()

    def _open(self) -> sqlite3.Connection:
        """The connection; a new one when the file was replaced by another under its name."""
        if self._connection is not None:
            if self._file == identity_of(self._path):
                return self._connection
            self._drop()
        if self._own:
            make_private(self._path)
        # mode=rw: a database of the user is not made here.
        uri = f"file:{urllib.parse.quote(os.fsencode(self._path))}?mode=rw"
        connection = sqlite3.connect(
            uri, uri=True, timeout=BUSY, isolation_level=None, check_same_thread=False
        )
        self._connection = connection
        # A power cut may undo that something was deleted (it is sent again), not that it was added.
        connection.execute(f"PRAGMA synchronous = {'FULL' if self._own else 'NORMAL'}")
        if self._own:
            _use_wal(connection)
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

    def _explain(self, error: Exception) -> str:
        if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
            return f"{self.name} is locked: another program has been writing to it for {BUSY:g} s"
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
    mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
    if mode != "wal":
        # Of two processes that do it at once, one is told "locked" without any wait.
        end = time.monotonic() + BUSY
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() >= end:
                    raise
                native_sleep(0.01)
            else:
                return


def _has_tables(connection: sqlite3.Connection, name: str = "gemstone_outbox") -> bool:
    statement = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
    return bool(connection.execute(statement, (name,)).fetchall())
