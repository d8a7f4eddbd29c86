"""`Outbox`: what a service's events are stored in before they are sent."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import time
import uuid
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import gevent

from ...concurrency import current_call, is_patched
from ...concurrency.native import NativeThreads
from ...errors import EventNotDelivered, ServiceConfigurationError, StoreFault
from ...sqlite import GroupCommit
from ..envelope import Envelope
from ..wakeups import seconds_until
from .asking import LIMIT, ask
from .box import Box, Waiting
from .databases import Listed, database_of, file_of, listed, location_of
from .lane import Send
from .relays import Relays
from .sqlite_box import SqliteBox
from .transaction import Transaction, current_transaction

__all__ = ["Outbox", "Refused"]

T = TypeVar("T")

#: Rows of one look at what is refused.
_PAGE = 200

#: What a forked process has of its parent and must never close: closing a copy of an SQLite
#: connection could write to, and remove, the files of the one that still uses it.
_inherited: list[Any] = []


class Refused(NamedTuple):
    """An event that waits by itself, or was set aside, and the database in which it does."""

    box: Box
    row: Waiting

    @property
    def envelope(self) -> Envelope:
        """The event; without a name or an id of its own when what is stored cannot be read."""
        try:
            return Envelope.from_json(self.row.event)
        except ValueError:
            id = f"{self.box.name}#{self.row.id}"
            return Envelope(name="", body=self.row.event, id=id, time=self.row.time)


class Outbox:
    """Keeps events in a database until the broker has them.

    :param location: the path of an SQLite file, which is made when it is missing (mode 0600).
    :param databases: the user's own databases in which `transaction` stores events: paths of SQLite
        files, SQLAlchemy engines, SQLAlchemy URLs. A process that was killed finds the events there
        again. SQLite files that are missing here are remembered in `location` when first used.
    :raises ServiceConfigurationError: for what is no file, or no database.

    An event is sent at least once, with the same id each time. The order is that in which events
    were stored, for each database by itself; among transactions of PostgreSQL or MariaDB that run
    at the same time it is not defined. Several processes may share a location and databases, if
    they have the same broker: one of them at a time sends what a database holds.

    ::

        outbox = Outbox("events.db", databases=["shop.db"])
        outbox.start(lambda envelopes: transport.publish(envelopes, timeout=10))
        outbox.add([make_envelope("order.placed", {"id": 1})])
        outbox.stop(10)
    """

    def __init__(
        self,
        location: str,
        *,
        databases: Sequence[Any] = (),
        logger: logging.Logger | None = None,
    ) -> None:
        if isinstance(databases, (str, bytes)):
            raise ServiceConfigurationError(f"databases is a list: [{databases!r}]")
        self._path = location_of(location)
        self._listed = [listed(database) for database in databases]
        self._logger = logger or logging.getLogger("gemstone_sync.event")
        self._process = _Process(self._path, self._listed)

    # Storing

    def add(self, envelopes: Sequence[Envelope], timeout: float = LIMIT) -> None:
        """Store events, all or none, in this order; they are on the disk when it returns.

        :param timeout: seconds; about five at most when the file is locked.
        :raises EventNotDelivered: when they are not known to be stored.
        """
        if not envelopes:
            return
        process = self._here()
        try:
            process.adding.write([envelope.to_json() for envelope in envelopes], timeout)
        except StoreFault as fault:
            raise EventNotDelivered(f"the outbox {fault}") from fault
        if process.relays is not None:
            process.relays.wake(process.location.key)

    @contextlib.contextmanager
    def transaction(self, connection: Any) -> Iterator[Transaction]:
        """Store what is emitted in this block in the user's database, in the user's transaction.

        :param connection: an sqlite3 connection, or a SQLAlchemy connection or session. Sending it
            is up to the user's commit: what is rolled back is never sent.
        :raises ServiceConfigurationError: for a SQLAlchemy engine that is not in `databases` (its
            URL is not written down, since it may hold a password), a database in memory, or a
            connection that commits each statement by itself.
        :raises EventNotDelivered: when the outbox cannot be written.

        The block itself begins and ends nothing. With sqlite3::

            with connection, self.outbox.transaction(connection):
                connection.execute("INSERT INTO orders VALUES (1)")
                self.emit_event("order.placed", {"id": 1})

        With SQLAlchemy::

            with engine.begin() as connection, self.outbox.transaction(connection):
                connection.execute(insert(orders).values(id=1))
                self.emit_event("order.placed", {"id": 1})

            with Session(engine) as session, session.begin(), self.outbox.transaction(session):
                session.add(Order(id=1))
                self.emit_event("order.placed", {"id": 1})
        """
        key = self._know(connection)
        transaction = Transaction(self, connection)
        token = current_transaction.set(transaction)
        try:
            yield transaction
        finally:
            transaction.open = False
            current_transaction.reset(token)
            relays = self._here().relays
            if transaction.stored and relays is not None:
                relays.expect(key)

    def current_transaction(self) -> Transaction | None:
        """The innermost `transaction` of this outbox around the caller; None outside of any."""
        found = current_transaction.get()
        while found is not None and not (found.outbox is self and found.open):
            found = found.outer
        return found

    # Sending

    def start(self, send: Send | Mapping[str, Send]) -> None:
        """Send what is stored from now on, in this process. Returns at once.

        :param send: returns when the broker has all events it was given. `EventNotDelivered` says
            which it refuses: those wait, each by itself, and are sent again after 1, 2, 4, 8 and
            then every 15 s; and of which nothing is known: those are sent again when the broker is
            back, and what is behind them waits. `ServiceConfigurationError`, `ValueError` and
            `TypeError` mean that one of them can never be sent: it is set aside. What waits by
            itself or was set aside is looked into with `gemstone_sync.event.deadletters`. In a
            process that is not patched it is called in other threads. Several, by names that last,
            get each event once each: what one has is not sent to it again for the others' sake.
        :raises ServiceConfigurationError: when it was started already.
        """
        process = self._here()
        if process.relays is not None:
            raise ServiceConfigurationError("the outbox was started already")
        process.relays = Relays(
            list(process.boxes.values()),
            self._find,
            send if isinstance(send, Mapping) else {"send": send},
            uuid.uuid4().hex,
            self._logger,
        )
        process.relays.start()

    def stop(self, timeout: float) -> bool:
        """Send what can be sent within so many seconds, and end. What is left stays stored.

        :returns: False when something is left, for another process or the next start.
        """
        process = self._here()
        relays, process.relays = process.relays, None
        if relays is not None:
            relays.stop(timeout)
        try:
            left = self._count(limit=1.0)
        except EventNotDelivered:
            left = 1
        for box in process.boxes.values():
            with contextlib.suppress(EventNotDelivered):
                self._ask(box, box.close, limit=1.0)
        return left == 0

    def drain(self, timeout: float) -> bool:
        """Wait until everything stored is sent; False when so many seconds were not enough."""
        end = time.monotonic() + timeout
        while True:
            relays = self._here().relays
            if relays is not None:
                relays.wake()
            with contextlib.suppress(EventNotDelivered):
                if self._count(max(0.1, end - time.monotonic())) == 0:
                    return True
            if time.monotonic() >= end:
                return False
            gevent.sleep(0.02)

    # Looking into it

    def pending(self) -> int:
        """How many events are stored and committed, and not sent.

        :raises EventNotDelivered: when that cannot be found out.
        """
        return self._count(LIMIT)

    def why_not_ready(self) -> str | None:
        """None while nothing is refused that is sent here; otherwise how much, and why."""
        relays = self._here().relays
        found = [] if relays is None else relays.troubles()
        if not found:
            return None
        number = sum(count for count, _ in found)
        return f"outbox: {number} event{'s wait' * (number > 1) or ' waits'}: {found[0][1]}"

    def refused(
        self, wanted: Callable[[Envelope], bool] = lambda envelope: True, limit: int | None = None
    ) -> list[Refused]:
        """What a transport refuses, or can never be sent, the oldest of each database first.

        :raises EventNotDelivered: when that cannot be found out.
        """
        found: list[Refused] = []
        for box in self._ask(self._here().location, self._find):
            after: tuple[int, str] = (0, "")
            while limit is None or len(found) < limit:
                rows = self._ask(box, box.refused, after, _PAGE)
                all_of_them = (Refused(box, row) for row in rows)
                found += [refused for refused in all_of_them if wanted(refused.envelope)]
                if len(rows) < _PAGE:
                    break
                after = (rows[-1].id, rows[-1].transport)
        return found[:limit]

    def replay(self, refused: Sequence[Refused]) -> int:
        """Send these now, as if for the first time; how many there still were.

        :raises EventNotDelivered: when the database cannot be written.
        """
        number = self._change(refused, lambda box: box.replay)
        process = self._here()
        if process.relays is not None:
            process.relays.wake()
        return number

    def purge(self, refused: Sequence[Refused]) -> int:
        """Throw these away; how many there still were.

        :raises EventNotDelivered: when the database cannot be written.
        """
        return self._change(refused, lambda box: box.purge)

    # Within

    def _here(self) -> _Process:
        if self._process.pid != os.getpid():
            _inherited.append(self._process)
            self._process = _Process(self._path, self._listed)
        return self._process

    def _know(self, connection: Any) -> Hashable:
        """See to it that a killed process finds the events in this database; its key."""
        process = self._here()
        key = database_of(connection)
        box = process.boxes.get(key)
        if box is None:
            if not isinstance(connection, sqlite3.Connection):
                raise ServiceConfigurationError(
                    "the engine's database is unknown to the outbox: list the engine or its URL in "
                    "its databases (outbox_databases of a service)"
                )
            path = file_of(connection)
            call = current_call.get()
            left = None if call is None else call.seconds_left()
            limit = LIMIT if left is None else min(LIMIT, left)
            self._ask(process.location, process.location.remember, path, limit=limit)
            process.boxes.setdefault(key, SqliteBox(path))
            if process.relays is not None:
                process.relays.look()
        elif not box.prepared:
            self._ask(box, box.prepare)
        return key

    def _change(
        self,
        refused: Sequence[Refused],
        what: Callable[[Box], Callable[[Sequence[tuple[int, str]]], int]],
    ) -> int:
        chosen: dict[Box, list[tuple[int, str]]] = {}
        for box, row in refused:
            chosen.setdefault(box, []).append((row.id, row.transport))
        return sum(self._ask(box, what(box), keys) for box, keys in chosen.items())

    def _find(self) -> list[Box]:
        """The boxes that are known by now, those that other processes have noted too."""
        process = self._here()
        try:
            for path in process.location.remembered():
                box = SqliteBox(path)
                process.boxes.setdefault(box.key, box)
        except StoreFault as fault:
            self._logger.debug("outbox: %s", fault)
        return list(process.boxes.values())

    def _count(self, limit: float) -> int:
        process, end = self._here(), time.monotonic() + limit
        boxes = self._ask(process.location, self._find, limit=limit)
        return sum(self._ask(box, box.count, limit=seconds_until(end)) for box in boxes)

    def _ask(self, box: Box, function: Callable[..., T], *args: Any, limit: float = LIMIT) -> T:
        try:
            if is_patched():
                return ask(self._here().threads, box, function, *args, limit=limit)
            return function(*args)
        except StoreFault as fault:
            raise EventNotDelivered(f"the outbox {fault}") from fault


class _Process:
    """What one process has open: nothing of it may be used by a forked one."""

    def __init__(self, path: str, databases: Sequence[Listed]) -> None:
        self.pid = os.getpid()
        self.location = SqliteBox(path, own=True)
        self.adding = GroupCommit(self._store, path)
        self.threads = NativeThreads(4)
        self.boxes: dict[Hashable, Box] = {self.location.key: self.location}
        for database in databases:
            if database.key not in self.boxes:
                self.boxes[database.key] = database.make()
        self.relays: Relays | None = None

    def _store(self, groups: Sequence[list[bytes]], limit: float) -> Sequence[None]:
        self.location.add([event for events in groups for event in events], limit)
        return [None] * len(groups)
