"""Consuming: deliveries handled in a bounded pool of greenlets, acknowledged by the owner.

What is done with one event belongs to `processor`; here are only who runs when, and what the broker
is told afterwards. All of it happens in the hub of the owner, so nothing here is locked.
"""

from __future__ import annotations

import functools
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import gevent

from ..concurrency import USER_FAULTS, DeadlineReached
from .link import Delivery, Link
from .owner import Owner, starting
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


class Consumer:
    """Handles what comes to some queues, over a connection of its own.

    :param make_link: makes a link that is not open yet.
    :param topology: is declared on each new connection, with `queues`.
    :param handle: called with a delivery and its queue, in a greenlet and a context of its own;
        True when it is done with, False when it is to be delivered again.
    :param name: what the log and errors call it.
    :param pool_size: how many deliveries are handled at once, over all queues.
    :param relay: called with what comes to the queue `due`, where the link knows one. It has as
        many places of its own: what is delayed must not wait for long handlers.
    """

    def __init__(
        self,
        make_link: Callable[[], Link],
        topology: Topology,
        queues: Sequence[Queue],
        handle: Callable[[Delivery, Queue], bool],
        *,
        name: str,
        pool_size: int = 100,
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
            pool_size,
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


class _Line:
    """What came from one queue and waits for its turn, or has it.

    :param limit: how many may be handled at once.
    :param pooled: whether they take places of the pool.
    """

    __slots__ = ("keyed", "keys", "limit", "name", "pooled", "ready", "running", "work")

    def __init__(
        self,
        name: str,
        work: Callable[[Delivery], bool],
        *,
        limit: int,
        keyed: bool = False,
        pooled: bool = True,
    ) -> None:
        self.name = name
        self.work = work
        self.limit = limit
        self.keyed = keyed
        self.pooled = pooled
        #: Those that can start as soon as there is a place.
        self.ready: deque[Delivery] = deque()
        #: Those that are being handled, and by which greenlet.
        self.running: dict[Delivery, Any] = {}
        #: By key, while one of it is ready, running or kept for a while: those behind it.
        self.keys: dict[str, deque[Delivery]] = {}

    def add(self, delivery: Delivery) -> None:
        """It has arrived."""
        key = delivery.envelope.key if self.keyed else None
        if key is not None and key in self.keys:
            self.keys[key].append(delivery)
            return
        if key is not None:
            self.keys[key] = deque()
        self.ready.append(delivery)

    def pass_on(self, delivery: Delivery) -> None:
        """It is done with: the next one of its key has its turn."""
        behind = self.keys.get(delivery.envelope.key or "") if self.keyed else None
        if behind:
            self.ready.append(behind.popleft())
        elif behind is not None:
            del self.keys[delivery.envelope.key or ""]

    def take_back(self, delivery: Delivery) -> list[Delivery]:
        """It goes back to the broker, and with it those behind it: they must not overtake it."""
        behind = self.keys.pop(delivery.envelope.key or "", ()) if self.keyed else ()
        return [delivery, *behind]

    def forget(self) -> None:
        """The link is gone: nothing is left but what runs."""
        self.ready.clear()
        running = {delivery.envelope.key for delivery in self.running} if self.keyed else set()
        self.keys = {key: deque() for key in running if key is not None}


class _ConsumingOwner(Owner):
    """The owner of one consumer's connection in one process, and its pool of handlers."""

    def __init__(
        self,
        make_link: Callable[[], Link],
        topology: Topology,
        queues: Sequence[Queue],
        handle: Callable[[Delivery, Queue], bool],
        pool_size: int,
        relay: Callable[[Delivery], bool] | None,
        **options: Any,
    ) -> None:
        super().__init__(make_link, **options)
        self._topology = topology
        self._queues = queues
        self._lines = [
            _Line(
                queue.name,
                _with_queue(handle, queue),
                limit=queue.concurrency or pool_size,
                keyed=queue.keyed,
            )
            for queue in queues
        ]
        self._due = None
        if relay is not None:
            self._due = _Line(topology.due, relay, limit=pool_size, pooled=False)
        #: The moment when handlers that still run are cut off, and whether some were.
        self.cut_off_at = float("inf")
        self.cut = False
        #: What was received and is not settled, in the order of arrival; of links that are gone
        #: only what still runs.
        self.held: dict[Delivery, _Line] = {}
        self._places = pool_size
        #: Lines in which something is ready; the first has its turn.
        self._hungry: deque[_Line] = deque()
        #: What was handled, to be acknowledged.
        self._done: deque[Delivery] = deque()
        #: What could not be handled, and when it is given back.
        self._kept: deque[tuple[float, _Line, Delivery]] = deque()
        self._renew_at = 0.0
        self._suspects: Suspects[_Line] = Suspects()

    # The connection

    def _use(self, link: Link) -> None:
        assert self.signal is not None
        lines = self._lines_of(link)
        try:
            link.declare(self._topology, self._queues)
            for line in lines:
                link.consume(line.name, line.limit, functools.partial(self._arrived, line))
            self._is_ready()
            self._renew_at = 0.0
            while not self.stopping:
                self._turn(link, 1.0)
            for line in lines:
                link.cancel(line.name)
            while self._is_running() and time.monotonic() < self.cut_off_at:
                self._return_unstarted(link)
                self._turn(link, min(1.0, seconds_until(self.cut_off_at)))
            self._cut_off()
            self._acknowledge(link)
            link.requeue([delivery for delivery in self.held if delivery.link is link])
        finally:
            self._forget_link()

    def _turn(self, link: Link, longest: float) -> None:
        """Take what has come, say what is done, and wait for more."""
        assert self.signal is not None
        self.signal.clear()
        link.pump()
        self._acknowledge(link)
        self._start_suspect()
        self._return_kept(link)
        self._renew(link)
        self._breathe()
        if self._kept:
            longest = min(longest, seconds_until(self._kept[0][0]))
        link.wait(self.signal, longest)

    def _acknowledge(self, link: Link) -> None:
        while self._done:
            batch = [self._done.popleft() for _ in range(min(_BATCH, len(self._done)))]
            link.acknowledge(batch)
            for delivery in batch:
                self.held.pop(delivery, None)
            self._breathe()

    def _return_kept(self, link: Link) -> None:
        now = time.monotonic()
        back: list[Delivery] = []
        while self._kept and self._kept[0][0] <= now:
            _, line, delivery = self._kept.popleft()
            back += line.take_back(delivery)
        self._return(link, back)

    def _return_unstarted(self, link: Link) -> None:
        """Give back what has not begun; with keys later, behind what still runs, in order."""
        for line in self._lines_of(link):
            if not line.keyed:
                back = list(line.ready)
                line.ready.clear()
                self._return(link, back)

    def _return(self, link: Link, deliveries: list[Delivery]) -> None:
        if deliveries:
            link.requeue(deliveries)
            for delivery in deliveries:
                self.held.pop(delivery, None)

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
        self._suspects.forget()
        self._done.clear()
        self._kept.clear()
        running = [line.running for line in self._all_lines()]
        for delivery in self.held:
            delivery.gone = True
        self.held = {
            delivery: line
            for delivery, line in self.held.items()
            if any(delivery in deliveries for deliveries in running)
        }

    def _lines_of(self, link: Link) -> list[_Line]:
        return self._all_lines() if link.relays else self._lines

    def _all_lines(self) -> list[_Line]:
        return self._lines if self._due is None else [*self._lines, self._due]

    # The pool

    def _arrived(self, line: _Line, delivery: Delivery) -> None:
        self.held[delivery] = line
        # With keys the order holds, and only one of each is handled anyway.
        if line.pooled and not line.keyed and (delivery.deliveries or 0) >= SUSPICIOUS:
            self._suspects.add(line, delivery)
            return
        line.add(delivery)
        self._offer(line)
        self._start_some()

    def _offer(self, line: _Line) -> None:
        if line.ready and line not in self._hungry:
            self._hungry.append(line)

    def _start_some(self) -> None:
        """Start what can be started: one of each line in turn."""
        stuck = 0
        while self._hungry and stuck < len(self._hungry) and not self.stopping:
            line = self._hungry.popleft()
            if len(line.running) >= line.limit or (line.pooled and self._places <= 0):
                stuck += 1
                self._hungry.append(line)
                continue
            stuck = 0
            self._start_one(line, line.ready.popleft())
            self._offer(line)

    def _start_one(self, line: _Line, delivery: Delivery) -> None:
        if line.pooled:
            self._places -= 1
        # A new greenlet has a new, empty context: nothing of the owner's or another event's.
        line.running[delivery] = gevent.spawn(self._work, line, delivery)

    def _start_suspect(self) -> None:
        """Only after what was handled has been acknowledged: this one may end the process."""
        if not self.stopping and self._places > 0 and (suspect := self._suspects.next()):
            self._start_one(*suspect)

    def _work(self, line: _Line, delivery: Delivery) -> None:
        done = False
        try:
            # Not when the link was lost meanwhile: it comes again. Nor in a forked child.
            if delivery.link is self.link and not self.inherited:
                done = line.work(delivery)
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
            self._finished(line, delivery, done)

    def _finished(self, line: _Line, delivery: Delivery, done: bool) -> None:
        self._suspects.finished(delivery)
        if line.running.pop(delivery, None) is None:
            return  # cut off
        if line.pooled:
            self._places += 1
        if delivery.link is not self.link:
            # Its link is gone: whatever became of it, it is delivered again.
            self.held.pop(delivery, None)
            line.pass_on(delivery)
        elif done:
            self._done.append(delivery)
            line.pass_on(delivery)
        else:
            self._kept.append((time.monotonic() + _PAUSE, line, delivery))
        self._offer(line)
        self._start_some()
        self.wake()

    def _is_running(self) -> bool:
        return any(line.running for line in self._all_lines())

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
    handle: Callable[[Delivery, Queue], bool], queue: Queue
) -> Callable[[Delivery], bool]:
    return lambda delivery: handle(delivery, queue)
