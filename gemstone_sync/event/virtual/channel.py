"""Kombu's virtual transport over a `QueueStore`: exchanges, queues and messages by kombu's names.

Where kombu's base class keeps bindings in the process and unacknowledged messages in memory, both
are the store's here. Topic and direct exchanges are known, and ``work``: see `store.route`. The
transports for each kind of store are in `transports`.

Of the arguments of a queue it knows ``x-expires``, ``x-delivery-limit`` and, for what reaches that
limit or is rejected, ``x-dead-letter-routing-key`` (the name of a queue); a queue that is exclusive
or deleted automatically is one that expires. What it cannot do is refused. Headers of a message:
``x-delay`` (milliseconds) and ``x-gemstone-key``, see `store.Entry`.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from queue import Empty
from typing import Any, NamedTuple
from uuid import uuid4

import msgspec
from amqp.exceptions import NotFound
from kombu.exceptions import ChannelError
from kombu.transport import virtual
from kombu.transport.base import to_rabbitmq_queue_arguments
from kombu.transport.virtual.base import queue_declare_ok_t

from .session import StoreSession
from .store import Entry, Stored, StoreFault
from .wire import decode_message, encode_message

__all__ = ["Channel", "key_and_due"]

#: How many messages a channel without a prefetch count takes at once.
_BATCH = 100
#: Seconds for which a queue outlives its consumers that is exclusive or deleted automatically.
_AUTO_DELETE = 60.0
_KINDS = ("topic", "direct", "work")
#: Arguments that ask for nothing that is not so anyway.
_MEANINGLESS = ("x-queue-type", "x-queue-mode", "x-dead-letter-exchange")


class _Consumer(NamedTuple):
    queue: str
    no_ack: bool
    callback: Callable[[Any], Any]


class QoS(virtual.QoS):  # type: ignore[misc]
    """What a channel has delivered; acknowledging it is the store's matter at once."""

    def ack(self, delivery_tag: str) -> None:
        self.channel.session.acknowledge([delivery_tag])
        self._delivered.pop(delivery_tag, None)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        if requeue:
            self.channel.session.release([delivery_tag])
            self._delivered.pop(delivery_tag, None)
        else:
            self.channel.to_dead_letters(self._delivered[delivery_tag])
            self.ack(delivery_tag)

    def restore_unacked(self) -> list[Any]:
        tags = list(self._delivered)
        self._delivered.clear()
        self.channel.session.release(tags)
        return []

    def restore_unacked_once(self, stderr: Any = None) -> None:
        self._on_collect.cancel()
        # They come back when their leases end, whatever is wrong now.
        with contextlib.suppress(StoreFault):
            self.restore_unacked()


class Channel(virtual.Channel):  # type: ignore[misc]
    """A channel; several of one connection share its session."""

    QoS = QoS

    def __init__(self, connection: Any, **kwargs: Any) -> None:
        super().__init__(connection, **kwargs)
        self.session: StoreSession = connection.session
        #: True when there may be something to take.
        self.curious = True
        self._consuming: dict[str, _Consumer] = {}
        #: What was taken and is to be delivered next.
        self._ready: deque[Stored] = deque()
        self._turn = 0
        self._exchanges: dict[str, str] = {}
        self._dead_letter_queues: dict[str, str] = {}
        self._expiring: dict[str, float] = {}
        self._exclusive: set[str] = set()

    # Exchanges

    def exchange_declare(
        self, exchange: Any = None, type: Any = "direct", passive: bool = False, **kwargs: Any
    ) -> None:
        kind = type or "direct"
        exchange = exchange or f"amq.{kind}"
        if passive:
            if exchange not in self._exchanges and not self._bindings(exchange):
                raise _not_found("exchange", exchange)
            return
        if kind not in _KINDS:
            raise ChannelError(
                f"{exchange!r} cannot be a {kind} exchange here: there are topic and direct ones "
                "(a queue that is bound to a topic exchange with # gets everything)"
            )
        self.session.call(self.session.store.declare_exchange, exchange, kind)
        self._exchanges[exchange] = kind

    def exchange_delete(self, exchange: str, **kwargs: Any) -> None:
        for pattern, queue in self._bindings(exchange):
            self.queue_unbind(queue, exchange, pattern)
        self._exchanges.pop(exchange, None)

    def get_exchanges(self) -> list[str]:
        return list(self._exchanges)

    def get_table(self, exchange: str) -> list[tuple[str, None, str]]:
        return [(pattern, None, queue) for pattern, queue in self._bindings(exchange)]

    def list_bindings(self) -> Iterator[tuple[str, str, str]]:
        for exchange in self._exchanges:
            for pattern, queue in self._bindings(exchange):
                yield queue, exchange, pattern

    def _bindings(self, exchange: str) -> list[tuple[str, str]]:
        return self.session.call(self.session.store.bindings, exchange)

    # Queues

    def prepare_queue_arguments(self, arguments: Any, **kwargs: Any) -> Any:
        return to_rabbitmq_queue_arguments(arguments, **kwargs)

    def queue_declare(
        self,
        queue: Any = None,
        passive: bool = False,
        exclusive: bool = False,
        auto_delete: bool = False,
        arguments: Any = None,
        **kwargs: Any,
    ) -> Any:
        queue = queue or f"amq.gen-{uuid4().hex}"
        if passive:
            try:
                self.session.call(self.session.store.touch, [queue])
            except StoreFault as error:
                raise _not_found("queue", queue) from error
        else:
            arguments = dict(arguments or {})
            expires = arguments.pop("x-expires", None)
            if expires is not None:
                expires = expires / 1000
            elif exclusive or auto_delete:
                expires = _AUTO_DELETE
            self._declare(queue, expires, _dead_lettering(queue, arguments))
            if exclusive:
                self._exclusive.add(queue)
        return queue_declare_ok_t(queue, self._size(queue), 0)

    def _declare(self, queue: str, expires: float | None, options: dict[str, Any]) -> None:
        def declare() -> None:
            self.session.store.declare_queue(queue, expires=expires, **options)

        self.session.call(declare)
        self._expiring.pop(queue, None)
        self._dead_letter_queues.pop(queue, None)
        if expires is not None:
            self._expiring[queue] = expires
        if options["dead_letter_queue"] is not None:
            self._dead_letter_queues[queue] = options["dead_letter_queue"]

    def queue_delete(
        self, queue: str, if_unused: bool = False, if_empty: bool = False, **kwargs: Any
    ) -> None:
        if not (if_empty and self._size(queue)):
            self.session.call(self.session.store.delete_queue, queue)

    def queue_bind(
        self, queue: str, exchange: Any = None, routing_key: str = "", **kwargs: Any
    ) -> None:
        self.session.call(self.session.store.bind, exchange or "amq.direct", routing_key, queue)

    def queue_unbind(
        self, queue: str, exchange: Any = None, routing_key: str = "", **kwargs: Any
    ) -> None:
        self.session.call(self.session.store.unbind, exchange or "amq.direct", routing_key, queue)

    def _purge(self, queue: str) -> int:
        return self.session.call(self.session.store.purge, queue)

    def _size(self, queue: str) -> int:
        return self.session.call(self.session.store.size, queue)

    # Publishing

    def basic_publish(
        self,
        message: dict[str, Any],
        exchange: str = "",
        routing_key: str = "",
        mandatory: bool = False,
        **kwargs: Any,
    ) -> None:
        """Publish; when it returns the store has the message.

        :raises ChannelError: when it is mandatory and no queue takes it.
        """
        payload = encode_message(
            message["body"],
            content_type=message.get("content-type"),
            content_encoding=message.get("content-encoding"),
            headers=message.get("headers") or {},
            properties=message.get("properties") or {},
            exchange=exchange,
            routing_key=routing_key,
        )
        key, due = key_and_due(message.get("headers") or {})
        entry = Entry(exchange, routing_key, payload, key, due)
        (count,) = self.session.call(self.session.store.publish, [entry])
        if mandatory and not count:
            raise ChannelError(f"no queue takes what is published to {exchange!r}: {routing_key!r}")

    def to_dead_letters(self, message: Any) -> None:
        """Where a queue that was declared over this channel has its rejected messages go."""
        stored: Stored = message.stored
        queue = self._dead_letter_queues.get(stored.queue)
        if queue is not None:
            entry = Entry("", queue, stored.payload)
            self.session.call(self.session.store.publish, [entry])

    # Consuming

    def basic_consume(
        self,
        queue: str,
        no_ack: bool,
        callback: Callable[[Any], Any],
        consumer_tag: str,
        **kwargs: Any,
    ) -> None:
        self._consuming[consumer_tag] = _Consumer(queue, no_ack, callback)
        self._consumers.add(consumer_tag)
        self.keep_while_consumed(queue)
        self.curious = True

    def keep_while_consumed(self, queue: str) -> None:
        """Have an expiring queue that was declared over this channel touched in time."""
        if queue in self._expiring:
            self.session.expiring[queue] = self._expiring[queue]

    def basic_cancel(self, consumer_tag: str) -> None:
        self._consumers.discard(consumer_tag)
        consumer = self._consuming.pop(consumer_tag, None)
        if consumer is not None and self._consumer_of(consumer.queue) is None:
            self.session.expiring.pop(consumer.queue, None)
            undelivered = [stored for stored in self._ready if stored.queue == consumer.queue]
            if undelivered:
                self._ready = deque(s for s in self._ready if s.queue != consumer.queue)
                self.session.release([stored.id for stored in undelivered])

    def basic_get(self, queue: str, no_ack: bool = False, **kwargs: Any) -> Any:
        taken = self.session.take([(queue, 1)])
        return self._received(taken[0], no_ack) if taken else None

    def drain_events(self, timeout: Any = None, callback: Any = None) -> None:
        """Deliver one message. :raises virtual.Empty: when there is none at the moment."""
        if not self._ready:
            self._take()
        if not self._ready:
            raise Empty
        stored = self._ready.popleft()
        consumer = self._consumer_of(stored.queue)
        if consumer is None:
            self.session.release([stored.id])
        else:
            consumer.callback(self._received(stored, consumer.no_ack))

    def _take(self) -> None:
        """Take as much as the prefetch count allows, from the queues in turn."""
        prefetch = self.qos.prefetch_count
        room = prefetch - len(self.qos._delivered) if prefetch else _BATCH
        queues = list(dict.fromkeys(consumer.queue for consumer in self._consuming.values()))
        if not self.curious or room <= 0 or not queues:
            return
        self._turn = (self._turn + 1) % len(queues)
        queues = (queues[self._turn :] + queues[: self._turn])[:room]
        taken = self.session.take([(queue, room // len(queues)) for queue in queues])
        self.curious = bool(taken)
        self._ready.extend(taken)

    def _consumer_of(self, queue: str) -> _Consumer | None:
        return next((each for each in self._consuming.values() if each.queue == queue), None)

    def _received(self, stored: Stored, no_ack: bool) -> Any:
        payload: dict[str, Any]
        body: str | bytes
        try:
            wire = decode_message(stored.payload)
            body = wire.decoded_body()
        except ValueError:
            # Nothing of kombu's has written it: whoever consumes is to decide.
            raw = {"content-type": "application/data", "content-encoding": "binary"}
            body, payload = stored.payload, {**raw, "headers": {}, "properties": {}}
        else:
            payload = msgspec.to_builtins(wire)
        info = {"exchange": "", "routing_key": stored.queue}
        properties = payload["properties"]
        properties["delivery_info"] = {
            **(properties.get("delivery_info") or info),
            "redelivered": stored.deliveries > 0,
        }
        properties["delivery_tag"] = stored.id
        payload["body"], properties["body_encoding"] = body, None
        message = self.Message(payload, channel=self)
        message.stored = stored
        if no_ack:
            self.session.acknowledge([stored.id])
        else:
            self.qos.append(message, stored.id)
        return message

    # Life

    def close(self) -> None:
        """What was delivered and not acknowledged goes back."""
        if self.closed:
            return
        with contextlib.suppress(StoreFault):
            self.session.release([stored.id for stored in self._ready])
        self._ready.clear()
        with contextlib.suppress(StoreFault):
            for queue in self._exclusive:
                self.queue_delete(queue)
        self._exclusive.clear()
        super().close()


def key_and_due(headers: dict[str, Any]) -> tuple[str | None, float]:
    """What a message's headers say of its order and its delay."""
    key, delay = headers.get("x-gemstone-key"), headers.get("x-delay")
    if isinstance(delay, bool) or not isinstance(delay, (int, float)) or not 0 < delay < math.inf:
        return key if isinstance(key, str) else None, 0.0
    return key if isinstance(key, str) else None, time.time() + delay / 1000


def _dead_lettering(queue: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """What is left of a queue's arguments. :raises ChannelError: for what cannot be done."""
    options = {
        "delivery_limit": arguments.pop("x-delivery-limit", None),
        "dead_letter_queue": arguments.pop("x-dead-letter-routing-key", None),
    }
    if arguments.get("x-dead-letter-exchange"):
        raise ChannelError(
            f"queue {queue!r}: dead letters go straight to a queue here: leave "
            "x-dead-letter-exchange empty and name the queue in x-dead-letter-routing-key"
        )
    unknown = sorted(set(arguments) - set(_MEANINGLESS))
    if unknown:
        raise ChannelError(f"queue {queue!r}: no queue here has {', '.join(unknown)}")
    return options


def _not_found(what: str, name: str) -> Exception:
    return NotFound(f"no {what} {name!r}", (50, 10), "declare")  # type: ignore[no-any-return]
