"""Deciding what becomes of one delivery: handled, tried again later, or a dead letter.

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

import contextvars
import logging
import random
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from ... import tracing
from ...errors import Reject, RetryLater
from ...exit_codes import printable
from .. import traced
from ..deduplication import Claim, ProcessedEvents
from ..emission import LONGEST_DELAY
from ..envelope import DeadLetter, Envelope, Reason
from ..handlers import Handler, Subscriber, delay_before
from ..link import Delivery
from ..observed import EventHooks
from ..topology import Address, Publication, Queue, Topology
from .attempts import InvalidBody, attempt, describe, last_traceback, shortened
from .claims import EventClaim, Renewals, claim_key
from .isolation import SUSPICIOUS
from .outcomes import RetryIn

__all__ = ["Processor"]

logger = logging.getLogger("gemstone_sync.event")

#: Seconds, from and to, until one asks again whether another worker is through. By chance, since
#: the copies of one event would otherwise meet again each time.
_SOON = (1.0, 2.0)
#: Seconds until one looks again whether this process itself is through.
_LOOK = 0.2
#: Seconds of a delay that are waited for here: about the smallest step of the ladder of delays.
_SHORT = 0.15
#: How often the broker refuses an event whose delay is over before its address counts as gone.
_FORWARDS = 3
#: Event names that the log was told of; names from elsewhere must not fill the memory.
_KNOWN = 1000


class _NextStep(NamedTuple):
    """Says what comes after an attempt: a dead letter, or another attempt in `delay` seconds.

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
    :param delays: False when the broker cannot delay. Then a delivery that is to be tried again
        waits with the consumer, as it does where an order by key must hold.
    :param max_body_size: bytes.
    :param delivery_limit: an event of which so many processes have died is not handled again; below
        the broker's own limit, which knows less of it. None: only the broker's.
    :param lease: seconds for which the claim of a worker that was killed counts.
    :param hooks: tell observers of each attempt.
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
        lease: float = 60.0,
        hooks: EventHooks | None = None,
    ) -> None:
        self._topology = topology
        self._subscriber = subscriber
        self._run = _call_handler if run is None else run
        self._recent = recent
        self._delays = delays
        self._max_body_size = max_body_size
        self._delivery_limit = delivery_limit
        self._hooks = EventHooks() if hooks is None else hooks
        self._is_observed = bool(self._hooks)
        self._renewals = None if processed is None else Renewals(processed, lease)
        self._unhandled: set[str] = set()
        self._memory_is_away = False

    def __call__(self, delivery: Delivery, queue: Queue) -> RetryIn:
        """Have the next of a delivery's handlers take it: one attempt.

        In a context of its own: variables that one handler sets do not reach the next one.
        """
        return contextvars.copy_context().run(self._treat, delivery, queue)

    def _treat(self, delivery: Delivery, queue: Queue) -> RetryIn:
        if not delivery.begun:
            delivery.begun = True
            if (letter := self._reject_before_handling(delivery, queue)) is not None:
                self._notify_unhandled(delivery.envelope, letter)
                self._send_to_dead_letters(delivery, delivery.envelope, letter, queue.name)
                return None
        seconds = self._process(delivery, delivery.handlers[0], queue)
        if seconds is not None:
            return seconds
        del delivery.handlers[0]
        delivery.tried = None
        return 0.0 if delivery.handlers else None

    def forward(self, delivery: Delivery) -> RetryIn:
        """Publish a delayed event when it is due, or again with what is left of its delay."""
        envelope = delivery.envelope
        left = 0.0 if envelope.due is None else envelope.due - time.time()
        if 0 < left <= _SHORT:
            return left
        if left <= 0:
            envelope, left = envelope.with_changes(due=None), 0.0
        delivery.outgoing = (envelope, self._topology.address_of(envelope), left)
        return None

    def on_refused(
        self, delivery: Delivery, message: Publication, why: str, times: int
    ) -> Publication:
        """Return what to publish now that the broker has refused a message so many times.

        What was delayed goes to the dead letters when nobody takes it any more.
        """
        envelope = message[0]
        is_delayed = delivery.queue == self._topology.due and envelope.dead is None
        if not is_delayed or times < _FORWARDS:
            return message
        logger.error("%s, delayed, to the dead letters: %s", envelope.shown, why)
        letter = DeadLetter(reason=Reason.UNHANDLED, error=shortened(why))
        return self._dead_letter_publication(envelope, letter, envelope.queue or "")

    # Before a handler is called

    def _reject_before_handling(self, delivery: Delivery, queue: Queue) -> DeadLetter | None:
        """Return why nobody is to handle it; None when somebody may."""
        envelope = delivery.envelope
        if envelope.deadline is not None and (letter := _expired_letter(envelope)) is not None:
            return letter
        crashes = delivery.crashes
        if self._delivery_limit is not None and crashes >= self._delivery_limit:
            error = f"delivered {crashes} times without an answer: the process ended each time"
            logger.error("%s to the dead letters: %s", envelope.shown, error)
            return DeadLetter(reason=Reason.CRASHED, error=error)
        if crashes >= SUSPICIOUS:
            logger.warning(
                "%s was delivered %d times before without an answer: its process may die of it",
                envelope.shown,
                crashes,
            )
        if len(envelope.body) > self._max_body_size:
            error = f"the body has {len(envelope.body)} bytes, more than {self._max_body_size}"
            logger.warning("%s to the dead letters: %s", envelope.shown, error)
            return DeadLetter(reason=Reason.INVALID, error=error)
        return None if delivery.handlers else self._no_handler_letter(envelope, queue)

    def _no_handler_letter(self, envelope: Envelope, queue: Queue) -> DeadLetter:
        whom = "handler" if envelope.handler is None else f"handler {envelope.handler[:200]!r}"
        what = f"{whom} for {envelope.name[:200]!r}"
        error = (
            f"{self._subscriber.service} has no {what} in {queue.name}: start a version that has, "
            "then replay it; or purge it"
        )
        known = f"{envelope.name} {envelope.handler}"
        if known not in self._unhandled and len(self._unhandled) < _KNOWN:
            self._unhandled.add(known)
            logger.warning("%s to the dead letters, as all like it: %s", envelope.shown, error)
        return DeadLetter(reason=Reason.UNHANDLED, error=error)

    # One handler

    def _process(self, delivery: Delivery, handler: Handler, queue: Queue) -> float | None:
        """Have a handler handle an event, or see to it that it is done later.

        :returns: in how many seconds to try again here; None when the handler is through with it.
        """
        envelope = delivery.envelope if delivery.tried is None else delivery.tried
        # Also of the second handler: the first one may have taken long.
        letter = None if envelope.deadline is None else _expired_letter(envelope)
        if letter is not None:
            self._notify_unhandled(envelope, letter)
        step = (
            self._handle_once(envelope, handler, queue)
            if letter is None
            else _NextStep(envelope, letter)
        )
        if step is None:
            return None
        envelope = step.envelope.with_changes(handler=handler.name)
        # One that is put off without an attempt comes again as it was.
        delivery.may_repeat |= envelope.attempts == delivery.envelope.attempts
        if step.letter is not None:
            self._send_to_dead_letters(delivery, envelope, step.letter, queue.name)
        elif step.here or queue.keyed or not self._delays:
            # It stays unacknowledged, so that those behind it with the same key wait.
            delivery.tried = envelope
            return step.delay
        else:
            due = time.time() + step.delay if step.delay > 0 else None
            again = envelope.with_changes(queue=queue.name, due=due)
            delivery.outgoing = (again, Address("", queue.name, mandatory=True), step.delay)
        return None

    def _handle_once(self, envelope: Envelope, handler: Handler, queue: Queue) -> _NextStep | None:
        """Make an attempt, if it is ours to make; None when the event is done with."""
        renewals = None if handler.idempotent else self._renewals
        if renewals is None and self._recent is None:
            return self._call_handler_observed(envelope, handler)
        key = claim_key(envelope, self._subscriber, handler, queue.work)
        claim = EventClaim(key, self._recent, renewals)
        answer = self._take_claim(claim)
        if answer is Claim.DONE:
            logger.debug("%s was handled already: dropped", envelope.shown)
            return None
        if claim.here:
            # Another transport's copy: coming again over the broker would cost more than a look.
            return _NextStep(envelope, delay=_LOOK, here=True)
        if answer is not Claim.OURS:
            return _NextStep(envelope, delay=random.uniform(*_SOON))
        try:
            step = self._call_handler_observed(
                envelope, handler, key if renewals is not None else None
            )
        except BaseException:
            claim.release()
            raise
        if step is None:
            claim.done()
            return None
        # Before it is published again or laid aside: whoever gets it then must be able to claim it,
        # a replay as well.
        claim.release()
        return step

    def _call_handler_observed(
        self, envelope: Envelope, handler: Handler, key: str | None = None
    ) -> _NextStep | None:
        """Call the handler; return what follows from a failure, None when it has handled it."""
        if not (self._is_observed or tracing.is_on()):
            error = attempt(envelope, handler, self._run, key)
            return None if error is None else self._next_step(envelope, handler, error)
        hooks = self._hooks
        observed = traced.begin(hooks, envelope.name, handler.name, envelope)
        try:
            error = attempt(envelope, handler, self._run, key)
        except BaseException as fault:  # it is given back
            traced.finish(hooks, observed, fault)
            raise
        if error is None:
            traced.finish(hooks, observed)
            return None
        step = self._next_step(envelope, handler, error)
        traced.finish(hooks, observed, error, step.letter, None if step.letter else step.delay)
        return step

    def _take_claim(self, claim: EventClaim) -> Claim | None:
        """Return what the memories say; None when they cannot be asked.

        Giving the delivery back instead would count as a crash with some brokers, and enough of
        those make a dead letter.
        """
        try:
            answer = claim.take()
        except OSError as error:
            if not self._memory_is_away:
                logger.warning(
                    "events for handlers with idempotent=False wait: the memory of handled events "
                    "cannot be reached: %s",
                    describe(error),
                )
            self._memory_is_away = True
            return None
        if self._memory_is_away:
            logger.info("the memory of handled events can be reached again")
        self._memory_is_away = False
        return answer

    def _next_step(self, envelope: Envelope, handler: Handler, error: BaseException) -> _NextStep:
        """Return what follows from an attempt that failed."""
        what = f"{handler.name}: {envelope.shown}"
        if isinstance(error, InvalidBody):
            logger.warning("%s to the dead letters: %s", what, printable(str(error)))
            return _NextStep(
                envelope, DeadLetter(reason=Reason.INVALID, error=shortened(str(error)))
            )
        if isinstance(error, Reject):
            logger.warning("%s to the dead letters: %s", what, describe(error))
            letter = DeadLetter(
                reason=Reason.REJECTED, error=describe(error), traceback=last_traceback(error)
            )
            return _NextStep(envelope, letter)
        if isinstance(error, RetryLater):
            logger.info("%s: %s", what, error)
            return _NextStep(envelope, delay=min(error.seconds, LONGEST_DELAY))
        return self._after_failure(envelope, handler, error, what)

    def _after_failure(
        self, envelope: Envelope, handler: Handler, error: BaseException, what: str
    ) -> _NextStep:
        failures = envelope.attempts + 1
        of = max(failures, handler.retries + 1)
        envelope = envelope.with_changes(attempts=failures)
        if failures > handler.retries:
            logger.error(
                "%s failed, attempt %d of %d, to the dead letters",
                what,
                failures,
                of,
                exc_info=error,
            )
            letter = DeadLetter(
                reason=Reason.FAILED, error=describe(error), traceback=last_traceback(error)
            )
            return _NextStep(envelope, letter)
        delay = self._backoff(handler, failures)
        logger.warning(
            "%s failed, attempt %d of %d, again in %g s",
            *(what, failures, of, delay),
            exc_info=error,
        )
        return _NextStep(envelope, delay=delay)

    def _backoff(self, handler: Handler, failures: int) -> float:
        """Return the seconds until the next attempt.

        Without jitter: the pool bounds how many come again at once, and the steps are asked for. A
        function of the user's that fails counts as 1.
        """
        try:
            return min(delay_before(handler, failures), LONGEST_DELAY)
        except Exception:
            logger.exception("the backoff of %s failed; taken for 1 s", handler.name)
            return 1.0

    # What is published

    def _notify_unhandled(self, envelope: Envelope, letter: DeadLetter) -> None:
        if self._is_observed or tracing.is_on():
            observed = traced.begin(self._hooks, envelope.name, None, envelope)
            traced.finish(self._hooks, observed, letter=letter)

    def _send_to_dead_letters(
        self, delivery: Delivery, envelope: Envelope, letter: DeadLetter, queue: str
    ) -> None:
        delivery.may_repeat = True  # a replay comes as it was
        delivery.outgoing = self._dead_letter_publication(envelope, letter, queue)

    def _dead_letter_publication(
        self, envelope: Envelope, letter: DeadLetter, queue: str
    ) -> Publication:
        letter = msgspec.structs.replace(letter, queue=queue, time=time.time())
        dead = envelope.with_changes(dead=letter, queue=None, due=None)
        return dead, Address("", self._topology.dead, mandatory=True), 0.0


def _call_handler(handler: Handler, value: Any) -> Any:
    return handler.function(value)


def _expired_letter(envelope: Envelope) -> DeadLetter | None:
    late = 0.0 if envelope.deadline is None else time.time() - envelope.deadline
    if late <= 0:
        return None
    return DeadLetter(reason=Reason.EXPIRED, error=f"its time was over {late:.1f} s ago")
