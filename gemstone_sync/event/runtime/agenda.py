"""What is to be done when: things with the moments of their turns."""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Iterator
from typing import Generic, TypeVar

__all__ = ["Agenda"]

T = TypeVar("T")


class Agenda(Generic[T]):
    """Things that wait for their moment; those of one moment in the order in which they came."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, T]] = []
        self._numbers = itertools.count()

    def __len__(self) -> int:
        return len(self._heap)

    @property
    def moment(self) -> float:
        """When the first one has its turn, by ``time.monotonic()``; infinity when there is none."""
        return self._heap[0][0] if self._heap else float("inf")

    def add(self, seconds: float, thing: T) -> None:
        """It has its turn in so many seconds."""
        heapq.heappush(self._heap, (time.monotonic() + seconds, next(self._numbers), thing))

    def due(self) -> Iterator[T]:
        """Take out, one by one, those whose moment has come."""
        now = time.monotonic()
        while self._heap and self._heap[0][0] <= now:
            yield heapq.heappop(self._heap)[2]

    def clear(self) -> list[T]:
        """Take out all of them, in their order."""
        heap, self._heap = sorted(self._heap, key=lambda each: each[:2]), []
        return [thing for _, _, thing in heap]

    def first(self) -> T | None:
        """The first one, which stays; None when there is none. From any thread."""
        heap = self._heap
        try:
            return heap[0][2]
        except IndexError:
            return None
