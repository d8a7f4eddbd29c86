"""Consuming: deliveries handled in a bounded number of greenlets, acknowledged by the owner.

What is done with one event belongs to `processor`, what came from one queue to `lines`, how much of
it is taken in advance to `prefetch`; here are only who runs when, and what the broker is told
afterwards. All of it happens in the hub of the owner, so nothing here is locked.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import gevent

from ..concurrency import USER_FAULTS, DeadlineReached
from .lines import Lane, Line
from .link import Delivery, Link
from .owner import Owner, starting
from .places import Places
from .prefetch import Prefetch
from .signals import seconds_until
from .suspects import SUSPICIOUS, Suspects
from .topology import Queue, Topology

__all__ = ["Consumer"]

#: Seconds for which what could not be handled is kept, so that a fault does not spin.
_PAUSE = 1.0
#: Seconds between two renewals of what is being handled, where the lease is not shorter.
_RENEWAL = 5.0
#: How many are acknowledged in one go.
_BATCH = 100
#: Seconds that handlers have to end once they are killed.
_LAST_WORDS = 1.0
#: How many events one process handles at once, and takes in advance, unless it is told.
_POOL = 100


class Consumer:
    """Handles what comes to some queues, over a connection of its own.

    :param make_link: makes a link that is not open yet.
    :param topology: is declared on each new connection, with `queues`.
    :param handle: called with a delivery and its queue, in a greenlet and a context of its own;
        True when it is done with, False when it is to be delivered again, a number of seconds when
        it is to be called once more with this delivery.
    :param name: what the log and errors call it.
    :param pool: the places of the process: how many deliveries are handled at once. As many are
        taken in advance, over all queues.
    :param relay: called with what comes to the queue `due`, where the link knows one. It has as
        many places of its own: what is delayed must not wait for long handlers.
    """

    def __init__(
        self,
        make_link: Callable[[], Link],
        topology: Topology,
        queues: Sequence[Queue],
        handle: Callable[[Delivery, Queue], bool | float],
        *,
        name: str,
        pool: Places | None = None,
        relay: Callable[[Delivery], bool] | None = None,
        logger: logging.Logger | None = None,
    ) -> None:
        self._name = name
        self._make_owner = functools.partial(
            _ConsumingOwner,
            make_link,
            topology,
            tuple(queues),
            handle,
            Places(_POOL) if pool is None else pool,
            relay,
            name=name,
            logger=logger,
        )
        self._owner: _ConsumingOwner | None = None

    @property
    def in_flight(self) -> int:
        """How many deliveries were received and are not done with."""
        owner = self._owner
        return 0 if owner is None or owner.inherited else len(owner.held)

    def start(self) -> None:
        """Begin; returns at once. Does nothing when it runs."""
        owner = self._owner
        if owner is None or owner.inherited or owner.ended:
            with starting():
                if self._owner is owner:
                    self._owner = self._make_owner()
                    self._owner.start()

    def stop(self, timeout: float) -> bool:
        """Take nothing more, wait so many seconds for the handlers that run, give the rest back.

        :returns: False when handlers were cut off.
        """
        owner = self._owner
        if owner is None:
            return True
        # The owner itself keeps the time, and needs some more to give back what it cuts off.
        owner.cut_off_at = time.monotonic() + timeout
        owner.stop(timeout + _LAST_WORDS + _LAST_WORDS)
        if self._owner is owner:
            self._owner = None
        return not owner.cut

    def why_not_ready(self) -> str | None:
        """None while events arrive; otherwise why not."""
        owner = self._owner
        if owner is None or owner.inherited:
            return f"{self._name}: not started"
        why = owner.why_not_ready()
        return None if why is None else f"{self._name}: {why}"


class _ConsumingOwner(Owner):
    """The owner of one consumer's connection in one process."""

    def __init__(
        self,
        make_link: Callable[[], Link],
        topology: Topology,
        queues: Sequence[Queue],
        handle: Callable[[Delivery, Queue], bool | float],
        pool: Places,
        relay: Callable[[Delivery], bool] | None,
        **options: Any,
    ) -> None:
        super().__init__(make_link, **options)
        self._topology = topology
        self._queues = queues
        self._pool = pool
        self._prefetch = Prefetch(pool.limit)
        self._lines = [
            Line(queue.name, _with_queue(handle, queue), queue, pool, prefetch=first, most=most)
            for queue, first, most in self._prefetch.first_shares(queues)
        ]
        self._due = None
        if relay is not None:
            own, places = Places(pool.limit), pool.limit
            self._due = Line(topology.due, relay, None, own, prefetch=places, most=places)
        #: The moment when handlers that still run are cut off, and whether some were.
        self.cut_off_at = float("inf")
        self.cut = False
        #: What was received and is not settled, in the order of arrival; of links that are gone
        #: only what still runs.
        self.held: dict[Delivery, Line] = {}
        #: Lanes in which something is ready; the first has its turn.
        self._hungry: deque[Lane] = deque()
        #: Where this owner stands in line.
        self._in_line: set[Places] = set()
        #: What was handled, to be acknowledged.
        self._done: deque[Delivery] = deque()
        #: What could not be handled, and when it is given back.
        self._kept: deque[tuple[float, Line, Delivery]] = deque()
        #: What is to be tried again here, and when: a heap, with a number for those of one moment.
        self._waiting: list[tuple[float, int, Line, Delivery]] = []
        self._numbers = itertools.count()
        self._renew_at = 0.0
        self._suspects: Suspects[Line] = Suspects()

    # The connection

    def _use(self, link: Link) -> None:
        assert self.signal is not None
        lines = self._lines_of(link)
        try:
            link.declare(self._topology, self._queues)
            self._subscribe(link)
            self._is_ready()
            self._renew_at = 0.0
            while not self.stopping:
                self._turn(link, 1.0)
            for line in lines:
                link.cancel(line.name)
            self._return_waiting(link)
            while self._is_running() and time.monotonic() < self.cut_off_at:
                self._return_unstarted(link)
                self._turn(link, min(1.0, seconds_until(self.cut_off_at)))
                self._return_waiting(link)
            self._cut_off()
            self._acknowledge(link)
            link.requeue([delivery for delivery in self.held if delivery.link is link])
        finally:
            self._forget_link()

    def _subscribe(self, link: Link) -> None:
        """Tell the broker how much of each queue to send in advance, where that has changed."""
        for line in self._prefetch.changed(self._lines_of(link), link.claims_keys):
            link.consume(line.name, line.prefetch, functools.partial(self._arrived, line))

    def _turn(self, link: Link, longest: float) -> None:
        """Take what has come, say what is done, and wait for more."""
        assert self.signal is not None
        self.signal.clear()
        link.pump()
        self._acknowledge(link)
        self._next_suspect()
        self._return_kept(link)
        self._wake_up()
        self._start_some()
        self._renew(link)
        if not self.stopping:
            self._subscribe(link)
        self._breathe()
        for moments in (self._kept, self._waiting):
            if moments:
                longest = min(longest, seconds_until(moments[0][0]))
        link.wait(self.signal, longest)

    def _acknowledge(self, link: Link) -> None:
        while self._done:
            batch = [self._done.popleft() for _ in range(min(_BATCH, len(self._done)))]
            link.acknowledge(batch)
            self._let_go(batch)
            self._breathe()

    def _return_kept(self, link: Link) -> None:
        now = time.monotonic()
        back: list[Delivery] = []
        while self._kept and self._kept[0][0] <= now:
            _, line, delivery = self._kept.popleft()
            back += line.take_back(delivery)
        self._return(link, back)

    def _return_unstarted(self, link: Link) -> None:
        for line in self._lines_of(link):
            self._return(link, line.take_back_ready())

    def _return_waiting(self, link: Link) -> None:
        """Give back what would be tried again later, with those behind it."""
        waiting, self._waiting = sorted(self._waiting), []
        back: list[Delivery] = []
        for _, _, line, delivery in waiting:
            line.waiting.discard(delivery)
            back += line.take_back(delivery)
        self._return(link, back)

    def _return(self, link: Link, deliveries: list[Delivery]) -> None:
        if deliveries:
            link.requeue(deliveries)
            self._let_go(deliveries)

    def _let_go(self, deliveries: list[Delivery]) -> None:
        for delivery in deliveries:
            line = self.held.pop(delivery, None)
            if line is not None:
                line.held -= 1

    def _renew(self, link: Link) -> None:
        now = time.monotonic()
        if now >= self._renew_at:
            interval = _RENEWAL if link.lease is None else min(_RENEWAL, link.lease / 3)
            self._renew_at = now + interval
            held = [delivery for delivery in self.held if delivery.link is link]
            if held:
                link.renew(held)

    def _forget_link(self) -> None:
        """What is not being handled will be delivered again; what is, acknowledged by nobody."""
        for line in self._all_lines():
            line.forget()
        self._hungry.clear()
        self._leave_lines()
        self._suspects.forget()
        self._done.clear()
        self._kept.clear()
        self._waiting.clear()
        running = [line.running for line in self._all_lines()]
        held, self.held = self.held, {}
        for delivery, line in held.items():
            delivery.gone = True
            if any(delivery in deliveries for deliveries in running):
                self.held[delivery] = line
            else:
                self._suspects.finished(delivery)

    def _lines_of(self, link: Link) -> list[Line]:
        return self._all_lines() if link.relays else self._lines

    def _all_lines(self) -> list[Line]:
        return self._lines if self._due is None else [*self._lines, self._due]

    # Who runs when

    def _arrived(self, line: Line, delivery: Delivery) -> None:
        self.held[delivery] = line
        line.held += 1
        if line.queue is not None:
            delivery.handlers = line.queue.handlers_for(delivery.envelope)
            # With keys the order holds, and only one of each is handled anyway.
            if not line.keyed and (delivery.deliveries or 0) >= SUSPICIOUS:
                self._suspects.add(line, delivery)
                return
        self._offer(line.add(delivery))
        self._start_some()

    def _offer(self, lane: Lane | None) -> None:
        if lane is not None and lane.ready and lane not in self._hungry:
            self._hungry.append(lane)

    def _start_some(self) -> None:
        """Start what can be started: one of each lane in turn."""
        stuck = 0
        refused: set[Places] = set()
        while self._hungry and stuck < len(self._hungry):
            lane = self._hungry.popleft()
            if not lane.ready or (self.stopping and not lane.ready[0].begun):
                continue
            full = lane.take_places(self)
            if full is not None:
                refused.add(full)
                stuck += 1
                self._hungry.append(lane)
                if full is self._pool:
                    break
                continue
            stuck = 0
            delivery = lane.ready.popleft()
            # A new greenlet has a new, empty context: nothing of the owner's or another event's.
            lane.line.running[delivery] = gevent.spawn(self._work, lane, delivery)
            self._offer(lane)
        self._leave_lines(but=refused)

    def _leave_lines(self, but: set[Places] | None = None) -> None:
        """Stand in line for nothing else: others would wait for this one to take its place."""
        in_line, self._in_line = self._in_line, but or set()
        for places in in_line - self._in_line:
            places.leave(self)

    def _next_suspect(self) -> None:
        """Only after what was handled has been acknowledged: this one may end the process."""
        if not self.stopping and (suspect := self._suspects.next()):
            line, delivery = suspect
            self._offer(line.offer(delivery, first=True))

    def _wake_up(self) -> None:
        """Those that have waited for long enough have their turn."""
        now = time.monotonic()
        while self._waiting and self._waiting[0][0] <= now and not self.stopping:
            _, _, line, delivery = heapq.heappop(self._waiting)
            line.waiting.discard(delivery)
            self._offer(line.offer(delivery, first=True))

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
        finally:
            if not self.inherited:
                # Also of one that was cut off and ends only now.
                for places in lane.places:
                    places.give()
                self._finished(line, delivery, outcome)

    def _finished(self, line: Line, delivery: Delivery, outcome: bool | float) -> None:
        self._suspects.finished(delivery)
        if line.running.pop(delivery, None) is None:
            return  # cut off
        if delivery.link is not self.link:
            # Its link is gone: whatever became of it, it is delivered again.
            self.held.pop(delivery, None)
            self._offer(line.pass_on(delivery))
        elif outcome is True:
            self._done.append(delivery)
            self._offer(line.pass_on(delivery))
        elif outcome is False:
            self._kept.append((time.monotonic() + _PAUSE, line, delivery))
        elif outcome <= 0 and (delivery.tried is None or not self.stopping):
            self._offer(line.offer(delivery, first=True))
        else:
            moment = time.monotonic() + outcome
            line.waiting.add(delivery)
            heapq.heappush(self._waiting, (moment, next(self._numbers), line, delivery))
        self._start_some()
        self.wake()

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
        self.logger.warning(
            "%s: %d handlers were still running and are cut off; their events are delivered again",
            self.name,
            len(greenlets),
        )
        try:
            gevent.killall(greenlets, timeout=_LAST_WORDS)
        except gevent.Timeout:
            self.logger.warning("%s: some handlers do not end when they are killed", self.name)
        finally:
            for line in self._all_lines():
                line.running.clear()

    def _at_end(self) -> None:
        # There is no link any more: what still runs has its time all the same.
        assert self.signal is not None
        if self.stopping:
            while self._is_running() and time.monotonic() < self.cut_off_at:
                self.signal.clear()
                self.signal.wait(seconds_until(self.cut_off_at))
            self._cut_off()
        self.held.clear()


def _with_queue(
    handle: Callable[[Delivery, Queue], bool | float], queue: Queue
) -> Callable[[Delivery], bool | float]:
    return lambda delivery: handle(delivery, queue)
