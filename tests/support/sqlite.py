"""SQLite files of the tests, as another program sees them."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def locked(path: str | Path) -> Iterator[None]:
    """Another program writes into the file, and does not end its transaction."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield


def execute(path: str | Path, statement: str) -> list[Any]:
    """Execute a statement over a connection of its own; the rows."""
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(statement).fetchall()
