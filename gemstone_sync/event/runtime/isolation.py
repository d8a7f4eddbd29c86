"""Poison isolation: events of which processes may have died are handled one at a time.

When a process dies, a broker counts a delivery for everything that the process held. If all of it
were handled at once again, those that are innocent would come back as often as the one that kills,
and end with it among the dead letters. So they go one by one, each after the one before has been
acknowledged, in an order by chance that is turned round with the next delivery: what stood behind
the one that kills stands before it then. Two deaths leave none of the innocent ones that were held
together. (By chance alone each death leaves half of them: of a hundred, one after seven.) For two
that kill, whose neighbours in between would never be done, each second delivery draws a new order.

Before one that was delivered before begins, the link is asked how many processes have died of it,
and notes that this one is about to handle it (`Link.mark`); the note is taken away when the event
is settled, or its link was lost, while this process lives (`Link.unmark`).
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Container, Iterator

from ..link import Delivery, Link
from .queue_state import QueueState

__all__ = ["SUSPICIOUS", "PoisonIsolation"]

#: From so many deliveries without an answer on an event is handled alone. One is a deploy, or bad
#: luck.
SUSPICIOUS = 2


class PoisonIsolation:
    """Holds redeliveries back until they may begin."""

    def __init__(self) -> None:
        #: Those of which the link is to be asked, with their queues.
        self._unasked: deque[tuple[QueueState, Delivery]] = deque()
        self._marked: set[Delivery] = set()
        #: Those that wait to be handled alone, and the one that is.
        self._isolated: list[Delivery] = []
        self._running: Delivery | None = None

    def holds_back(self, state: QueueState, delivery: Delivery) -> bool:
        """Tell whether a delivery may not begin yet; `cleared` yields it once it may."""
        if state.queue is None or delivery in self._marked:
            return False
        self._unasked.append((state, delivery))
        return True

    def cleared(self, link: Link) -> Iterator[Delivery]:
        """Yield the deliveries that may begin now.

        Of those that are isolated the next one only after what was handled has been acknowledged:
        it may end the process.
        """
        while self._unasked:
            state, delivery = self._unasked.popleft()
            link.mark(delivery)
            self._marked.add(delivery)
            # With keys the order holds, and only one of each is handled anyway.
            if delivery.crashes >= SUSPICIOUS and not state.keyed:
                self._isolated.append(delivery)
            else:
                yield delivery
        if self._isolated and self._running is None:
            self._running = min(self._isolated, key=_place)
            self._isolated.remove(self._running)
            yield self._running

    def finished(self, delivery: Delivery) -> None:
        """Let the next isolated delivery begin, if this was one."""
        if delivery is self._running:
            self._running = None

    def settle(self, link: Link, deliveries: list[Delivery], *, done: bool) -> None:
        """Tell the link that these did not end this process.

        :param done: see `Link.unmark`.
        """
        if self._marked and (marked := self._marked.intersection(deliveries)):
            link.unmark(list(marked), done=done)
            self._marked -= marked

    def inherit(self, delivery: Delivery, heir: Delivery) -> None:
        """Have a redelivery settled in the stead of the delivery whose link is gone."""
        if delivery in self._marked:
            self._marked.discard(delivery)
            self._marked.add(heir)
            heir.crashes = delivery.crashes

    def forget_link(self, begun: Container[Delivery]) -> None:
        """Forget the deliveries of a lost link, but for those that have begun."""
        self._unasked.clear()
        self._isolated.clear()
        if self._running not in begun:
            self._running = None


def _place(delivery: Delivery) -> int:
    """Return a place in the order of this delivery; every process comes to the same."""
    pair, reverse = divmod(delivery.deliveries or 0, 2)
    drawn = hashlib.blake2b(f"{delivery.envelope.id} {pair}".encode(), digest_size=8).digest()
    place = int.from_bytes(drawn, "big")
    return -place if reverse else place
