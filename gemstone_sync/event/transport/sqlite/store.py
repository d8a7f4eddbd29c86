"""Queues in a SQLite file, or in memory: `SqliteStore`.

Messages are treated here; the tables, and the rows of queues and bindings, are in `tables`,
transactions and waking in `database`.

Kombu's own sqlalchemy transport deletes a message when it is taken, so that it is lost with the
process that took it; its filesystem transport too, and of bindings made at the same time it loses
some (measured: 59 of 160).
"""

from __future__ import annotations

import functools
import math
import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager

from ....errors import StoreFault
from ....sqlite import MEMORY
from ..stores.store import Binding, Entry, KnownBindings, QueueStore, Routes, Stored, StoredQueue
from .database import Database
from .tables import (
    BEHIND,
    DUE,
    LEASED,
    NOBODY,
    READY,
    VERSION,
    create_tables,
    expiring,
    gone,
    queue_ids,
    read_routes,
    remove_expired,
    remove_queues,
    routing_changed,
)

__all__ = ["SqliteStore"]

#: How many messages whose lease has ended, or which have become due, one transaction moves.
_SWEPT = 1000
#: How many messages one transaction of `purge` removes: others wait meanwhile.
_PURGED = 10_000
#: Milliseconds since 1970; SQLite's integers end there, and so do dates that anybody means.
_LATEST = 1 << 47
#: Seconds after which it is looked again: taking, and what other programs write, wakes nobody.
_AT_LEAST = 1.0

_SAME_EXCHANGE = "SELECT 1 FROM gemstone_exchanges WHERE name = :exchange AND kind = :kind"
_EXCHANGE = "INSERT OR REPLACE INTO gemstone_exchanges VALUES (:exchange, :kind)"
# One that expires is never as it should be: its time begins anew.
_SAME_QUEUE = """
SELECT 1 FROM gemstone_queues WHERE name = :queue AND expires IS NULL AND :expires IS NULL
    AND delivery_limit IS :limit AND dead_letter_queue IS :dead
"""
_QUEUE = """
INSERT INTO gemstone_queues (name, expires, delivery_limit, dead_letter_queue, expires_at)
VALUES (:queue, :expires, :limit, :dead, :now + :expires)
ON CONFLICT (name) DO UPDATE SET expires = excluded.expires, expires_at = excluded.expires_at,
    delivery_limit = excluded.delivery_limit, dead_letter_queue = excluded.dead_letter_queue
"""
_SAME_BINDING = """
SELECT 1 FROM gemstone_bindings b JOIN gemstone_queues q ON q.id = b.queue
WHERE b.exchange = :exchange AND b.pattern = :pattern AND q.name = :queue
    AND coalesce(q.expires_at > :now, 1)
"""
_BINDING = """
INSERT OR REPLACE INTO gemstone_bindings
SELECT :exchange, :pattern, id FROM gemstone_queues WHERE name = :queue
"""
_INSERT = f"""
INSERT INTO gemstone_messages (queue, key, takes, state, moment, payload)
VALUES (?, ?, {NOBODY}, CASE WHEN ? IS NOT NULL AND EXISTS
        (SELECT 1 FROM gemstone_messages WHERE queue = ? AND key = ?)
    THEN {BEHIND} ELSE ? END, ?, ?)
"""
_QUEUE_OF_ID = "SELECT 1 FROM gemstone_queues WHERE id = ?"
_READY_ONES = f"""
SELECT id, payload, deliveries FROM gemstone_messages
WHERE queue = ? AND state = {READY} ORDER BY id LIMIT ?
"""
_ONE_READY = f"SELECT 1 FROM gemstone_messages WHERE queue = ? AND state = {READY} LIMIT 1"
_LEASE = f"""
UPDATE gemstone_messages SET state = {LEASED}, moment = ?, takes = ? WHERE id = ?
"""
_OURS = f"id = ? AND takes = ? AND state = {LEASED}"
_ACKNOWLEDGE = f"DELETE FROM gemstone_messages WHERE {_OURS}"
_RELEASE = f"UPDATE gemstone_messages SET state = {READY} WHERE {_OURS}"
_POSTPONE = f"""
UPDATE gemstone_messages SET state = {DUE}, moment = ?, payload = ?, deliveries = 0 WHERE {_OURS}
"""
_RENEW = f"UPDATE gemstone_messages SET moment = ? WHERE {_OURS}"
#: Whoever had it lives, and its lease has ended, or it was taken again since.
_FORGIVE = f"""
UPDATE gemstone_messages SET deliveries = deliveries - 1
WHERE id = ? AND NOT (takes = ? AND state = {LEASED}) AND deliveries > 0
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
_TAKE_BACK = f"""
UPDATE gemstone_messages SET state = {READY}, deliveries = deliveries + 1 WHERE id = ?
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
#: Not taken, or with a lease that has ended.
_SIZE = f"""
SELECT (SELECT count(*) FROM gemstone_messages
        WHERE queue = ? AND state IN ({READY}, {DUE}, {BEHIND})) +
    (SELECT count(*) FROM gemstone_messages WHERE queue = ? AND state = {LEASED} AND moment <= ?)
"""
_LAST = "SELECT coalesce(max(id), 0) FROM gemstone_messages"
_PURGE = f"""
DELETE FROM gemstone_messages WHERE id IN
    (SELECT id FROM gemstone_messages WHERE queue = ? AND state != {LEASED} AND id <= ?
     ORDER BY id LIMIT {_PURGED})
"""


class SqliteStore(QueueStore):
    """Queues in a SQLite file in WAL mode, or in memory.

    :param path: of the file, on a local disk; it is made, readable for its owner only, when it is
        not there. ``":memory:"`` for what only this object has, and those that `another` gives.
    :param known: for publishers: shared by all the stores over which one process publishes.

    What `publish` has returned for outlives a power cut. Times are those of the machine's clock:
    setting it moves what is due and ends leases. A store serves one link, which declares again
    after a `StoreFault`: a file that was removed is one.
    """

    def __init__(self, path: str | os.PathLike[str], *, known: KnownBindings | None = None) -> None:
        place = MEMORY if path == MEMORY else os.path.abspath(path)
        self._database = Database(place, VERSION, functools.partial(create_tables, name=place))
        self._known = known
        self.blocks = place != MEMORY
        self._routes: Routes[int, tuple[int, int]] | None = None
        self._seen: object = None
        #: When something may be there to take without anybody committing anything.
        self._next = 0

    def another(self) -> SqliteStore:
        """Return one more store over the same memory, with a `changed` of its own."""
        other = SqliteStore(MEMORY)
        other._database = self._database
        return other

    def open(self) -> None:
        with self._database.reading():
            pass

    def close(self) -> None:
        self._database.close()

    # Declaring

    def declare(
        self,
        exchanges: Mapping[str, str],
        queues: Sequence[StoredQueue] = (),
        bindings: Sequence[Binding] = (),
    ) -> None:
        wanted: list[tuple[str, str, Mapping[str, object]]] = [
            *(
                (_SAME_EXCHANGE, _EXCHANGE, {"exchange": e, "kind": k})
                for e, k in exchanges.items()
            ),
            *((_SAME_QUEUE, _QUEUE, _columns(queue)) for queue in queues),
            *(
                (_SAME_BINDING, _BINDING, {"exchange": e, "pattern": p, "queue": q})
                for e, p, q in bindings
            ),
        ]
        # Mostly it is as it should be: looking keeps nobody from writing.
        with self._database.reading() as connection:
            now = _now()
            if all(connection.execute(s, {**v, "now": now}).fetchall() for s, _, v in wanted):
                return
        with self._database.writing() as connection:
            now = _now()
            remove_expired(connection, now)
            for _, change, values in wanted:
                if not connection.execute(change, {**values, "now": now}).rowcount:
                    raise StoreFault(
                        f"{self._database.path}: there is no queue {values['queue']!r} to bind"
                    )
            routing_changed(connection)

    def delete_queue(self, queue: str) -> None:
        with self._database.writing() as connection:
            remove_queues(connection, queue_ids(connection, queue))

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
        counts, rows = [], []
        with self._database.writing() as connection:
            now = _now()
            remove_expired(connection, now)
            routes = self._current_routes(connection)
            for exchange, routing_key, payload, key, due in entries:
                if routes.misses(exchange, routing_key):
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
                if not connection.execute(_QUEUE_OF_ID, (queue,)).fetchall():
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
            until, token = now + _milliseconds(lease), NOBODY + secrets.randbits(46)
            for queue, number in wanted:
                for id_ in queue_ids(connection, queue):
                    rows = connection.execute(_READY_ONES, (id_, number)).fetchall()
                    connection.executemany(_LEASE, [(until, token, row[0]) for row in rows])
                    taken += [
                        Stored(f"{message}:{token}", queue, payload, deliveries)
                        for message, payload, deliveries in rows
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
        with self._database.writing(durable=False) as connection:
            before = connection.total_changes
            count = connection.executemany(_ACKNOWLEDGE, _numbers(ids)).rowcount
            follow = connection.total_changes - before > count
        if follow:
            self._database.tell()
        return count

    def release(self, ids: Sequence[str]) -> None:
        with self._database.writing(durable=False) as connection:
            connection.executemany(_FORGIVE, _numbers(ids))
            connection.executemany(_RELEASE, _numbers(ids))
        self._database.tell()

    def postpone(self, id_: str, payload: bytes, seconds: float) -> bool:
        due = _now() + _milliseconds(seconds)
        with self._database.writing(durable=False) as connection:
            found = connection.execute(_POSTPONE, (due, payload, *_numbers([id_])[0])).rowcount
        self._database.tell()
        return found == 1

    def renew(self, ids: Sequence[str], lease: float) -> None:
        until = _now() + _milliseconds(lease)
        with self._database.writing(durable=False) as connection:
            connection.executemany(_RENEW, [(until, *pair) for pair in _numbers(ids)])

    def size(self, queue: str) -> int:
        now = _now()
        with self._database.reading() as connection:
            for id_ in queue_ids(connection, queue, now):
                ((count,),) = connection.execute(_SIZE, (id_, id_, now)).fetchall()
                return int(count)
        return 0

    def purge(self, queue: str) -> int:
        last, count = None, 0
        while True:
            with self._database.writing(durable=False) as connection:
                if last is None:
                    # What is published meanwhile stays.
                    ((last,),) = connection.execute(_LAST).fetchall()
                swept = _sweep_messages(connection, _now())
                ids = queue_ids(connection, queue)
                removed = sum(connection.execute(_PURGE, (id_, last)).rowcount for id_ in ids)
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

    def _current_routes(self, connection: sqlite3.Connection) -> Routes[int, tuple[int, int]]:
        """Return where messages go at this moment, whoever changed it last."""
        ((number,),) = connection.execute("SELECT version FROM gemstone_routing").fetchall()
        version = (self._database.generation, number)
        if self._routes is None or self._routes.version != version:
            self._routes = read_routes(connection, version, self._known)
        return self._routes


def _sweep_messages(connection: sqlite3.Connection, now: int) -> int:
    """Take back what leases have ended for, then free what is due; return how many these were."""
    ended = connection.execute(_LEASE_ENDED, (now,)).fetchall()
    for message, deliveries, limit, dead_letters in ended:
        if limit is not None and dead_letters is not None and deliveries + 1 >= limit:
            connection.execute(_TO_DEAD_LETTERS, (dead_letters, now, message))
            connection.execute("DELETE FROM gemstone_messages WHERE id = ?", (message,))
        else:
            connection.execute(_TAKE_BACK, (message,))
    return len(ended) + connection.execute(_BECOME_DUE, (now,)).rowcount


def _columns(queue: StoredQueue) -> Mapping[str, object]:
    name, expires, limit, dead = queue
    milliseconds = None if expires is None else _milliseconds(expires)
    return {"queue": name, "expires": milliseconds, "limit": limit, "dead": dead}


def _numbers(ids: Sequence[str]) -> list[tuple[int, int]]:
    pairs = [id_.split(":") for id_ in ids]
    return [(int(message), int(token)) for message, token in pairs]


def _now() -> int:
    return int(time.time() * 1000)


def _milliseconds(seconds: float) -> int:
    return max(1, min(math.ceil(seconds * 1000), _LATEST))
