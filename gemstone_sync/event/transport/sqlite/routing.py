"""Rows of `SqliteStore` that say where messages go: queues, exchanges, bindings.

All functions are called within a transaction.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

from ..stores.store import Binding, route

__all__ = [
    "Routes",
    "expiring",
    "gone",
    "options_of",
    "queue_ids",
    "remove_expired",
    "remove_queues",
    "routing_changed",
]

#: Routes kept; an application whose event names have no end must not fill the memory.
_ROUTES = 10_000


class Routes:
    """Where messages go, as it was at one version."""

    def __init__(self, version: tuple[int, int], connection: sqlite3.Connection) -> None:
        self.version = version
        self._queues: dict[str, int] = dict(
            connection.execute("SELECT name, id FROM gemstone_queues").fetchall()
        )
        self._kinds: dict[str, str] = dict(
            connection.execute("SELECT name, kind FROM gemstone_exchanges").fetchall()
        )
        self._bindings: dict[str, list[tuple[str, str]]] = {}
        #: Those of queues that do not expire.
        self.lasting: list[Binding] = []
        for exchange, pattern, queue, expires in connection.execute(
            "SELECT b.exchange, b.pattern, q.name, q.expires FROM gemstone_bindings b "
            "JOIN gemstone_queues q ON q.id = b.queue"
        ).fetchall():
            self._bindings.setdefault(exchange, []).append((pattern, queue))
            if expires is None:
                self.lasting.append((exchange, pattern, queue))
        self._known: dict[tuple[str, str], list[int]] = {}

    def queues_of(self, exchange: str, routing_key: str) -> list[int]:
        """The numbers of the queues; none for a queue or an exchange that is not there."""
        queues = self._known.get((exchange, routing_key))
        if queues is None:
            names = [routing_key]
            if exchange:
                bindings = self._bindings.get(exchange, [])
                names = route(self._kinds.get(exchange, ""), bindings, routing_key)
            queues = [self._queues[name] for name in names if name in self._queues]
            if len(self._known) >= _ROUTES:
                self._known.clear()
            self._known[exchange, routing_key] = queues
        return queues


def routing_changed(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE gemstone_routing SET version = version + 1")


def queue_ids(connection: sqlite3.Connection, queue: str, now: int = 0) -> list[int]:
    """The queue's number, if there is such a queue, and it has not expired by `now`."""
    rows = connection.execute(
        "SELECT id FROM gemstone_queues WHERE name = ? AND coalesce(expires_at > ?, 1)",
        (queue, now),
    ).fetchall()
    return [id_ for (id_,) in rows]


def options_of(
    connection: sqlite3.Connection, queue: str
) -> tuple[int | None, int | None, str | None] | None:
    rows = connection.execute(
        "SELECT expires, delivery_limit, dead_letter_queue FROM gemstone_queues WHERE name = ?",
        (queue,),
    ).fetchall()
    return rows[0] if rows else None


def gone(
    connection: sqlite3.Connection, queues: Sequence[str], bindings: Sequence[Binding]
) -> list[str]:
    """The names of the queues that are not there, or not bound as they should be."""
    there = {name for (name,) in connection.execute("SELECT name FROM gemstone_queues").fetchall()}
    bound = set(
        connection.execute(
            "SELECT b.exchange, b.pattern, q.name FROM gemstone_bindings b "
            "JOIN gemstone_queues q ON q.id = b.queue"
        ).fetchall()
    )
    unbound = [binding[2] for binding in bindings if binding not in bound]
    return [queue for queue in queues if queue not in there] + unbound


def expiring(connection: sqlite3.Connection, now: int) -> set[str]:
    """The names of the queues of which a quarter of their time is over."""
    rows = connection.execute(
        "SELECT name FROM gemstone_queues WHERE expires_at < ? + expires * 3 / 4", (now,)
    ).fetchall()
    return {name for (name,) in rows}


def remove_expired(connection: sqlite3.Connection, now: int) -> None:
    rows = connection.execute(
        "SELECT id FROM gemstone_queues WHERE expires_at <= ?", (now,)
    ).fetchall()
    remove_queues(connection, [id_ for (id_,) in rows])


def remove_queues(connection: sqlite3.Connection, ids: Iterable[int]) -> None:
    for id_ in ids:
        for table, column in (("messages", "queue"), ("bindings", "queue"), ("queues", "id")):
            connection.execute(f"DELETE FROM gemstone_{table} WHERE {column} = ?", (id_,))
        routing_changed(connection)
