"""What the links of one transport have learnt of their broker, for those that come after them."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Known"]


@dataclass
class Known:
    """It is shared by all links of a transport.

    :ivar consumer_timeout: for how many seconds the broker lets a message be held, as it said when
        it closed a channel for one.
    :ivar exchanges: those that are there.
    :ivar doubtful: those that were gone, and through which nothing was routed since.
    :ivar routed: routing keys that led to a queue.
    :ivar unrouted: routing keys that led to none, and until when nobody asks again.
    """

    consumer_timeout: float | None = None
    exchanges: set[str] = field(default_factory=set)
    doubtful: set[str] = field(default_factory=set)
    routed: set[str] = field(default_factory=set)
    unrouted: dict[str, float] = field(default_factory=dict)
