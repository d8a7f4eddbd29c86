"""What one connection to RabbitMQ receives and has not acknowledged yet."""

from __future__ import annotations

import functools
import hashlib
import itertools
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from ...link import Delivery, Link, LinkLost
from ...runtime.isolation import SUSPICIOUS
from ...topology import Topology
from .messages import read
from .wire import AmqpConnection

__all__ = ["AmqpConsuming"]

#: Queue, id and body of a message.
_Mark: TypeAlias = "tuple[str, str, bytes]"


class AmqpConsuming:
    """A channel for all consumers of a connection.

    RabbitMQ counts a prefetch per consumer (``basic.qos`` that is not global, for those that start
    after it), so they need no channels of their own: opening costs a round trip less for each
    queue, and in one sequence of delivery tags one acknowledgement stands for many.

    :param link: whose deliveries they are.
    :param sole: the queues whose messages nobody else gets while this consumes.
    """

    def __init__(
        self,
        link: Link,
        connection: AmqpConnection,
        topology: Topology | None,
        sole: frozenset[str] = frozenset(),
    ) -> None:
        self._link = link
        self._topology = topology
        #: By queue the tags of its consumers, with the prefetch of each.
        self._tags: dict[str, dict[str, int]] = {}
        self._numbers = itertools.count(1)
        self._last_delivered = 0
        #: All tags up to this one are done with.
        self._finished = 0
        self._unacknowledged: set[int] = set()
        self._sole = sole
        #: What is held of those by tag: the moment, what it is recognized by, and it. In order.
        self._held: dict[int, tuple[float, _Mark, Delivery]] = {}
        #: What is about to be delivered anew. Its tag is 0, and -1 once it is done with.
        self._renewing: dict[_Mark, deque[Delivery]] = {}
        self._channel = connection.channel()
        self._channel.auto_decode = False

    def start(self, queue: str, prefetch: int, on_delivery: Callable[[Delivery], None]) -> None:
        """Consume from a queue; again for another prefetch.

        RabbitMQ changes none: for somewhat more there is one more consumer, else a new one. (Two of
        one queue get messages in turn, which is slower.)
        """
        before = self._tags.pop(queue, {})
        has = sum(before.values())
        adds = prefetch / 4 < has < prefetch
        count = prefetch - has if adds else prefetch
        tag = f"gemstone_sync-{next(self._numbers)}"
        self._tags[queue] = {**before, tag: count} if adds else {tag: count}
        self._channel.basic_qos(0, count, False)
        self._channel.basic_consume(
            queue,
            consumer_tag=tag,
            callback=functools.partial(self._on_message, queue, on_delivery),
            on_cancel=lambda _: self._on_cancelled(queue),
        )
        for old in () if adds else before:
            self._channel.basic_cancel(old)

    def stop(self, queue: str) -> None:
        """Consume no more; what is still on its way is given back."""
        for tag in self._tags.pop(queue, ()):
            self._channel.basic_cancel(tag)

    def ignore_all(self) -> None:
        """Hand on nothing more: the connection is about to close, and then all goes back."""
        self._tags.clear()

    def get(self, queue: str) -> Delivery | None:
        """One message, which `acknowledge` or `give_back` takes as well."""
        message = self._channel.basic_get(queue)
        return None if message is None else self._received(queue, message)

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """One acknowledgement for all up to where everything is done, one each for the rest."""
        for delivery in self._away(deliveries):
            delivery.tag = -1
        done = self._own_tags(deliveries)
        self._unacknowledged -= done
        if self._held:
            for tag in done:
                self._held.pop(tag, None)
        finished = self._finished
        while finished < self._last_delivered and finished + 1 not in self._unacknowledged:
            finished += 1
        self._finished = finished
        together = [tag for tag in done if tag <= finished]
        if together:
            self._channel.basic_ack(max(together), multiple=len(together) > 1)
        for tag in done:
            if tag > finished:
                self._channel.basic_ack(tag)

    def give_back(self, deliveries: Sequence[Delivery]) -> None:
        """Have them delivered again, to whoever, in this order."""
        for delivery in self._away(deliveries):
            for waiting in self._renewing.values():
                if delivery in waiting:
                    waiting.remove(delivery)
            self._renewing = {mark: each for mark, each in self._renewing.items() if each}
        for tag in sorted(self._own_tags(deliveries)):
            self._reject(tag)

    def renew(self, before: float) -> None:
        """Have what was received before that moment delivered anew, where nobody else gets it.

        RabbitMQ closes a channel that holds a message for its ``consumer_timeout``, and begins to
        count anew only with a new delivery. Whoever has the `Delivery` notices nothing, and keeps
        the order of those with one key whatever comes again first.
        """
        old = itertools.takewhile(lambda entry: entry[1][0] < before, [*self._held.items()])
        for tag, (_, mark, delivery) in old:
            del self._held[tag]
            if delivery.queue in self._tags:
                delivery.tag = 0
                self._renewing.setdefault(mark, deque()).append(delivery)
                self._reject(tag)

    def _reject(self, tag: int) -> None:
        self._unacknowledged.discard(tag)
        self._held.pop(tag, None)
        self._channel.basic_reject(tag, requeue=True)

    def _away(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        mine = self._link
        return [d for d in deliveries if d.link is mine and not d.tag] if self._renewing else []

    def _own_tags(self, deliveries: Sequence[Delivery]) -> set[int]:
        # What an earlier link received went back with it.
        mine, open_tags = self._link, self._unacknowledged
        return {d.tag for d in deliveries if d.link is mine and d.tag in open_tags}

    def _on_message(
        self, queue: str, on_delivery: Callable[[Delivery], None], message: Any
    ) -> None:
        mark = None
        if queue in self._sole and (id := message.properties.get("message_id")):
            mark = (queue, id, bytes(getattr(message, "body", b"")))
            if mark in self._renewing:
                self._renewed(mark, message.delivery_info["delivery_tag"])
                return
        delivery = self._received(queue, message)
        if mark is not None:
            self._held[delivery.tag] = (time.monotonic(), mark, delivery)
        if queue in self._tags:
            on_delivery(delivery)
        else:
            self.give_back([delivery])

    def _renewed(self, mark: _Mark, tag: int) -> None:
        """It was given back by `renew`, and is here again."""
        self._last_delivered = tag
        delivery = self._renewing[mark].popleft()
        if not self._renewing[mark]:
            del self._renewing[mark]
        if delivery.tag < 0:
            self._channel.basic_ack(tag)
            return
        delivery.tag = tag
        self._unacknowledged.add(tag)
        self._held[tag] = (time.monotonic(), mark, delivery)

    def _received(self, queue: str, message: Any) -> Delivery:
        tag: int = message.delivery_info["delivery_tag"]
        self._last_delivered = tag
        self._unacknowledged.add(tag)
        envelope, deliveries = read(message, queue, self._topology)
        delivery = Delivery(self._link, queue, tag, envelope, deliveries)
        if deliveries >= SUSPICIOUS:
            # Other programs give no message_id, or always the same.
            text = f"{queue} {message.properties.get('message_id')} ".encode() + envelope.body
            delivery.identity = hashlib.sha256(text).hexdigest()[:32]
        return delivery

    def _on_cancelled(self, queue: str) -> None:
        raise LinkLost(f"the queue {queue!r} was deleted")
