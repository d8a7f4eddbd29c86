"""Handled events, remembered in a SQLite file: `SqliteProcessedEvents`."""

from __future__ import annotations

import itertools
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

from ...errors import ServiceConfigurationError
from ...sqlite import GroupCommit, SqliteFile
from .base import Claim, ProcessedEvents
from .window import DAY, check_window

__all__ = ["SqliteProcessedEvents"]

# An owner of NULL says that it was handled.
_TABLE = """
CREATE TABLE IF NOT EXISTS gemstone_processed (
    key TEXT NOT NULL PRIMARY KEY, owner TEXT, until REAL NOT NULL) WITHOUT ROWID
"""
_INDEX = "CREATE INDEX IF NOT EXISTS gemstone_processed_until ON gemstone_processed (until)"
_CLAIM = """
INSERT INTO gemstone_processed (key, owner, until) VALUES (?, ?, ?)
ON CONFLICT (key) DO UPDATE SET owner = excluded.owner, until = excluded.until
WHERE gemstone_processed.until <= ? OR gemstone_processed.owner = excluded.owner
"""
_OWNER = "SELECT owner FROM gemstone_processed WHERE key = ?"
_RENEW = "UPDATE gemstone_processed SET until = ? WHERE key = ? AND owner = ?"
_DONE = """
INSERT INTO gemstone_processed (key, owner, until) VALUES (?, NULL, ?)
ON CONFLICT (key) DO UPDATE SET owner = NULL, until = excluded.until
"""
_RELEASE = "DELETE FROM gemstone_processed WHERE key = ? AND owner = ?"
_SWEEP = """
DELETE FROM gemstone_processed WHERE key IN
    (SELECT key FROM gemstone_processed WHERE until <= ? ORDER BY until LIMIT 200)
"""
#: Claims between two sweeps: each takes away more than came since the one before.
_SWEEP_EVERY = 50


_Run: TypeAlias = Callable[[sqlite3.Connection], Any]


class _Write(NamedTuple):
    """A change; `durable` if it is to outlive a failure of the power, not only of the process."""

    run: _Run
    durable: bool


class SqliteProcessedEvents(ProcessedEvents):
    """Remembers in a SQLite file what was handled, for all processes of the machine that use it.

    :param path: the file; it is made when it is not there. It may be the user's own database: then
        `record` makes a handler's effect and its mark one.
    :param window: seconds for which an event is remembered.
    :param timeout: seconds to wait while another process writes to the file.
    :raises ServiceConfigurationError: when one of them cannot be used.

    What `done` has returned for outlives a failure of the power; a claim outlives the process.
    """

    def __init__(self, path: str | os.PathLike[str], window: float = DAY, *, timeout: float = 5):
        self._path = os.fspath(path)
        if not isinstance(self._path, str) or not self._path or self._path.startswith(":"):
            raise ServiceConfigurationError(f"path is that of a file, not {path!r}")
        if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or timeout <= 0:
            raise ServiceConfigurationError(f"timeout is seconds above 0, not {timeout!r}")
        self._window = check_window(window)
        self._timeout = timeout
        self._file = SqliteFile(self._path, prepare=_create_table, busy=timeout)
        self._writes: GroupCommit[_Write] = GroupCommit(self._commit, self._path)
        self._claims = itertools.count(1)

    def __repr__(self) -> str:
        return f"SqliteProcessedEvents({self._path!r})"

    def claim(self, key: str, owner: str, lease: float) -> Claim:
        key, sweeps = _text(key), next(self._claims) % _SWEEP_EVERY == 0

        def run(connection: sqlite3.Connection) -> Claim:
            now = time.time()
            if sweeps:
                connection.execute(_SWEEP, (now,))
            if connection.execute(_CLAIM, (key, owner, now + lease, now)).rowcount == 1:
                return Claim.OURS
            (claimed_by,) = connection.execute(_OWNER, (key,)).fetchone()
            return Claim.DONE if claimed_by is None else Claim.BUSY

        return self._write(run)  # type: ignore[no-any-return]

    def renew(self, key: str, owner: str, lease: float) -> None:
        values = (_text(key), owner)
        self._write(lambda connection: connection.execute(_RENEW, (time.time() + lease, *values)))

    def done(self, key: str, owner: str) -> None:
        values = (_text(key), time.time() + self._window)
        self._write(lambda connection: connection.execute(_DONE, values), durable=True)

    def release(self, key: str, owner: str) -> None:
        values = (_text(key), owner)
        self._write(lambda connection: connection.execute(_RELEASE, values))

    def record(self, connection: sqlite3.Connection, key: str) -> None:
        """As `done`, in the user's own transaction: the mark is there if and only if it commits.

        ::

            with sqlite3.connect("shop.db") as connection:
                connection.execute("INSERT INTO payments ...")
                store.record(connection, key)

        :param connection: one to the same file, with a transaction open or one that begins by
            itself, as Python's do by default.
        :raises ValueError: when it is none, so that effect and mark would not be one.
        :raises sqlite3.Error: what the connection raises.
        """
        alone = getattr(connection, "autocommit", None) is True
        if not connection.in_transaction and (alone or connection.isolation_level is None):
            raise ValueError(
                "this connection commits each statement by itself: execute BEGIN first"
            )
        files = {name: file for _, name, file in connection.execute("PRAGMA database_list")}
        if not _is_same(files.get("main", ""), self._path):
            raise ValueError(
                f"the connection is to {files.get('main') or 'memory'!r}, and handled events are "
                f"remembered in {self._path!r}: one transaction needs one file"
            )
        if not connection.in_transaction:
            connection.execute("BEGIN IMMEDIATE")
        _create_table(connection)  # there is none where nothing was claimed yet
        connection.execute(_DONE, (_text(key), time.time() + self._window))

    def close(self) -> None:
        self._file.close()

    def _write(self, run: _Run, durable: bool = False) -> Any:
        return self._writes.write(_Write(run, durable), 3 * self._timeout)

    def _commit(self, writes: Sequence[_Write], limit: float) -> list[Any]:
        durable = any(write.durable for write in writes)
        with self._file.writing(durable=durable, limit=limit) as connection:
            return [write.run(connection) for write in writes]


def _create_table(connection: sqlite3.Connection) -> None:
    connection.execute(_TABLE)
    connection.execute(_INDEX)


def _text(key: str) -> str:
    """What SQLite can take: text without lone surrogates."""
    return key if key.isascii() else key.encode("utf-8", "backslashreplace").decode()


def _is_same(file: str, path: str) -> bool:
    try:
        return os.path.samefile(file, path)
    except OSError:
        return False
