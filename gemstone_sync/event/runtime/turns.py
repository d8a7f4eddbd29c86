"""Whose turn it is: what is ready, lane by lane, and where a consumer stands in line for places."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from ..link import Delivery
from ..places import Places, Waiter
from .queue_state import Lane, Line

__all__ = ["Turns"]


class Turns:
    """Those of one consumer.

    :param waiter: is woken when there are places.
    :param pool: the places of the process.
    :param hold_back: whether a delivery may not begin yet, and is kept elsewhere.
    """

    def __init__(
        self, waiter: Waiter, pool: Places, hold_back: Callable[[Line, Delivery], bool]
    ) -> None:
        self._waiter = waiter
        self._pool = pool
        self._hold_back = hold_back
        #: Lanes in which something is ready; the first has its turn.
        self._hungry: deque[Lane] = deque()
        #: Where it stands in line.
        self._in_line: set[Places] = set()

    def offer(self, lane: Lane | None) -> None:
        """Something may be ready in a lane."""
        if lane is not None and lane.ready and lane not in self._hungry:
            self._hungry.append(lane)

    def take(self, *, only_begun: bool) -> Iterator[tuple[Lane, Delivery]]:
        """Take out what can start, one of each lane in turn; it has the places of its lane.

        :param only_begun: only what some handler has handled already.
        """
        if not self._hungry and not self._in_line:
            return
        stuck = 0
        full: set[Places] = set()
        while self._hungry and stuck < len(self._hungry):
            lane = self._hungry.popleft()
            if not lane.ready or (only_begun and not lane.ready[0].begun):
                continue
            first = lane.ready[0]
            if first.deliveries and self._hold_back(lane.line, first):
                lane.ready.popleft()
                self.offer(lane)
                self._waiter.wake()
                continue
            places = lane.take_places(self._waiter)
            if places is not None:
                full.add(places)
                stuck += 1
                self._hungry.append(lane)
                if places is self._pool:
                    break
                continue
            stuck = 0
            yield lane, lane.ready.popleft()
            if lane.ready:
                self._hungry.append(lane)
        if full or self._in_line:
            self._leave_lines(but=full)

    def forget(self) -> None:
        """The link is gone, and with it what was ready."""
        self._hungry.clear()
        self._leave_lines(but=set())

    def _leave_lines(self, but: set[Places]) -> None:
        """Stand in line for nothing else: others would wait for this one to take its place."""
        in_line, self._in_line = self._in_line, but
        for places in in_line - but:
            places.leave(self._waiter)
