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
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from ...errors import StoreFault
from ...sqlite import SqliteFile
from .box import COUNT, VERSION, WAITING_NOW, Box, Execute, Lease, Row

__all__ = ["CREATE_EVENTS", "SqliteBox"]

T = TypeVar("T")

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
        self._own = own
        self._file = SqliteFile(path, make=own, prepare=self._create_tables if own else None)

    # Adding

    def add(self, events: Sequence[bytes], limit: float = math.inf) -> None:
        """Store events, all or none, in this order; on the disk when it returns.

        :param limit: seconds to wait for other writers.
        """
        chunks = [events[start : start + _CHUNK] for start in range(0, len(events), _CHUNK)]
        if len(chunks) == 1:
            self._file.execute(_insert(events), events, limit=limit)
            return
        with self._file.writing(limit=limit) as connection:
            for chunk in chunks:
                connection.execute(_insert(chunk), chunk)

    def remember(self, path: str) -> None:
        """Note a database in which events are going to be stored; on the disk when it returns."""
        statement = "INSERT OR IGNORE INTO gemstone_outbox_databases VALUES (?)"
        self._file.execute(statement, (os.fsencode(path),))

    def remembered(self) -> list[str]:
        """The paths that were noted."""
        with self._file.reading() as connection:
            found = connection.execute("SELECT path FROM gemstone_outbox_databases ORDER BY path")
            return [os.fsdecode(path) for (path,) in found.fetchall()]

    # Box

    def prepare(self) -> None:
        with self._file.writing() as connection:
            self._create_tables(connection)

    def has_events(self) -> bool:
        if not self._is_there():
            return False
        statement, values = "SELECT 1 FROM gemstone_outbox LIMIT 1", {"now": time.time()}
        with self._file.reading() as connection:
            return (_has_table(connection) and bool(connection.execute(statement).fetchall())) or (
                _has_table(connection, "gemstone_outbox_waiting")
                and bool(connection.execute(WAITING_NOW, values).fetchall())
            )

    def read(self, rows: int, size: int) -> list[Row]:
        statement = "SELECT id, CAST(event AS BLOB) FROM gemstone_outbox ORDER BY id LIMIT ?"
        found, length = [], 0
        with (
            self._file.reading() as connection,
            contextlib.closing(connection.execute(statement, (rows,))) as cursor,
        ):
            for row in cursor:
                found.append(Row(*row))
                length += len(row[1])
                if length >= size:
                    break
        return found

    def delete(self, ids: Sequence[int]) -> None:
        with self._file.writing() as connection:
            for start in range(0, len(ids), _CHUNK):
                chunk = ids[start : start + _CHUNK]
                places = ",".join("?" * len(chunk))
                connection.execute(f"DELETE FROM gemstone_outbox WHERE id IN ({places})", chunk)

    def count(self) -> int:
        if not self._is_there():
            return 0
        total = 0
        with self._file.reading() as connection:
            if _has_table(connection):
                total = connection.execute("SELECT count(*) FROM gemstone_outbox").fetchone()[0]
            if _has_table(connection, "gemstone_outbox_waiting"):
                total += connection.execute(COUNT).fetchone()[0]
        return total

    def _reading(self, work: Callable[[Execute], T], missing: T) -> T:
        if not self._is_there():
            return missing
        with self._file.reading() as connection:
            if not _has_table(connection, "gemstone_outbox_waiting"):
                return missing
            return work(functools.partial(_execute, connection))

    def _writing(self, work: Callable[[Execute], T]) -> T:
        with self._file.writing() as connection:
            return work(functools.partial(_execute, connection))

    def _is_there(self) -> bool:
        return self._own or os.path.exists(self._file.path)

    def lease(self) -> Lease:
        statement = "SELECT owner, beat FROM gemstone_outbox_relay WHERE id = 1"
        with self._file.reading() as connection:
            row = connection.execute(statement).fetchone()
        return Lease("", 0) if row is None else Lease(*row)

    def swap(self, seen: Lease, owner: str) -> bool:
        with self._file.writing() as connection:
            changed = connection.execute(
                "UPDATE gemstone_outbox_relay SET owner = ?, beat = beat + 1 "
                "WHERE id = 1 AND owner = ? AND beat = ?",
                (owner, seen.owner, seen.beat),
            )
            return changed.rowcount == 1

    def close(self) -> None:
        self._file.close()

    def _create_tables(self, connection: sqlite3.Connection) -> None:
        databases = [_CREATE_DATABASES] if self._own else []
        for statement in (CREATE_EVENTS, *_CREATE_REST, *databases):
            connection.execute(statement)
        (version,) = connection.execute("SELECT version FROM gemstone_outbox_relay").fetchone()
        if version > VERSION:
            raise StoreFault(newer(self.name, version))


def _insert(events: Sequence[bytes]) -> str:
    return f"INSERT INTO gemstone_outbox (event) VALUES {','.join(['(?)'] * len(events))}"


def newer(name: str, version: int) -> str:
    """What to say of tables that this version does not know."""
    return (
        f"{name}: its gemstone_outbox tables are of version {version}, and this gemstone_sync "
        f"knows up to {VERSION}: upgrade it"
    )


def key_of(path: str) -> tuple[str, str]:
    """What tells one SQLite file from another."""
    return ("sqlite", os.path.realpath(path))


def _execute(connection: sqlite3.Connection, statement: str, values: Any) -> sqlite3.Cursor:
    if isinstance(values, list):
        return connection.executemany(statement, values)
    return connection.execute(statement, values)


def _has_table(connection: sqlite3.Connection, name: str = "gemstone_outbox") -> bool:
    statement = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
    return bool(connection.execute(statement, (name,)).fetchall())
