"""Consuming: deliveries handled in a bounded number of greenlets, acknowledged by the owner.

What is done with one event belongs to `processing`, what the owner does to `consuming`.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Sequence

from ..link import Delivery, Link
from ..places import Places
from ..topology import Queue, Topology
from .connection_loop import starting
from .consuming import LAST_WORDS, ConsumingOwner
from .outcomes import Refused
from .publisher import Publisher

__all__ = ["Consumer"]

#: How many events one process handles at once, and takes in advance, unless it is told.
_POOL = 100


class Consumer:
    """Handles what comes to some queues, over a connection of its own.

    :param make_link: makes a link that is not open yet.
    :param topology: is declared on each new connection, with `queues`.
    :param handle: called with a delivery and its queue, in a greenlet and a context of its own;
        True when it is done with, False when it is to be delivered again, a number of seconds when
        it is to be called once more with this delivery.
    :param name: what the log and errors call it.
    :param pool: the places of the process: how many deliveries are handled at once. As many are
        taken in advance, over all queues.
    :param relay: called with what comes to the queue `due`, where the link knows one. It has as
        many places of its own: what is delayed must not wait for long handlers.
    :param publisher: publishes what `handle` and `relay` leave as `Delivery.outgoing`.
    :param refused: see `Outcomes`.
    """

    def __init__(
        self,
        make_link: Callable[[], Link],
        topology: Topology,
        queues: Sequence[Queue],
        handle: Callable[[Delivery, Queue], bool | float],
        *,
        name: str,
        pool: Places | None = None,
        relay: Callable[[Delivery], bool | float] | None = None,
        publisher: Publisher | None = None,
        refused: Refused | None = None,
        logger: logging.Logger | None = None,
    ) -> None:
        self._name = name
        self._make_owner = functools.partial(
            ConsumingOwner,
            make_link,
            topology,
            tuple(queues),
            handle,
            Places(_POOL) if pool is None else pool,
            relay,
            publisher,
            refused,
            name=name,
            logger=logger,
        )
        self._owner: ConsumingOwner | None = None

    @property
    def in_flight(self) -> int:
        """How many deliveries were received and are not done with."""
        owner = self._owner
        return 0 if owner is None or owner.inherited else len(owner.held)

    def start(self) -> None:
        """Begin; returns at once. Does nothing when it runs."""
        owner = self._owner
        if owner is None or owner.inherited or owner.ended:
            with starting():
                if self._owner is owner:
                    self._owner = self._make_owner()
                    self._owner.start()

    def stop(self, timeout: float) -> bool:
        """Take nothing more, wait so many seconds for the handlers that run, give the rest back.

        :returns: False when handlers were cut off.
        """
        owner = self._owner
        if owner is None:
            return True
        # The owner itself keeps the time, and needs some more to give back what it cuts off.
        owner.cut_off_at = time.monotonic() + timeout
        owner.stop(timeout + LAST_WORDS + LAST_WORDS)
        if self._owner is owner:
            self._owner = None
        return not owner.cut

    def why_not_ready(self) -> str | None:
        """None while events arrive; otherwise why not."""
        owner = self._owner
        if owner is None or owner.inherited:
            return f"{self._name}: not started"
        why = owner.why_not_ready()
        return None if why is None else f"{self._name}: {why}"
