"""Outcomes: publishes the retries, dead letters and delayed events that deliveries lead to.

What becomes of an event is decided in `processing`.

While the broker takes nothing (an alarm, a full queue, no connection) such a delivery stays
unacknowledged: its handler is not called again, its key keeps its order, and it holds no place.
"""

from __future__ import annotations

import functools
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import TypeAlias

from ..link import Delivery
from ..topology import Publication
from .publisher import Publisher
from .publisher_loop import Handover
from .queue_state import DelayQueue, QueueState

__all__ = ["RetryIn", "Outcomes", "OnRefused"]

logger = logging.getLogger("gemstone_sync.event")

#: The answer of who handles a delivery: None when it is done with, else in how many seconds to ask
#: again. What they raise has it delivered again.
RetryIn: TypeAlias = float | None
#: What to publish after a refusal: of the delivery, the message, the reason, how many there were.
OnRefused = Callable[[Delivery, Publication, str, int], Publication]

#: Seconds after which something more is taken from the queue in place of what the broker does not
#: take. Sooner, each failure would change the prefetch.
_SLOW = 1.0
#: Seconds before what was refused is published again, and the most they double to.
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0


class _Outcome:
    """A message, until the broker has it."""

    __slots__ = ("delivery", "handover", "message", "refusals", "since", "state", "why")

    def __init__(self, state: QueueState, delivery: Delivery, message: Publication) -> None:
        self.state = state
        self.delivery = delivery
        self.message = message
        self.since = time.monotonic()
        self.handover: Handover | None = None
        self.refusals = 0
        self.why = ""


class Outcomes:
    """Publishes the outcomes of a consumer's deliveries.

    :param on_refused: says what to publish instead of what was refused.
    :param wake: has `collect_published` called; from any thread.
    :param name: what the log calls the consumer.
    """

    def __init__(
        self,
        publisher: Publisher | None,
        on_refused: OnRefused | None,
        wake: Callable[[], None],
        *,
        name: str,
    ) -> None:
        self._publisher = publisher
        self._on_refused = on_refused
        self._wake = wake
        self._name = name
        self._unpublished: set[_Outcome] = set()
        #: What the publisher has told, from its thread.
        self._settled: deque[tuple[_Outcome, str | None]] = deque()
        #: Those that may turn out to be slow, the oldest first.
        self._recent: deque[_Outcome] = deque()
        #: Those that were refused.
        self._retries: DelayQueue[_Outcome] = DelayQueue()

    def add(self, state: QueueState, delivery: Delivery) -> None:
        """Publish the outcome of a delivery."""
        assert delivery.outgoing is not None
        outcome = _Outcome(state, delivery, delivery.outgoing)
        delivery.outgoing = None
        delivery.unpublished += 1
        self._unpublished.add(outcome)
        self._recent.append(outcome)
        self._hand_over(outcome)

    def collect_published(self) -> Iterator[Delivery]:
        """Yield deliveries whose outcomes are published now; publish again what is due."""
        while self._settled:
            outcome, why = self._settled.popleft()
            if outcome not in self._unpublished:
                continue
            if why is not None:
                self._retry_later(outcome, why)
                continue
            self._unpublished.discard(outcome)
            delivery = outcome.delivery
            delivery.unpublished -= 1
            if not delivery.unpublished:
                outcome.state.unpublished.discard(delivery)
                yield delivery
        for outcome in self._retries.due():
            self._hand_over(outcome)
        while self._recent and self._recent[0].since <= time.monotonic() - _SLOW:
            outcome = self._recent.popleft()
            if outcome in self._unpublished:
                outcome.state.unpublished.add(outcome.delivery)

    @property
    def moment(self) -> float:
        """Tell when to call `collect_published`, at the latest."""
        return self._retries.moment

    def is_moving(self) -> bool:
        """Tell whether the broker is about to take something."""
        if self._publisher is None or len(self._unpublished) <= len(self._retries):
            return False
        return self._publisher.why_not_ready() is None

    def why_not_ready(self) -> str | None:
        """Return None while the broker takes what it is given; otherwise why not."""
        # Those that are just tried again, too: what was refused is refused until it is taken.
        refused = [outcome for outcome in list(self._unpublished) if outcome.refusals]
        if not refused:
            return None
        told = f"{len(refused)} events wait until the broker takes what became of them"
        return f"{told}: {refused[0].why}"

    def forget(self) -> None:
        """Publish nothing more that is not sent yet: the deliveries go back to the broker."""
        for outcome in self._unpublished:
            outcome.delivery.unpublished = 0
            if outcome.handover is not None:
                outcome.handover.withdraw()
        self._unpublished.clear()
        self._retries.clear()

    def _hand_over(self, outcome: _Outcome) -> None:
        assert self._publisher is not None
        outcome.handover = self._publisher.hand_over(
            outcome.message, functools.partial(self._on_settled, outcome)
        )

    def _on_settled(self, outcome: _Outcome, why: str | None) -> None:
        self._settled.append((outcome, why))
        self._wake()

    def _retry_later(self, outcome: _Outcome, why: str) -> None:
        outcome.refusals += 1
        outcome.why = why
        logger.log(
            logging.WARNING if outcome.refusals == 1 else logging.DEBUG,
            "%s: %s waits until the broker takes what became of it: %s",
            *(self._name, outcome.delivery.envelope.shown, why),
        )
        if self._on_refused is not None:
            outcome.message = self._on_refused(
                outcome.delivery, outcome.message, why, outcome.refusals
            )
        pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(outcome.refusals - 1, 20))
        self._retries.add(pause, outcome)
