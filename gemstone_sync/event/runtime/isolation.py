"""Events whose process may have died of them: handled one at a time, in an order of their own.

When a process dies, a broker counts a delivery for everything that the process held. If all of it
were handled at once again, those that are innocent would come back as often as the one that kills,
and end with it among the dead letters. So they go one by one, each after the one before has been
acknowledged, in an order by chance that is turned round with the next delivery: what stood behind
the one that kills stands before it then. Two deaths leave none of the innocent ones that were held
together. (By chance alone each death leaves half of them: of a hundred, one after seven.) For two
that kill, whose neighbours in between would never be done, each second delivery draws a new order.
"""

from __future__ import annotations

import hashlib
from typing import Generic, TypeVar

from ..link import Delivery

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
        chosen = min(range(len(self._waiting)), key=lambda at: _rank(self._waiting[at][1]))
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


def _rank(delivery: Delivery) -> int:
    """Its place in the order of its delivery; every process comes to the same."""
    pair, reverse = divmod(delivery.deliveries or 0, 2)
    drawn = hashlib.blake2b(f"{delivery.envelope.id} {pair}".encode(), digest_size=8).digest()
    place = int.from_bytes(drawn, "big")
    return -place if reverse else place
