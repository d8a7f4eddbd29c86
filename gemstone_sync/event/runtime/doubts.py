"""Deliveries that came before: what has become of them is asked before they begin.

Those of which processes may have died are handled one by one, as `isolation` tells.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from ..link import Delivery, Link
from .isolation import SUSPICIOUS, Suspects
from .queue_state import Line

__all__ = ["Doubts"]


class Doubts:
    """Those of one consumer."""

    def __init__(self) -> None:
        self._unasked: deque[tuple[Line, Delivery]] = deque()
        self._marked: set[Delivery] = set()
        self._suspects: Suspects[Line] = Suspects()

    def hold_back(self, line: Line, delivery: Delivery) -> bool:
        """Whether a delivery may not begin yet; then `cleared` gives it back."""
        if line.queue is None or delivery in self._marked:
            return False
        self._unasked.append((line, delivery))
        return True

    def cleared(self, link: Link) -> Iterator[tuple[Line, Delivery]]:
        """Those that may begin now.

        Of suspects the next one only after what was handled has been acknowledged: it may end the
        process.
        """
        while self._unasked:
            line, delivery = self._unasked.popleft()
            link.mark(delivery)
            self._marked.add(delivery)
            # With keys the order holds, and only one of each is handled anyway.
            if delivery.crashes >= SUSPICIOUS and not line.keyed:
                self._suspects.add(line, delivery)
            else:
                yield line, delivery
        if suspect := self._suspects.next():
            yield suspect

    def settle(self, link: Link, deliveries: list[Delivery], *, done: bool) -> None:
        """They did not end this process. :param done: see `Link.unmark`."""
        if self._marked and (marked := self._marked.intersection(deliveries)):
            link.unmark(list(marked), done=done)
            self._marked -= marked

    def finished(self, delivery: Delivery) -> None:
        """It has been handled: the next suspect has its turn."""
        self._suspects.finished(delivery)

    def inherit(self, delivery: Delivery, heir: Delivery) -> None:
        """The redelivery of one whose link is gone goes on in its stead."""
        if delivery in self._marked:
            self._marked.discard(delivery)
            self._marked.add(heir)

    def drop(self, delivery: Delivery) -> None:
        """It is delivered elsewhere, or comes later."""
        self._marked.discard(delivery)

    def forget_link(self) -> None:
        """The link is gone, and with it those that wait."""
        self._unasked.clear()
        self._suspects.forget()
