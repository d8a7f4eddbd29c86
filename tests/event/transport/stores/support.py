"""Every kind of store that there is, for the suites that all of them pass.

Each gets a folder that is empty, and gives a function that makes one more store over the same
messages, not open yet: as another process would have one.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from gemstone_sync.event.transport.redis.store import RedisStore
from gemstone_sync.event.transport.sqlite.store import SqliteStore
from gemstone_sync.event.transport.stores.store import Entry, QueueStore, Stored, StoredQueue
from tests.support.redis import REDIS_URL, shared_redis

#: Seconds; longer than any test.
LEASE = 60.0

MakeStore = Callable[..., QueueStore]


@contextlib.contextmanager
def sqlite(folder: Path) -> Iterator[MakeStore]:
    yield functools.partial(SqliteStore, str(folder / "events.db"))


@contextlib.contextmanager
def memory(folder: Path) -> Iterator[MakeStore]:
    yield SqliteStore(":memory:").another


@contextlib.contextmanager
def redis(folder: Path) -> Iterator[MakeStore]:
    with shared_redis() as prefix:
        yield functools.partial(RedisStore, REDIS_URL, prefix=prefix)


STORES = {"sqlite": sqlite, "memory": memory, "redis": redis}


def declare_exchange(store: QueueStore, exchange: str, kind: str) -> None:
    store.declare({exchange: kind})


def declare_queue(store: QueueStore, queue: str, **options: Any) -> None:
    store.declare({}, [StoredQueue(queue, **options)])


def bind(store: QueueStore, exchange: str, pattern: str, queue: str) -> None:
    store.declare({}, [], [(exchange, pattern, queue)])


def put(store: QueueStore, *payloads: str, queue: str = "q", **options: Any) -> None:
    """Publish straight to a queue that is there."""
    entries = [Entry("", queue, payload.encode(), **options) for payload in payloads]
    assert store.publish(entries) == [1] * len(payloads)


def take(store: QueueStore, number: int = 10, queue: str = "q") -> list[str]:
    return texts(store.take([(queue, number)], LEASE))


def texts(taken: Sequence[Stored]) -> list[str]:
    return [message.payload.decode() for message in taken]
