"""What is done with one delivery: handled, tried again later, or laid with the dead letters.

It is acknowledged only when one of the three is certain: the handler has returned, or the broker
has confirmed the message that tries it again, or the dead letter (`outcomes` publishes those, and
waits for as long as the broker takes nothing). Otherwise it goes back. So an event may be handled
twice, and is never lost.

======================================  =======================================================
what happens                            what becomes of the event
======================================  =======================================================
the handler returns                     acknowledged
it raises, or takes too long            again after its back-off; after `retries` more attempts a
                                        dead letter, "failed"
it raises `Reject`                      a dead letter, "rejected"
it raises `RetryLater`                  again after those seconds; this counts as no attempt
the body is no JSON, too long, or not   a dead letter, "invalid"
what the handler's hint says
its deadline has passed                 a dead letter, "expired"
nobody here handles it (any more)       a dead letter, "unhandled": perhaps a newer instance knows
                                        it, or will; `deadletters.replay` puts it back
the processes that handled it died      a dead letter, "crashed"
too often
a worker elsewhere is at it, or the     again in a moment; this counts as no attempt
memory of handled events is away
the service stops                       given back to its queue
======================================  =======================================================

Of several handlers each has its own fate: what is tried again is for the one that failed.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from ...errors import Reject, RetryLater
from ..deduplication import Claim, ProcessedEvents
from ..envelope import DeadLetter, Envelope
from ..handlers import Handler, Subscriber, delay_before
from ..link import Delivery
from ..topology import Address, Publication, Queue, Topology
from .attempts import InvalidBody, attempt, describe, last_traceback, shortened
from .claims import LEASE, EventClaim, Renewals, claim_key
from .isolation import SUSPICIOUS

__all__ = ["Processor"]

#: Seconds: a back-off that says more, or infinity, means this. As with the delays of `emission`.
_LONGEST = 10 * 366 * 86400.0
#: Seconds, from and to, until one asks again whether another worker is through. By chance, since
#: the copies of one event would otherwise meet again each time.
_SOON = (1.0, 2.0)
#: Seconds until one looks again whether this process itself is through.
_LOOK = 0.2
#: Seconds of a delay that are waited for here: about the smallest step of the ladder of delays.
_SHORT = 0.15
#: How often the broker refuses an event whose delay is over before its address counts as gone.
_RELAYS = 3
#: Event names that the log was told of; names from elsewhere must not fill the memory.
_KNOWN = 1000


class _Next(NamedTuple):
    """What comes after an attempt: a dead letter, or another attempt in `delay` seconds.

    :ivar here: it is to wait in this process, though the broker could delay it.
    """

    envelope: Envelope
    letter: DeadLetter | None = None
    delay: float = 0.0
    here: bool = False


class Processor:
    """Treats deliveries, each in the greenlet that calls it.

    What it wants published before a delivery is settled, it leaves as `Delivery.outgoing`.

    :param run: calls a handler with a value, in the service's way.
    :param processed: the memory that workers share, for handlers with ``idempotent=False``.
    :param recent: this process's own, for all handlers: drops what came over another transport.
    :param delays: False when the broker cannot delay. Then a delivery that is to be tried again is
        held here meanwhile, as it is where an order by key must hold.
    :param max_body_size: bytes.
    :param delivery_limit: an event of which so many processes have died is not handled again; below
        the broker's own limit, which knows less of it. None: only the broker's.
    :param lease: seconds for which the claim of a worker that was killed counts.
    """

    def __init__(
        self,
        topology: Topology,
        subscriber: Subscriber,
        *,
        run: Callable[[Handler, Any], Any] | None = None,
        processed: ProcessedEvents | None = None,
        recent: ProcessedEvents | None = None,
        delays: bool = True,
        max_body_size: int = 10_000_000,
        delivery_limit: int | None = None,
        lease: float = LEASE,
        logger: logging.Logger | None = None,
    ) -> None:
        self._topology = topology
        self._subscriber = subscriber
        self._run = _call if run is None else run
        self._recent = recent
        self._delays = delays
        self._max_body_size = max_body_size
        self._delivery_limit = delivery_limit
        self._logger = logging.getLogger("gemstone_sync.event") if logger is None else logger
        self._renewals = None if processed is None else Renewals(processed, lease, self._logger)
        self._unhandled: set[str] = set()
        self._memory_is_away = False

    def __call__(self, delivery: Delivery, queue: Queue) -> bool | float:
        """Have the next of a delivery's handlers take it: one attempt.

        :returns: True when the delivery is done with; else in how many seconds to call this again.
        """
        if not delivery.begun:
            delivery.begun = True
            if (letter := self._refusal(delivery, queue)) is not None:
                self._bury(delivery, delivery.envelope, letter, queue.name)
                return True
        seconds = self._attempt(delivery, delivery.handlers[0], queue)
        if seconds is not None:
            return seconds
        del delivery.handlers[0]
        delivery.tried = None
        return 0.0 if delivery.handlers else True

    def relay(self, delivery: Delivery) -> bool | float:
        """Publish a delayed event when it is due, or again with what is left of its delay."""
        envelope = delivery.envelope
        left = 0.0 if envelope.due is None else envelope.due - time.time()
        if 0 < left <= _SHORT:
            return left
        if left <= 0:
            envelope, left = envelope.with_changes(due=None), 0.0
        delivery.outgoing = (envelope, self._topology.address_of(envelope), left)
        return True

    def refused(
        self, delivery: Delivery, message: Publication, why: str, times: int
    ) -> Publication:
        """What to publish now that the broker has refused a message so many times.

        What was delayed goes to the dead letters when nobody takes it any more.
        """
        envelope = message[0]
        relayed = delivery.queue == self._topology.due and envelope.dead is None
        if not relayed or times < _RELAYS:
            return message
        self._logger.error("%s, delayed, to the dead letters: %s", _shown(envelope), why)
        letter = DeadLetter(reason="unhandled", error=shortened(why))
        return self._dead(envelope, letter, envelope.queue or "")

    # Before a handler is called

    def _refusal(self, delivery: Delivery, queue: Queue) -> DeadLetter | None:
        """Why nobody is to handle it; None when somebody may."""
        envelope = delivery.envelope
        if envelope.deadline is not None and (letter := _expired(envelope)) is not None:
            return letter
        crashes = delivery.crashes
        if self._delivery_limit is not None and crashes >= self._delivery_limit:
            error = f"delivered {crashes} times without an answer: the process ended each time"
            self._logger.error("%s to the dead letters: %s", _shown(envelope), error)
            return DeadLetter(reason="crashed", error=error)
        if crashes >= SUSPICIOUS:
            self._logger.warning(
                "%s was delivered %d times before without an answer: its process may die of it",
                _shown(envelope),
                crashes,
            )
        if len(envelope.body) > self._max_body_size:
            error = f"the body has {len(envelope.body)} bytes, more than {self._max_body_size}"
            self._logger.warning("%s to the dead letters: %s", _shown(envelope), error)
            return DeadLetter(reason="invalid", error=error)
        return None if delivery.handlers else self._nobody(envelope, queue)

    def _nobody(self, envelope: Envelope, queue: Queue) -> DeadLetter:
        whom = "handler" if envelope.handler is None else f"handler {envelope.handler}"
        error = (
            f"{self._subscriber.service} has no {whom} for {envelope.name!r} in {queue.name}: "
            "start a version that has, then replay it; or purge it"
        )
        known = f"{envelope.name} {envelope.handler}"
        if known not in self._unhandled and len(self._unhandled) < _KNOWN:
            self._unhandled.add(known)
            self._logger.warning(
                "%s to the dead letters, as all like it: %s", _shown(envelope), error
            )
        return DeadLetter(reason="unhandled", error=error)

    # One handler

    def _attempt(self, delivery: Delivery, handler: Handler, queue: Queue) -> float | None:
        """Have a handler handle an event, or see to it that it is done later.

        :returns: in how many seconds to try again here; None when the handler is through with it.
        """
        envelope = delivery.envelope
        if delivery.tried is not None:
            envelope = delivery.tried
            if (letter := _expired(envelope)) is not None:
                self._bury(delivery, envelope, letter, queue.name)
                return None
        step = self._try(envelope, handler, queue)
        if step is None:
            return None
        envelope = step.envelope.with_changes(handler=handler.name)
        # One that is put off without an attempt is no other than it was.
        delivery.unclear |= envelope.attempts == delivery.envelope.attempts
        if step.letter is not None:
            self._bury(delivery, envelope, step.letter, queue.name)
        elif step.here or queue.keyed or not self._delays:
            # It stays unacknowledged, so that those behind it with the same key wait.
            delivery.tried = envelope
            return step.delay
        else:
            due = time.time() + step.delay if step.delay > 0 else None
            again = envelope.with_changes(queue=queue.name, due=due)
            delivery.outgoing = (again, Address("", queue.name, mandatory=True), step.delay)
        return None

    def _try(self, envelope: Envelope, handler: Handler, queue: Queue) -> _Next | None:
        """One attempt, if it is ours to make; None when the event is done with."""
        renewals = None if handler.idempotent else self._renewals
        if renewals is None and self._recent is None:
            error = attempt(envelope, handler, self._run)
            return None if error is None else self._next(envelope, handler, error)
        key = claim_key(envelope, self._subscriber, handler, queue.work)
        claim = EventClaim(key, self._recent, renewals, self._logger)
        answer = self._answer(claim)
        if answer is Claim.DONE:
            self._logger.debug("%s was handled already: dropped", _shown(envelope))
            return None
        if claim.here:
            # Another transport's copy: coming again over the broker would cost more than a look.
            return _Next(envelope, delay=_LOOK, here=True)
        if answer is not Claim.OURS:
            return _Next(envelope, delay=random.uniform(*_SOON))
        try:
            error = attempt(envelope, handler, self._run, key if renewals is not None else None)
        except BaseException:
            claim.release()
            raise
        if error is None:
            claim.done()
            return None
        # Before it is published again or laid aside: whoever gets it then must be able to claim it,
        # a replay as well.
        claim.release()
        return self._next(envelope, handler, error)

    def _answer(self, claim: EventClaim) -> Claim | None:
        """What the memories say; None when they cannot be asked.

        Giving the delivery back instead would count as a crash with some brokers, and enough of
        those make a dead letter.
        """
        try:
            answer = claim.take()
        except OSError as error:
            if not self._memory_is_away:
                self._logger.warning(
                    "events for handlers with idempotent=False wait: the memory of handled events "
                    "cannot be reached: %s",
                    describe(error),
                )
            self._memory_is_away = True
            return None
        if self._memory_is_away:
            self._logger.info("the memory of handled events can be reached again")
        self._memory_is_away = False
        return answer

    def _next(self, envelope: Envelope, handler: Handler, error: BaseException) -> _Next:
        """What follows from an attempt that failed."""
        what = f"{handler.name}: {_shown(envelope)}"
        if isinstance(error, InvalidBody):
            self._logger.warning("%s to the dead letters: %s", what, error)
            return _Next(envelope, DeadLetter(reason="invalid", error=shortened(str(error))))
        if isinstance(error, Reject):
            self._logger.warning("%s to the dead letters: %s", what, describe(error))
            letter = DeadLetter(
                reason="rejected", error=describe(error), traceback=last_traceback(error)
            )
            return _Next(envelope, letter)
        if isinstance(error, RetryLater):
            self._logger.info("%s: %s", what, error)
            return _Next(envelope, delay=min(error.seconds, _LONGEST))
        return self._after_failure(envelope, handler, error, what)

    def _after_failure(
        self, envelope: Envelope, handler: Handler, error: BaseException, what: str
    ) -> _Next:
        failures = envelope.attempts + 1
        of = max(failures, handler.retries + 1)
        envelope = envelope.with_changes(attempts=failures)
        if failures > handler.retries:
            self._logger.error(
                "%s failed, attempt %d of %d, to the dead letters",
                what,
                failures,
                of,
                exc_info=error,
            )
            letter = DeadLetter(
                reason="failed", error=describe(error), traceback=last_traceback(error)
            )
            return _Next(envelope, letter)
        delay = self._backoff(handler, failures)
        self._logger.warning(
            "%s failed, attempt %d of %d, again in %g s",
            *(what, failures, of, delay),
            exc_info=error,
        )
        return _Next(envelope, delay=delay)

    def _backoff(self, handler: Handler, failures: int) -> float:
        """Without jitter: the pool bounds how many come again at once, and the steps are asked for.

        A function of the user's that fails must not make its event a riddle: as with 1.
        """
        try:
            return min(delay_before(handler, failures), _LONGEST)
        except Exception:
            self._logger.exception("the backoff of %s failed; taken for 1 s", handler.name)
            return 1.0

    # What is published

    def _bury(self, delivery: Delivery, envelope: Envelope, letter: DeadLetter, queue: str) -> None:
        delivery.unclear = True  # a replay is no other than it was
        delivery.outgoing = self._dead(envelope, letter, queue)

    def _dead(self, envelope: Envelope, letter: DeadLetter, queue: str) -> Publication:
        letter = msgspec.structs.replace(letter, queue=queue, time=time.time())
        dead = envelope.with_changes(dead=letter, queue=None, due=None)
        return dead, Address("", self._topology.dead, mandatory=True), 0.0


def _call(handler: Handler, value: Any) -> Any:
    return handler.function(value)


def _expired(envelope: Envelope) -> DeadLetter | None:
    late = 0.0 if envelope.deadline is None else time.time() - envelope.deadline
    if late <= 0:
        return None
    return DeadLetter(reason="expired", error=f"its time was over {late:.1f} s ago")


def _shown(envelope: Envelope) -> str:
    shown_id = repr(envelope.id[:100])[1:-1]  # a foreign one may hold control characters
    return f"event {envelope.name[:200]!r} ({shown_id})"
