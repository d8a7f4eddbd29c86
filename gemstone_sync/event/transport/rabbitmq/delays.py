"""The ladder of delays: how long a message lies in which queue until it is due. Pure.

A broker that delivers later through queues whose messages expire needs one queue for each length:
with several lengths in one queue, a message that expires later holds up those behind it. So there
are a few fixed lengths, each twice the one before, and a delayed message goes down them: 30 seconds
are 16 + 8 + 4 + 2. After each step whoever consumes ``Topology.due`` publishes it again.
"""

from __future__ import annotations

__all__ = ["LONGEST", "SHORTEST", "step_for"]

#: Milliseconds: below it nobody waits any shorter, so a delay may last so much too long.
SHORTEST = 125
#: Milliseconds, some 24 days: RabbitMQ takes no expiry from 2 ** 32 on, and its arguments are
#: signed. Longer delays take this step several times.
LONGEST = SHORTEST * 2**24


def step_for(delay: float) -> int:
    """The step that a message with so many seconds left goes to next, in milliseconds.

    The longest that is not longer than the delay, the shortest for less than that: a message may
    come late by one shortest step, and never early.

    >>> step_for(30), step_for(14), step_for(0.2), step_for(0.001)
    (16000, 8000, 125, 125)
    """
    milliseconds = delay * 1000
    if milliseconds >= LONGEST:
        return LONGEST
    step = SHORTEST
    while step * 2 <= milliseconds:
        step *= 2
    return step
