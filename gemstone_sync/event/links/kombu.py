"""Any other transport of kombu's, with what it can do: no delays, no order by key, losses.

kombu's virtual transports take a message out of the broker before it is handled, so it is lost when
the process is killed meanwhile; most know the bindings of their own process only.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import gevent
import kombu
from kombu.transport import virtual

from ...broker_urls import without_passwords
from ...concurrency import let_others_run
from ..envelope import from_message, to_message
from ..link import Delivery, Link, LinkLost, LinkRefused, Outgoing
from ..names import best_match
from ..signals import Signal
from ..topology import Queue, Topology

__all__ = ["KombuLink", "lacks_of", "understands"]

#: Seconds between two looks for messages.
_POLL = 0.01
#: Seconds after which other greenlets get their turn.
_SLICE = 0.005
#: What kombu reads in the query of a URL, beside ``ssl_…``.
_OPTIONS = ("ssl", "login_method", "virtual_host", "userid", "password")


def lacks_of(url: str) -> list[str]:
    """What one of kombu's transports cannot promise, in words; empty when nothing is amiss.

    :raises LinkRefused: when kombu knows no such transport, or its library is not installed.
    """
    transport = _transport_of(url)
    if not issubclass(transport, virtual.Transport):
        return []
    lacks = [
        "an event that is being handled is lost when its process is killed",
        "nothing is delivered later",
        "events with one key may be handled in another order",
    ]
    if transport.Channel.get_table is virtual.Channel.get_table:
        lacks.append("events reach the services of the same process only")
    return lacks


def understands(url: str, option: str) -> bool:
    """Whether an option in the query of a URL reaches something.

    :raises LinkRefused: as `lacks_of`.
    """
    if _transport_of(url).can_parse_url or "+" in url.partition("://")[0]:
        return True  # which reads it itself, as SQLAlchemy does, and knows what there is
    return option in _OPTIONS or option.startswith("ssl_")


def _transport_of(url: str) -> Any:
    try:
        return kombu.Connection(url.partition("?")[0]).get_transport_cls()
    except (KeyError, ImportError, ValueError) as error:
        # What urlsplit says of a port may be a piece of the password.
        why = "its port is no number" if "Port could not" in str(error) else error.args[0]
        raise LinkRefused(f"kombu cannot use this URL: {why}") from None


class KombuLink(Link):
    """A connection through one of kombu's virtual transports.

    :param url: of kombu's form.
    :param transport_options: kombu's.
    :param connect_timeout: seconds.
    """

    delays = False
    keys = False

    def __init__(
        self,
        url: str,
        *,
        transport_options: dict[str, Any] | None = None,
        connect_timeout: float = 5.0,
    ) -> None:
        self._url = url
        self._connect_timeout = connect_timeout
        self._options = {"polling_interval": _POLL, **(transport_options or {})}
        self._connection: Any = None
        self._channel: Any = None
        self._tags: dict[str, str] = {}
        self._prefetch: dict[str, int] = {}
        self._unsettled: dict[str, set[str]] = {}
        self._callbacks: dict[str, Callable[[Delivery], None]] = {}
        self._faults: tuple[type[BaseException], ...] = (OSError,)

    # Life

    def open(self) -> None:
        connection = kombu.Connection(
            self._url,
            transport_options=self._options,
            connect_timeout=self._connect_timeout,
        )
        try:
            transport = connection.transport
            self._faults = (OSError, *transport.connection_errors, *transport.channel_errors)
            connection.connect()
            self._channel = connection.channel()
        except Exception as error:  # kombu's transports raise what their libraries raise
            raise LinkLost(_text(error)) from error
        self._connection = connection

    def close(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            with contextlib.suppress(Exception), gevent.Timeout(2, False):
                connection.close()

    def wait(self, signal: Signal, timeout: float) -> None:
        signal.wait(min(timeout, _POLL) if self._callbacks else timeout)

    def pump(self) -> None:
        if not self._callbacks:
            return
        began = time.monotonic()
        with self._mapped():
            while self._has_room():
                try:
                    self._connection.drain_events(timeout=0.001)
                except TimeoutError:
                    return
                if time.monotonic() - began > _SLICE:
                    let_others_run()
                    began = time.monotonic()

    # Declaring

    def declare(self, topology: Topology, queues: Sequence[Queue] = ()) -> None:
        with self._mapped():
            for exchange in (topology.events, topology.keyed, topology.work[0]):
                self._channel.exchange_declare(exchange, type="topic", durable=True)
            self._channel.queue_declare(topology.dead, durable=True)
            for queue in queues:
                self._channel.queue_declare(queue.name, durable=queue.expires is None)
                for binding in queue.bindings:
                    # One exchange for all work: the best match is chosen when publishing.
                    work = binding.exchange in topology.work
                    exchange = topology.work[0] if work else binding.exchange
                    self._channel.queue_bind(queue.name, exchange, binding.pattern)
        self._work = topology.work[0]

    # Publishing

    def publish(self, messages: Sequence[Outgoing]) -> None:
        for message in messages:
            with self._mapped():
                error = self._publish(message)
            message.settle(error)

    def _publish(self, message: Outgoing) -> str | None:
        address = message.address
        exchange, routing_key = address.exchange, address.routing_key
        if exchange == self._work:
            table = self._channel.get_table(exchange)
            best = best_match({rkey for rkey, _, _ in table}, routing_key)
            if best is None:
                return f"nobody handles work named {message.envelope.name!r}"
            exchange, routing_key = "", min(queue for rkey, _, queue in table if rkey == best)
        properties, headers = to_message(message.envelope)
        prepared = self._channel.prepare_message(
            message.envelope.body.decode("utf-8", "replace"),
            content_type=properties.pop("content_type"),
            content_encoding=properties.pop("content_encoding"),
            headers=headers,
            properties=properties,
        )
        self._channel.basic_publish(prepared, exchange=exchange, routing_key=routing_key)
        return None

    # Consuming

    def consume(self, queue: str, prefetch: int, on_delivery: Callable[[Delivery], None]) -> None:
        self._prefetch[queue] = prefetch
        if queue in self._tags:
            with self._mapped():
                self._channel.basic_qos(0, sum(self._prefetch.values()), False)
            return
        self._unsettled[queue] = set()
        self._callbacks[queue] = on_delivery
        self._tags[queue] = f"gemstone_sync-{queue}"
        with self._mapped():
            # The bound is ours: kombu's is for the whole channel.
            self._channel.basic_qos(0, sum(self._prefetch.values()), False)
            self._channel.basic_consume(
                queue, False, lambda message: self._on_message(queue, message), self._tags[queue]
            )

    def _on_message(self, queue: str, message: Any) -> None:
        if len(self._unsettled[queue]) >= self._prefetch[queue]:
            self._channel.basic_reject(message.delivery_tag, requeue=True)
            return
        self._unsettled[queue].add(message.delivery_tag)
        self._callbacks[queue](self._delivery(queue, message))

    def _delivery(self, queue: str, message: Any) -> Delivery:
        routing_key = (message.delivery_info or {}).get("routing_key", "")
        properties, headers = message.properties or {}, message.headers or {}
        envelope = from_message(message.body, properties, headers, routing_key)
        return Delivery(self, queue, message.delivery_tag, envelope)

    def _has_room(self) -> bool:
        return any(len(self._unsettled[queue]) < self._prefetch[queue] for queue in self._tags)

    def cancel(self, queue: str) -> None:
        tag = self._tags.pop(queue, None)
        if tag is not None:
            with self._mapped():
                self._channel.basic_cancel(tag)

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in self._ours(deliveries):
            with self._mapped():
                self._channel.basic_ack(delivery.tag)

    def requeue(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in self._ours(deliveries):
            with self._mapped():
                self._channel.basic_reject(delivery.tag, requeue=True)

    def renew(self, deliveries: Sequence[Delivery]) -> None:
        """There are no leases."""

    def _ours(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        ours = [delivery for delivery in deliveries if delivery.link is self]
        for delivery in ours:
            self._unsettled.get(delivery.queue, set()).discard(delivery.tag)
        return ours

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
        return None if message is None else self._delivery(queue, message)

    @contextlib.contextmanager
    def _mapped(self) -> Any:
        if self._channel is None:
            raise LinkLost("not connected")
        try:
            yield
        except self._faults as error:
            raise LinkLost(_text(error)) from error


def _text(error: BaseException) -> str:
    # It is the library's, which may quote the URL.
    return f"{type(error).__name__}: {without_passwords(str(error))}".removesuffix(": ")
