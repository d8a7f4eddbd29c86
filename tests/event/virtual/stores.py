"""Every kind of store that there is, for the one suite that all of them pass.

A kind opens something to keep messages in, and makes stores over it: each as another process would
have one.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from gemstone_sync.event.virtual.redis_store import RedisStore
from gemstone_sync.event.virtual.sqlite_store import SqliteStore
from gemstone_sync.event.virtual.store import QueueStore
from tests.support.redis import REDIS_URL, shared_redis

MakeStore = Callable[[], QueueStore]


class StoreKind(NamedTuple):
    """A kind of store.

    :ivar opened: gets a folder that is empty; a context manager that gives a function which makes
        one more store over the same messages, not open yet, and that cleans up in the end.
    """

    name: str
    opened: Callable[[Path], contextlib.AbstractContextManager[MakeStore]]


@contextlib.contextmanager
def sqlite_file(folder: Path) -> Iterator[MakeStore]:
    yield lambda: SqliteStore(folder / "events.db")


@contextlib.contextmanager
def memory(folder: Path) -> Iterator[MakeStore]:
    yield SqliteStore(":memory:").another


@contextlib.contextmanager
def redis(folder: Path) -> Iterator[MakeStore]:
    with shared_redis() as prefix:
        yield lambda: RedisStore(REDIS_URL, prefix=prefix)


#: All of them; a new kind is added here.
STORES = [
    StoreKind("sqlite", sqlite_file),
    StoreKind("memory", memory),
    StoreKind("redis", redis),
]
