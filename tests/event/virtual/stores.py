"""Every kind of store that there is, for the suites that all of them pass.

Each gets a folder that is empty, and gives a function that makes one more store over the same
messages, not open yet: as another process would have one.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from gemstone_sync.event.virtual.redis_store import RedisStore
from gemstone_sync.event.virtual.sqlite_store import SqliteStore
from gemstone_sync.event.virtual.store import QueueStore
from tests.support.redis import REDIS_URL, shared_redis

MakeStore = Callable[[], QueueStore]


@contextlib.contextmanager
def sqlite(folder: Path) -> Iterator[MakeStore]:
    yield lambda: SqliteStore(folder / "events.db")


@contextlib.contextmanager
def memory(folder: Path) -> Iterator[MakeStore]:
    yield SqliteStore(":memory:").another


@contextlib.contextmanager
def redis(folder: Path) -> Iterator[MakeStore]:
    with shared_redis() as prefix:
        yield lambda: RedisStore(REDIS_URL, prefix=prefix)


STORES = {"sqlite": sqlite, "memory": memory, "redis": redis}
