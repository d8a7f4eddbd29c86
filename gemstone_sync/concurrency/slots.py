"""How many calls run at once, and how many may wait for a place.

The bound is on calls and not on connections: a connection that is idle or slow to send must not
take a place that a call could use.
"""

from __future__ import annotations

from collections import deque

from gevent.event import AsyncResult

from .doing import Waiting, tells_waiting

__all__ = ["CallSlots", "NoSlot"]


class NoSlot(Exception):
    """Every place is taken, and so is the waiting room, or the wait took too long."""


class CallSlots:
    """A bounded number of places, first come first served, with a bounded waiting room.

    :param limit: places.
    :param max_waiting: how many may wait; the next one is refused at once.
    :param max_wait: seconds that one waits at most.
    """

    def __init__(self, limit: int, max_waiting: int, max_wait: float) -> None:
        self.limit = limit
        self.max_waiting = max_waiting
        self.max_wait = max_wait
        #: Places taken.
        self.in_use = 0
        self._waiting: deque[AsyncResult[None]] = deque()

    @property
    def waiting(self) -> int:
        """How many wait for a place now."""
        return len(self._waiting)

    @tells_waiting(lambda _: Waiting("a place"))
    def acquire(self) -> None:
        """Take a place, waiting for one if need be; `release` gives it back.

        :raises NoSlot: when there is none.
        """
        if self.in_use < self.limit:
            self.in_use += 1
            return
        if len(self._waiting) >= self.max_waiting:
            raise NoSlot
        turn: AsyncResult[None] = AsyncResult()
        self._waiting.append(turn)
        try:
            turn.wait(self.max_wait)
        except BaseException:
            # A deadline or a kill; the place may have come in the same moment.
            if turn.ready():
                self.release()
            else:
                self._waiting.remove(turn)
            raise
        if not turn.ready():
            self._waiting.remove(turn)
            raise NoSlot

    def release(self) -> None:
        """Give a place back: to whoever waits longest, if anybody does."""
        if self._waiting:
            self._waiting.popleft().set(None)
        else:
            self.in_use -= 1
