"""`Outbox`: stores events before they are sent."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
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
from .databases import Transaction, current_transaction, database_of, location_of, storage_of
from .delivery import Send
from .relay import Relay, Relays
from .sqlite import SqliteStorage
from .storage import LIMIT, Storage, Waiting, ask

__all__ = ["Outbox", "RefusedEvent"]

T = TypeVar("T")

#: Rows of one look at what is refused.
_PAGE = 200

#: What a forked process has of its parent and must never close: closing a copy of an SQLite
#: connection could write to, and remove, the files of the one that still uses it.
_inherited: list[Any] = []


class RefusedEvent(NamedTuple):
    """An event that waits by itself, or was set aside, and where it is stored."""

    storage: Storage
    row: Waiting

    @property
    def envelope(self) -> Envelope:
        """Decode the event; without a name or an id of its own when that cannot be done."""
        try:
            return Envelope.from_json(self.row.event)
        except ValueError:
            id = f"{self.storage.name}#{self.row.id}"
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
        self._databases = [storage_of(database) for database in databases]
        self._logger = logger or logging.getLogger("gemstone_sync.event")
        self._process = _Process(self._path, self._databases)

    def __repr__(self) -> str:
        return f"Outbox({self._path})"

    # Storing

    def add(self, envelopes: Sequence[Envelope], timeout: float = LIMIT) -> None:
        """Store events, all or none, in this order; they are on the disk when it returns.

        :param timeout: seconds; about five at most when the file is locked.
        :raises EventNotDelivered: when they are not known to be stored.
        """
        if not envelopes:
            return
        process = self._process_state()
        try:
            process.adding.write([envelope.to_json() for envelope in envelopes], timeout)
        except StoreFault as fault:
            raise EventNotDelivered(f"the outbox {fault}") from fault
        process.wake(process.location.key)

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
        key = self._register_database(connection)
        transaction = Transaction(self, connection)
        token = current_transaction.set(transaction)
        try:
            yield transaction
        finally:
            transaction.open = False
            current_transaction.reset(token)
            if transaction.stored:
                self._process_state().wake(key, expecting=True)

    def current_transaction(self) -> Transaction | None:
        """Return the innermost `transaction` of this outbox around the caller, if there is one."""
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
        process = self._process_state()
        if process.relays is not None:
            raise ServiceConfigurationError("the outbox was started already")
        sends = send if isinstance(send, Mapping) else {"send": send}
        make = functools.partial(Relay, sends=sends, owner=uuid.uuid4().hex, logger=self._logger)
        process.relays = Relays(list(process.storages.values()), self._known_storages, make)
        process.relays.start()

    def stop(self, timeout: float) -> bool:
        """Send what can be sent within so many seconds, and end. What is left stays stored.

        :returns: False when something is left, for another process or the next start.
        """
        process = self._process_state()
        relays, process.relays = process.relays, None
        if relays is not None:
            relays.stop(timeout)
        try:
            left = self._count(limit=1.0)
        except EventNotDelivered:
            left = 1
        for storage in process.storages.values():
            with contextlib.suppress(EventNotDelivered):
                self._call_bounded(storage, storage.close, limit=1.0)
        return left == 0

    def drain(self, timeout: float) -> bool:
        """Wait until everything stored is sent; False when so many seconds were not enough."""
        end = time.monotonic() + timeout
        while True:
            self._process_state().wake()
            with contextlib.suppress(EventNotDelivered):
                if self._count(max(0.1, end - time.monotonic())) == 0:
                    return True
            if time.monotonic() >= end:
                return False
            gevent.sleep(0.02)

    # Looking into it

    def pending(self) -> int:
        """Count the events that are stored and committed, and not sent.

        :raises EventNotDelivered: when that cannot be found out.
        """
        return self._count(LIMIT)

    def oldest(self) -> float | None:
        """Return when the oldest of them was emitted, in seconds since 1970; None without any.

        :raises EventNotDelivered: when that cannot be found out.
        """
        storages = self._call_bounded(self._process_state().location, self._known_storages)
        rows = [
            row for storage in storages for row in self._call_bounded(storage, storage.read, 1, 1)
        ]
        times = []
        for row in rows:
            with contextlib.suppress(ValueError):  # somebody else has written it
                times.append(Envelope.from_json(row.event).time)
        return min(times, default=None)

    def why_not_ready(self) -> str | None:
        """Tell how much is refused of what is sent here, and why; None while nothing is."""
        relays = self._process_state().relays
        found = [] if relays is None else relays.troubles()
        if not found:
            return None
        number = sum(count for count, _ in found)
        waiting = "1 event waits" if number == 1 else f"{number} events wait"
        return f"outbox: {waiting}: {found[0][1]}"

    def why_waiting(self) -> str | None:
        """Tell why what is stored in a database can neither be read nor sent; None if it can."""
        relays = self._process_state().relays
        found = [] if relays is None else relays.outages()
        return f"outbox: events wait: {found[0]}" if found else None

    def refused(
        self, wanted: Callable[[Envelope], bool] = lambda envelope: True, limit: int | None = None
    ) -> list[RefusedEvent]:
        """List what a transport refuses, or can never be sent, the oldest of each database first.

        :raises EventNotDelivered: when that cannot be found out.
        """
        found: list[RefusedEvent] = []
        for storage in self._call_bounded(self._process_state().location, self._known_storages):
            after: tuple[int, str] = (0, "")
            while limit is None or len(found) < limit:
                rows = self._call_bounded(storage, storage.refused, after, _PAGE)
                all_of_them = (RefusedEvent(storage, row) for row in rows)
                found += [refused for refused in all_of_them if wanted(refused.envelope)]
                if len(rows) < _PAGE:
                    break
                after = (rows[-1].id, rows[-1].transport)
        return found[:limit]

    def replay(self, refused: Sequence[RefusedEvent]) -> int:
        """Send these now, as if for the first time; return how many there still were.

        :raises EventNotDelivered: when the database cannot be written.
        """
        number = self._update_refused(refused, Storage.replay)
        self._process_state().wake()
        return number

    def purge(self, refused: Sequence[RefusedEvent]) -> int:
        """Throw these away; return how many there still were.

        :raises EventNotDelivered: when the database cannot be written.
        """
        return self._update_refused(refused, Storage.purge)

    # Within

    def _process_state(self) -> _Process:
        if self._process.pid != os.getpid():
            _inherited.append(self._process)
            self._process = _Process(self._path, self._databases)
        return self._process

    def _register_database(self, connection: Any) -> Hashable:
        """Make sure that a killed process finds events in this database; return its key."""
        process = self._process_state()
        key, path = database_of(connection)
        storage = process.storages.get(key)
        if storage is None:
            if path is None:
                raise ServiceConfigurationError(
                    "the engine's database is unknown to the outbox: list the engine or its URL in "
                    "its databases (outbox_databases of a service)"
                )
            call = current_call.get()
            left = None if call is None else call.seconds_left()
            limit = LIMIT if left is None else min(LIMIT, left)
            self._call_bounded(process.location, process.location.remember, path, limit=limit)
            process.storages.setdefault(key, SqliteStorage(path))
            if process.relays is not None:
                process.relays.look()
        elif not storage.prepared:
            self._call_bounded(storage, storage.prepare)
        return key

    def _update_refused(
        self,
        refused: Sequence[RefusedEvent],
        change: Callable[[Storage, Sequence[tuple[int, str]]], int],
    ) -> int:
        chosen: dict[Storage, list[tuple[int, str]]] = {}
        for storage, row in refused:
            chosen.setdefault(storage, []).append((row.id, row.transport))
        return sum(
            self._call_bounded(storage, change, storage, keys) for storage, keys in chosen.items()
        )

    def _known_storages(self) -> list[Storage]:
        """Find the storages that are known by now, those that other processes have noted too."""
        process = self._process_state()
        try:
            for path in process.location.remembered():
                storage = SqliteStorage(path)
                process.storages.setdefault(storage.key, storage)
        except StoreFault as fault:
            self._logger.debug("outbox: %s", fault)
        return list(process.storages.values())

    def _count(self, limit: float) -> int:
        process, end = self._process_state(), time.monotonic() + limit
        storages = self._call_bounded(process.location, self._known_storages, limit=limit)
        return sum(
            self._call_bounded(storage, storage.count, limit=seconds_until(end))
            for storage in storages
        )

    def _call_bounded(
        self, storage: Storage, function: Callable[..., T], *args: Any, limit: float = LIMIT
    ) -> T:
        try:
            if is_patched():
                return ask(self._process_state().threads, storage, function, *args, limit=limit)
            return function(*args)
        except StoreFault as fault:
            raise EventNotDelivered(f"the outbox {fault}") from fault


class _Process:
    """Everything that one process has open; a forked one must use nothing of it."""

    def __init__(self, path: str, databases: Sequence[Callable[[], Storage]]) -> None:
        self.pid = os.getpid()
        self.location = SqliteStorage(path, own=True)
        self.adding = GroupCommit(self._add_groups, path)
        self.threads = NativeThreads(4)
        self.storages: dict[Hashable, Storage] = {self.location.key: self.location}
        for make in databases:
            storage = make()
            self.storages.setdefault(storage.key, storage)
        self.relays: Relays | None = None

    def wake(self, key: Hashable | None = None, expecting: bool = False) -> None:
        """Wake the relays, if they run: see `Relays.wake`."""
        if self.relays is not None:
            self.relays.wake(key, expecting)

    def _add_groups(self, groups: Sequence[list[bytes]], limit: float) -> Sequence[None]:
        self.location.add([event for events in groups for event in events], limit)
        return [None] * len(groups)
