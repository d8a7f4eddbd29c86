"""Queues in a SQLite file, or in memory: `SqliteStore`.

What happens to messages is here, what is known of queues and bindings in `routing`; the
tables are in `schema`, transactions and what can go wrong with a file in `database`.

Kombu's own sqlalchemy transport deletes a message when it is taken, so that it is lost with the
process that took it; its filesystem transport too, and of bindings made at the same time it loses
some (measured: 59 of 160).
"""

from __future__ import annotations

import functools
import math
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from ....errors import ServiceConfigurationError, StoreFault
from ....sqlite import MEMORY
from ..stores.store import Binding, Entry, KnownBindings, QueueStore, Stored
from .database import Database
from .routing import (
    Routes,
    expiring,
    gone,
    options_of,
    queue_ids,
    remove_expired,
    remove_queues,
    routing_changed,
)
from .schema import BEHIND, DUE, LEASED, READY, VERSION, create_tables

__all__ = ["SqliteStore"]

#: How many messages whose lease has ended, or which have become due, one transaction moves.
_SWEPT = 1000
#: How many messages one transaction of `purge` removes: others wait meanwhile.
_PURGED = 10_000
#: Milliseconds since 1970; SQLite's integers end there, and so do dates that anybody means.
_LATEST = 1 << 47
#: Seconds after which it is looked again: taking, and what other programs write, wakes nobody.
_AT_LEAST = 1.0

_INSERT = f"""
INSERT INTO gemstone_messages (queue, key, state, moment, payload) VALUES (?, ?,
    CASE WHEN ? IS NOT NULL AND EXISTS
        (SELECT 1 FROM gemstone_messages WHERE queue = ? AND key = ?)
    THEN {BEHIND} ELSE ? END, ?, ?)
"""
_QUEUE = "SELECT 1 FROM gemstone_queues WHERE id = ?"
_READY_ONES = f"""
SELECT id, takes, payload, deliveries FROM gemstone_messages
WHERE queue = ? AND state = {READY} ORDER BY id LIMIT ?
"""
_ONE_READY = f"SELECT 1 FROM gemstone_messages WHERE queue = ? AND state = {READY} LIMIT 1"
_LEASE = f"""
UPDATE gemstone_messages SET state = {LEASED}, moment = ?, takes = takes + 1 WHERE id = ?
"""
_OURS = f"id = ? AND takes = ? AND state = {LEASED}"
#: Whoever had it lives, and its lease has ended, or it was taken again since.
_FORGIVE = f"""
UPDATE gemstone_messages SET deliveries = deliveries - 1
WHERE id = ? AND 2 * takes + (state != {LEASED}) > 2 * ? AND deliveries > 0
"""
_NEXT_MOMENT = f"""
SELECT min(coalesce((SELECT min(moment) FROM gemstone_messages WHERE state = {DUE}), {_LATEST}),
    coalesce((SELECT min(moment) FROM gemstone_messages WHERE state = {LEASED}), {_LATEST}))
"""
_LEASE_ENDED = f"""
SELECT m.id, m.deliveries, q.delivery_limit, d.id FROM gemstone_messages m
JOIN gemstone_queues q ON q.id = m.queue
LEFT JOIN gemstone_queues d ON d.name = q.dead_letter_queue
WHERE m.state = {LEASED} AND m.moment <= ? ORDER BY m.moment LIMIT {_SWEPT}
"""
_BECOME_DUE = f"""
UPDATE gemstone_messages SET state = {READY} WHERE id IN
    (SELECT id FROM gemstone_messages WHERE state = {DUE} AND moment <= ?
     ORDER BY moment LIMIT {_SWEPT})
"""
_TO_DEAD_LETTERS = f"""
INSERT INTO gemstone_messages (queue, state, moment, payload)
SELECT ?, {READY}, ?, payload FROM gemstone_messages WHERE id = ?
"""


class SqliteStore(QueueStore):
    """Queues in a SQLite file in WAL mode, or in memory.

    :param path: of the file, on a local disk; it is made, readable for its owner only, when it is
        not there. ``":memory:"`` for what only this object has, and those that `another` gives.
    :param synchronous: ``"FULL"``: what `publish` has returned for outlives a power cut;
        ``"NORMAL"``: it outlives the process.
    :param known: for publishers: shared by all the stores over which one process publishes.
    :raises ServiceConfigurationError: when one of them cannot be used.

    Times are those of the machine's clock: setting it moves what is due and ends leases. A store
    serves one link, which declares again after a `StoreFault`: a file that was removed is one.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        synchronous: str = "FULL",
        known: KnownBindings | None = None,
    ) -> None:
        given = os.fspath(path) if isinstance(path, (str, os.PathLike)) else path
        if not isinstance(given, str) or not given or "\0" in given:
            raise ServiceConfigurationError(f"the path of an SQLite file is a text, not {path!r}")
        if synchronous not in ("FULL", "NORMAL"):
            raise ServiceConfigurationError(
                f"synchronous is 'FULL' or 'NORMAL', not {synchronous!r}"
            )
        place = given if given == MEMORY else os.path.abspath(given)
        prepare = functools.partial(create_tables, name=place)
        self._use(Database(place, VERSION, prepare), known, synchronous == "FULL")

    def _use(self, database: Database, known: KnownBindings | None, durable: bool) -> None:
        self._database = database
        self._durable = durable
        self._known = known
        self.blocks = database.path != MEMORY
        self._routes: Routes | None = None
        self._seen: object = None
        #: When something may be there to take without anybody committing anything.
        self._next = 0

    def __repr__(self) -> str:
        return f"SqliteStore({self._database.path!r})"

    def another(self) -> SqliteStore:
        """One more store over the same messages, in memory too, with a `changed` of its own."""
        other = SqliteStore.__new__(SqliteStore)
        shared = self._database
        database = shared if shared.path == MEMORY else shared.copy()
        other._use(database, None, self._durable)
        return other

    def open(self) -> None:
        self._database.open()

    def close(self) -> None:
        self._database.close()

    # Declaring

    def declare_exchange(self, exchange: str, kind: str) -> None:
        find = "SELECT 1 FROM gemstone_exchanges WHERE name = ? AND kind = ?"
        with self._database.reading() as connection:
            if connection.execute(find, (exchange, kind)).fetchall():
                return
        with self._database.writing(durable=self._durable) as connection:
            connection.execute(
                "INSERT OR REPLACE INTO gemstone_exchanges VALUES (?, ?)", (exchange, kind)
            )
            routing_changed(connection)

    def declare_queue(
        self,
        queue: str,
        *,
        expires: float | None = None,
        delivery_limit: int | None = None,
        dead_letter_queue: str | None = None,
    ) -> None:
        milliseconds = None if expires is None else _milliseconds(expires)
        wanted = (milliseconds, delivery_limit, dead_letter_queue)
        with self._database.reading() as connection:
            if milliseconds is None and options_of(connection, queue) == wanted:
                return
        with self._database.writing(durable=self._durable) as connection:
            now = _now()
            remove_expired(connection, now)
            expires_at = None if milliseconds is None else now + milliseconds
            if options_of(connection, queue) is None:
                connection.execute(
                    "INSERT INTO gemstone_queues "
                    "(name, expires, delivery_limit, dead_letter_queue, expires_at) "
                    "VALUES (?, ?, ?, ?, ?)",
                    (queue, *wanted, expires_at),
                )
                routing_changed(connection)
            else:
                connection.execute(
                    "UPDATE gemstone_queues SET expires = ?, delivery_limit = ?, "
                    "dead_letter_queue = ?, expires_at = ? WHERE name = ?",
                    (*wanted, expires_at, queue),
                )

    def delete_queue(self, queue: str) -> None:
        with self._database.writing(durable=self._durable) as connection:
            remove_queues(connection, queue_ids(connection, queue))

    def bind(self, exchange: str, pattern: str, queue: str) -> None:
        find = "SELECT 1 FROM gemstone_bindings WHERE exchange = ? AND pattern = ? AND queue = ?"
        with self._database.reading() as connection:
            for id_ in queue_ids(connection, queue, _now()):
                if connection.execute(find, (exchange, pattern, id_)).fetchall():
                    return
        with self._database.writing(durable=self._durable) as connection:
            remove_expired(connection, _now())
            ids = queue_ids(connection, queue)
            for id_ in ids:
                connection.execute(
                    "INSERT OR IGNORE INTO gemstone_bindings VALUES (?, ?, ?)",
                    (exchange, pattern, id_),
                )
                routing_changed(connection)
        if not ids:
            raise StoreFault(f"{self._database.path}: there is no queue {queue!r} to bind")

    def unbind(self, exchange: str, pattern: str, queue: str) -> None:
        with self._database.writing(durable=self._durable) as connection:
            for id_ in queue_ids(connection, queue):
                connection.execute(
                    "DELETE FROM gemstone_bindings "
                    "WHERE exchange = ? AND pattern = ? AND queue = ?",
                    (exchange, pattern, id_),
                )
                routing_changed(connection)

    def bindings(self, exchange: str) -> list[tuple[str, str]]:
        with self._database.reading() as connection:
            return connection.execute(
                "SELECT b.pattern, q.name FROM gemstone_bindings b "
                "JOIN gemstone_queues q ON q.id = b.queue WHERE b.exchange = ? "
                "AND (q.expires_at IS NULL OR q.expires_at > ?) ORDER BY 1, 2",
                (exchange, _now()),
            ).fetchall()

    def touch(self, queues: Sequence[str], bindings: Sequence[Binding] = ()) -> None:
        with self._database.reading() as connection:
            missing = gone(connection, queues, bindings)
            late = expiring(connection, _now()).intersection(queues)
        if late:
            with self._database.writing(durable=False) as connection:
                connection.executemany(
                    "UPDATE gemstone_queues SET expires_at = ? + expires WHERE name = ?",
                    [(_now(), queue) for queue in late],
                )
                missing = gone(connection, queues, bindings)
        if missing:
            names = ", ".join(missing)
            raise StoreFault(f"{self._database.path}: not there any more: {names}")

    # Messages

    def publish(self, entries: Sequence[Entry]) -> list[int]:
        if not entries:
            return []
        counts, rows = [], []
        with self._database.writing(durable=self._durable) as connection:
            now = _now()
            remove_expired(connection, now)
            routes = self._current_routes(connection)
            for exchange, routing_key, payload, key, due in entries:
                if self._known is not None and self._known.misses(exchange, routing_key):
                    counts.append(-1)
                    continue
                queues = routes.queues_of(exchange, routing_key)
                counts.append(len(queues))
                moment = min(math.ceil(due * 1000), _LATEST) if due > 0 else now
                state = DUE if moment > now else READY
                lane = None if key is None else key.encode("utf-8", "surrogatepass")
                # Some twice: Python 3.12 warns of numbered parameters in a tuple.
                rows += [(q, lane, lane, q, lane, state, moment, payload) for q in queues]
            for queue in {row[0] for row in rows}:
                if not connection.execute(_QUEUE, (queue,)).fetchall():
                    raise StoreFault(f"{self._database.path}: another program has deleted queues")
            connection.executemany(_INSERT, rows)
        self._database.tell()
        return counts

    def take(self, wanted: Sequence[tuple[str, int]], lease: float) -> list[Stored]:
        now = _now()
        # Most looks find nothing: they keep nobody from writing.
        if not self._may_have(wanted, now):
            return []
        taken = []
        with self._database.writing(durable=False) as connection:
            remove_expired(connection, now)
            swept = _sweep_messages(connection, now)
            until = now + _milliseconds(lease)
            for queue, number in wanted:
                for id_ in queue_ids(connection, queue):
                    rows = connection.execute(_READY_ONES, (id_, number)).fetchall()
                    connection.executemany(_LEASE, [(until, row[0]) for row in rows])
                    taken += [
                        Stored(f"{message}:{takes + 1}", queue, payload, deliveries)
                        for message, takes, payload, deliveries in rows
                    ]
            ((self._next,),) = connection.execute(_NEXT_MOMENT).fetchall()
        if swept:
            self._database.tell()  # there may be more of it than was wanted here
        return taken

    def _may_have(self, wanted: Sequence[tuple[str, int]], now: int) -> bool:
        with self._database.reading() as connection:
            ((self._next,),) = connection.execute(_NEXT_MOMENT).fetchall()
            return self._next <= now or any(
                connection.execute(_ONE_READY, (id_,)).fetchall()
                for queue, _ in wanted
                for id_ in queue_ids(connection, queue)
            )

    def acknowledge(self, ids: Sequence[str]) -> int:
        if not ids:
            return 0
        with self._database.writing(durable=False) as connection:
            before = connection.total_changes
            deleted = connection.executemany(
                f"DELETE FROM gemstone_messages WHERE {_OURS}", _numbers(ids)
            )
            count = deleted.rowcount
            follow = connection.total_changes - before > count
        if follow:
            self._database.tell()
        return count

    def release(self, ids: Sequence[str]) -> None:
        if ids:
            statement = f"UPDATE gemstone_messages SET state = {READY} WHERE {_OURS}"
            with self._database.writing(durable=False) as connection:
                connection.executemany(_FORGIVE, _numbers(ids))
                connection.executemany(statement, _numbers(ids))
            self._database.tell()

    def renew(self, ids: Sequence[str], lease: float) -> None:
        if ids:
            until = _now() + _milliseconds(lease)
            statement = f"UPDATE gemstone_messages SET moment = ? WHERE {_OURS}"
            with self._database.writing(durable=False) as connection:
                connection.executemany(statement, [(until, *pair) for pair in _numbers(ids)])

    def size(self, queue: str) -> int:
        now = _now()
        with self._database.reading() as connection:
            for id_ in queue_ids(connection, queue, now):
                ((count,),) = connection.execute(
                    "SELECT (SELECT count(*) FROM gemstone_messages "
                    f"WHERE queue = ? AND state IN ({READY}, {DUE}, {BEHIND})) + "
                    "(SELECT count(*) FROM gemstone_messages "
                    f"WHERE queue = ? AND state = {LEASED} AND moment <= ?)",
                    (id_, id_, now),
                ).fetchall()
                return int(count)
        return 0

    def purge(self, queue: str) -> int:
        last, count = None, 0
        while True:
            with self._database.writing(durable=False) as connection:
                if last is None:
                    # What is published meanwhile stays.
                    ((last,),) = connection.execute(
                        "SELECT coalesce(max(id), 0) FROM gemstone_messages"
                    ).fetchall()
                swept = _sweep_messages(connection, _now())
                removed = 0
                for id_ in queue_ids(connection, queue):
                    removed += connection.execute(
                        "DELETE FROM gemstone_messages WHERE id IN (SELECT id "
                        f"FROM gemstone_messages WHERE queue = ? AND state != {LEASED} "
                        f"AND id <= ? ORDER BY id LIMIT {_PURGED})",
                        (id_, last),
                    ).rowcount
            count += removed
            if not removed and not swept:
                return count

    # Waiting

    def changed(self) -> bool:
        version, now = self._database.version(), time.time() * 1000
        if version == self._seen and now < self._next:
            return False
        self._seen = version
        if now >= self._next:
            # Said once: `take` finds out what comes next.
            self._next = _LATEST
        return True

    def waking(self, wake: Callable[[], object]) -> AbstractContextManager[None]:
        return self._database.waking(wake)

    def seconds_left(self) -> float:
        return max(0.0, min(_AT_LEAST, self._next / 1000 - time.time()))

    # Routing

    def _current_routes(self, connection: sqlite3.Connection) -> Routes:
        """Where messages go at this moment, whoever changed it last."""
        ((number,),) = connection.execute("SELECT version FROM gemstone_routing").fetchall()
        version = (self._database.generation, number)
        if self._routes is None or self._routes.version != version:
            self._routes = Routes(version, connection)
            if self._known is not None:
                self._known.learn(self._routes.lasting)
        return self._routes


def _sweep_messages(connection: sqlite3.Connection, now: int) -> int:
    """Take back what leases have ended for, then free what is due; how many these were."""
    ended = connection.execute(_LEASE_ENDED, (now,)).fetchall()
    for message, deliveries, limit, dead_letters in ended:
        if limit is not None and dead_letters is not None and deliveries + 1 >= limit:
            connection.execute(_TO_DEAD_LETTERS, (dead_letters, now, message))
            connection.execute("DELETE FROM gemstone_messages WHERE id = ?", (message,))
        else:
            connection.execute(
                f"UPDATE gemstone_messages SET state = {READY}, deliveries = deliveries + 1 "
                "WHERE id = ?",
                (message,),
            )
    return len(ended) + connection.execute(_BECOME_DUE, (now,)).rowcount


def _numbers(ids: Sequence[str]) -> list[tuple[int, int]]:
    """Message and how often it was taken."""
    pairs = [id_.split(":") for id_ in ids]
    return [(int(message), int(takes)) for message, takes in pairs]


def _now() -> int:
    return int(time.time() * 1000)


def _milliseconds(seconds: float) -> int:
    return max(1, min(math.ceil(seconds * 1000), _LATEST))
