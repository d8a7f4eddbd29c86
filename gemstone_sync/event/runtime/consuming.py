"""The owner of a consumer's connection: what runs, and what the broker is told afterwards.

What came from one queue is in `queue_state`, whose turn it is in `turns`, how much is taken in
advance in `prefetch`, what came before in `doubts`, what comes again in `redeliveries`, what is
left to publish in `outcomes`. All of it happens in the hub of the owner, so nothing here is locked
but the places, which consumers share.
"""

from __future__ import annotations

import functools
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
from .agenda import Agenda
from .connection_loop import Owner
from .doubts import Doubts
from .outcomes import Outcomes, Refused
from .prefetch import Prefetch
from .publisher import Publisher
from .queue_state import Lane, Line
from .redeliveries import Redeliveries
from .turns import Turns
from .workers import Workers

__all__ = ["LAST_WORDS", "ConsumingOwner"]

#: Seconds for which what could not be handled is kept, so that a fault does not spin.
_PAUSE = 1.0
#: Seconds for which one that has begun waits for its redelivery, on a new connection.
_GRACE = 5.0
#: How many are acknowledged in one go.
_BATCH = 100
#: How many greenlets are kept for the next events.
_WORKERS = 100
#: Seconds that handlers have to end once they are killed.
LAST_WORDS = 1.0


class ConsumingOwner(Owner):
    """The owner of one consumer's connection in one process."""

    def __init__(
        self,
        make_link: Callable[[], Link],
        topology: Topology,
        queues: Sequence[Queue],
        handle: Callable[[Delivery, Queue], bool | float],
        pool: Places,
        relay: Callable[[Delivery], bool | float] | None,
        publisher: Publisher | None,
        refused: Refused | None,
        **options: Any,
    ) -> None:
        super().__init__(make_link, **options)
        self._outcomes = Outcomes(publisher, refused, self.wake, name=self.name, logger=self.logger)
        self._topology = topology
        self._queues = queues
        self._prefetch = Prefetch(pool.limit)
        self._lines = [
            Line(queue.name, _with_queue(handle, queue), queue, pool, prefetch=first, most=most)
            for queue, first, most in self._prefetch.first_shares(queues)
        ]
        self._due = None
        if relay is not None:
            own, places = Places(pool.limit), pool.limit
            self._due = Line(topology.due, relay, None, own, prefetch=places, most=places)
        self._workers = Workers(_WORKERS)
        #: The moment when handlers that still run are cut off, and whether some were.
        self.cut_off_at = float("inf")
        self.cut = False
        #: What was received and is not settled, in the order of arrival; of links that are gone
        #: only what still runs.
        self.held: dict[Delivery, Line] = {}
        #: What was handled, to be acknowledged.
        self._done: deque[Delivery] = deque()
        #: What could not be handled, and is given back soon.
        self._kept: Agenda[tuple[Line, Delivery]] = Agenda()
        #: What is to be tried again here.
        self._waiting: Agenda[tuple[Line, Delivery]] = Agenda()
        self._doubts = Doubts()
        self._turns = Turns(self, pool, self._doubts.hold_back)
        self._redeliveries = Redeliveries()
        #: Whether a link was lost: before that nothing comes again but what the broker says does.
        self._has_lost = False
        #: What the last link had and is not begun.
        self._lost: list[Delivery] = []

    # The connection

    def _use(self, link: Link) -> None:
        assert self.signal is not None
        lines = self._lines_of(link)
        try:
            link.declare(self._topology, self._queues)
            self._subscribe(link)
            link.keep()
            self._adopt(link)
            self._is_ready()
            while not self.stopping:
                self._turn(link, 1.0)
            for line in lines:
                link.cancel(line.name)
            self._return_waiting(link)
            while time.monotonic() < self.cut_off_at and (
                self._is_running() or self._outcomes.is_moving()
            ):
                self._return_unstarted(link)
                self._turn(link, min(1.0, seconds_until(self.cut_off_at)))
                self._return_waiting(link)
            self._cut_off()
            self._outcomes.forget()
            self._acknowledge(link)
            self._return(link, [delivery for delivery in self.held if delivery.link is link])
        finally:
            self._forget_link(link)

    def _subscribe(self, link: Link) -> None:
        """Tell the broker how much of each queue to send in advance, where that has changed."""
        for line in self._prefetch.changed(self._lines_of(link), link.claims_keys):
            link.consume(line.name, line.prefetch, functools.partial(self._arrived, line))

    def _turn(self, link: Link, longest: float) -> None:
        """Take what has come, say what is done, and wait for more."""
        assert self.signal is not None
        self.signal.clear()
        link.pump()
        for line, delivery in self._outcomes.take():
            self._published(line, delivery)
        self._acknowledge(link)
        if not self.stopping:
            for line, delivery in self._doubts.cleared(link):
                self._turns.offer(line.offer(delivery, first=True))
        self._return_kept(link)
        if not self.stopping:
            self._wake_up()
        self._start_some()
        if not self.stopping:
            self._subscribe(link)
        self._breathe()
        moment = min(self._kept.moment, self._waiting.moment, self._outcomes.moment)
        link.wait(self.signal, min(longest, seconds_until(moment)))

    def _acknowledge(self, link: Link) -> None:
        while self._done:
            batch = [self._done.popleft() for _ in range(min(_BATCH, len(self._done)))]
            self._doubts.settle(link, batch, done=True)
            link.acknowledge(batch)
            self._let_go(batch)
            self._breathe()

    def _return_kept(self, link: Link) -> None:
        back: list[Delivery] = []
        for line, delivery in self._kept.due():
            back += line.take_back(delivery)
        self._return(link, back)

    def _return_unstarted(self, link: Link) -> None:
        for line in self._lines_of(link):
            self._return(link, line.take_back_ready())

    def _return_waiting(self, link: Link) -> None:
        """Give back what would be tried again later, with those behind it."""
        back: list[Delivery] = []
        for line, delivery in self._waiting.clear():
            line.waiting.discard(delivery)
            current = self._current(delivery)
            if current is not None:
                for each in self._redeliveries.end(current):
                    back += line.take_back(each)
        self._return(link, back)

    def _return(self, link: Link, deliveries: list[Delivery]) -> None:
        if deliveries:
            self._doubts.settle(link, deliveries, done=False)
            link.requeue(deliveries)
            self._let_go(deliveries)

    def _let_go(self, deliveries: list[Delivery]) -> None:
        for delivery in deliveries:
            line = self.held.pop(delivery, None)
            if line is not None:
                line.held -= 1

    def _adopt(self, link: Link) -> None:
        """Go on with what has begun, and give back the rest of what the last link had."""
        begun = [delivery for delivery in self._redeliveries.begun() if delivery.gone]
        link.adopt(begun, self._lost)
        self._doubts.settle(link, self._lost, done=False)
        self._lost.clear()
        for delivery in begun:
            if not delivery.gone:
                self.held[delivery].held += 1

    def _forget_link(self, link: Link) -> None:
        """What has not begun will be delivered again; what has, once more or not at all."""
        if not self.stopping:
            link.leave(self._redeliveries.begun())
        for line in self._all_lines():
            line.forget()
        self._turns.forget()
        self._doubts.forget_link()
        for delivery in self._done:
            self._redeliveries.end(delivery, handled=True, unheard=True)
        self._done.clear()
        self._kept.clear()
        self._redeliveries.forget_link()
        self._has_lost = True
        held, self.held = self.held, {}
        for delivery, line in held.items():
            delivery.gone = True
            if delivery in line.running or delivery in line.waiting or delivery in line.publishing:
                self.held[delivery] = line
            else:
                self._doubts.finished(delivery)
                self._lost.append(delivery)

    def _lines_of(self, link: Link) -> list[Line]:
        return self._all_lines() if link.relays else self._lines

    def _all_lines(self) -> list[Line]:
        return self._lines if self._due is None else [*self._lines, self._due]

    # Who runs when

    def _arrived(self, line: Line, delivery: Delivery) -> None:
        self.held[delivery] = line
        line.held += 1
        if line.queue is not None:
            if delivery.deliveries or self._has_lost:
                if self._redeliveries.is_running(delivery):
                    return
                if self._redeliveries.was_handled(delivery):
                    self._done.append(delivery)
                    return
            delivery.handlers = line.queue.handlers_for(delivery.envelope)
        self._turns.offer(line.add(delivery))
        self._start_some()

    def _current(self, delivery: Delivery) -> Delivery | None:
        """What stands for it on this link: itself, or its redelivery; None while none has come."""
        if not delivery.gone:
            return delivery
        heirs = self._redeliveries.heirs_of(delivery, self.link)
        if not heirs:
            return None
        self._outcomes.inherit(delivery, heirs[-1])
        self._done += heirs[:-1]
        self._doubts.inherit(delivery, heirs[-1])
        self.held.pop(delivery, None)
        return heirs[-1]

    def _start_some(self) -> None:
        for lane, delivery in self._turns.take(only_begun=self.stopping):
            self._redeliveries.begin(delivery)
            lane.line.running[delivery] = self._workers.start(self._work, lane, delivery)

    def _wake_up(self) -> None:
        """Those that have waited for long enough have their turn."""
        for line, delivery in self._waiting.due():
            line.waiting.discard(delivery)
            if delivery in line.publishing:
                self._published(line, delivery)
            elif (current := self._current(delivery)) is not None:
                self._turns.offer(line.offer(current, first=True))
            elif self._may_come_again():
                self._wait(line, delivery, 0.1)
            else:
                self._drop(line, delivery)

    def _may_come_again(self) -> bool:
        """Whether what a lost link had may still be delivered by this one."""
        since = self._ready_since
        return since is None or time.monotonic() - since < _GRACE

    def _wait(self, line: Line, delivery: Delivery, seconds: float) -> None:
        line.waiting.add(delivery)
        self._waiting.add(seconds, (line, delivery))

    def _drop(self, line: Line, delivery: Delivery, *, handled: bool = False) -> None:
        """Its link is gone, and it was delivered elsewhere, or comes later."""
        self._redeliveries.end(delivery, handled=handled, unheard=True)
        self._doubts.drop(delivery)
        self.held.pop(delivery, None)
        self._turns.offer(line.pass_on(delivery))

    def _work(self, lane: Lane, delivery: Delivery) -> None:
        line = lane.line
        outcome: bool | float = False
        try:
            # Not when the link was lost meanwhile: it comes again. Nor in a forked child.
            if delivery.link is self.link and not self.inherited:
                outcome = line.work(delivery)
        except (*USER_FAULTS, DeadlineReached, gevent.GreenletExit) as error:
            if not self.cut:
                self.logger.exception(
                    "%s: event %r (%s) was not handled, it is delivered again: %s",
                    self.name,
                    delivery.envelope.name,
                    delivery.envelope.id,
                    error or type(error).__name__,
                )
            if isinstance(error, gevent.GreenletExit):
                raise
        finally:
            if not self.inherited:
                # Also of one that was cut off and ends only now.
                for places in lane.places:
                    places.give()
                self._finished(line, delivery, outcome)

    def _finished(self, line: Line, delivery: Delivery, outcome: bool | float) -> None:
        if delivery.deliveries:
            self._doubts.finished(delivery)
        if line.running.pop(delivery, None) is None:
            return  # cut off
        if delivery.outgoing is not None:
            self._outcomes.add(line, delivery)
        current = self._current(delivery) if delivery.gone else delivery
        if not isinstance(outcome, bool):
            current = current or delivery
            if outcome <= 0 and not current.gone and (delivery.tried is None or not self.stopping):
                self._turns.offer(line.offer(current, first=True))
            else:
                self._wait(line, current, outcome)
        elif outcome and delivery.unpublished:
            line.publishing.add(current or delivery)
        elif outcome:
            self._settle(line, delivery, current)
        elif current is None:
            self._drop(line, delivery)
        else:
            for each in self._redeliveries.end(current):
                self._kept.add(_PAUSE, (line, each))
        self._start_some()
        self.wake()

    def _published(self, line: Line, delivery: Delivery) -> None:
        """The broker has taken all that one has left: it is done with, if its handlers are."""
        if delivery not in line.publishing:
            return
        current = self._current(delivery)
        if current is None and self._may_come_again():
            self._wait(line, delivery, 0.1)
        else:
            line.publishing.discard(delivery)
            self._settle(line, delivery, current)

    def _settle(self, line: Line, delivery: Delivery, current: Delivery | None) -> None:
        if current is None:
            self._lost.append(delivery)
            self._drop(line, delivery, handled=True)
            return
        self._done += self._redeliveries.end(current, handled=True)
        if line.keyed:
            self._turns.offer(line.pass_on(current))

    def why_not_ready(self) -> str | None:
        """None while events come and what becomes of them goes; otherwise why not."""
        return super().why_not_ready() or self._outcomes.why_not_ready()

    def _is_running(self) -> bool:
        """Whether something has begun that has not come to an end."""
        return any(
            line.running or any(lane.ready and lane.ready[0].begun for lane in line.lanes.values())
            for line in self._all_lines()
        )

    def _cut_off(self) -> None:
        """End the handlers that still run."""
        greenlets = [greenlet for line in self._all_lines() for greenlet in line.running.values()]
        if not greenlets:
            return
        self.cut = True
        self._workers.end()
        self.logger.warning(
            "%s: %d handlers were still running and are cut off; their events are delivered again",
            self.name,
            len(greenlets),
        )
        try:
            gevent.killall(greenlets, timeout=LAST_WORDS)
        except gevent.Timeout:
            self.logger.warning("%s: some handlers do not end when they are killed", self.name)
        finally:
            for line in self._all_lines():
                line.running.clear()
            self._redeliveries.forget_all()

    def _at_end(self) -> None:
        # There is no link any more: what still runs has its time all the same.
        assert self.signal is not None
        if self.stopping:
            while self._is_running() and time.monotonic() < self.cut_off_at:
                self.signal.clear()
                self.signal.wait(seconds_until(self.cut_off_at))
            self._cut_off()
        self._outcomes.forget()
        self._workers.end()
        self.held.clear()


def _with_queue(
    handle: Callable[[Delivery, Queue], bool | float], queue: Queue
) -> Callable[[Delivery], bool | float]:
    return lambda delivery: handle(delivery, queue)
