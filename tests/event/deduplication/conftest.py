"""Stores of each kind, with nothing left behind."""

from collections.abc import Callable, Iterator
from pathlib import Path
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

Make = Callable[..., ProcessedEvents]


class Place:
    """Where a kind of store keeps its memory.

    :ivar expression: makes such a store in another process.
    """

    def __init__(self, expression: str, make: Make) -> None:
        self.expression = expression
        self._make = make
        self._made: list[ProcessedEvents] = []

    def store(self, **options: Any) -> ProcessedEvents:
        made = self._make(**options)
        self._made.append(made)
        return made

    def close(self) -> None:
        for made in self._made:
            made.close()


@pytest.fixture
def memory() -> Place:
    return Place("", MemoryProcessedEvents)


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Place]:
    path = str(tmp_path / "handled.db")

    def make(**options: Any) -> ProcessedEvents:
        return SqliteProcessedEvents(path, **{"timeout": LIMIT, **options})

    place = Place(f"SqliteProcessedEvents({path!r}, timeout={LIMIT})", make)
    yield place
    place.close()


@pytest.fixture
def redis() -> Iterator[Place]:
    with shared_redis() as prefix:

        def make(**options: Any) -> ProcessedEvents:
            return RedisProcessedEvents(REDIS_URL, prefix=prefix, timeout=LIMIT, **options)

        expression = f"RedisProcessedEvents({REDIS_URL!r}, prefix={prefix!r}, timeout={LIMIT})"
        place = Place(expression, make)
        yield place
        place.close()


@pytest.fixture(params=["memory", "sqlite", "redis"])
def place(request: pytest.FixtureRequest) -> Place:
    """One of each."""
    return request.getfixturevalue(request.param)


@pytest.fixture(params=["sqlite", "redis"])
def shared_place(request: pytest.FixtureRequest) -> Place:
    """One of each that several processes can use."""
    return request.getfixturevalue(request.param)
