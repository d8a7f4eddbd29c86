"""The tables of `SqliteStore`, with their version in ``PRAGMA user_version``; and routing rows.

A message is in one of four states::

    DUE ---> READY <--> LEASED ---> (gone)
     ^
    BEHIND   another one with its key is before it in its queue

Who takes messages writes a number by chance with them (`takes`): in a file that another one, or an
older copy, takes the place of, what was taken before is nobody's. A message's moment is when it
becomes due (DUE, BEHIND) or when its lease ends (LEASED). Of those with one
key in one queue only the first is in another state than BEHIND; when it goes, a trigger moves the
next one up, so that `READY` alone is what can be taken, with an index on it.

All values that change when a message is taken keep their size in the row, so that SQLite writes
over them instead of moving a payload that may be large: states are one byte, the numbers six.

All functions are called within a transaction.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

from ....errors import StoreFault
from ..stores.store import Binding, KnownBindings, Routes

VERSION = 1

READY, DUE, LEASED, BEHIND = 2, 3, 4, 5
#: In `takes` of what nobody has taken; those who take add to it.
NOBODY = 1 << 46

_STATEMENTS = (
    # AUTOINCREMENT here and below: a number of something that is gone must mean nothing else.
    "CREATE TABLE gemstone_queues ("
    "id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, "
    "expires INTEGER, delivery_limit INTEGER, dead_letter_queue TEXT, expires_at INTEGER)",
    "CREATE INDEX gemstone_queues_expiring ON gemstone_queues (expires_at) "
    "WHERE expires_at IS NOT NULL",
    "CREATE TABLE gemstone_exchanges (name TEXT PRIMARY KEY, kind TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE gemstone_bindings (exchange TEXT, pattern TEXT, queue INTEGER, "
    "PRIMARY KEY (exchange, pattern, queue)) WITHOUT ROWID",
    "CREATE INDEX gemstone_bindings_queue ON gemstone_bindings (queue)",
    # Another version with each change of the tables above that matters for where messages go.
    "CREATE TABLE gemstone_routing (id INTEGER PRIMARY KEY, version INTEGER NOT NULL)",
    "INSERT INTO gemstone_routing VALUES (1, 1)",
    "CREATE TABLE gemstone_messages ("
    "id INTEGER PRIMARY KEY AUTOINCREMENT, queue INTEGER NOT NULL, state INTEGER NOT NULL, "
    "moment INTEGER NOT NULL, takes INTEGER NOT NULL DEFAULT 0, "
    "deliveries INTEGER NOT NULL DEFAULT 0, key BLOB, payload BLOB NOT NULL)",
    "CREATE INDEX gemstone_messages_place ON gemstone_messages (queue, state)",
    f"CREATE INDEX gemstone_messages_due ON gemstone_messages (moment) WHERE state = {DUE}",
    f"CREATE INDEX gemstone_messages_leased ON gemstone_messages (moment) WHERE state = {LEASED}",
    "CREATE INDEX gemstone_messages_key ON gemstone_messages (queue, key) WHERE key IS NOT NULL",
    "CREATE TRIGGER gemstone_messages_next AFTER DELETE ON gemstone_messages "
    f"WHEN OLD.key IS NOT NULL AND OLD.state != {BEHIND} BEGIN "
    f"UPDATE gemstone_messages SET state = {DUE} WHERE id = "
    "(SELECT id FROM gemstone_messages WHERE queue = OLD.queue AND key = OLD.key "
    "ORDER BY id LIMIT 1); END",
    f"PRAGMA user_version = {VERSION}",
)


def create_tables(connection: sqlite3.Connection, name: str) -> None:
    """Make the tables where there are none.

    :param name: what messages call the database.
    :raises StoreFault: when what is there is not of this version.
    """
    ((version,),) = connection.execute("PRAGMA user_version").fetchall()
    if version == VERSION:
        return
    if version > VERSION:
        raise StoreFault(
            f"{name}: its tables are of version {version}, and this gemstone_sync knows up to "
            f"{VERSION}: upgrade it, or choose another file"
        )
    found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    # Handled events and an outbox may lie in the same file.
    foreign = [table for (table,) in found if not table.startswith(("gemstone_", "sqlite_"))]
    if foreign:
        raise StoreFault(
            f"{name} is the database of another program (it has a table {foreign[0]!r}): choose "
            "another file for the events"
        )
    for statement in _STATEMENTS:
        connection.execute(statement)


_BINDINGS = (
    "SELECT b.exchange, b.pattern, q.name, q.expires IS NULL FROM gemstone_bindings b "
    "JOIN gemstone_queues q ON q.id = b.queue"
)


def read_routes(
    connection: sqlite3.Connection, version: tuple[int, int], known: KnownBindings | None
) -> Routes[int, tuple[int, int]]:
    """Read where messages go; a queue is known by its number."""
    ids = dict(connection.execute("SELECT name, id FROM gemstone_queues").fetchall())
    kinds = dict(connection.execute("SELECT name, kind FROM gemstone_exchanges").fetchall())
    bindings = (
        ((exchange, pattern, queue), bool(lasts))
        for exchange, pattern, queue, lasts in connection.execute(_BINDINGS).fetchall()
    )
    return Routes(version, kinds, bindings, ids.get, known)


def routing_changed(connection: sqlite3.Connection) -> None:
    """Have all who publish read the routes anew."""
    # By chance: in an older copy of the file a count would come again, for other routes.
    connection.execute("UPDATE gemstone_routing SET version = random()")


def queue_ids(connection: sqlite3.Connection, queue: str, now: int = 0) -> list[int]:
    """Return the queue's number, if there is such a queue, and it has not expired by `now`."""
    rows = connection.execute(
        "SELECT id FROM gemstone_queues WHERE name = ? AND coalesce(expires_at > ?, 1)",
        (queue, now),
    ).fetchall()
    return [id_ for (id_,) in rows]


def gone(
    connection: sqlite3.Connection, queues: Sequence[str], bindings: Sequence[Binding]
) -> list[str]:
    """Return the names of the queues that are not there, or not bound as they should be."""
    there = {name for (name,) in connection.execute("SELECT name FROM gemstone_queues").fetchall()}
    bound = {row[:3] for row in connection.execute(_BINDINGS).fetchall()}
    unbound = [binding[2] for binding in bindings if binding not in bound]
    return [queue for queue in queues if queue not in there] + unbound


def expiring(connection: sqlite3.Connection, now: int) -> set[str]:
    """Return the names of the queues of which a quarter of their time is over."""
    rows = connection.execute(
        "SELECT name FROM gemstone_queues WHERE expires_at < ? + expires * 3 / 4", (now,)
    ).fetchall()
    return {name for (name,) in rows}


def remove_expired(connection: sqlite3.Connection, now: int) -> None:
    """Remove the queues whose time is over."""
    rows = connection.execute(
        "SELECT id FROM gemstone_queues WHERE expires_at <= ?", (now,)
    ).fetchall()
    remove_queues(connection, [id_ for (id_,) in rows])


def remove_queues(connection: sqlite3.Connection, ids: Iterable[int]) -> None:
    """Remove queues, their bindings and their messages."""
    for id_ in ids:
        for table, column in (("messages", "queue"), ("bindings", "queue"), ("queues", "id")):
            connection.execute(f"DELETE FROM gemstone_{table} WHERE {column} = ?", (id_,))
        routing_changed(connection)
