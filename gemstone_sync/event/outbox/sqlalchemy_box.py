"""Stored events in a database behind SQLAlchemy: PostgreSQL, MariaDB.

SQLAlchemy is imported here only, and this module only when somebody gives an engine or a URL of it.
Its functions wait as the driver waits: in a patched process psycopg 3 and PyMySQL switch greenlets.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from ...broker_urls import shown
from ...errors import StoreFault
from .box import COUNT, VERSION, WAITING_NOW, Box, Execute, Lease, Row, one_line
from .sqlite_box import newer

__all__ = ["SqlAlchemyBox", "events_table", "key_of_url"]

T = TypeVar("T")

_metadata = sa.MetaData()
_id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
#: With a length, or MariaDB's column would end at 65,535 bytes.
_text = sa.LargeBinary(2**32 - 1)

events_table = sa.Table(
    "gemstone_outbox",
    _metadata,
    sa.Column("id", _id, primary_key=True, autoincrement=True),
    sa.Column("event", _text, nullable=False),
    sqlite_autoincrement=True,
)
_waiting = sa.Table(
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


class SqlAlchemyBox(Box):
    """Events in a database of the user.

    :param database: an engine, whose pool is used for a few milliseconds at a time, or a URL.
    """

    poll_interval = 0.5
    cooperative = True

    def __init__(self, database: sa.Engine | sa.URL | str) -> None:
        self._engine: sa.Engine | None = None
        self._url: sa.URL | None = None
        if isinstance(database, sa.Engine):
            self._engine, url = database, database.url
        else:
            self._url = url = sa.make_url(database)
        self.key = key_of_url(url)
        self.name = shown(url.render_as_string(hide_password=False))
        self.prepared = False

    def prepare(self) -> None:
        with self._mapped():
            engine = self._connected()
            for last in (False, True):
                try:
                    _metadata.create_all(engine)
                    self._enter_version(engine)
                    break
                except SQLAlchemyError:
                    # Another process makes them at the same moment: then they are there now.
                    if last:
                        raise
            with engine.connect() as connection:
                version = connection.execute(sa.select(_relay.c.version)).scalar_one()
        if version > VERSION:
            raise StoreFault(newer(self.name, version))
        self.prepared = True

    def has_events(self) -> bool:
        self._be_prepared()
        with self._connection() as connection:
            query = sa.select(events_table.c.id).limit(1)
            if connection.execute(query).first() is not None:
                return True
            waiting = connection.execute(sa.text(WAITING_NOW), {"now": time.time()})
            return waiting.first() is not None

    def read(self, rows: int, size: int) -> list[Row]:
        ids, length = [], 0
        id, event = events_table.c.id, events_table.c.event
        with self._connection() as connection:
            # Lengths first: drivers read the whole answer, however little of it is wanted.
            query = sa.select(id, sa.func.length(event)).order_by(id).limit(rows)
            for row in connection.execute(query):
                ids.append(row[0])
                length += row[1]
                if length >= size:
                    break
            if not ids:
                return []
            found = connection.execute(sa.select(id, event).where(id.in_(ids)).order_by(id))
            return [Row(row[0], bytes(row[1])) for row in found]

    def delete(self, ids: Sequence[int]) -> None:
        with self._transaction() as connection:
            connection.execute(sa.delete(events_table).where(events_table.c.id.in_(list(ids))))

    def count(self) -> int:
        self._be_prepared()
        with self._connection() as connection:
            query = sa.select(sa.func.count()).select_from(events_table)
            stored = int(connection.execute(query).scalar_one())
            return stored + int(connection.execute(sa.text(COUNT)).scalar_one())

    def _reading(self, work: Callable[[Execute], T], missing: T) -> T:
        self._be_prepared()
        with self._connection() as connection:
            return work(functools.partial(_execute, connection))

    def _writing(self, work: Callable[[Execute], T]) -> T:
        with self._transaction() as connection:
            return work(functools.partial(_execute, connection))

    def lease(self) -> Lease:
        with self._connection() as connection:
            row = connection.execute(sa.select(_relay.c.owner, _relay.c.beat)).first()
        return Lease("", 0) if row is None else Lease(row[0], row[1])

    def swap(self, seen: Lease, owner: str) -> bool:
        with self._transaction() as connection:
            changed = connection.execute(
                sa.update(_relay)
                .where(_relay.c.id == 1, _relay.c.owner == seen.owner, _relay.c.beat == seen.beat)
                .values(owner=owner, beat=seen.beat + 1)
            )
            return changed.rowcount == 1

    def close(self) -> None:
        if self._url is not None and self._engine is not None:
            engine, self._engine = self._engine, None
            with contextlib.suppress(Exception):
                engine.dispose()

    # The connection

    def _be_prepared(self) -> None:
        if not self.prepared:
            self.prepare()

    def _enter_version(self, engine: sa.Engine) -> None:
        with engine.connect() as connection:
            if connection.execute(sa.select(_relay.c.id)).first() is not None:
                return
        with contextlib.suppress(IntegrityError), engine.begin() as connection:
            connection.execute(sa.insert(_relay).values(id=1, version=VERSION, owner="", beat=0))

    def _connected(self) -> sa.Engine:
        if self._engine is None:
            assert self._url is not None
            # One reads new events, one what waits, one says that it still does.
            self._engine = sa.create_engine(
                self._url, pool_size=3, max_overflow=0, pool_timeout=5, pool_pre_ping=True
            )
        return self._engine

    @contextlib.contextmanager
    def _connection(self) -> Iterator[sa.Connection]:
        with self._mapped(), self._connected().connect() as connection:
            yield connection

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        with self._mapped(), self._connected().begin() as connection:
            yield connection

    @contextlib.contextmanager
    def _mapped(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            # Tables that somebody has dropped are made again.
            self.prepared = False
            cause: Any = getattr(error, "orig", None) or error
            raise StoreFault(f"{self.name}: {one_line(cause)}") from error
        except (OSError, ImportError) as error:
            raise StoreFault(f"{self.name}: {one_line(error)}") from error


def _execute(connection: sa.Connection, statement: str, values: Any) -> Any:
    return connection.execute(sa.text(statement), values) if values != [] else None


def key_of_url(url: sa.URL) -> Hashable:
    """What tells one database from another: not who connects, nor with which driver."""
    return (url.get_backend_name(), url.host, url.port, url.database)
