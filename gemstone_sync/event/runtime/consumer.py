"""Consuming: deliveries handled in a bounded number of greenlets, and acknowledged.

What is done with one event belongs to `processing`, what happens on the connection to
`consumer_loop`.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence

from ..link import Delivery, Link
from ..places import Places
from ..topology import Queue, Topology
from .connection_loop import Runner
from .consumer_loop import LAST_WORDS, ConsumerLoop
from .outcomes import OnRefused, RetryIn
from .publisher import Publisher

__all__ = ["Consumer"]

#: How many events one process handles at once, and takes in advance, unless it is told.
_POOL = 100


class Consumer(Runner[ConsumerLoop]):
    """Handles what comes to some queues, over a connection of its own.

    :param make_link: makes a link that is not open yet.
    :param topology: is declared on each new connection, with `queues`.
    :param handle: called with a delivery and its queue, in a greenlet and a context of its own; see
        `RetryIn` for what it returns.
    :param name: what the log and errors call it.
    :param pool: the places of the process: how many deliveries are handled at once. As many are
        taken in advance, over all queues.
    :param on_due: called with what comes to the queue `due`, where the link knows one. It has as
        many places of its own: what is delayed must not wait for long handlers.
    :param publisher: publishes what `handle` and `on_due` leave as `Delivery.outgoing`.
    :param on_refused: see `Outcomes`.
    """

    def __init__(
        self,
        make_link: Callable[[], Link],
        topology: Topology,
        queues: Sequence[Queue],
        handle: Callable[[Delivery, Queue], RetryIn],
        *,
        name: str,
        pool: Places | None = None,
        on_due: Callable[[Delivery], RetryIn] | None = None,
        publisher: Publisher | None = None,
        on_refused: OnRefused | None = None,
    ) -> None:
        make_loop = functools.partial(
            ConsumerLoop,
            make_link,
            topology,
            tuple(queues),
            handle,
            Places(_POOL) if pool is None else pool,
            on_due,
            publisher,
            on_refused,
            name=name,
        )
        super().__init__(name, make_loop)

    @property
    def in_flight(self) -> int:
        """Return how many deliveries were received and are not settled."""
        loop = self._loop
        return 0 if loop is None or loop.inherited else len(loop.unsettled)

    def stop(self, timeout: float) -> bool:
        """Take nothing more, wait so many seconds for the handlers that run, give the rest back.

        :returns: False when handlers were cut off.
        """
        loop = self._loop
        if loop is None:
            return True
        # The loop itself keeps the time, and needs some more to give back what it cuts off.
        loop.cut_off_at = time.monotonic() + timeout
        self._stop_loop(loop, timeout + LAST_WORDS + LAST_WORDS)
        return not loop.cut
