"""From what users give (paths, URLs, engines, connections) to the databases that are meant.

SQLAlchemy is optional: nothing here imports it before something of it is given.
"""

from __future__ import annotations

import os
import re
import sqlite3
import sys
import urllib.parse
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, NamedTuple

from ...broker_urls import shown
from ...errors import ServiceConfigurationError
from .box import Box, one_line
from .sqlite_box import SqliteBox, key_of

if TYPE_CHECKING:
    import sqlalchemy as sa

__all__ = ["Listed", "database_of", "engine_of", "file_of", "listed", "location_of"]

#: Those behind which Python's own sqlite3 reads the file as well.
_SQLITE_DRIVERS = ("sqlite", "sqlite+pysqlite")
_SQLITE_URL = re.compile(r"sqlite(?:\+pysqlite)?:///(.*)", re.DOTALL)


class Listed(NamedTuple):
    """A database that the user has named.

    :ivar make: makes its box, once in each process that uses it.
    """

    key: Hashable
    make: Callable[[], Box]


def location_of(location: object) -> str:
    """The path of the outbox's own file.

    :raises ServiceConfigurationError: for what is no path of a file.
    """
    wanted = "outbox is the path of a file, such as 'events.db'"
    if not isinstance(location, (str, os.PathLike)) or not os.fspath(location):
        raise ServiceConfigurationError(f"{wanted}, not {location!r}")
    text = os.fsdecode(location)
    if "://" in text:
        found = _SQLITE_URL.fullmatch(text)
        if found is None:
            raise ServiceConfigurationError(
                f"{wanted}, not a URL of another database: list that in outbox_databases"
            )
        text = found[1].partition("?")[0]
    return file_path(text, wanted)


def listed(database: Any) -> Listed:
    """What is meant by one entry of `databases`.

    :raises ServiceConfigurationError: for what is no database, or one that lives in memory.
    """
    wanted = "databases are paths of SQLite files, SQLAlchemy engines and SQLAlchemy URLs"
    if isinstance(database, (str, os.PathLike)):
        text = os.fsdecode(database)
        found = _SQLITE_URL.fullmatch(text)
        if found is not None:
            return _sqlite(file_path(found[1].partition("?")[0], wanted))
        if "://" not in text:
            return _sqlite(file_path(text, wanted))
        database = _parsed(text)
    elif _is_sqlalchemy(database, "URL"):
        _check_driver(database)
    elif not _is_sqlalchemy(database, "Engine"):
        raise ServiceConfigurationError(f"{wanted}, not {type(database).__name__}")
    url = database if _is_sqlalchemy(database, "URL") else database.url
    if url.drivername in _SQLITE_DRIVERS:
        return _sqlite(file_path(url.database, wanted))
    from .sqlalchemy_box import SqlAlchemyBox, key_of_url

    return Listed(key_of_url(url), lambda: SqlAlchemyBox(database))


def database_of(connection: Any) -> Hashable:
    """The key of the database behind a connection or session that `transaction` was given.

    :raises ServiceConfigurationError: for what is neither, or a database in memory.
    """
    if isinstance(connection, sqlite3.Connection):
        return key_of(file_of(connection))
    engine = engine_of(connection)
    if engine.url.drivername in _SQLITE_DRIVERS:
        return key_of(file_path(engine.url.database, "transaction() needs a file"))
    from .sqlalchemy_box import key_of_url

    return key_of_url(engine.url)


def file_of(connection: sqlite3.Connection) -> str:
    """The path of the file behind an sqlite3 connection."""
    cursor = connection.cursor()
    # Whatever the user has the connection make of rows and texts.
    cursor.row_factory = None
    for row in cursor.execute("PRAGMA database_list").fetchall():
        if os.fsdecode(row[1]) == "main":
            return file_path(os.fsdecode(row[2] or ""), "transaction() needs a file")
    raise ServiceConfigurationError("the connection has no main database")


def engine_of(connection: Any) -> sa.Engine:
    """The engine of a SQLAlchemy connection or session."""
    if _is_sqlalchemy(connection, "Connection"):
        return connection.engine  # type: ignore[no-any-return]
    if not _is_sqlalchemy(connection, "orm.Session", "orm.scoped_session"):
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


def file_path(database: str | None, wanted: str) -> str:
    """The absolute path of an SQLite file.

    :param database: a path, or SQLite's ``file:`` form.
    """
    query = ""
    if database is not None and database.startswith("file:"):
        parts = urllib.parse.urlsplit(database)
        database, query = urllib.parse.unquote(parts.path), parts.query
    if not database or database == ":memory:" or "mode=memory" in query:
        raise ServiceConfigurationError(f"{wanted}: a database in memory is seen by nobody else")
    return os.path.abspath(database)


def _sqlite(path: str) -> Listed:
    return Listed(key_of(path), lambda: SqliteBox(path))


def _parsed(text: str) -> sa.URL:
    try:
        import sqlalchemy as sa
    except ImportError as error:
        raise ServiceConfigurationError(
            "a database is given by a URL, and SQLAlchemy is not installed: pip install sqlalchemy"
        ) from error
    try:
        url = sa.make_url(text)
    except sa.exc.ArgumentError as error:
        # Without the text: it may hold a password.
        raise ServiceConfigurationError("the URL of a database cannot be read") from error
    _check_driver(url)
    return url


def _check_driver(url: sa.URL) -> None:
    """Say at once what would otherwise be said when the first event is to be sent."""
    from sqlalchemy.exc import ArgumentError

    try:
        url.get_dialect().import_dbapi()
    except (ArgumentError, ImportError) as error:
        where = shown(url.render_as_string(hide_password=False))
        raise ServiceConfigurationError(f"the database {where}: {one_line(error)}") from error


def _is_sqlalchemy(value: object, *names: str) -> bool:
    """Is it of one of these classes of SQLAlchemy? Without importing what nobody has imported."""
    for name in names:
        module, _, attribute = f"sqlalchemy.{name}".rpartition(".")
        if module in sys.modules:
            kind = getattr(sys.modules[module], attribute, None)
            if isinstance(kind, type) and isinstance(value, kind):
                return True
    return False
