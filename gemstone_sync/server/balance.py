"""Spreading connections over the workers of one socket.

Whichever worker wakes first accepts, and on a quiet machine that is the same one again and again.
Each worker therefore tells the others, through shared memory, how many connections it has; one that
has more than the least busy of them leaves a new connection to it for a moment.
"""

from __future__ import annotations

import mmap

__all__ = ["Balance"]


class Balance:
    """How many connections each worker has. Made before the fork.

    :param count: how many workers there are.
    """

    #: Seconds for which a connection is left to the others: longer than a worker takes to wake, and
    #: short enough not to be noticed when they are all busy computing.
    PATIENCE = 0.002

    def __init__(self, count: int) -> None:
        self._counts = memoryview(mmap.mmap(-1, 4 * count)).cast("i")
        self._own = 0

    def join(self, number: int) -> None:
        """Called in worker `number`."""
        self._own = number
        self._counts[number] = 0

    def publish(self, connections: int) -> None:
        """Tell the others how many connections this worker has."""
        self._counts[self._own] = connections

    def others_have_fewer(self) -> bool:
        """Whether another worker should have the next connection."""
        return self._counts[self._own] > min(self._counts)
