"""Redeliveries: an event that comes again while its first run goes on, or has just ended.

A broker delivers again what a lost connection had. Here it is known which of that still runs in
this process, or waits to be tried again, or has ended without the broker hearing of it: it is not
run once more; the new delivery takes the place of the first one, and is settled in its stead.
"""

from __future__ import annotations

from ..link import Delivery, Link

__all__ = ["Redeliveries"]

#: Of how many that have ended it is known. More than are received in advance, so than those whose
#: acknowledgements a lost connection may take along.
_ENDED = 5000


class Redeliveries:
    """What has begun in this process and its redeliveries, by queue and id."""

    def __init__(self) -> None:
        #: What runs, or waits to be tried again.
        self._begun: dict[tuple[str, str], Delivery] = {}
        #: Its redeliveries.
        self._again: dict[Delivery, list[Delivery]] = {}
        #: What was handled: a hash of its event, and whether the broker cannot have heard of it.
        self._ended: dict[tuple[str, str], tuple[int, bool]] = {}

    def begin(self, delivery: Delivery) -> None:
        """It is about to run."""
        self._begun[delivery.queue, delivery.envelope.id] = delivery

    def end(
        self, delivery: Delivery, *, handled: bool = False, unheard: bool = False
    ) -> list[Delivery]:
        """It does not run any more. All that are to be settled now: it, and its redeliveries.

        :param handled: later redeliveries are only to be acknowledged.
        :param unheard: the broker will not hear of it.
        """
        key = delivery.queue, delivery.envelope.id
        if self._begun.get(key) is delivery:
            del self._begun[key]
        if handled and not delivery.unclear:
            ended = self._ended
            ended[key] = (hash(delivery.envelope), unheard)
            if len(ended) > _ENDED:
                del ended[next(iter(ended))]
        return [delivery, *self._again.pop(delivery, ())] if self._again else [delivery]

    def begun(self) -> list[Delivery]:
        """What runs or waits."""
        return list(self._begun.values())

    def is_running(self, delivery: Delivery) -> bool:
        """Whether one that has arrived is the redelivery of what has begun, which settles it."""
        first = self._begun.get((delivery.queue, delivery.envelope.id))
        if first is None or not (first.gone or delivery.deliveries):
            return False
        # Other programs may use an id twice.
        if first.envelope != delivery.envelope:
            return False
        self._again.setdefault(first, []).append(delivery)
        return True

    def was_handled(self, delivery: Delivery) -> bool:
        """Whether one that has arrived is the redelivery of what was handled."""
        found = self._ended.get((delivery.queue, delivery.envelope.id))
        if found is None or not (found[1] or delivery.deliveries):
            return False
        return found[0] == hash(delivery.envelope)

    def heirs_of(self, delivery: Delivery, link: Link | None) -> list[Delivery]:
        """Take the redeliveries of one whose own link is gone; the last goes on in its stead."""
        heirs = [each for each in self._again.pop(delivery, ()) if each.link is link]
        if heirs:
            heir = heirs[-1]
            heir.begun, heir.handlers, heir.tried = True, delivery.handlers, delivery.tried
            heir.unclear, heir.crashes = delivery.unclear, delivery.crashes
            self._begun[heir.queue, heir.envelope.id] = heir
        return heirs

    def forget_link(self) -> None:
        """The redeliveries went with their link; what has begun goes on."""
        self._again.clear()

    def forget_all(self) -> None:
        """What ran was cut off."""
        self._begun.clear()
        self._again.clear()
