"""The state file: what a registry knows, in SQLite, so that a restart does not lose it.

Only what changes is written (an entry that is new or has gone), never a ping: when an entry is read
back it gets its whole life again, so its last ping does not matter. `StateFile.flush` returns when
the change stands in the file (in WAL mode, without waiting for the disk): killing the process loses
nothing that was answered.

One greenlet writes, in a real thread, so a slow disk holds up nobody but the calls that wait for
it. A write that fails is logged once; the registry goes on in memory, and every few seconds the
whole state is written anew until that succeeds.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeAlias

import gevent
from gevent.event import Event

from ..discovery.directory import Registration
from ..errors import ServiceStartError
from ..sqlite import identity_of, make_private

__all__ = ["StateFile"]

#: Seconds between two attempts to write after one that failed.
RETRY_SECONDS = 5.0
#: Marks the file as a registry's ("gsrg"), in SQLite's header.
APPLICATION_ID = 0x67737267
#: Counted up when the tables change.
VERSION = 1

_TABLE = """
CREATE TABLE IF NOT EXISTS entries (
    name TEXT NOT NULL,
    url TEXT NOT NULL,
    instance TEXT NOT NULL,
    interval REAL NOT NULL,
    PRIMARY KEY (name, url, instance)
) WITHOUT ROWID
"""
_INSERT = "INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?)"
_DELETE = "DELETE FROM entries WHERE name = ? AND url = ? AND instance = ?"

#: (name, url, instance); an instance that did not say is "".
_Key: TypeAlias = tuple[str, str, str]


class StateFile:
    """The file of one running registry.

    :param path: where; it is made when it does not exist, its folder is not.
    :param everything: what is known now, for writing the whole state.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        everything: Callable[[], Iterable[Registration]],
        logger: logging.Logger,
    ) -> None:
        self._path = os.path.abspath(path)
        self._everything = everything
        self._logger = logger
        self._connection: sqlite3.Connection | None = None
        #: Of the file that is open: another one may stand at the path.
        self._identity: tuple[int, int] | None = None
        #: Changes not yet written: the interval of an entry, or None for one that has gone.
        self._pending: dict[_Key, float | None] = {}
        self._written = Event()  # of what is pending
        self._wake = Event()
        self._behind = False
        self._closing = False
        self._writer: gevent.Greenlet[..., None] | None = None

    def open(self) -> list[Registration]:
        """Open or make the file, and read what is in it.

        :raises ServiceStartError: when it cannot be used; the text says why.
        """
        try:
            self._connection = connection = self._connect()
            rows = connection.execute("SELECT name, url, instance, interval FROM entries")
            found = [Registration(n, u, i or None, float(s)) for n, u, i, s in rows]
        except (sqlite3.Error, OSError, TypeError, ValueError) as error:
            self._disconnect()
            raise ServiceStartError(
                f"the state file {self._path} cannot be used: {_reason(error)}"
            ) from error
        self._writer = gevent.spawn(self._write_on)
        return found

    def note(self, registration: Registration, present: bool) -> None:
        """Take a change, to be written by the next `flush`. Does not block."""
        key = (registration.name, registration.url, registration.instance or "")
        self._pending[key] = registration.interval if present else None

    def flush(self) -> None:
        """Return when every change noted so far is in the file, or cannot be written now."""
        if self._pending and not self._behind and self._writer is not None:
            written = self._written
            self._wake.set()
            written.wait()

    def close(self) -> None:
        """Write what is left, and close the file."""
        self._closing = True
        self._wake.set()
        if self._writer is not None:
            self._writer.join()
            self._writer = None
        self._disconnect()

    # The writer

    def _write_on(self) -> None:
        while True:
            self._wake.wait(RETRY_SECONDS)
            self._wake.clear()
            if not self._behind and self._identity != identity_of(self._path):
                self._behind = True
                self._logger.error("the state file %s is gone: it is made anew", self._path)
            if self._pending or self._behind:
                self._write_pending()
            if self._closing:
                return

    def _write_pending(self) -> None:
        """Write the changes, or everything when an earlier change could not be written."""
        changes, self._pending = self._pending, {}
        written, self._written = self._written, Event()
        work: Callable[[], None]
        if self._behind:
            entries = list(self._everything())
            work = lambda: self._rewrite(entries)  # noqa: E731
        else:
            work = lambda: self._write(changes)  # noqa: E731
        error = gevent.get_hub().threadpool.apply(_error_of, (work,))
        if error is not None and not self._behind:
            self._logger.error(
                "the state file %s cannot be written: %s; the registry goes on in memory and "
                "tries again every %g s",
                self._path,
                _reason(error),
                RETRY_SECONDS,
            )
        elif error is None and self._behind:
            self._logger.warning("the state file %s is written again", self._path)
        self._behind = error is not None
        written.set()

    # In a real thread

    def _write(self, changes: dict[_Key, float | None]) -> None:
        assert self._connection is not None
        gone = [key for key, interval in changes.items() if interval is None]
        here = [(*key, interval) for key, interval in changes.items() if interval is not None]
        with _transaction(self._connection):
            self._connection.executemany(_DELETE, gone)
            self._connection.executemany(_INSERT, here)

    def _rewrite(self, entries: Sequence[Registration]) -> None:
        """From scratch, over a new connection: an old one may be what is broken."""
        self._disconnect()
        self._connection = connection = self._connect()
        with _transaction(connection):
            connection.execute("DELETE FROM entries")
            connection.executemany(_INSERT, [(n, u, i or "", s) for n, u, i, s in entries])

    def _connect(self) -> sqlite3.Connection:
        connection = _connect(self._path)
        self._identity = identity_of(self._path)
        return connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):  # the last checkpoint found the disk full
                connection.close()


def _error_of(work: Callable[[], None]) -> Exception | None:
    """What `work` raises: gevent would print the traceback of an exception in its thread."""
    try:
        work()
    except (sqlite3.Error, OSError, ValueError) as error:
        return error
    return None


def _connect(path: str) -> sqlite3.Connection:
    """Open the file, and see that it is a registry's, of this version, and can be written."""
    if not os.path.isdir(os.path.dirname(path)):
        raise ValueError(f"there is no folder {os.path.dirname(path)}")
    with contextlib.suppress(OSError):  # SQLite says it better
        make_private(path)
    connection = sqlite3.connect(path, timeout=1, isolation_level=None, check_same_thread=False)
    try:
        # Two registries on one file would delete each other's entries.
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        _check_is_ours(connection)
        connection.execute("PRAGMA journal_mode = WAL")
        # A killed process loses nothing; a machine without power, the last moments.
        connection.execute("PRAGMA synchronous = NORMAL")
        with _transaction(connection):  # a write, even to a file that is complete
            connection.execute(_TABLE)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {VERSION}")
        os.chmod(path, 0o600)  # one of an earlier version
    except BaseException:
        connection.close()
        raise
    return connection


def _check_is_ours(connection: sqlite3.Connection) -> None:
    is_empty = not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if application != APPLICATION_ID and not (is_empty and application == version == 0):
        raise ValueError("it is a database of something else")
    if application == APPLICATION_ID and version != VERSION:
        raise ValueError(f"it is of version {version}, this registry writes version {VERSION}")
    fault = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if fault != "ok":
        raise ValueError(f"it is damaged ({fault}); move it away to begin with an empty one")


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):  # SQLite rolls back by itself when disks fail
            connection.execute("ROLLBACK")
        raise


def _reason(error: Exception) -> str:
    text = str(error)
    if text == "database is locked":
        return "another process has it open"
    return text
