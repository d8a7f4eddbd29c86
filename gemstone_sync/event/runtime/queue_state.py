"""What came from one queue: which of it can start, runs, waits, or stands behind one of its key.

::

    arrived --> ready --> running --> (done with, or given back)
       ^          ^          |
     behind       +- waiting <

Of a keyed line one event of each key is ready, running or waiting; the others are behind it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from ..link import Delivery
from ..places import Places, Waiter
from ..topology import Queue

__all__ = ["Lane", "Line"]


class Lane:
    """Those of a line that can start once there are places for them.

    :ivar places: what each of them takes one of.
    """

    __slots__ = ("line", "places", "ready")

    def __init__(self, line: Line, places: tuple[Places, ...]) -> None:
        self.line = line
        self.places = places
        self.ready: deque[Delivery] = deque()

    def take_places(self, waiter: Waiter) -> Places | None:
        """Take one of each; the one that had none, if any, and then none is taken."""
        for position, places in enumerate(self.places):
            if not places.take(waiter):
                for taken in self.places[:position]:
                    taken.give()
                return places
        return None


class Line:
    """What came from one queue and is not settled.

    :param work: called with a delivery.
    :param queue: None for the queue `due`.
    :param pool: the places of the process, or for the queue `due` its own.
    :param prefetch: how many it may hold at first, and the most.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[Delivery], bool | float],
        queue: Queue | None,
        pool: Places,
        *,
        prefetch: int,
        most: int,
    ) -> None:
        self.name = name
        self.work = work
        self.queue = queue
        self.keyed = queue is not None and queue.keyed
        self.share = self.least = min(prefetch, most)
        self.most = most
        #: What the link was told.
        self.prefetch = 0
        #: How many it holds, of the link that there is now.
        self.held = 0
        #: Those that are being handled, and by which greenlet; of links that are gone too.
        self.running: dict[Delivery, Any] = {}
        #: Those that wait until they are tried again, or for long until the broker takes something.
        self.waiting: set[Delivery] = set()
        #: Those that are done with once the broker has taken what has become of them.
        self.publishing: set[Delivery] = set()
        self.lanes: dict[Places | None, Lane] = {}
        self._pool = pool
        #: By key, while one of it is ready, running or waiting: those behind it; how many they are.
        self._behind: dict[str, deque[Delivery]] = {}
        self._blocked = 0

    def add(self, delivery: Delivery) -> Lane | None:
        """It has arrived. The lane in which it is ready, if it is."""
        key = delivery.envelope.key if self.keyed else None
        if key is not None:
            if key in self._behind:
                self._behind[key].append(delivery)
                self._blocked += 1
                return None
            self._behind[key] = deque()
        return self.offer(delivery)

    def offer(self, delivery: Delivery, *, first: bool = False) -> Lane:
        """It is ready, before the others if it was begun."""
        places = delivery.handlers[0].places if delivery.handlers else None
        lane = self.lanes.get(places)
        if lane is None:
            both = (self._pool,) if places is None else (places, self._pool)
            lane = self.lanes[places] = Lane(self, both)
        if first:
            lane.ready.appendleft(delivery)
        else:
            lane.ready.append(delivery)
        return lane

    def pass_on(self, delivery: Delivery) -> Lane | None:
        """It is done with: the next one of its key has its turn."""
        behind = self._behind.get(delivery.envelope.key or "") if self.keyed else None
        if behind:
            self._blocked -= 1
            return self.offer(behind.popleft())
        if behind is not None:
            del self._behind[delivery.envelope.key or ""]
        return None

    def take_back(self, delivery: Delivery) -> list[Delivery]:
        """It goes back to the broker, and with it those behind it: they must not overtake it."""
        behind = self._behind.pop(delivery.envelope.key or "", ()) if self.keyed else ()
        self._blocked -= len(behind)
        return [delivery, *behind]

    def take_back_ready(self) -> list[Delivery]:
        """All that have not begun go back; with keys later, behind what still runs, in order."""
        back: list[Delivery] = []
        if not self.keyed:
            for lane in self.lanes.values():
                back += (delivery for delivery in lane.ready if not delivery.begun)
                lane.ready = deque(delivery for delivery in lane.ready if delivery.begun)
        return back

    def forget(self) -> None:
        """The link is gone: nothing is left but what has begun."""
        for lane in self.lanes.values():
            lane.ready.clear()
        self.held = self.prefetch = self._blocked = 0
        begun = (*self.running, *self.waiting, *self.publishing) if self.keyed else ()
        keys = {delivery.envelope.key for delivery in begun}
        self._behind = {key: deque() for key in keys if key is not None}

    @property
    def idle(self) -> int:
        """How many it holds that cannot start, for a reason of their own: the key, the handler.

        A line of several handlers would otherwise be full of events for the one that has no place.
        """
        if not self.keyed:
            # In steps: with RabbitMQ each other number is a new subscription.
            return 1 << (len(self.waiting) - 1).bit_length() if self.waiting else 0
        idle = self._blocked + len(self.waiting)
        if len(self.lanes) > 1:
            idle += sum(len(lane.ready) for places, lane in self.lanes.items() if places)
        return idle
