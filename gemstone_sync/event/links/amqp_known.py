"""What the links of one transport have learnt of their broker, for those that come after them."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Known"]


@dataclass
class Known:
    """It is shared by all links of a transport.

    :ivar consumer_timeout: for how many seconds the broker lets a message be held, as it said when
        it closed a channel for one.
    """

    consumer_timeout: float | None = None
