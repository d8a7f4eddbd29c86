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

import logging
import os
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

import gevent
from gevent.event import Event

from ..discovery.directory import Registration
from ..errors import ServiceStartError, StoreFault
from ..sqlite import SqliteFile

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
        # Two registries on one file would delete each other's entries: so it is this one's alone.
        self._file = SqliteFile(
            os.path.abspath(path), wal=True, exclusive=True, prepare=self._prepare, busy=1.0
        )
        self._path = self._file.path
        #: Of the file that has all entries.
        self._generation = 0
        self._everything = everything
        self._logger = logger
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
            with self._file.writing(durable=False) as connection:
                connection.execute(f"PRAGMA user_version = {VERSION}")  # can it be written?
                rows = connection.execute("SELECT name, url, instance, interval FROM entries")
                found = [Registration(n, u, i or None, float(s)) for n, u, i, s in rows.fetchall()]
        except (StoreFault, TypeError, ValueError) as error:
            self._file.close()
            raise ServiceStartError(
                f"the state file {self._path} cannot be used: {self._reason(error)}"
            ) from error
        self._generation = self._file.generation
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
        self._file.close()

    # The writer

    def _write_on(self) -> None:
        while True:
            self._wake.wait(RETRY_SECONDS)
            self._wake.clear()
            if not self._behind and not self._file.is_current():
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
                self._reason(error),
                RETRY_SECONDS,
            )
        elif error is None and self._behind:
            self._logger.warning("the state file %s is written again", self._path)
        self._behind = error is not None
        written.set()

    # In a real thread

    def _write(self, changes: dict[_Key, float | None]) -> None:
        gone = [key for key, interval in changes.items() if interval is None]
        here = [(*key, interval) for key, interval in changes.items() if interval is not None]
        # A killed process loses nothing; a machine without power, the last moments.
        with self._file.writing(durable=False) as connection:
            if self._file.generation != self._generation:
                raise StoreFault(f"{self._path} was removed or replaced just now")
            connection.executemany(_DELETE, gone)
            connection.executemany(_INSERT, here)

    def _rewrite(self, entries: Sequence[Registration]) -> None:
        """Write everything anew, over a new connection: an old one may be what is broken."""
        self._file.close()
        with self._file.writing(durable=False) as connection:
            connection.execute("DELETE FROM entries")
            connection.executemany(_INSERT, [(n, u, i or "", s) for n, u, i, s in entries])
        self._generation = self._file.generation

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Ensure that the file is a registry's, of this version.

        :raises ValueError: when it is not.
        """
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
        connection.execute(_TABLE)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {VERSION}")
        os.chmod(self._path, 0o600)  # one of an earlier version

    def _reason(self, error: Exception) -> str:
        text = str(error).removeprefix(self._path).lstrip(": ")
        return "another process has it open" if text.startswith("is locked") else text


def _error_of(work: Callable[[], None]) -> Exception | None:
    """Return what `work` raises: gevent would print the traceback of one in its thread."""
    try:
        work()
    except (OSError, ValueError) as error:
        return error
    return None
