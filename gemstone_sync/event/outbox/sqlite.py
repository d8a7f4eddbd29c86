"""Stored events in an SQLite file: the outbox's own one, or a database of the user.

Its functions block the thread that calls them, and may be called from any.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ...sqlite import SqliteFile
from .storage import INSERT, VERSION, Storage, first_beat

__all__ = ["CREATE_EVENTS", "SqliteStorage", "key_of"]

#: How many values one statement gets; SQLite took 999 at most before 3.32.
_MOST = 500

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
)
_FIRST_RELAY = "INSERT OR IGNORE INTO gemstone_outbox_relay VALUES (1, ?, '', ?)"
_CREATE_DATABASES = "CREATE TABLE IF NOT EXISTS gemstone_outbox_databases (path BLOB PRIMARY KEY)"


class SqliteStorage(Storage):
    """Events in an SQLite file.

    :param path: of the file.
    :param own: True for the outbox's own file, which is made when it is missing, and which
        remembers the databases in which events were stored.
    """

    # Somebody else may have written a text, even one that is no UTF-8.
    _event = "CAST(event AS BLOB)"

    def __init__(self, path: str, *, own: bool = False) -> None:
        self.name = path
        self.key = key_of(path)
        self._own = own
        self._file = SqliteFile(path, make=own, prepare=self._create_tables if own else None)

    # What only the outbox's own file has

    def add(self, events: Sequence[bytes], limit: float = math.inf) -> None:
        """Store events, all or none, in this order; they are on the disk when it returns.

        :param limit: seconds to wait for other writers.
        """
        if len(events) <= _MOST:
            places = ",".join(["(?)"] * len(events))
            statement = f"INSERT INTO gemstone_outbox (event) VALUES {places}"
            self._file.execute(statement, events, limit=limit)
        else:
            with self._file.writing(limit=limit) as connection:
                connection.executemany(INSERT, [{"event": event} for event in events])

    def remember(self, path: str) -> None:
        """Note a database in which events are going to be stored; on the disk when it returns."""
        statement = "INSERT OR IGNORE INTO gemstone_outbox_databases VALUES (?)"
        self._file.execute(statement, (os.fsencode(path),))

    def remembered(self) -> list[str]:
        """List the paths that were noted."""
        with self._reading() as select:
            found = select("SELECT path FROM gemstone_outbox_databases ORDER BY path")
            return [os.fsdecode(path) for (path,) in found]

    # Storage

    def prepare(self) -> None:
        with self._file.writing() as connection:
            self._create_tables(connection)

    def close(self) -> None:
        self._file.close()

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Callable[..., Sequence[Any]]]:
        if self._own or os.path.exists(self._file.path):
            with self._file.reading() as connection:
                yield functools.partial(_select, connection)
        else:
            yield lambda statement, **values: ()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[Callable[[str, Any], int]]:
        def execute(statement: str, values: Any) -> int:
            many = isinstance(values, list)
            run = connection.executemany if many else connection.execute
            return run(statement, values).rowcount

        with self._file.writing() as connection:
            yield execute

    def _create_tables(self, connection: sqlite3.Connection) -> None:
        databases = [_CREATE_DATABASES] if self._own else []
        for statement in (CREATE_EVENTS, *_CREATE_REST, *databases):
            connection.execute(statement)
        connection.execute(_FIRST_RELAY, (VERSION, first_beat()))
        (version,) = connection.execute("SELECT version FROM gemstone_outbox_relay").fetchone()
        self._check_version(version)


def key_of(path: str) -> tuple[str, str]:
    """Tell one SQLite file from another."""
    return ("sqlite", os.path.realpath(path))


def _select(connection: sqlite3.Connection, statement: str, **values: Any) -> list[Any]:
    try:
        return connection.execute(statement, values).fetchall()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):  # nobody has made it yet
            return []
        raise
