"""Events as rows in the user's own transaction: inserted where the user is, committed by the user.

Nothing here begins, commits or rolls back.
"""

from __future__ import annotations

import contextlib
import contextvars
import math
import os
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

from ...errors import EventNotDelivered, ServiceConfigurationError
from ..envelope import Envelope
from .box import one_line
from .sqlite_box import CREATE_EVENTS

__all__ = ["Transaction", "current_transaction"]

#: The innermost `Outbox.transaction` around the running code.
current_transaction: contextvars.ContextVar[Transaction | None] = contextvars.ContextVar(
    "gemstone_sync_outbox_transaction", default=None
)


class Transaction:
    """What is emitted inside ``with outbox.transaction(connection)`` goes here.

    :param outbox: whose; a service in the same process has one of its own.
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
        events = [envelope.to_json() for envelope in envelopes]
        if isinstance(self._connection, sqlite3.Connection):
            with _hasty(self._connection, timeout):
                _insert_sqlite3(self._connection, events)
        else:
            _insert_sqlalchemy(self._connection, events, timeout)
        self.stored += len(events)


def _insert_sqlite3(connection: sqlite3.Connection, events: Sequence[bytes]) -> None:
    _refuse_autocommit(connection)
    try:
        cursor = connection.cursor()
        # In SQLite a table is made inside a transaction like everything else, and since Python 3.6
        # the module commits nothing before it. Where it is there already, nothing is written.
        cursor.execute(CREATE_EVENTS)
        cursor.executemany(
            "INSERT INTO main.gemstone_outbox (event) VALUES (?)", [(event,) for event in events]
        )
        cursor.close()
    except sqlite3.Error as error:
        raise _not_stored(error) from error


@contextlib.contextmanager
def _hasty(connection: sqlite3.Connection, timeout: float | None) -> Iterator[None]:
    """Have it wait so many seconds for a lock at most, and then as long as before."""
    if timeout is None:
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


def _insert_sqlalchemy(target: Any, events: Sequence[bytes], timeout: float | None) -> None:
    import sqlalchemy as sa
    from sqlalchemy.exc import SQLAlchemyError

    from .sqlalchemy_box import events_table

    try:
        connection = target if isinstance(target, sa.Connection) else target.connection()
        raw = connection.connection.dbapi_connection
        _refuse_autocommit(raw)
        lite = isinstance(raw, sqlite3.Connection)
        with _hasty(raw, timeout) if lite else contextlib.nullcontext():  # type: ignore[arg-type]
            if connection.dialect.name == "sqlite":
                connection.exec_driver_sql(CREATE_EVENTS)
            connection.execute(sa.insert(events_table), [{"event": event} for event in events])
    except SQLAlchemyError as error:
        raise _not_stored(getattr(error, "orig", None) or error) from error


def _refuse_autocommit(connection: Any) -> None:
    """Where each statement commits by itself, a rollback takes nothing back."""
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
