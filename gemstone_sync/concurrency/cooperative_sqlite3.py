"""sqlite3 in a patched process: what waits for a locked database lets other greenlets run.

SQLite waits for a lock in C, and the greenlet that holds it would never get its turn to give it up.
Connections are therefore opened without a time-out, and what SQLite then refuses at once is tried
again, for as long as SQLite would have waited, where SQLite would have waited: before a
transaction has read or written anything, and at its end. In between a wait could not end well.
"""

from __future__ import annotations

import contextlib
import functools
import random
import re
import sqlite3
import sys
import time
import types
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any

from gevent import monkey

from .waiting import based_on, pause

__all__ = ["mend"]

#: Seconds between two attempts: the first, and the longest.
_PAUSE = 0.001
_LONGEST_PAUSE = 0.02

_PARAMETERS = (
    "timeout",
    "detect_types",
    "isolation_level",
    "check_same_thread",
    "factory",
    "cached_statements",
    "uri",
)

_TIMEOUT = re.compile(r"\s*pragma\s+(?:\w+\.)?busy_timeout\s*(?:[=(]\s*(-?\d+)[\s);]*)?", re.I)
_NEUTRAL = re.compile(r"\s*(savepoint|release|rollback\s+to)\b", re.I)
_ENDS = re.compile(r"\s*(commit|end|release)\b", re.I)


def mend(module: types.ModuleType) -> None:
    """Have connections that are opened from now on wait in the hub."""
    connect = _connecting(sqlite3.connect)
    for where in (module, sqlite3.dbapi2):
        monkey.patch_item(where, "connect", connect)


def _connecting(native: Any) -> Any:
    def connect(database: Any, *args: Any, **more: Any) -> Any:
        given = {**dict(zip(_PARAMETERS, args, strict=False)), **more}
        factory = given.get("factory", sqlite3.Connection)
        timeout = given.get("timeout", 5.0)
        if len(args) > len(_PARAMETERS) or not isinstance(factory, type) or not timeout > 0:
            return native(database, *args, **more)
        given.update(timeout=0, factory=based_on(Connection, factory))
        connection = native(database, **given)
        connection._patience = timeout
        return connection

    return functools.update_wrapper(connect, native)


def _is_busy(error: Exception) -> bool:
    return str(error) == "database is locked"


class Connection(sqlite3.Connection):
    """Stands below the program's own subclasses of `sqlite3.Connection`, and in its place."""

    __module__ = "sqlite3"

    #: Seconds to wait for a lock.
    _patience = 5.0
    #: Whether the transaction has read or written.
    _touched = False

    def _patiently(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Execute a statement, again and again while SQLite would wait for a lock."""
        in_transaction = self.in_transaction
        if not in_transaction:
            self._touched = False
        try:
            result = function(*arguments)
        except sqlite3.OperationalError as error:
            ends = not arguments or _ENDS.match(arguments[0])
            if not _is_busy(error) or (self._touched and not ends):
                raise
            result = self._try_again(function, *arguments)
        if in_transaction and not self._touched:
            self._touched = not arguments or not _NEUTRAL.match(arguments[0])
        return result

    def _try_again(self, function: Callable[..., Any], *arguments: Any) -> Any:
        end = time.monotonic() + self._patience
        seconds = _PAUSE
        while True:
            pause(seconds * random.uniform(0.5, 1.0))
            seconds = min(1.5 * seconds, _LONGEST_PAUSE)
            try:
                return function(*arguments)
            except sqlite3.OperationalError as error:
                if not _is_busy(error) or time.monotonic() >= end:
                    raise

    def _at_once(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Do what cannot be tried again, once the lock is free, and wait for the rest in C."""
        cursor = sqlite3.Cursor(self)
        if not self.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                self._patiently(cursor.execute, "BEGIN IMMEDIATE")
                cursor.execute("ROLLBACK")
        cursor.execute(f"PRAGMA busy_timeout = {int(1000 * self._patience)}")
        try:
            return function(*arguments)
        finally:
            ((milliseconds,),) = cursor.execute("PRAGMA busy_timeout").fetchall()
            self._patience = milliseconds / 1000
            cursor.execute("PRAGMA busy_timeout = 0")

    def _instead_of(self, sql: str) -> str:
        """Keep a time-out that a program sets by a PRAGMA, out of SQLite's sight."""
        found = _TIMEOUT.fullmatch(sql)
        if found is None:
            return sql
        if found[1] is not None:
            self._patience = max(0, int(found[1])) / 1000
        return f"SELECT {int(1000 * self._patience)} AS timeout"

    def _commits_each_row(self) -> bool:
        autocommit = getattr(self, "autocommit", -1)  # Python 3.12; -1: as it was before
        return not self.in_transaction and (
            self.isolation_level is None if autocommit == -1 else bool(autocommit)
        )

    # What users call

    def cursor(self, factory: Any = sqlite3.Cursor) -> Any:
        return super().cursor(based_on(Cursor, factory))

    def execute(self, *args: Any) -> Any:
        return self._own_cursor().execute(*args)

    def executemany(self, *args: Any) -> Any:
        return self._own_cursor().executemany(*args)

    def executescript(self, *args: Any) -> Any:
        return self._own_cursor().executescript(*args)

    def _own_cursor(self) -> Any:
        # As sqlite3 does it: from Python 3.11 on it does not ask a subclass.
        return Connection.cursor(self) if sys.version_info >= (3, 11) else self.cursor()

    def commit(self) -> None:
        self._patiently(super().commit)
        self._touched = False

    def rollback(self) -> None:
        super().rollback()
        self._touched = False

    def __exit__(self, kind: Any, *rest: Any) -> Any:
        if kind is None:
            try:
                self.commit()
            except BaseException:
                self.rollback()
                raise
        return super().__exit__(kind, *rest)

    if sys.version_info >= (3, 11):

        def blobopen(self, *args: Any, **more: Any) -> Any:
            blobopen = super().blobopen
            return self._patiently(functools.partial(blobopen, **more), *args)


class Cursor(sqlite3.Cursor):
    """Stands below the program's own subclasses of `sqlite3.Cursor`, and in its place."""

    __module__ = "sqlite3"
    connection: Connection

    def execute(self, sql: str, *parameters: Any) -> Any:
        connection = self.connection
        if "busy_timeout" in sql or "BUSY_TIMEOUT" in sql:
            sql = connection._instead_of(sql)
        return connection._patiently(super().execute, sql, *parameters)

    def executemany(self, sql: str, rows: Iterable[Any]) -> Any:
        connection = self.connection
        execute = super().executemany
        if connection._commits_each_row():
            return connection._at_once(execute, sql, rows)
        return connection._patiently(execute, sql, _Rows(rows))

    def executescript(self, script: str) -> Any:
        return self.connection._at_once(super().executescript, script)


class _Rows:
    """Rows to insert that begin anew, when they are asked for again, with the one that failed."""

    def __init__(self, rows: Iterable[Any]) -> None:
        self._rows = iter(rows)
        self._last: list[Any] = []

    def __iter__(self) -> Iterator[Any]:
        for row in chain(self._last, self._rows):
            self._last = [row]
            yield row
