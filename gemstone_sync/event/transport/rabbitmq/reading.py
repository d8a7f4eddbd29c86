"""Reading through a queue of RabbitMQ's, in its order, which it has again afterwards.

AMQP has no way to look at a message but to take it. Many that are rejected come back to a quorum
queue in any order; what a consumer held when its channel closes comes back in order, in front of
what was never delivered, but behind what came back before. So a queue is read by consumers, each
on a channel of its own that takes one page, up to the first message that was never delivered; and
then these channels are closed one after the other.
"""

from __future__ import annotations

import functools
import math
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import gevent
from amqp.exceptions import ResourceLocked

from ...link import Delivery, Link, LinkLost
from ...topology import Topology
from .consuming import read
from .faults import deleted
from .wire import AmqpConnection

__all__ = ["AmqpReading"]

#: Messages of the first page and of the longest (each page is twice the one before), and bytes that
#: one may have: what is read and not wanted yet is in memory.
_FIRST, _LONGEST, _BYTES = 64, 4096, 64_000_000
#: Seconds to wait for another who reads, for a page to be in the queue again, between two looks.
_PATIENCE, _BACK, _LOOK = 20.0, 10.0, 0.01


class _Page:
    """A channel with a consumer, and how much it holds."""

    def __init__(self, channel: Any, size: int) -> None:
        self.channel = channel
        self.size = size
        self.received = self.settled = 0
        self.is_open = True

    def stop(self) -> None:
        """End its consumer: what is acknowledged, or comes back, would make room for more."""
        if self.is_open:
            self.is_open = False
            self.channel.basic_cancel("reader")


class AmqpReading:
    """A reader of a queue. Others wait until it has ended.

    :param channel: for questions.
    :raises LinkLost: when another one reads for long.
    """

    def __init__(
        self,
        link: Link,
        connection: AmqpConnection,
        channel: Any,
        queue: str,
        topology: Topology,
    ) -> None:
        self._link = link
        self._connection = connection
        self._queue = queue
        self._topology = topology
        self._pages: list[_Page] = []
        self._ahead: deque[Delivery] = deque()
        self._count = self._bytes = 0
        #: True once one came that was never delivered before.
        self._is_past_returned = False
        self._channel = channel
        self._lock = f"{queue}:reader"
        self._take_lock()
        #: How many there were at the beginning. A queue that is busy says that it has none.
        self._left = self._size(channel) or math.inf

    def _take_lock(self) -> None:
        """Declare an exclusive queue, which belongs to one connection and goes with it."""
        end = time.monotonic() + _PATIENCE
        while True:
            try:
                self._channel.queue_declare(self._lock, exclusive=True)
                return
            except ResourceLocked:
                if time.monotonic() > end:
                    raise LinkLost(f"another process reads through {self._queue!r}") from None
            gevent.sleep(0.1)

    def _size(self, channel: Any) -> int:
        """Return how many messages wait, after all that `channel` was delivered before."""
        return int(channel.queue_declare(self._queue, passive=True).message_count)

    def take(self) -> Delivery | None:
        """Take the next of the messages that there were at the beginning; None for no more."""
        if self._left <= 0:
            return None
        self._left -= 1
        while not self._ahead:
            if self._pages and self._pages[-1].received >= self._pages[-1].size:
                self._pages[-1].stop()
            if not self._pages or not self._pages[-1].is_open:
                self._open_page()
            page = self._pages[-1]
            waiting = self._size(page.channel)
            if self._ahead:
                break
            if waiting:
                self._connection.drain_events()  # the page will be full
            elif not self._may_come(page):
                return None
        return self._ahead.popleft()

    def _may_come(self, page: _Page) -> bool:
        """Tell whether anything is left: take one to find out."""
        message = page.channel.basic_get(self._queue)
        if message is not None:
            # It is the first of the next page.
            page.channel.basic_reject(message.delivery_info["delivery_tag"], requeue=True)
        self._size(page.channel)  # what was delivered meanwhile stands before the answer
        return message is not None or bool(self._ahead)

    def _open_page(self) -> None:
        size = min(_LONGEST, 2 * self._pages[-1].size) if self._pages else _FIRST
        if self._count:
            size = max(1, min(size, _BYTES * self._count // max(1, self._bytes)))
        page = _Page(self._connection.channel(), size)
        self._pages.append(page)
        page.channel.auto_decode = False
        page.channel.basic_qos(0, size, False)
        page.channel.basic_consume(
            self._queue,
            consumer_tag="reader",
            callback=functools.partial(self._on_message, page),
            on_cancel=functools.partial(deleted, self._queue),
        )

    def _on_message(self, page: _Page, message: Any) -> None:
        page.received += 1
        envelope, deliveries = read(message, self._queue, self._topology)
        tag = (page, message.delivery_info["delivery_tag"])
        self._ahead.append(Delivery(self._link, self._queue, tag, envelope, deliveries))
        self._is_past_returned |= not deliveries
        self._count += 1
        self._bytes += len(envelope.body)

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """Acknowledge those of `deliveries` that were read here."""
        for page, tag in [
            each.tag
            for each in deliveries
            if each.link is self._link and isinstance(each.tag, tuple)
        ]:
            page.stop()
            page.channel.basic_ack(tag)
            page.settled += 1

    def end(self) -> None:
        """Put back all that was not acknowledged, and wait until it is there for others."""
        self._left = math.inf
        while not self._is_past_returned and self.take() is not None:
            pass
        pages, self._pages = self._pages, []
        self._ahead.clear()
        for page in pages:
            page.stop()
        expected = self._size(self._channel)
        for page in pages:
            page.channel.close()
            expected += page.received - page.settled
            end = time.monotonic() + _BACK
            while self._size(self._channel) < expected and time.monotonic() < end:
                gevent.sleep(_LOOK)
        self._channel.queue_delete(self._lock)
