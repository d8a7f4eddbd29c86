"""Any other transport of kombu's: its acknowledgement, prefetch and requeue, where it has them.

Each queue is consumed over a channel of its own, since kombu's prefetch is a channel's. What is
published is put straight into the queues that are bound: what kombu gives back goes to wherever it
was published to, and from an exchange that would be to all services again.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gevent
from kombu.connection import Connection

from ....broker_urls import without_passwords
from ....concurrency import let_others_run
from ...envelope import from_message, to_message
from ...link import Delivery, Link, LinkLost, Outgoing
from ...names import route
from ...topology import Queue, Topology
from ...wakeups import Signal, seconds_until
from .channels import establish, options_for, shares_bindings, transport_of

__all__ = ["KombuLink"]

#: Seconds between two looks for messages: at first, and where kombu has no `polling_interval`.
_POLL, _LONGEST_POLL = 0.01, 0.1
#: Seconds after which other greenlets get their turn.
_SLICE = 0.005
#: Seconds between two looks at whether the bindings are still there.
_CHECK = 5.0


class KombuLink(Link):
    """A connection through one of kombu's virtual transports.

    :param url: of kombu's form.
    :param transport_options: kombu's. `polling_interval` is the longest time between two looks for
        messages: it is as long as nothing has come, at first a hundredth of a second.
    :param connect_timeout: seconds.
    """

    def __init__(
        self,
        url: str,
        *,
        transport_options: dict[str, Any] | None = None,
        connect_timeout: float = 5.0,
    ) -> None:
        self._url = url
        self._connect_timeout = connect_timeout
        self._options = dict(transport_options or {})
        self._longest = self._options.pop("polling_interval", None)
        self._connection: Any = None
        #: For all but consuming.
        self._channel: Any = None
        #: True when other processes read its bindings, and when all are known here.
        self._shares = self._knows_all = False
        self._topology: Topology | None = None
        self._queues: Sequence[Queue] = ()
        self._check_at = 0.0
        self._consumed: dict[str, _Consumed] = {}
        #: What was received and is not settled, by queue and kombu's tag.
        self._held: dict[tuple[str, str], Any] = {}
        #: What is handled on after the end, and at the end what the broker has not got back.
        self._left: set[tuple[str, str]] = set()
        self.owes: set[tuple[str, str]] = set()
        self._look_at = self._active_at = 0.0
        self._faults: tuple[type[BaseException], ...] = (OSError,)

    # Life

    def open(self) -> None:
        late = LinkLost(f"no connection within {self._connect_timeout:g} s")
        try:
            cls = transport_of(self._url)
            # Not connection.connect(): it tries again, and waits two seconds before it does.
            self._connection = Connection(
                self._url,
                transport_options=options_for(cls, self._options, self._connect_timeout),
                connect_timeout=self._connect_timeout,
            )
            # One after the other of the URLs between semicolons.
            for others in range(max(1, len(self._connection.alt)) - 1, -1, -1):
                transport = self._connection.transport
                self._faults = (OSError, *transport.connection_errors)
                try:
                    with gevent.Timeout(self._connect_timeout, late):
                        self._channel = establish(transport, self._url)
                    break
                except Exception:
                    if not others:
                        raise
                    self._connection.maybe_switch_next()
        except LinkLost:
            raise
        except Exception as error:  # kombu's transports raise what their libraries raise
            raise LinkLost(_text(error)) from error
        self._shares = shares_bindings(cls.Channel)
        self._knows_all = self._shares or transport.driver_type == "memory"
        if self._longest is None:
            self._longest = transport.polling_interval or _LONGEST_POLL

    def close(self) -> None:
        connection, self._connection = self._connection, None
        channel, self._channel = self._channel, None
        if connection is None:
            return
        self.owes = set(self._held)
        consumed, self._consumed = self._consumed, {}
        with contextlib.suppress(Exception), gevent.Timeout(1.5, False):
            for each in connection.transport.channels:
                # It would give back what is handled on, and write what it cannot to a file.
                each.do_restore = False
            for queue, one in consumed.items():
                # First: what a request to Redis that is under way still gets goes back at once.
                one.channel.basic_cancel(queue)
                one.channel.close()
            self._give_back(list(self.owes - self._left), channel)
        with contextlib.suppress(Exception), gevent.Timeout(0.5, False):
            connection.close()

    def wait(self, signal: Signal, timeout: float) -> None:
        if self._has_room():
            timeout = min(timeout, seconds_until(self._look_at))
        signal.wait(timeout)

    def pump(self) -> None:
        if not self._consumed:
            return
        self._check_bindings()
        began = time.monotonic()
        if began < self._look_at:
            return
        with self._mapped():
            while self._has_room():
                held = len(self._held)
                try:
                    self._connection.drain_events(timeout=0.001)
                except TimeoutError:
                    break
                now = time.monotonic()
                if len(self._held) != held:
                    self._active_at = now
                if now - began > _SLICE:
                    let_others_run()
                    began = time.monotonic()
        now = time.monotonic()
        # As long again as nothing has come.
        self._look_at = now + min(self._longest, max(_POLL, now - self._active_at))

    def _has_room(self) -> bool:
        return any(each.room > 0 for each in self._consumed.values())

    # Declaring

    def declare(self, topology: Topology, queues: Sequence[Queue] = ()) -> None:
        self._topology, self._queues = topology, queues
        with self._mapped():
            for exchange in (topology.events, topology.keyed, topology.work[0]):
                self._channel.exchange_declare(exchange, type="topic", durable=True)
            self._channel.queue_declare(topology.dead, durable=True)
            for queue in queues:
                self._channel.queue_declare(queue.name, durable=queue.expires is None)
                for exchange, pattern, name in topology.merged_bindings(queue):
                    self._channel.queue_bind(name, exchange, pattern)
        self._check_at = time.monotonic() + _CHECK

    def _check_bindings(self) -> None:
        """Lose the link, which is declared anew then, when bindings have vanished."""
        now = time.monotonic()
        if not self._shares or self._topology is None or now < self._check_at:
            return
        self._check_at = now + _CHECK
        with self._mapped():
            wanted = {each for q in self._queues for each in self._topology.merged_bindings(q)}
            for exchange in sorted({exchange for exchange, _, _ in wanted}):
                table = self._channel.get_table(exchange)
                wanted -= {(exchange, pattern, queue) for pattern, _, queue in table}
        if wanted:
            raise LinkLost(f"{len(wanted)} bindings of its queues have vanished")

    # Publishing

    def publish(self, messages: Sequence[Outgoing]) -> None:
        for message in messages:
            with self._mapped():
                try:
                    error = self._publish(message)
                except self._faults:
                    raise
                except Exception as fault:  # what it has against this one, such as its size
                    error = f"kombu's transport does not take it: {_text(fault)}"
            message.settle(error)

    def _publish(self, message: Outgoing) -> str | None:
        queues = self._queues_for(message)
        if not queues and message.address.mandatory:
            return f"nobody handles work named {message.envelope.name!r}"
        for queue in queues:
            properties, headers = to_message(message.envelope)
            prepared = self._channel.prepare_message(
                message.envelope.body.decode("utf-8", "replace"),
                content_type=properties.pop("content_type"),
                content_encoding=properties.pop("content_encoding"),
                headers=headers,
                properties=properties,
            )
            self._channel.basic_publish(prepared, exchange="", routing_key=queue)
        return None

    def _queues_for(self, message: Outgoing) -> list[str]:
        assert self._topology is not None
        exchange, routing_key = message.address.exchange, message.address.routing_key
        if not exchange:
            return [routing_key]
        table = [(pattern, queue) for pattern, _, queue in self._channel.get_table(exchange)]
        kind = "work" if exchange == self._topology.work[0] else "topic"
        queues = route(kind, table, routing_key)
        if not queues and kind == "work" and not self._knows_all:
            envelope = message.envelope
            queues = [self._topology.work_queue(envelope.name, keyed=envelope.key is not None)]
        return queues

    # Consuming

    def consume(self, queue: str, prefetch: int, on_delivery: Callable[[Delivery], None]) -> None:
        with self._mapped():
            consumed = self._consumed.get(queue)
            if consumed is None:
                transport = self._connection.transport
                consumed = _Consumed(transport.create_channel(transport), on_delivery)
                self._consumed[queue] = consumed
                consumed.channel.basic_consume(
                    queue, False, lambda message: self._on_message(queue, message), queue
                )
            consumed.room += prefetch - consumed.prefetch
            consumed.prefetch = prefetch
            # For kombu 0 is no bound.
            consumed.channel.basic_qos(0, max(1, prefetch), False)
        self._look_at = 0.0

    def _on_message(self, queue: str, message: Any) -> None:
        info = message.delivery_info or {}
        if info.get("exchange"):
            # Another program's, which came by an exchange: it would go back there.
            message.properties.setdefault("type", info.get("routing_key"))
            info.update(exchange="", routing_key=queue)
            message.channel.qos.append(message, message.delivery_tag)
        self._hold(queue, message)
        self._consumed[queue].on_delivery(self._delivery(queue, message))

    def _delivery(self, queue: str, message: Any) -> Delivery:
        routing_key = (message.delivery_info or {}).get("routing_key", "")
        properties, headers = message.properties or {}, message.headers or {}
        envelope = from_message(message.body, properties, headers, routing_key)
        return Delivery(self, queue, message, envelope)

    def _hold(self, queue: str, message: Any) -> None:
        self._held[queue, message.delivery_tag] = message
        if (consumed := self._consumed.get(queue)) is not None:
            consumed.room -= 1

    def _let_go(self, key: tuple[str, str]) -> Any:
        message = self._held.pop(key)
        if (consumed := self._consumed.get(key[0])) is not None:
            consumed.room += 1
        return message

    def cancel(self, queue: str) -> None:
        consumed = self._consumed.get(queue)
        if consumed is not None and consumed.prefetch:
            consumed.room, consumed.prefetch = consumed.room - consumed.prefetch, 0
            with self._mapped():
                consumed.channel.basic_cancel(queue)

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        for key in self._keys_of(deliveries):
            with self._mapped():
                message = self._held[key]
                message.channel.basic_ack(message.delivery_tag)
            self._let_go(key)

    def requeue(self, deliveries: Sequence[Delivery]) -> None:
        with self._mapped():
            self._give_back(self._keys_of(deliveries))

    def _give_back(self, keys: Sequence[tuple[str, str]], channel: Any = None) -> None:
        for key in keys:
            message = self._held[key]
            if channel is not None:
                _move(message, channel)
            message.channel.basic_reject(message.delivery_tag, requeue=True)
            self._let_go(key)
            self.owes.discard(key)

    def detach(self, deliveries: Sequence[Delivery]) -> None:
        self._left.update(self._keys_of(deliveries))

    def keeps(self, delivery: Delivery) -> bool:
        return _key_of(delivery) in self.owes

    def adopt(
        self, begun: Sequence[Delivery], handled: Sequence[Delivery], others: Sequence[Delivery]
    ) -> None:
        handled = [each for each in handled if each.link.keeps(each)]
        others = [each for each in others if each.link.keeps(each)]
        with self._mapped():
            for delivery in (*begun, *handled, *others):
                # Its own channel is closed; what is with kombu's transport only is still here.
                consumed = self._consumed.get(delivery.queue)
                _move(delivery.tag, self._channel if consumed is None else consumed.channel)
                self._hold(delivery.queue, delivery.tag)
                delivery.link, delivery.gone = self, False
            self._give_back(self._keys_of(others))
        self.acknowledge(handled)

    def _keys_of(self, deliveries: Sequence[Delivery]) -> list[tuple[str, str]]:
        keys = [_key_of(delivery) for delivery in deliveries if delivery.link is self]
        return [key for key in keys if key in self._held]

    def remove(self, queue: str) -> None:
        with self._mapped():
            self._channel.queue_delete(queue)

    # Looking into a queue

    def size(self, queue: str) -> int:
        with self._mapped():
            return int(self._channel._size(queue))

    def purge(self, queue: str) -> int:
        with self._mapped():
            return int(self._channel.queue_purge(queue) or 0)

    def take(self, queue: str) -> Delivery | None:
        with self._mapped():
            message = self._channel.basic_get(queue, no_ack=False)
        if message is None:
            return None
        self._hold(queue, message)
        return self._delivery(queue, message)

    @contextlib.contextmanager
    def _mapped(self) -> Iterator[None]:
        if self._channel is None:
            raise LinkLost("not connected")
        try:
            yield
        except self._faults as error:
            raise LinkLost(_text(error)) from error


class _Consumed:
    """A queue that is consumed from.

    :ivar room: how many more messages may be received.
    """

    __slots__ = ("channel", "on_delivery", "prefetch", "room")

    def __init__(self, channel: Any, on_delivery: Callable[[Delivery], None]) -> None:
        self.channel = channel
        self.on_delivery = on_delivery
        self.prefetch = self.room = 0


def _move(message: Any, channel: Any) -> None:
    """Hand a message over to another channel, which may settle it then."""
    message.channel = channel
    channel.qos.append(message, message.delivery_tag)


def _key_of(delivery: Delivery) -> tuple[str, str]:
    return delivery.queue, delivery.tag.delivery_tag


def _text(error: BaseException) -> str:
    # It is the library's, which may quote the URL.
    return f"{type(error).__name__}: {without_passwords(str(error))}".removesuffix(": ")
