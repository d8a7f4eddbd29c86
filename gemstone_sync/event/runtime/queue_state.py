"""The state of a consumer's queues: what may start of what came, and how much they may hold.

::

    arrived --> ready --> running --> acknowledged, or given back
       ^          ^          |
     behind       +- waiting <

`QueueState` is about one queue. In a keyed one a single event of each key is ready, running or
waiting for its next attempt; the others stand behind it. `Scheduler` chooses what starts next over
all queues, `Prefetch` how much each of them takes in advance, `DelayQueue` holds what waits.
"""

from __future__ import annotations

import heapq
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

from ..link import Delivery
from ..places import Places, Waiter
from ..topology import Queue

__all__ = ["Backlog", "DelayQueue", "Prefetch", "QueueState", "Scheduler"]

T = TypeVar("T")

#: How many a queue may hold besides, of those that wait for their key or their next attempt.
_WAITING = 1000
#: Seconds between two times that a share of the prefetch is taken from one queue for another. With
#: RabbitMQ each is a new subscription.
_SHIFT_PAUSE = 1.0


class DelayQueue(Generic[T]):
    """Items that wait for their moment; those of one moment in the order in which they came."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, T]] = []
        self._numbers = itertools.count()

    def __len__(self) -> int:
        return len(self._heap)

    @property
    def moment(self) -> float:
        """When the first one is due, by ``time.monotonic()``; infinity when there is none."""
        return self._heap[0][0] if self._heap else float("inf")

    def add(self, seconds: float, item: T) -> None:
        """Have an item be due in so many seconds."""
        heapq.heappush(self._heap, (time.monotonic() + seconds, next(self._numbers), item))

    def due(self) -> Iterator[T]:
        """Take out, one by one, those whose moment has come."""
        now = time.monotonic()
        while self._heap and self._heap[0][0] <= now:
            yield heapq.heappop(self._heap)[2]

    def clear(self) -> list[tuple[float, T]]:
        """Take out all of them, in their order, with their moments."""
        heap, self._heap = sorted(self._heap, key=lambda each: each[:2]), []
        return [(moment, item) for moment, _, item in heap]


class Backlog:
    """Deliveries of one queue that start as soon as there is one of each of `places` for them."""

    __slots__ = ("is_listed", "places", "ready", "state")

    def __init__(self, state: QueueState, places: tuple[Places, ...]) -> None:
        self.state = state
        self.places = places
        self.ready: deque[Delivery] = deque()
        #: True while the scheduler looks at it.
        self.is_listed = False

    def take_places(self, waiter: Waiter) -> Places | None:
        """Take one of each; where one has none, take none and return that one."""
        for position, places in enumerate(self.places):
            if not places.take(waiter):
                for taken in self.places[:position]:
                    taken.give()
                return places
        return None


class QueueState:
    """The deliveries of one queue that are not settled: ready, running, waiting, behind others.

    :param queue: None for the queue `due`, whose events have been delayed for long enough.
    :param pool: the places of the process; those of `due` are its own.
    :param prefetch: how many it may hold at first.
    :param most: how many it may ever hold.
    """

    def __init__(
        self, name: str, queue: Queue | None, pool: Places, *, prefetch: int, most: int
    ) -> None:
        self.name = name
        self.queue = queue
        self.keyed = queue is not None and queue.keyed
        #: How many it may hold of the consumer's prefetch: now, at least and at most.
        self.share = self.least = min(prefetch, most)
        self.most = most
        #: The prefetch that the link was told.
        self.prefetch = 0
        #: How many it holds, of the link that there is now.
        self.unsettled_count = 0
        #: Those that are being handled, and by which greenlet; of links that are gone too.
        self.running: dict[Delivery, Any] = {}
        #: Those that wait for their next attempt.
        self.waiting: set[Delivery] = set()
        #: Those that have waited for long until the broker takes what became of them.
        self.unpublished: set[Delivery] = set()
        self.backlogs: dict[Places | None, Backlog] = {}
        self._pool = pool
        #: By key, while one of it is ready, running or waiting: those behind it; how many they are.
        self._behind: dict[str | None, deque[Delivery]] = {}
        self._blocked = 0

    def add(self, delivery: Delivery) -> Backlog | None:
        """Take one that has arrived; return where it is ready, None when it is behind another."""
        key = delivery.envelope.key if self.keyed else None
        if key is not None:
            if key in self._behind:
                self._behind[key].append(delivery)
                self._blocked += 1
                return None
            self._behind[key] = deque()
        return self.offer(delivery)

    def offer(self, delivery: Delivery, *, first: bool = False) -> Backlog:
        """Have one be ready, after the others or before them."""
        places = delivery.handlers[0].places if delivery.handlers else None
        backlog = self.backlogs.get(places)
        if backlog is None:
            both = (self._pool,) if places is None else (places, self._pool)
            backlog = self.backlogs[places] = Backlog(self, both)
        if first:
            backlog.ready.appendleft(delivery)
        else:
            backlog.ready.append(delivery)
        return backlog

    def pass_on(self, delivery: Delivery) -> Backlog | None:
        """Let the next one of the key of one that is done with be ready."""
        behind = self._behind.get(delivery.envelope.key) if self.keyed else None
        if behind:
            self._blocked -= 1
            return self.offer(behind.popleft())
        if behind is not None:
            del self._behind[delivery.envelope.key]
        return None

    def take_back(self, delivery: Delivery) -> list[Delivery]:
        """Take out one for the broker, and with it those behind it: they must not overtake it."""
        behind = self._behind.pop(delivery.envelope.key, ()) if self.keyed else ()
        self._blocked -= len(behind)
        return [delivery, *behind]

    def take_back_ready(self, claims_keys: bool) -> list[Delivery]:
        """Take out what has not begun; with keys later, behind what still runs, in order.

        :param claims_keys: see `Link.claims_keys`: with keys now, as the link keeps their order.
        """
        back: list[Delivery] = []
        for backlog in () if self.keyed and not claims_keys else self.backlogs.values():
            back += (delivery for delivery in backlog.ready if not delivery.begun)
            backlog.ready = deque(delivery for delivery in backlog.ready if delivery.begun)
        for behind in self._behind.values() if claims_keys else ():
            back += behind
            behind.clear()
        if claims_keys:
            self._blocked = 0
        return back

    def forget_link(self, begun: Iterable[Delivery]) -> None:
        """Forget all that a lost link had, but for those that have begun."""
        for backlog in self.backlogs.values():
            backlog.ready.clear()
        self.unsettled_count = self.prefetch = self._blocked = 0
        keys = {delivery.envelope.key for delivery in begun} if self.keyed else ()
        self._behind = {key: deque() for key in keys if key is not None}

    def is_running(self) -> bool:
        """Tell whether something has begun that has not come to an end."""
        first = (backlog.ready[0] for backlog in self.backlogs.values() if backlog.ready)
        return bool(self.running) or any(delivery.begun for delivery in first)

    @property
    def idle(self) -> int:
        """How many it holds that cannot start, for a reason of their own: the key, the handler.

        A queue of several handlers would otherwise be full of events for the one without a place.
        """
        idle = len(self.waiting) + len(self.unpublished)
        if not self.keyed:
            # In steps: with RabbitMQ each other number is a new subscription.
            return 1 << (idle - 1).bit_length() if idle else 0
        idle += self._blocked
        if len(self.backlogs) > 1:
            idle += sum(len(each.ready) for places, each in self.backlogs.items() if places)
        return idle


class Scheduler:
    """Chooses what starts next, one of each backlog in turn.

    :param waiter: is woken when there are places.
    :param pool: the places of the process.
    :param hold_back: tells of a delivery whether it may not begin yet, and is kept elsewhere.
    """

    def __init__(
        self, waiter: Waiter, pool: Places, hold_back: Callable[[QueueState, Delivery], bool]
    ) -> None:
        self._waiter = waiter
        self._pool = pool
        self._hold_back = hold_back
        #: Backlogs in which something is ready, the next one first.
        self._backlogs: deque[Backlog] = deque()
        #: Those places for which the waiter stands in line.
        self._awaited: set[Places] = set()

    def offer(self, backlog: Backlog | None) -> None:
        """Look at a backlog in which something may be ready."""
        if backlog is not None and backlog.ready and not backlog.is_listed:
            backlog.is_listed = True
            self._backlogs.append(backlog)

    def take(self, *, only_begun: bool) -> Iterator[tuple[Backlog, Delivery]]:
        """Take out what can start, with the places of its backlog taken.

        :param only_begun: only what some handler has handled already.
        """
        if not self._backlogs and not self._awaited:
            return
        stuck = 0
        full: set[Places] = set()
        while stuck < len(self._backlogs):
            backlog = self._backlogs.popleft()
            ready = backlog.ready
            if ready and not (only_begun and not ready[0].begun):
                if ready[0].deliveries and self._hold_back(backlog.state, ready[0]):
                    ready.popleft()
                    self._waiter.wake()
                elif (places := backlog.take_places(self._waiter)) is not None:
                    full.add(places)
                    stuck += 1
                    self._backlogs.append(backlog)
                    if places is self._pool:
                        break
                    continue
                else:
                    stuck = 0
                    yield backlog, ready.popleft()
                if ready:
                    self._backlogs.append(backlog)
                    continue
            backlog.is_listed = False
        if full or self._awaited:
            self._leave_lines(but=full)

    def forget_link(self) -> None:
        """Forget all that was ready: its link is gone."""
        while self._backlogs:
            self._backlogs.pop().is_listed = False
        self._leave_lines(but=set())

    def _leave_lines(self, but: set[Places]) -> None:
        """Stand in line for nothing else: others would wait for this one to take its place."""
        awaited, self._awaited = self._awaited, but
        for places in awaited - but:
            places.leave(self._waiter)


class Prefetch:
    """Divides among a consumer's queues how many deliveries it takes in advance.

    All of them together are as many as it handles at once: other instances cannot handle what this
    one holds. Each queue has a few for itself. One that is full gets more of what is left, then of
    what the queue with the largest share has.

    :param total: how many events the process handles at once.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._shift_at = 0.0

    def first_shares(self, queues: Sequence[Queue]) -> Iterator[tuple[Queue, int, int]]:
        """Yield queues, with how many each may hold at first and at most."""
        total = self._total
        first = total if len(queues) == 1 else max(1, total // (4 * len(queues)))
        for queue in queues:
            bound = None if queue.keyed else queue.concurrency
            yield queue, first, total if bound is None else min(bound, total)

    def changed(self, states: Sequence[QueueState], claims_keys: bool) -> list[QueueState]:
        """Set the prefetch of each queue; return those whose prefetch has changed.

        :param claims_keys: see `Link.claims_keys`: the prefetch of keyed queues never changes then,
            and others get none of theirs.
        """
        own = [each for each in states if each.queue is not None]
        sharing = [each for each in own if not (claims_keys and each.keyed)]
        for state in sharing:
            if state.unsettled_count >= state.prefetch > 0 and state.share < state.most:
                self._give_more(state, sharing)
        changed = []
        for state in states:
            if state.keyed and claims_keys:
                wanted = self._total + _WAITING
            else:
                wanted = state.share + min(state.idle, _WAITING)
            if wanted != state.prefetch:
                state.prefetch = wanted
                changed.append(state)
        return changed

    def _give_more(self, state: QueueState, sharing: Sequence[QueueState]) -> None:
        left = self._total - sum(each.share - each.least for each in sharing)
        if left > 0:
            # Not all of it at first: another one may be full the next moment. In few steps: with
            # RabbitMQ each that is less than four times as many is one more consumer.
            more = min(left, 4 * state.share) if state.share == state.least else left
            state.share = min(state.most, state.share + more)
            self._shift_at = time.monotonic() + _SHIFT_PAUSE  # it has not come yet
        elif time.monotonic() >= self._shift_at:
            unused = [
                each for each in sharing if each.share > max(each.least, 2 * each.unsettled_count)
            ]
            richest = max(unused or sharing, key=lambda each: each.share)
            more = 0
            if unused:
                more = richest.share - richest.least
            elif richest.unsettled_count < richest.share > 2 * state.share:
                # Not of two about equal, nor from one that has not used what it had before.
                more = (richest.share - state.share) // 2
            more = min(more, state.most - state.share)
            if richest is not state and more > 0:
                self._shift_at = time.monotonic() + _SHIFT_PAUSE
                richest.share -= more
                state.share += more
