"""Stores of each kind, with nothing left behind."""

import functools
from typing import Any

import pytest

from gemstone_sync.event.deduplication import (
    MemoryProcessedEvents,
    ProcessedEvents,
    RedisProcessedEvents,
    SqliteProcessedEvents,
)
from tests.support.redis import REDIS_URL, shared_redis
from tests.support.waiting import LIMIT


class Place:
    """Where a kind of store keeps its memory.

    :ivar expression: makes such a store in another process.
    """

    def __init__(self, kind: type, *where: str, **options: Any) -> None:
        self._make = functools.partial(kind, *where, **options)
        self.expression = f"{kind.__name__}(*{where!r}, **{options!r})"
        self._made: list[ProcessedEvents] = []

    def store(self, **options: Any) -> ProcessedEvents:
        self._made.append(self._make(**options))
        return self._made[-1]

    def close(self) -> None:
        for made in self._made:
            made.close()


@pytest.fixture
def memory():
    return Place(MemoryProcessedEvents)


@pytest.fixture
def sqlite(tmp_path):
    place = Place(SqliteProcessedEvents, str(tmp_path / "handled.db"), timeout=LIMIT)
    yield place
    place.close()


@pytest.fixture
def redis():
    with shared_redis() as prefix:
        place = Place(RedisProcessedEvents, REDIS_URL, prefix=prefix, timeout=LIMIT)
        yield place
        place.close()


@pytest.fixture(params=["memory", "sqlite", "redis"])
def place(request):
    """One of each."""
    return request.getfixturevalue(request.param)


@pytest.fixture(params=["sqlite", "redis"])
def shared_place(request):
    """One of each that several processes can use."""
    return request.getfixturevalue(request.param)
