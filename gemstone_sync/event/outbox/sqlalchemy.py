"""Stored events in a database behind SQLAlchemy: PostgreSQL, MariaDB.

SQLAlchemy is imported here only, and this module only when somebody gives an engine or a URL of it.
Its functions wait as the driver waits: in a patched process psycopg 3 and PyMySQL switch greenlets.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from ...broker_urls import shown
from ...errors import StoreFault
from .storage import VERSION, Storage, first_beat, one_line

__all__ = ["SqlAlchemyStorage", "key_of_url"]

_metadata = sa.MetaData()
_id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
#: With a length, or MariaDB's column would end at 65,535 bytes.
_text = sa.LargeBinary(2**32 - 1)

sa.Table(
    "gemstone_outbox",
    _metadata,
    sa.Column("id", _id, primary_key=True, autoincrement=True),
    sa.Column("event", _text, nullable=False),
    sqlite_autoincrement=True,
)
sa.Table(
    "gemstone_outbox_waiting",
    _metadata,
    sa.Column("id", _id, primary_key=True, autoincrement=False),
    sa.Column("transport", sa.String(255), primary_key=True),
    sa.Column("event", _text, nullable=False),
    sa.Column("line", sa.String(64)),
    sa.Column("due", sa.Double()),
    sa.Column("attempts", sa.Integer(), nullable=False),
    sa.Column("reason", sa.Text(), nullable=False),
    sa.Column("time", sa.Double(), nullable=False),
    sa.Index("gemstone_outbox_waiting_due", "transport", "due", "id"),
    sa.Index("gemstone_outbox_waiting_line", "transport", "line", "id"),
)
_relay = sa.Table(
    "gemstone_outbox_relay",
    _metadata,
    sa.Column("id", sa.Integer(), primary_key=True, autoincrement=False),
    sa.Column("version", sa.Integer(), nullable=False),
    sa.Column("owner", sa.String(64), nullable=False),
    sa.Column("beat", _id, nullable=False),
)


class SqlAlchemyStorage(Storage):
    """Events in a database of the user.

    :param database: an engine, whose pool is used for a few milliseconds at a time, or a URL.
    """

    poll_interval = 0.5
    cooperative = True

    def __init__(self, database: sa.Engine | sa.URL) -> None:
        self._own = not isinstance(database, sa.Engine)
        self._url = database if isinstance(database, sa.URL) else database.url
        if isinstance(database, sa.Engine):
            self._engine = database
        self.key = key_of_url(self._url)
        self.name = shown(self._url.render_as_string(hide_password=False))
        self.prepared = False

    @functools.cached_property
    def _engine(self) -> sa.Engine:
        # One reads new events, one what waits, one says that it still does.
        return sa.create_engine(
            self._url, pool_size=3, max_overflow=0, pool_timeout=5, pool_pre_ping=True
        )

    def prepare(self) -> None:
        with self._mapped():
            try:
                version = self._make_tables()
            except SQLAlchemyError:
                # Another process makes them at the same moment: then they are there now.
                version = self._make_tables()
        self._check_version(version)
        self.prepared = True

    def close(self) -> None:
        if self._own and "_engine" in self.__dict__:
            with contextlib.suppress(Exception):
                self._engine.dispose()

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Callable[..., Sequence[Any]]]:
        if not self.prepared:
            self.prepare()
        with self._mapped(), self._engine.connect() as connection:
            yield lambda statement, **values: connection.execute(
                sa.text(statement), values
            ).fetchall()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[Callable[[str, Any], int]]:
        def execute(statement: str, values: Any) -> int:
            if values == []:
                return 0
            return connection.execute(sa.text(statement), values).rowcount

        with self._mapped(), self._engine.begin() as connection:
            yield execute

    def _make_tables(self) -> int:
        _metadata.create_all(self._engine)
        with self._engine.begin() as connection:
            version = connection.scalar(sa.select(_relay.c.version))
            if version is None:
                first = sa.insert(_relay).values(id=1, version=VERSION, owner="", beat=first_beat())
                connection.execute(first)
        return version or VERSION

    @contextlib.contextmanager
    def _mapped(self) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, OSError, ImportError) as error:
            # Tables that somebody has dropped are made again.
            self.prepared = False
            cause: Any = getattr(error, "orig", None) or error
            raise StoreFault(f"{self.name}: {one_line(cause)}") from error


def key_of_url(url: sa.URL) -> Hashable:
    """Tell one database from another: not by who connects, nor with which driver."""
    return (url.get_backend_name(), url.host, url.port, url.database)
