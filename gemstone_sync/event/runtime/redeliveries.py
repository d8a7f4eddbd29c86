"""Redeliveries: an event that comes again while its first run goes on, or has just ended.

A broker delivers again what a lost connection had. Here it is known which of that still runs in
this process, or waits to be tried again, or has ended without the broker hearing of it: it is not
run once more; the new delivery is settled in the stead of the first one.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..link import Delivery

__all__ = ["Redeliveries"]

#: Of how many that have ended it is known. More than are received in advance, so than those whose
#: acknowledgements a lost connection may take along.
_ENDED = 5000


class Redeliveries:
    """Recognizes the redeliveries of what has begun in this process, by queue and id."""

    def __init__(self) -> None:
        #: What runs, or waits to be tried again.
        self._begun: dict[tuple[str, str], Delivery] = {}
        #: Its redeliveries over the link that there is.
        self._again: dict[Delivery, list[Delivery]] = {}
        #: What was handled: a hash of its event, and whether the broker cannot have heard of it.
        self._ended: dict[tuple[str, str], tuple[int, bool]] = {}

    def begin(self, delivery: Delivery) -> None:
        """Note a delivery that is about to run."""
        self._begun[delivery.queue, delivery.envelope.id] = delivery

    def end(self, delivery: Delivery, *, handled: bool) -> list[Delivery]:
        """Return what is to be settled now that a delivery has ended.

        :param handled: later redeliveries are only to be acknowledged.
        :returns: the delivery, unless its link is gone, and its redeliveries.
        """
        key = delivery.queue, delivery.envelope.id
        if self._begun.get(key) is delivery:
            del self._begun[key]
        here = [] if delivery.gone else [delivery]
        if self._again:
            here += self._again.pop(delivery, ())
        if handled and not delivery.may_repeat:
            ended = self._ended
            ended[key] = (hash(delivery.envelope), not here)
            if len(ended) > _ENDED:
                del ended[next(iter(ended))]
        return here

    def has_begun(self, delivery: Delivery) -> bool:
        """Tell whether a delivery runs, or waits to be tried again."""
        return self._begun.get((delivery.queue, delivery.envelope.id)) is delivery

    def has_come_again(self, delivery: Delivery) -> bool:
        """Tell whether a delivery whose link is gone was delivered again."""
        return delivery in self._again

    def attach(self, delivery: Delivery) -> bool:
        """Settle an arrival with what has begun, if it is a redelivery of that; tell whether."""
        first = self._begun.get((delivery.queue, delivery.envelope.id))
        if first is None or not (first.gone or delivery.deliveries):
            return False
        # Other programs may use an id twice.
        if first.envelope != delivery.envelope:
            return False
        self._again.setdefault(first, []).append(delivery)
        return True

    def was_handled(self, delivery: Delivery) -> bool:
        """Tell whether an arrival is the redelivery of what was handled."""
        found = self._ended.get((delivery.queue, delivery.envelope.id))
        if found is None or not (found[1] or delivery.deliveries):
            return False
        return found[0] == hash(delivery.envelope)

    def forget_link(self, unheard: Iterable[Delivery]) -> None:
        """Forget the redeliveries over a lost link; what has begun goes on.

        :param unheard: were handled, and the broker may not have heard of it.
        """
        self._again.clear()
        for delivery in unheard:
            key = delivery.queue, delivery.envelope.id
            if key in self._ended:
                self._ended[key] = (self._ended[key][0], True)
