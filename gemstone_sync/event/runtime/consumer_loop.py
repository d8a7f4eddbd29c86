"""The consumer's loop: what runs, and what the broker is told afterwards.

What came from each queue, and what starts next, is in `queue_state`; what came before in
`redeliveries` and `isolation`; what deliveries leave to be published in `outcomes`. All of it
happens in the hub of this loop, so nothing is locked but the places, which consumers share.

Hot path: `_on_delivery`, `_start_ready`, `_run_handler`, `_on_handled` and `_acknowledge` run for
every event.
"""

from __future__ import annotations

import functools
import itertools
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import gevent

from ...concurrency import USER_FAULTS, DeadlineReached
from ..link import Delivery, Link
from ..places import Places
from ..topology import Queue, Topology
from ..wakeups import seconds_until
from .connection_loop import ConnectionLoop
from .isolation import PoisonIsolation
from .outcomes import OnRefused, Outcomes, RetryIn
from .publisher import Publisher
from .queue_state import Backlog, DelayQueue, Prefetch, QueueState, Scheduler
from .redeliveries import Redeliveries
from .workers import Workers

__all__ = ["LAST_WORDS", "ConsumerLoop"]

logger = logging.getLogger("gemstone_sync.event")

#: Seconds for which what could not be handled is kept, so that a fault does not spin.
_PAUSE = 1.0
#: Seconds for which one that has begun waits for its redelivery, on a new connection, and a stop
#: for a broker that is to hear of what was handled.
_GRACE = 5.0
#: Seconds between two looks for it.
_LOOK = 0.1
#: From so many seconds on a retry waits with the broker, where that can have it in its place.
_LONG = 1.0
#: How many are acknowledged in one go.
_BATCH = 100
#: How many greenlets are kept for the next events.
_WORKERS = 100
#: Seconds that handlers have to end once they are killed.
LAST_WORDS = 1.0


class ConsumerLoop(ConnectionLoop):
    """The loop of one consumer's connection in one process."""

    def __init__(
        self,
        make_link: Callable[[], Link],
        topology: Topology,
        queues: Sequence[Queue],
        handle: Callable[[Delivery, Queue], RetryIn],
        pool: Places,
        on_due: Callable[[Delivery], RetryIn] | None,
        publisher: Publisher | None,
        on_refused: OnRefused | None,
        **options: Any,
    ) -> None:
        super().__init__(make_link, **options)
        self._topology = topology
        self._queues = queues
        self._handle = handle
        self._on_due = on_due
        self._prefetch = Prefetch(pool.limit)
        self._states = [
            QueueState(queue.name, queue, pool, prefetch=first, most=most)
            for queue, first, most in self._prefetch.first_shares(queues)
        ]
        if on_due is not None:
            own, limit = Places(pool.limit), pool.limit
            self._states.append(QueueState(topology.due, None, own, prefetch=limit, most=limit))
        #: Those of the queues that the link there is now consumes from.
        self._consumed: list[QueueState] = []
        self._workers = Workers(_WORKERS)
        #: The moment when handlers that still run are cut off, and whether some were.
        self.cut_off_at = float("inf")
        self.cut = False
        self._killed: set[gevent.Greenlet[..., Any]] = set()
        #: Since when it stops, has no link, and nothing runs; infinity while that is not so.
        self._quiet_since = float("inf")
        #: What was received and is not settled, in the order of arrival; of links that are gone
        #: only what has begun.
        self.unsettled: dict[Delivery, QueueState] = {}
        #: What was handled, to be acknowledged.
        self._to_acknowledge: deque[Delivery] = deque()
        #: What could not be handled, and is given back soon.
        self._to_requeue: DelayQueue[Delivery] = DelayQueue()
        #: What is to be tried again here, or waits for its redelivery.
        self._waiting: DelayQueue[Delivery] = DelayQueue()
        #: With their moments: those that wait long enough to wait with the broker.
        self._to_postpone: deque[tuple[float, Delivery]] = deque()
        #: What is done with once the broker has taken all that it has left.
        self._publishing: set[Delivery] = set()
        #: Of links that are gone: what was handled, and what is given back.
        self._handled_away: list[Delivery] = []
        self._lost: list[Delivery] = []
        #: True once a link was lost: before that nothing comes again but what the broker says does.
        self._has_lost = False
        self._outcomes = Outcomes(publisher, on_refused, self.wake, name=self.name)
        self._isolation = PoisonIsolation()
        self._scheduler = Scheduler(self, pool, self._isolation.holds_back)
        self._redeliveries = Redeliveries()

    # The connection

    def _run_with_link(self, link: Link) -> None:
        self._consumed = [each for each in self._states if each.queue is not None or link.uses_due]
        try:
            link.declare(self._topology, self._queues)
            if not self.stopping:
                self._subscribe(link)
            link.keep_alive()
            self._adopt(link)
            self._mark_ready()
            while not self.stopping:
                self._run_once(link, 1.0)
            self._drain(link)
        finally:
            self._forget_link(link)

    def _run_once(self, link: Link, longest: float) -> None:
        """Take what has come, say what is done, and wait for more."""
        assert self.signal is not None
        self.signal.clear()
        link.pump()
        for delivery in self._outcomes.collect_published():
            self._on_published(delivery)
        self._acknowledge(link)
        self._forget_lost(link)
        self._requeue_due(link)
        self._postpone_long_waits(link)
        if not self.stopping:
            for delivery in self._isolation.cleared(link):
                self._run_next(delivery)
            self._run_due_retries()
        self._start_ready()
        if not self.stopping:
            self._subscribe(link)
        self._let_others_run()
        moment = min(self._to_requeue.moment, self._waiting.moment, self._outcomes.moment)
        link.wait(self.signal, min(longest, seconds_until(moment)))

    def _drain(self, link: Link) -> None:
        """Take nothing more, wait for the handlers that run, and give the rest back."""
        for state in self._consumed:
            link.cancel(state.name)
        self._requeue_waiting(link)
        while time.monotonic() < self.cut_off_at and (
            self._is_running() or self._to_postpone or self._outcomes.is_moving()
        ):
            for state in self._consumed:
                self._requeue(link, state.take_back_ready(link.claims_keys))
            self._run_once(link, min(1.0, seconds_until(self.cut_off_at)))
            self._requeue_waiting(link)
        self._kill_handlers()
        self._outcomes.forget()
        self._acknowledge(link)
        self._forget_lost(link)
        self._isolation.settle(link, list(self.unsettled), done=False)
        self._requeue(link, [delivery for delivery in self.unsettled if not delivery.gone])

    def _subscribe(self, link: Link) -> None:
        """Tell the broker how much of each queue to send in advance, where that has changed."""
        for state in self._prefetch.changed(self._consumed, link.claims_keys):
            link.consume(state.name, state.prefetch, functools.partial(self._on_delivery, state))

    def _adopt(self, link: Link) -> None:
        """Go on with what has begun, and give back the rest of what the last link had."""
        begun = list(self.unsettled)
        link.adopt(begun, [*self._handled_away], [*self._lost])
        for delivery in begun:
            state = self.unsettled.get(delivery)
            if state is not None and not delivery.gone:
                state.unsettled_count += 1
        # What has ended meanwhile is this link's by now.
        if handled := [each for each in self._handled_away if each.link is link]:
            link.acknowledge(handled)
        if lost := [each for each in self._lost if each.link is link]:
            link.requeue(lost)
        self._forget_lost(link)

    def _forget_link(self, link: Link) -> None:
        """Keep what has begun: it comes again, or was handled in time. The rest comes anew."""
        publishing, has_begun = self._publishing, self._redeliveries.has_begun
        unsettled, self.unsettled = self.unsettled, {}
        handled = set(self._to_acknowledge)
        self._handled_away += handled
        for delivery, state in unsettled.items():
            delivery.gone = True
            busy = delivery in state.running or delivery in state.waiting or delivery in publishing
            if busy or has_begun(delivery):
                self.unsettled[delivery] = state
                if not busy:  # it was ready for its next handler
                    self._schedule_retry(state, delivery, _LOOK)
            elif delivery not in handled:
                self._lost.append(delivery)
        begun = self.unsettled
        link.detach([*begun, *self._handled_away])
        self._redeliveries.forget_link(self._to_acknowledge)
        self._to_acknowledge.clear()
        self._to_requeue.clear()
        self._isolation.forget_link(begun)
        self._scheduler.forget_link()
        for state in self._states:
            state.forget_link(each for each, its in begun.items() if its is state)
        self._has_lost = True
        if time.monotonic() >= self.cut_off_at:
            self._log_unacknowledged()  # now: closing the link may take longer than there is time

    def _is_idle(self) -> bool:
        """Tell whether another link would have nothing to settle of what has begun, or ended."""
        time_is_up = time.monotonic() >= min(self.cut_off_at, self._quiet_since + _GRACE)
        begun = itertools.chain(self._handled_away, self.unsettled)
        return time_is_up or not any(each.link.keeps(each) for each in begun)

    def _kill_if_idle(self) -> None:
        gevent.spawn(self._watch_end)  # it waits, which the hub's callbacks must not

    def _watch_end(self) -> None:
        """End the loop once it is idle, and handlers in their time, whatever the link waits for."""
        while not self._greenlet.dead:
            if self._interruptible and not self._is_running():
                self._quiet_since = min(self._quiet_since, time.monotonic())
            else:
                self._quiet_since = float("inf")
            super()._kill_if_idle()
            if time.monotonic() >= self.cut_off_at:
                self._kill_handlers()
            gevent.sleep(_LOOK)

    # What the broker is told

    def _acknowledge(self, link: Link) -> None:
        while self._to_acknowledge:
            batch = list(itertools.islice(self._to_acknowledge, _BATCH))
            self._isolation.settle(link, batch, done=True)
            link.acknowledge(batch)
            for delivery in batch:
                self._to_acknowledge.popleft()
                if (state := self.unsettled.pop(delivery, None)) is not None:
                    state.unsettled_count -= 1
            self._let_others_run()

    def _requeue(self, link: Link, deliveries: list[Delivery]) -> None:
        if deliveries:
            self._isolation.settle(link, deliveries, done=False)
            link.requeue(deliveries)
            for delivery in deliveries:
                if (state := self.unsettled.pop(delivery, None)) is not None:
                    state.unsettled_count -= 1

    def _requeue_due(self, link: Link) -> None:
        back = [self.unsettled[delivery].take_back(delivery) for delivery in self._to_requeue.due()]
        self._requeue(link, list(itertools.chain(*back)))

    def _requeue_waiting(self, link: Link) -> None:
        """Give back what would be tried again later, with those behind it."""
        self._postpone_long_waits(link)
        back: list[Delivery] = []
        for moment, delivery in self._waiting.clear():
            if self._postpone(link, delivery, moment):
                continue
            state = self.unsettled[delivery]
            state.waiting.discard(delivery)
            if delivery.tried is None and delivery.handlers and not delivery.gone:
                self._run_next(delivery)  # it has waited only for a link
            else:
                for each in self._finish(delivery, handled=False):
                    back += state.take_back(each)
        self._requeue(link, back)

    def _postpone_long_waits(self, link: Link) -> None:
        while self._to_postpone:
            moment, delivery = self._to_postpone[0]
            if not self._postpone(link, delivery, moment):
                self._waiting.add(seconds_until(moment), delivery)
            self._to_postpone.popleft()

    def _postpone(self, link: Link, delivery: Delivery, moment: float) -> bool:
        """Leave a retry to the broker; False when it must wait here.

        There it outlives this process, with its attempts, and holds nothing here.
        """
        # For several handlers it would have to be several events, in one place.
        if delivery.tried is None or len(delivery.handlers) > 1 or delivery.gone:
            return False
        if not link.postpone(delivery, delivery.tried, seconds_until(moment)):
            return False
        self._isolation.settle(link, [delivery], done=False)
        state = self.unsettled.pop(delivery)
        state.waiting.discard(delivery)
        state.unsettled_count -= 1
        _, *behind = state.take_back(delivery)
        self._redeliveries.end(delivery, handled=False)
        self._requeue(link, behind)
        return True

    def _forget_lost(self, link: Link) -> None:
        self._isolation.settle(link, self._handled_away, done=True)
        self._isolation.settle(link, self._lost, done=False)
        self._handled_away.clear()
        self._lost.clear()

    # What starts when

    def _on_delivery(self, state: QueueState, delivery: Delivery) -> None:
        self.unsettled[delivery] = state
        state.unsettled_count += 1
        if state.queue is not None:
            if delivery.deliveries or self._has_lost:
                if self._redeliveries.attach(delivery):
                    return
                if self._redeliveries.was_handled(delivery):
                    self._to_acknowledge.append(delivery)
                    return
            delivery.handlers = state.queue.handlers_for(delivery.envelope)
        self._scheduler.offer(state.add(delivery))
        self._start_ready()

    def _run_next(self, delivery: Delivery) -> None:
        """Have one be the next of its queue that starts."""
        self._scheduler.offer(self.unsettled[delivery].offer(delivery, first=True))

    def _start_ready(self) -> None:
        for backlog, delivery in self._scheduler.take(only_begun=self.stopping):
            self._redeliveries.begin(delivery)
            backlog.state.running[delivery] = self._workers.start(
                self._run_handler, backlog, delivery
            )

    def _schedule_retry(self, state: QueueState, delivery: Delivery, seconds: float) -> None:
        state.waiting.add(delivery)
        self._waiting.add(seconds, delivery)

    def _run_due_retries(self) -> None:
        """Go on with those that have waited for long enough."""
        for delivery in self._waiting.due():
            state = self.unsettled[delivery]
            state.waiting.discard(delivery)
            if delivery in self._publishing:
                self._on_published(delivery)
            elif not self._is_link_lost(delivery):
                self._run_next(delivery)
            elif self._may_be_redelivered():
                self._schedule_retry(state, delivery, _LOOK)
            else:
                self._requeue_later(state, delivery)

    def _is_link_lost(self, delivery: Delivery) -> bool:
        """Tell whether its link is gone, and it has not come again over the one there is."""
        return delivery.gone and not self._redeliveries.has_come_again(delivery)

    def _may_be_redelivered(self) -> bool:
        """Tell whether what a lost link had may still be delivered by this one."""
        since = self._ready_since
        return since is None or time.monotonic() - since < _GRACE

    # One delivery

    def _run_handler(self, backlog: Backlog, delivery: Delivery) -> None:
        state = backlog.state
        is_treated, again = False, None
        try:
            # Not when the link was lost meanwhile: it comes again. Nor in a forked child.
            if not self.inherited and not (delivery.gone and self._is_link_lost(delivery)):
                if state.queue is not None:
                    again = self._handle(delivery, state.queue)
                elif self._on_due is not None:
                    again = self._on_due(delivery)
                is_treated = True
        except (*USER_FAULTS, DeadlineReached, gevent.GreenletExit) as error:
            if not self.cut:
                logger.exception(
                    "%s: %s was not handled, it is delivered again: %s",
                    self.name,
                    delivery.envelope.shown,
                    error or type(error).__name__,
                )
            if isinstance(error, gevent.GreenletExit):
                raise
        finally:
            if not self.inherited:
                # Also of one that was cut off and ends only now.
                for places in backlog.places:
                    places.give()
                self._on_handled(state, delivery, is_treated, again)

    def _on_handled(
        self, state: QueueState, delivery: Delivery, is_treated: bool, again: RetryIn
    ) -> None:
        if state.running.pop(delivery, None) is None:
            return  # cut off
        if delivery.outgoing is not None:
            self._outcomes.add(state, delivery)
        if not is_treated:
            self._requeue_later(state, delivery)
        elif again is not None:
            at_once = again <= 0 and (delivery.tried is None or not self.stopping)
            if at_once and not self._is_link_lost(delivery):
                self._run_next(delivery)
            else:
                self._isolation.finished(delivery)
                if again < _LONG:
                    self._schedule_retry(state, delivery, again)
                else:
                    state.waiting.add(delivery)
                    self._to_postpone.append((time.monotonic() + again, delivery))
        elif delivery.unpublished:
            self._isolation.finished(delivery)
            self._publishing.add(delivery)
        else:
            self._settle(state, delivery)
        self._start_ready()
        self.wake()

    def _on_published(self, delivery: Delivery) -> None:
        """Settle a delivery whose retries and dead letters the broker has now, all of them.

        Not yet when its link is lost and it may be delivered again: it would be handled anew.
        """
        if delivery not in self._publishing:
            return
        state = self.unsettled[delivery]
        if self._is_link_lost(delivery) and self._may_be_redelivered():
            self._schedule_retry(state, delivery, _LOOK)
        else:
            self._publishing.discard(delivery)
            self._settle(state, delivery)

    def _settle(self, state: QueueState, delivery: Delivery) -> None:
        """Have one that was handled acknowledged, and the next of its key begin."""
        self._to_acknowledge += self._finish(delivery, handled=True)
        if state.keyed:
            self._scheduler.offer(state.pass_on(delivery))

    def _requeue_later(self, state: QueueState, delivery: Delivery) -> None:
        """Give a delivery that could not be handled back to the broker, after a pause.

        Where nobody else would get it (`Link.claims_keys`) it is tried again here instead: others
        of its key would overtake it. One whose link is lost the broker has already.
        """
        link = self.link
        claims = state.keyed and link is not None and link.claims_keys
        if claims and not self._is_link_lost(delivery):
            self._isolation.finished(delivery)
            self._schedule_retry(state, delivery, _PAUSE)
            return
        here = self._finish(delivery, handled=False)
        for each in here:
            self._to_requeue.add(_PAUSE, each)
        if not here:
            self._scheduler.offer(state.pass_on(delivery))

    def _finish(self, delivery: Delivery, *, handled: bool) -> list[Delivery]:
        """Return what the broker is to hear of one that has ended; nothing when it is away."""
        here = self._redeliveries.end(delivery, handled=handled)
        if delivery.deliveries:
            self._isolation.finished(delivery)
        if delivery.gone:
            self.unsettled.pop(delivery, None)
            if here:
                self._isolation.inherit(delivery, here[-1])
            else:
                (self._handled_away if handled else self._lost).append(delivery)
        return here

    # The end

    def why_not_ready(self) -> str | None:
        """Return None while events come and what becomes of them goes; otherwise why not."""
        return super().why_not_ready() or self._outcomes.why_not_ready()

    def _is_running(self) -> bool:
        return any(state.is_running() for state in self._states)

    def _kill_handlers(self) -> None:
        """End the handlers that still run, each once: their clean-up has `LAST_WORDS` seconds."""
        running = {greenlet for state in self._states for greenlet in state.running.values()}
        if not running:
            return
        if not self.cut:
            self.cut = True
            self._workers.end()
            logger.warning(
                "%s: %d handlers were still running and are cut off; their events are delivered "
                "again",
                *(self.name, len(running)),
            )
        gevent.killall(running - self._killed, block=False)
        self._killed |= running
        try:
            if len(gevent.joinall(running, timeout=LAST_WORDS)) < len(running):
                logger.warning("%s: some handlers do not end when they are killed", self.name)
        finally:
            for state in self._states:
                state.running.clear()

    def _log_unacknowledged(self) -> None:
        if self._handled_away:
            logger.warning(
                "%s: %d events were handled, and the broker does not know: they are delivered "
                "again",
                *(self.name, len(self._handled_away)),
            )
            self._handled_away.clear()

    def _at_end(self) -> None:
        # There is no link any more: what still runs has its time all the same.
        assert self.signal is not None
        if self.stopping:
            while self._is_running() and time.monotonic() < self.cut_off_at:
                self.signal.clear()
                self.signal.wait(seconds_until(self.cut_off_at))
            self._kill_handlers()
            self._log_unacknowledged()
        self._outcomes.forget()
        self._workers.end()
        self.unsettled.clear()
