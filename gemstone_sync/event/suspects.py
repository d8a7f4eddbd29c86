"""Events whose process may have died of them: handled one at a time, in an order by chance.

When a process dies, a broker counts a delivery for everything that the process held. If all of it
were handled at once again, those that are innocent would come back as often as the one that kills,
and end with it among the dead letters. So they go one by one, each after the one before has been
acknowledged; and by chance, because behind one that always went first nothing would ever be done.
Each death then leaves half of the innocent ones, on average: of a hundred, none after seven.
"""

from __future__ import annotations

import random
from typing import Generic, TypeVar

from .link import Delivery

__all__ = ["SUSPICIOUS", "Suspects"]

L = TypeVar("L")

#: From so many deliveries without an answer on an event is a suspect. One is a deploy, or bad luck.
SUSPICIOUS = 2


class Suspects(Generic[L]):
    """Those that wait for their turn, and the one that has it."""

    def __init__(self) -> None:
        self._waiting: list[tuple[L, Delivery]] = []
        self._running: Delivery | None = None

    def add(self, line: L, delivery: Delivery) -> None:
        """It has arrived, by a line."""
        self._waiting.append((line, delivery))

    def next(self) -> tuple[L, Delivery] | None:
        """Whose turn it is now; None while one has it, or when there is none."""
        if self._running is not None or not self._waiting:
            return None
        chosen = random.randrange(len(self._waiting))
        self._waiting[chosen], self._waiting[-1] = self._waiting[-1], self._waiting[chosen]
        line, self._running = self._waiting.pop()
        return line, self._running

    def finished(self, delivery: Delivery) -> None:
        """It has been handled, if it was one of them."""
        if delivery is self._running:
            self._running = None

    def forget(self) -> None:
        """The link is gone, and with it those that wait."""
        self._waiting.clear()
