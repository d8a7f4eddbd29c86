"""Consuming from RabbitMQ: what a connection receives and has not acknowledged yet.

Also what a message that was received says, and the notes about events that may have ended the
processes that handled them.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from typing import Any, TypeAlias

from amqp import spec

from ...envelope import DeadLetter, Envelope, Reason, from_message
from ...link import Delivery, Link
from ...runtime.isolation import SUSPICIOUS
from ...topology import Topology
from .faults import absent_is_empty, deleted
from .wire import AmqpConnection

__all__ = ["AmqpConsuming", "mark", "read", "unmark"]

#: Queue, id and body of a message.
_Mark: TypeAlias = "tuple[str, str, bytes]"
#: In place of its tag, of what `renew` has given back: it will come again, and it was handled
#: meanwhile. RabbitMQ's tags begin at 1.
_AWAY, _DONE = 0, -1
#: Milliseconds after which a note about an event goes that nobody has handled since: a day.
_NOTES = 86_400_000
#: What RabbitMQ's own reasons for a dead letter mean.
_DEATHS = {
    "delivery_limit": (
        Reason.CRASHED,
        "delivered too often without an acknowledgement: whoever handled it ended",
    ),
    "expired": (
        Reason.EXPIRED,
        "it waited for longer than its expiration or the broker's message-ttl allows",
    ),
}


class AmqpConsuming:
    """A channel for consumers of a connection: those of keyed queues, or all others.

    RabbitMQ counts a prefetch per consumer (``basic.qos`` that is not global, for those that start
    after it), so they need no channels of their own: opening costs a round trip less for each
    queue, and in one sequence of delivery tags one acknowledgement stands for many.

    The end of its channel is the one way in which a keyed queue goes to its next consumer in order.
    RabbitMQ puts what a channel held back before the rest, as it was delivered, and only then turns
    to the next consumer. To a consumer that is cancelled, what it holds remains: the next one gets
    what comes after that; and what is rejected comes again after what is on its way.

    :param link: whose deliveries they are.
    :param keyed: nobody else gets messages of these queues while this consumes.
    """

    def __init__(
        self,
        link: Link,
        connection: AmqpConnection,
        topology: Topology,
        *,
        keyed: bool,
    ) -> None:
        self._link = link
        self._topology = topology
        #: By queue the tags of its consumers, with the prefetch of each.
        self._tags: dict[str, dict[str, int]] = {}
        self._numbers = itertools.count(1)
        self._last_delivered = 0
        #: All tags up to this one are settled.
        self._finished = 0
        self._unacknowledged: set[int] = set()
        self._keyed = keyed
        #: Those of them that go back with the channel.
        self._left: set[int] = set()
        self._is_closing = False
        #: With keys, what is held by tag: the moment, what it is recognized by, and it. In order.
        self._held: dict[int, tuple[float, _Mark, Delivery]] = {}
        #: What is about to be delivered anew, with `_AWAY` or `_DONE` for a tag.
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
        try:
            self._channel.basic_consume(
                queue,
                consumer_tag=tag,
                callback=functools.partial(self._on_message, queue, on_delivery),
                on_cancel=functools.partial(deleted, queue),
            )
        except TimeoutError as error:
            raise TimeoutError(
                f"it lets nobody consume from its queue {queue!r}: it is overloaded, or without "
                "most of its nodes, or was killed just as it made the queue, which has no leader "
                f"then: rabbitmqctl delete_queue {queue!r}"
            ) from error
        for old in () if adds else before:
            self._channel.basic_cancel(old)

    def stop(self, queue: str) -> None:
        """Consume no more; what is still on its way is given back."""
        tags = self._tags.pop(queue, ())
        if self._keyed:
            self._close_if_idle()
            return
        for tag in tags:
            self._channel.basic_cancel(tag)

    def ignore_all(self) -> None:
        """Hand on nothing more: the connection is about to close, and then all goes back."""
        self._tags.clear()

    def get(self, queue: str) -> Delivery | None:
        """Take one message, for `acknowledge` or `give_back`; None when there is none."""
        message = self._channel.basic_get(queue)
        return None if message is None else self._received(queue, message)

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """Acknowledge: at once up to where everything is settled, the others one by one."""
        for delivery in self._away(deliveries):
            delivery.tag = _DONE
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
        self._close_if_idle()

    def give_back(self, deliveries: Sequence[Delivery]) -> None:
        """Have messages be delivered again, to whichever consumer, in the order of their arrival.

        Those of a keyed queue that was stopped as soon as none is left that may be acknowledged.
        """
        for delivery in self._away(deliveries):
            for waiting in self._renewing.values():
                if delivery in waiting:
                    waiting.remove(delivery)
            self._renewing = {mark: each for mark, each in self._renewing.items() if each}
        if self._keyed:
            stopped = [each for each in deliveries if each.queue not in self._tags]
            self._left |= self._own_tags(stopped)
            deliveries = [each for each in deliveries if each.queue in self._tags]
        for tag in sorted(self._own_tags(deliveries)):
            self._reject(tag)
        self._close_if_idle()

    def _close_if_idle(self) -> None:
        """Hand on the keyed queues, if all were stopped and none of their messages is handled."""
        if not self._keyed or self._tags or self._renewing or self._is_closing:
            return
        if len(self._left) == len(self._unacknowledged):
            self._is_closing = True
            # Not channel.close, which warns of each message that comes before the answer.
            self._channel.send_method(spec.Channel.Close, "BsBB", (0, "", 0, 0))

    def renew(self, before: float) -> None:
        """Give back what was received before a moment, where nobody else gets it, to get it anew.

        RabbitMQ closes a channel that holds a message for its ``consumer_timeout``, and begins to
        count anew only with a new delivery. Whoever has the `Delivery` notices nothing. All that is
        held of a key goes, and comes again in its order: so the next consumer gets it as well.
        """
        held = [*self._held.items()]
        old = itertools.takewhile(lambda entry: entry[1][0] < before, held)
        keys = {(delivery.queue, delivery.envelope.key) for _, (_, _, delivery) in old}
        for tag, (moment, mark, delivery) in held if keys else ():
            key = delivery.envelope.key
            if (delivery.queue, key) in keys and (key is not None or moment < before):
                self._renew(tag, mark, delivery)

    def _renew(self, tag: int, mark: _Mark, delivery: Delivery) -> None:
        if delivery.queue in self._tags:
            delivery.tag = _AWAY
            self._renewing.setdefault(mark, deque()).append(delivery)
            self._reject(tag)

    def _is_overtaking(self, delivery: Delivery) -> bool:
        """Tell whether it came while others of its key, which were before it, are away."""
        key = delivery.queue, delivery.envelope.key
        away = itertools.chain.from_iterable(self._renewing.values())
        return key[1] is not None and any((e.queue, e.envelope.key) == key for e in away)

    def _reject(self, tag: int) -> None:
        self._unacknowledged.discard(tag)
        self._held.pop(tag, None)
        self._channel.basic_reject(tag, requeue=True)

    def _away(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        mine = self._link
        if not self._renewing:
            return []
        return [d for d in deliveries if d.link is mine and d.tag == _AWAY]

    def _own_tags(self, deliveries: Sequence[Delivery]) -> set[int]:
        # What an earlier link received went back with it.
        mine, open_tags = self._link, self._unacknowledged
        return {d.tag for d in deliveries if d.link is mine and d.tag in open_tags}

    def _on_message(
        self, queue: str, on_delivery: Callable[[Delivery], None], message: Any
    ) -> None:
        mark = None
        if self._keyed and (id := message.properties.get("message_id")):
            mark = (queue, id, bytes(getattr(message, "body", b"")))
            if mark in self._renewing:
                self._renewed(mark, message.delivery_info["delivery_tag"])
                return
        delivery = self._received(queue, message)
        if mark is not None:
            self._held[delivery.tag] = (time.monotonic(), mark, delivery)
        if queue not in self._tags:
            self.give_back([delivery])
            return
        on_delivery(delivery)
        if mark is not None and self._renewing and self._is_overtaking(delivery):
            self._renew(delivery.tag, mark, delivery)

    def _renewed(self, mark: _Mark, tag: int) -> None:
        """Go on, under its new tag, with a delivery that `renew` has given back."""
        self._last_delivered = tag
        delivery = self._renewing[mark].popleft()
        if not self._renewing[mark]:
            del self._renewing[mark]
        if delivery.tag == _DONE:
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
            text = f"{queue} {message.properties.get('message_id')} "
            event = text.encode("utf-8", "surrogatepass") + envelope.body
            delivery.identity = hashlib.sha256(event).hexdigest()[:32]
        return delivery


def read(message: Any, queue: str, topology: Topology) -> tuple[Envelope, int]:
    """Return what a message carries, and how often it was delivered before.

    Quorum queues count in a header; of classic ones it is known only whether. RabbitMQ's record of
    dead-lettering (``x-death``) means something in the queue of dead letters: a message that this
    program put there has its reason with it; any other one crashed those who handled it, or expired
    (a policy's message-ttl). Elsewhere it tells of delays, and goes no further.
    """
    properties, info = message.properties, message.delivery_info
    headers = properties.get("application_headers") or {}
    count = headers.get("x-delivery-count")
    deliveries = count if isinstance(count, int) else int(info["redelivered"])
    exchange, routing_key = info["exchange"], info["routing_key"]
    death = _death(headers) if queue == topology.dead else None
    if death is not None:
        keys = death.get("routing-keys")
        exchange = death.get("exchange")
        routing_key = keys[0] if isinstance(keys, list) and keys else routing_key
    # The event's name for a message that does not tell: other programs set no ``type``.
    name = routing_key if isinstance(routing_key, str) else ""
    if exchange in (topology.keyed, *topology.work):
        name = name.partition(".")[2] or name
    envelope = from_message(getattr(message, "body", b""), properties, headers, name)
    if death is not None and envelope.dead is None:
        envelope = envelope.with_changes(dead=_dead_letter(death))
    return envelope, deliveries


def _death(headers: dict[str, Any]) -> dict[str, Any] | None:
    """Return the last entry of ``x-death``, when its reason is one of `_DEATHS`."""
    deaths = headers.get("x-death")
    latest = deaths[0] if isinstance(deaths, list) and deaths else None
    if isinstance(latest, dict) and latest.get("reason") in tuple(_DEATHS):
        return latest
    return None


def _dead_letter(death: dict[str, Any]) -> DeadLetter:
    moment, queue = death.get("time"), death.get("queue")
    if isinstance(moment, datetime):
        seconds = moment.replace(tzinfo=timezone.utc).timestamp()
    else:
        seconds = time.time()
    reason, error = _DEATHS[death["reason"]]
    return DeadLetter(
        reason=reason,
        error=error,
        queue=queue if isinstance(queue, str) else "",
        time=seconds,
    )


# Notes about events that may have ended the processes that handled them. What RabbitMQ counts are
# connections that were lost, restarts of its own and events that were given back as well. A process
# that dies leaves its note; any other takes it away. Each is a queue: a message would have RabbitMQ
# block the connection during an alarm.


def mark(channel: Any, topology: Topology, delivery: Delivery) -> None:
    """Count the notes beside an event, for `Delivery.crashes`, and lay one more there."""
    notes, count = topology.notes_of(delivery.identity), 0
    with absent_is_empty():
        while channel.queue_declare(f"{notes}:{count}", passive=True):
            count += 1
    channel.queue_declare(
        f"{notes}:{count}", durable=True, auto_delete=False, arguments={"x-expires": _NOTES}
    )
    # Before the second delivery nobody made a note.
    delivery.crashes = count + SUSPICIOUS if count else 0


def unmark(channel: Any, topology: Topology, delivery: Delivery, *, done: bool) -> None:
    """Take the note away, or all of them when the event is `done` with."""
    notes, last = topology.notes_of(delivery.identity), max(0, delivery.crashes - SUSPICIOUS)
    for number in range(0 if done else last, last + 1):
        channel.queue_delete(f"{notes}:{number}")
