"""Answers that wait for slow clients to take them: held in memory, and so bounded in sum."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .channel import Channel

__all__ = ["ANSWERS_UNSENT", "Unsent"]

#: Times `max_response_size`, which is 192 MB: what may wait in a process.
ANSWERS_UNSENT = 12


class Unsent:
    """What waits to be sent, by connection.

    Beyond the bound the client is cut off for which most memory is held for longest while it takes
    nothing. New answers do not wait instead: a dozen clients that read nothing would keep
    everybody's large answers for 30 s.

    :param most: bytes.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._sizes: dict[Channel, int] = {}
        self.total = 0

    def add(self, channel: Channel, size: int) -> None:
        """Called when a client does not take its answer at once."""
        self._sizes[channel] = size
        self.total += size
        while self.total > self._most and len(self._sizes) > 1:
            slowest = max(self._sizes, key=self._cost)
            self.remove(slowest)
            slowest.tell("took its answer too slowly, and there are too many such", "slow")
            slowest.cut_off()

    def remove(self, channel: Channel) -> None:
        """Called when the answer is sent, or the client gone."""
        self.total -= self._sizes.pop(channel, 0)

    def _cost(self, channel: Channel) -> float:
        return self._sizes[channel] * (time.monotonic() - channel.last_taken)
