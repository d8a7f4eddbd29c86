"""The tables of `SqliteStore`, with their version in ``PRAGMA user_version``.

A message is in one of four states::

    DUE ---> READY <--> LEASED ---> (gone)
     ^
    BEHIND   another one with its key is before it in its queue

Its moment is when it becomes due (DUE, BEHIND) or when its lease ends (LEASED). Of those with one
key in one queue only the first is in another state than BEHIND; when it goes, a trigger moves the
next one up, so that `READY` alone is what can be taken, with an index on it.

All values that change when a message is taken keep their size in the row, so that SQLite writes
over them instead of moving a payload that may be large: states are one byte, moments six.
"""

from __future__ import annotations

import sqlite3

from ....errors import StoreFault

__all__ = ["BEHIND", "DUE", "LEASED", "READY", "VERSION", "create_tables"]

VERSION = 1

READY, DUE, LEASED, BEHIND = 2, 3, 4, 5

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
    # Counts the changes of the three tables above, as far as they matter for where messages go.
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
    """Make the tables where there are none. In a transaction.

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
