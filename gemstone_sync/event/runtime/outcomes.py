"""What became of events, on its way to the broker: retries, dead letters, what was delayed.

While the broker takes nothing (an alarm, a full queue, no connection) such an event stays
unacknowledged: its handler is not called again, its key keeps its order, and it holds no place.
"""

from __future__ import annotations

import functools
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator

from ..link import Delivery
from ..topology import Publication
from .agenda import Agenda
from .publisher import Publisher
from .publishing import Handover
from .queue_state import Line

__all__ = ["Outcomes", "Refused"]

#: What to publish after a refusal: of the delivery, the message, the reason, how many there were.
Refused = Callable[[Delivery, Publication, str, int], Publication]

#: Seconds after which something more is taken from the queue in place of what the broker does not
#: take. Sooner, each failure would change the prefetch.
_SLOW = 1.0
#: Seconds before what was refused is published again, and the most they double to.
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0


class _Outcome:
    """One message, until the broker has it."""

    __slots__ = ("delivery", "handover", "line", "message", "refusals", "since", "why")

    def __init__(self, line: Line, delivery: Delivery, message: Publication) -> None:
        self.line = line
        self.delivery = delivery
        self.message = message
        self.since = time.monotonic()
        self.handover: Handover | None = None
        self.refusals = 0
        self.why = ""


class Outcomes:
    """What a consumer's deliveries have left to publish.

    :param refused: says what to publish instead of what was refused.
    :param wake: has the owner call `take`; from any thread.
    :param name: what the log calls the consumer.
    """

    def __init__(
        self,
        publisher: Publisher | None,
        refused: Refused | None,
        wake: Callable[[], None],
        *,
        name: str,
        logger: logging.Logger,
    ) -> None:
        self._publisher = publisher
        self._refused = refused
        self._wake = wake
        self._name = name
        self._logger = logger
        self._open: set[_Outcome] = set()
        #: What the publisher has told, from its thread.
        self._told: deque[tuple[_Outcome, str | None]] = deque()
        #: Those that may turn out to be slow, the oldest first.
        self._recent: deque[_Outcome] = deque()
        #: Those that were refused.
        self._again: Agenda[_Outcome] = Agenda()

    def add(self, line: Line, delivery: Delivery) -> None:
        """Publish what a delivery has left."""
        assert delivery.outgoing is not None
        outcome = _Outcome(line, delivery, delivery.outgoing)
        delivery.outgoing = None
        delivery.unpublished += 1
        self._open.add(outcome)
        self._recent.append(outcome)
        self._hand_over(outcome)

    def take(self) -> Iterator[tuple[Line, Delivery]]:
        """Deliveries of which everything is published now."""
        while self._told:
            outcome, why = self._told.popleft()
            if outcome not in self._open:
                continue
            if why is not None:
                self._put_off(outcome, why)
                continue
            self._open.discard(outcome)
            delivery = outcome.delivery
            delivery.unpublished -= 1
            if not delivery.unpublished:
                outcome.line.waiting.discard(delivery)
                yield outcome.line, delivery
        for outcome in self._again.due():
            self._hand_over(outcome)
        while self._recent and self._recent[0].since <= time.monotonic() - _SLOW:
            outcome = self._recent.popleft()
            if outcome in self._open:
                outcome.line.waiting.add(outcome.delivery)

    @property
    def moment(self) -> float:
        """When to call `take`, at the latest."""
        return self._again.moment

    def is_moving(self) -> bool:
        """Whether the broker is about to take something."""
        if self._publisher is None or len(self._open) <= len(self._again):
            return False
        return self._publisher.why_not_ready() is None

    def why_not_ready(self) -> str | None:
        """None while the broker takes what it is given; otherwise why not."""
        first = self._again.first()
        if first is None:
            return None
        count = len(self._again)
        return f"{count} events wait until the broker takes what became of them: {first.why}"

    def inherit(self, delivery: Delivery, heir: Delivery) -> None:
        """The redelivery of one whose link is gone goes on in its stead."""
        heir.unpublished = delivery.unpublished
        for outcome in self._open if heir.unpublished else ():
            if outcome.delivery is delivery:
                outcome.delivery = heir

    def forget(self) -> None:
        """Their events go back to the broker: what is not sent yet is not sent any more."""
        for outcome in self._open:
            outcome.delivery.unpublished = 0
            if outcome.handover is not None:
                outcome.handover.withdraw()
        self._open.clear()
        self._again.clear()

    def _hand_over(self, outcome: _Outcome) -> None:
        assert self._publisher is not None
        outcome.handover = self._publisher.hand_over(
            outcome.message, functools.partial(self._tell, outcome)
        )

    def _tell(self, outcome: _Outcome, why: str | None) -> None:
        self._told.append((outcome, why))
        self._wake()

    def _put_off(self, outcome: _Outcome, why: str) -> None:
        outcome.refusals += 1
        outcome.why = why
        envelope = outcome.delivery.envelope
        self._logger.log(
            logging.WARNING if outcome.refusals == 1 else logging.DEBUG,
            "%s: event %r (%s) waits until the broker takes what became of it: %s",
            *(self._name, envelope.name[:200], envelope.id[:100], why),
        )
        if self._refused is not None:
            outcome.message = self._refused(
                outcome.delivery, outcome.message, why, outcome.refusals
            )
        pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(outcome.refusals - 1, 20))
        self._again.add(pause, outcome)
