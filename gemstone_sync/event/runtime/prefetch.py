"""How much a consumer takes in advance, over all its queues: as many as it handles at once.

What it holds and cannot start nobody else can handle. So its queues share one number: each has a
few of its own, one that is full gets more, and when nothing is left, from the one that has most.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from ..topology import Queue
from .queue_state import Line

__all__ = ["Prefetch"]

#: How many a queue may hold besides of those that wait, for their key or to be tried again.
_WAITING = 1000
#: Seconds between two times that a share is taken from one for another. With RabbitMQ each is a
#: new subscription.
_PAUSE = 1.0


class Prefetch:
    """What the queues of one consumer share.

    :param total: how many events the process handles at once.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._take_at = 0.0

    def first_shares(self, queues: Sequence[Queue]) -> Iterator[tuple[Queue, int, int]]:
        """Queues, with how many each may hold at first and at most."""
        total = self._total
        first = total if len(queues) == 1 else max(1, total // (4 * len(queues)))
        for queue in queues:
            bound = None if queue.keyed else queue.concurrency
            yield queue, first, total if bound is None else min(bound, total)

    def changed(self, lines: Sequence[Line], claims_keys: bool) -> list[Line]:
        """Set what each line may hold; those for which that is another number now.

        :param claims_keys: see `Link.claims_keys`: a keyed queue takes nothing from others, and
            what it may hold cannot be changed.
        """
        sharing = [line for line in lines if line.queue and not (claims_keys and line.keyed)]
        for line in sharing:
            if line.held >= line.prefetch > 0 and line.share < line.most:
                self._give_more(line, sharing)
        changed = []
        for line in lines:
            if line.keyed and claims_keys:
                wanted = self._total + _WAITING
            else:
                wanted = line.share + min(line.idle, _WAITING)
            if wanted != line.prefetch:
                line.prefetch = wanted
                changed.append(line)
        return changed

    def _give_more(self, line: Line, sharing: Sequence[Line]) -> None:
        left = self._total - sum(each.share - each.least for each in sharing)
        if left > 0:
            line.share = min(line.most, line.share + left)
        elif time.monotonic() >= self._take_at:  # take it from another one
            richest = max(sharing, key=lambda each: each.share)
            unused = [each for each in sharing if each.share > max(each.least, 2 * each.held)]
            if unused:
                richest = max(unused, key=lambda each: each.share)
                more = richest.share - richest.least
            else:
                more = (richest.share - line.share) // 2
                # Of two that are about equal neither takes from the other.
                more = more if richest.share > 2 * line.share else 0
            more = min(more, line.most - line.share)
            if richest is not line and more > 0:
                self._take_at = time.monotonic() + _PAUSE
                richest.share -= more
                line.share += more
