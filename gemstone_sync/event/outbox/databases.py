"""The user's own databases: which one is meant, and events as rows in the user's transaction.

Nothing here begins, commits or rolls back. SQLAlchemy is optional: it is not imported before
something of it is given.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import math
import os
import re
import sqlite3
import sys
import urllib.parse
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ...broker_urls import shown
from ...errors import EventNotDelivered, ServiceConfigurationError
from ..envelope import Envelope
from .sqlite import CREATE_EVENTS, SqliteStorage, key_of
from .storage import INSERT, Storage, one_line

if TYPE_CHECKING:
    import sqlalchemy as sa

__all__ = ["Transaction", "current_transaction", "database_of", "location_of", "storage_of"]

#: The innermost `Outbox.transaction` around the running code.
current_transaction: contextvars.ContextVar[Transaction | None] = contextvars.ContextVar(
    "gemstone_sync_outbox_transaction", default=None
)

#: Those behind which Python's own sqlite3 reads the file as well.
_SQLITE_DRIVERS = ("sqlite", "sqlite+pysqlite")
_SQLITE_URL = re.compile(r"sqlite(?:\+pysqlite)?:///(.*)", re.DOTALL)


class Transaction:
    """Takes the events that are emitted inside ``with outbox.transaction(connection)``.

    :param outbox: the one that sends them; another service in the process has its own.
    :param connection: an sqlite3 connection, or a SQLAlchemy connection or session.
    :ivar stored: how many events were stored.
    """

    def __init__(self, outbox: Any, connection: Any) -> None:
        self.outbox = outbox
        self.outer = current_transaction.get()
        #: False after the block: a greenlet that was spawned in it may still run.
        self.open = True
        self.stored = 0
        self._connection = connection
        self._process = os.getpid()

    def store(self, envelopes: Sequence[Envelope], timeout: float | None = None) -> None:
        """Insert events into the user's database, in the user's current transaction.

        :param timeout: seconds to wait for a locked SQLite file, if the connection's own time is
            longer. What a server lets wait belongs to the user's engine.
        :raises EventNotDelivered: when the database refuses; the user's transaction goes on, as far
            as the database allows that.
        :raises ServiceConfigurationError: when there is no transaction that could be rolled back.
        """
        if not envelopes:
            return
        if os.getpid() != self._process:
            raise ServiceConfigurationError(
                "this transaction was begun before the process was forked: begin one in the child, "
                "over a connection of its own"
            )
        rows = [{"event": envelope.to_json()} for envelope in envelopes]
        if isinstance(self._connection, sqlite3.Connection):
            _insert_sqlite3(self._connection, rows, timeout)
        else:
            _insert_sqlalchemy(self._connection, rows, timeout)
        self.stored += len(rows)


def _insert_sqlite3(
    connection: sqlite3.Connection, rows: Sequence[dict[str, bytes]], timeout: float | None
) -> None:
    _refuse_autocommit(connection)
    with _waiting_for(timeout, connection):
        try:
            cursor = connection.cursor()
            # In SQLite a table is made inside a transaction like everything else, and since Python
            # 3.6 the module commits nothing before it. Where it is there, nothing is written.
            cursor.execute(CREATE_EVENTS)
            cursor.executemany(INSERT, rows)
            cursor.close()
        except sqlite3.Error as error:
            raise _not_stored(error) from error


def _insert_sqlalchemy(
    target: Any, rows: Sequence[dict[str, bytes]], timeout: float | None
) -> None:
    import sqlalchemy as sa
    from sqlalchemy.exc import SQLAlchemyError

    try:
        connection = target if isinstance(target, sa.Connection) else target.connection()
        raw = connection.connection.dbapi_connection
        _refuse_autocommit(raw)
        with _waiting_for(timeout, raw):
            if connection.dialect.name == "sqlite":
                connection.exec_driver_sql(CREATE_EVENTS)
            connection.execute(sa.text(INSERT), rows)
    except SQLAlchemyError as error:
        raise _not_stored(getattr(error, "orig", None) or error) from error


@contextlib.contextmanager
def _waiting_for(timeout: float | None, connection: Any) -> Iterator[None]:
    """Have SQLite wait so many seconds for a lock at most, and then as long as before."""
    if timeout is None or not isinstance(connection, sqlite3.Connection):
        yield
        return
    cursor = connection.cursor()
    cursor.row_factory = None
    (before,) = cursor.execute("PRAGMA busy_timeout").fetchone()
    shorter = min(before, math.ceil(timeout * 1000))
    cursor.execute(f"PRAGMA busy_timeout = {shorter}")
    try:
        yield
    finally:
        cursor.execute(f"PRAGMA busy_timeout = {before}")
        cursor.close()


def _refuse_autocommit(connection: Any) -> None:
    """Refuse a connection on which a rollback takes nothing back: each statement commits."""
    if isinstance(connection, sqlite3.Connection):
        # From Python 3.12 on `autocommit` may stand in place of isolation_level.
        by_itself = getattr(connection, "autocommit", -1)
        commits = connection.isolation_level is None if by_itself == -1 else by_itself is True
        commits = commits and not connection.in_transaction
    else:
        asked = getattr(connection, "get_autocommit", None)
        commits = (asked() if callable(asked) else getattr(connection, "autocommit", None)) is True
    if commits:
        raise ServiceConfigurationError(
            "the connection is in autocommit mode and no transaction was begun: an event stored "
            "now could not be rolled back. Begin one first"
        )


def _not_stored(error: BaseException) -> EventNotDelivered:
    return EventNotDelivered(f"not stored with the transaction: {one_line(error)}")


# From paths, URLs, engines and connections to databases


def location_of(location: object) -> str:
    """Find the path of the outbox's own file.

    :raises ServiceConfigurationError: for what is no path of a file.
    """
    wanted = "outbox is the path of a file, such as 'events.db'"
    if not isinstance(location, (str, os.PathLike)) or not os.fspath(location):
        raise ServiceConfigurationError(f"{wanted}, not {location!r}")
    path = _path_in(os.fsdecode(location))
    if path is None:
        raise ServiceConfigurationError(
            f"{wanted}, not a URL of another database: list that in outbox_databases"
        )
    return _file_path(path, wanted)


def storage_of(database: Any) -> Callable[[], Storage]:
    """Find what makes the storage of a path, a URL or an engine, in each process that uses it.

    :raises ServiceConfigurationError: for what is no database, or one that lives in memory.
    """
    wanted = "databases are paths of SQLite files, SQLAlchemy engines and SQLAlchemy URLs"
    if isinstance(database, (str, os.PathLike)):
        path = _path_in(os.fsdecode(database))
        if path is not None:
            return functools.partial(SqliteStorage, _file_path(path, wanted))
        database = _parsed(os.fsdecode(database))
    elif not _is_sqlalchemy(database, "URL", "Engine"):
        raise ServiceConfigurationError(f"{wanted}, not {type(database).__name__}")
    url = database.url if _is_sqlalchemy(database, "Engine") else database
    if url.drivername in _SQLITE_DRIVERS:
        return functools.partial(SqliteStorage, _file_path(url.database, wanted))
    if database is url:
        _check_driver(url)
    from .sqlalchemy import SqlAlchemyStorage

    return functools.partial(SqlAlchemyStorage, database)


def database_of(connection: Any) -> tuple[Hashable, str | None]:
    """Find the key of the database behind a connection or session; and its path, for sqlite3.

    :raises ServiceConfigurationError: for what is neither, or a database in memory.
    """
    wanted = "transaction() needs a file"
    if isinstance(connection, sqlite3.Connection):
        cursor = connection.cursor()
        # Whatever the user has the connection make of rows and texts.
        cursor.row_factory = None
        _, _main, file = cursor.execute("PRAGMA database_list").fetchone()
        path = _file_path(os.fsdecode(file or ""), wanted)
        return key_of(path), path
    url = _engine_of(connection).url
    if url.drivername in _SQLITE_DRIVERS:
        return key_of(_file_path(url.database, wanted)), None
    from .sqlalchemy import key_of_url

    return key_of_url(url), None


def _engine_of(connection: Any) -> sa.Engine:
    if _is_sqlalchemy(connection, "Connection"):
        return connection.engine  # type: ignore[no-any-return]
    if not _is_sqlalchemy(connection, "Session", "scoped_session", module="sqlalchemy.orm"):
        raise ServiceConfigurationError(
            "transaction() takes a sqlite3 connection, or a SQLAlchemy connection or session, "
            f"not {type(connection).__name__}"
        )
    from sqlalchemy.exc import SQLAlchemyError

    try:
        return connection.get_bind().engine  # type: ignore[no-any-return]
    except SQLAlchemyError as error:
        raise ServiceConfigurationError(
            "the session has several engines or none: give transaction() the connection that is "
            f"meant, session.connection(...) ({one_line(error)})"
        ) from error


def _path_in(text: str) -> str | None:
    """Take a path, or that in the URL of an SQLite file; None for another URL."""
    found = _SQLITE_URL.fullmatch(text)
    if found is not None:
        return found[1].partition("?")[0]
    return None if "://" in text else text


def _file_path(database: str | None, wanted: str) -> str:
    """Make the absolute path of an SQLite file from a path, or SQLite's ``file:`` form."""
    query = ""
    if database is not None and database.startswith("file:"):
        parts = urllib.parse.urlsplit(database)
        database, query = urllib.parse.unquote(parts.path), parts.query
    if not database or database == ":memory:" or "mode=memory" in query:
        raise ServiceConfigurationError(f"{wanted}: a database in memory is seen by nobody else")
    return os.path.abspath(database)


def _parsed(text: str) -> sa.URL:
    try:
        import sqlalchemy as sa
    except ImportError as error:
        raise ServiceConfigurationError(
            "a database is given by a URL, and SQLAlchemy is not installed: pip install sqlalchemy"
        ) from error
    try:
        return sa.make_url(text)
    except sa.exc.ArgumentError as error:
        # Without the text: it may hold a password.
        raise ServiceConfigurationError("the URL of a database cannot be read") from error


def _check_driver(url: sa.URL) -> None:
    """Say at once what would otherwise be said when the first event is to be sent."""
    from sqlalchemy.exc import ArgumentError

    try:
        url.get_dialect().import_dbapi()
    except (ArgumentError, ImportError) as error:
        where = shown(url.render_as_string(hide_password=False))
        raise ServiceConfigurationError(f"the database {where}: {one_line(error)}") from error


def _is_sqlalchemy(value: object, *names: str, module: str = "sqlalchemy") -> bool:
    """Tell whether it is of one of these classes, without importing what nobody has imported."""
    kinds = (getattr(sys.modules.get(module), name, None) for name in names)
    return isinstance(value, tuple(kind for kind in kinds if kind is not None))
