"""A store in a SQLite file."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gemstone_sync.event.virtual.sqlite_store import SqliteStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    """There is a queue "q"."""
    store = SqliteStore(path)
    store.declare_queue("q")
    yield store
    store.close()
