"""`AmqpLink`: one connection to RabbitMQ, its life and what it is asked.

How bytes come and go is in `wire`, what queues are in `queues`, what is published in `publishing`,
what is received in `consuming`, how a queue is read through in `reading`, and what errors mean in
`faults`.

Four channels, each opened when it is needed: one asks (RabbitMQ closes a channel whose question it
refuses), one publishes (the confirms count its messages), one consumes, one consumes from keyed
queues (its end gives them up in their order).

The hot functions are `publish`, `pump` and `acknowledge`, with what they call.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ....concurrency import let_others_run
from ...link import Delivery, Link, LinkLost, LinkRefused, Outgoing
from ...runtime.isolation import SUSPICIOUS
from ...topology import Queue, Topology
from .consuming import AmqpConsuming, mark, unmark
from .faults import FAULTS, absent_is_empty, consumer_timeout, fault
from .publishing import AmqpPublishing, note_deleted
from .queues import HOLDING, LONGEST_HELD, Known, bind, declare, held_too_long, says_holding
from .reading import AmqpReading
from .wire import AmqpConnection, connect, describe, place_of

if TYPE_CHECKING:
    from ...wakeups import Signal

__all__ = ["AmqpLink"]

logger = logging.getLogger("gemstone_sync.event")

#: Seconds after which other greenlets get their turn.
_SLICE = 0.005
#: Seconds that an orderly goodbye may take.
_GOODBYE = 2.0
#: Seconds for which a broker that is not blocked may read nothing.
_STALL = 30.0
#: Bytes that wait for the socket; further messages are not encoded before it took them.
_HIGH = 1 << 18
#: Seconds between two looks at what was held for long.
_RENEWAL = 60.0
#: Seconds between two times that a consumer binds its queues again, as AMQP has no word for a
#: binding that is gone.
_BINDING = 3.0
#: How much one `pump` reads at most, in pieces of 64 kB: then its caller gets its turn.
_PIECES = 16


class AmqpLink(Link):
    """A connection to RabbitMQ, 3.10 or later.

    :param url: ``amqp://user:password@host:port/virtual-host``, or ``amqps://``; several, with
        semicolons between them, are tried in turn.
    :param name: what RabbitMQ shows the connection as.
    :param delivery_limit: a message that was given back so often without being handled goes to the
        dead letters.
    :param heartbeat: seconds; a broker that is silent for two of them is lost. 0 for none.
    :param connect_timeout: seconds.
    :param consumer_timeout: seconds for which the broker lets a message be held; None for what it
        does by itself.
    :param known: what earlier links have learnt.
    :param tls: py-amqp's ``ssl`` options, for ``amqps``: ``ca_certs``, ``certfile``, ``keyfile``.
        The host's name is checked.
    :param login_method: one of RabbitMQ's; None for "PLAIN".
    :raises ValueError: for a URL that is none.
    """

    uses_due = True
    claims_keys = True

    def __init__(
        self,
        url: str,
        *,
        name: str = "gemstone_sync",
        delivery_limit: int = 1000,
        heartbeat: float = 10.0,
        connect_timeout: float = 5.0,
        consumer_timeout: float | None = None,
        known: Known | None = None,
        tls: Mapping[str, Any] | None = None,
        login_method: str | None = None,
    ) -> None:
        self._delivery_limit = delivery_limit
        self._consumer_timeout = consumer_timeout
        self._known = Known() if known is None else known
        self._descriptions = [
            describe(
                one,
                name=name,
                heartbeat=heartbeat,
                connect_timeout=connect_timeout,
                tls=tls or {},
                login_method=login_method,
                on_blocked=self._on_blocked,
                on_unblocked=self._on_blocked,
            )
            for one in url.split(";")
        ]
        self._place = place_of(self._descriptions[0])
        self._connection: AmqpConnection | None = None
        self._topology: Topology | None = None
        self._next_renewal = self._next_binding = 0.0
        #: True when its queues can say for how long a message may be held.
        self._says_holding = False
        self._asking: Any = None
        self._publishing: AmqpPublishing | None = None
        #: Whether of keyed queues.
        self._consuming: dict[bool, AmqpConsuming] = {}
        self._keyed: frozenset[str] = frozenset()
        self._queues: Sequence[Queue] = ()
        self._reading: AmqpReading | None = None
        #: What is not encoded yet, since the socket or the broker takes nothing.
        self._backlog: deque[Outgoing] = deque()

    def __str__(self) -> str:
        return f"RabbitMQ at {self._place}"

    # Life

    def open(self) -> None:
        last = self._descriptions[-1]
        for description in self._descriptions:
            self._place = place_of(description)
            try:
                self._connection = connection = connect(description)
            except LinkLost as error:
                if isinstance(error, LinkRefused) or description is last:
                    raise
            else:
                self._says_holding = says_holding(connection.server_properties)
                return

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        for consuming in self._consuming.values():
            consuming.ignore_all()
        connection.deadline = time.monotonic() + _GOODBYE
        # Whatever is wrong with it now, it is over. (RabbitMQ does not read from a connection that
        # it has blocked, so there it would not hear the goodbye.)
        try:
            if not self.blocked:
                connection.close()
        except Exception:
            logger.debug("%s: no orderly goodbye", self, exc_info=True)
        finally:
            # Also when the greenlet is killed meanwhile: `keep_alive` would go on for ever.
            self._drop(connection)

    def abandon(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abandon()

    def wait(self, signal: Signal, timeout: float) -> None:
        with self._talking() as connection:
            if signal.is_set():
                return
            if connection.heartbeat:
                timeout = min(timeout, connection.heartbeat / 4)
            connection.wait_ready(timeout, signal)

    def pump(self) -> None:
        with self._talking() as connection:
            pause = time.monotonic() + _SLICE
            for _ in range(_PIECES):
                more = connection.receive()
                while connection.dispatch():
                    if time.monotonic() >= pause:
                        pause = self._pause(connection)
                if not more:
                    break
            self._fill(connection)
            self._look_after(connection)
            connection.flush()

    def _pause(self, connection: AmqpConnection) -> float:
        connection.flush()
        let_others_run()
        return time.monotonic() + _SLICE

    def _look_after(self, connection: AmqpConnection) -> None:
        now = time.monotonic()
        connection.tick()
        if self._queues and now >= self._next_binding:
            self._next_binding = now + _BINDING
            bind(self._question(connection), self._declared, self._queues)
        if True in self._consuming and now >= self._next_renewal:
            held = min(self._held_for(), self._known.consumer_timeout or math.inf)
            self._next_renewal = now + min(_RENEWAL, held / 8)
            self._consuming[True].renew(now - held / 2)
        if connection.waiting_bytes and not self.blocked and now > connection.last_sent + _STALL:
            raise TimeoutError(f"it has read nothing for {_STALL:g} s")

    @contextlib.contextmanager
    def _talking(self) -> Iterator[AmqpConnection]:
        """Close the connection when anything breaks within, and raise `LinkLost`."""
        connection = self._connection
        if connection is None:
            raise LinkLost(f"{self}: not connected")
        try:
            yield connection
        except LinkLost:
            self._drop(connection)
            raise
        except FAULTS as error:
            self._drop(connection)
            seconds = consumer_timeout(error)
            if seconds is not None:
                self._known.consumer_timeout = seconds
            if self._publishing is not None:
                self._publishing.refuse(error)
            raise fault(error, self._place) from error
        except (AttributeError, TypeError) as error:
            # Py-amqp's way to say that it has closed; if it has not, it is a mistake of ours.
            if connection.channels is not None:
                raise
            self._drop(connection)
            raise LinkLost(f"{self}: the connection is closed") from error

    def _drop(self, connection: AmqpConnection) -> None:
        self._connection = None
        try:
            connection.collect()
        except Exception:
            logger.debug("%s: closing the socket failed", self, exc_info=True)

    def _on_blocked(self, reason: str | None = None) -> None:
        """Note that the broker takes nothing more, or takes it again when there is no reason."""
        self.blocked, self.blocked_reason = reason is not None, reason or ""

    # Declaring

    def declare(self, topology: Topology, queues: Sequence[Queue] = ()) -> None:
        with self._talking() as connection:
            self._topology, self._queues = topology, queues
            self._keyed = frozenset(queue.name for queue in queues if queue.keyed)
            self._next_binding = time.monotonic() + _BINDING
            channel, held = self._question(connection), self._held_for()
            note_deleted(channel, topology, self._known)
            for queue in queues:
                if (why := held_too_long(queue, held)) is not None:
                    raise LinkRefused(why)
            declare(
                channel,
                topology,
                queues,
                delivery_limit=self._delivery_limit,
                consumer_timeout=held if self._says_holding else None,
            )

    def _held_for(self) -> float:
        """Return for how many seconds the broker lets a message be held."""
        if self._consumer_timeout is not None:
            return self._consumer_timeout
        return LONGEST_HELD if self._says_holding else HOLDING

    @property
    def _declared(self) -> Topology:
        if self._topology is None:
            raise ValueError("declare a topology first")
        return self._topology

    def _question(self, connection: AmqpConnection) -> Any:
        """Return the channel for questions."""
        if self._asking is None:
            self._asking = connection.channel()
        return self._asking

    # Publishing

    def publish(self, messages: Sequence[Outgoing]) -> None:
        with self._talking() as connection:
            self._backlog.extend(messages)
            self._fill(connection)
            connection.flush()

    def _fill(self, connection: AmqpConnection) -> None:
        """Encode what is to be published, as far as the socket takes it."""
        backlog = self._backlog
        if self._publishing is not None:
            if not self.blocked:  # or it reads nothing, neither what was sent nor a question
                self._publishing.look_after_steps()
            backlog.extend(self._publishing.due())
        if not backlog or self.blocked:
            return
        if self._publishing is None:
            ask = functools.partial(self._question, connection)
            self._publishing = AmqpPublishing(connection, self._declared, self._known, ask)
        send = self._publishing.send
        pause = time.monotonic() + _SLICE
        while backlog and not self.blocked:
            if connection.waiting_bytes >= _HIGH:
                connection.flush()
                if connection.waiting_bytes >= _HIGH:
                    return
            send(backlog.popleft())
            if time.monotonic() >= pause:
                pause = self._pause(connection)

    @property
    def without_queue(self) -> str:
        return "" if self._publishing is None else self._publishing.without_queue

    # Consuming

    def consume(self, queue: str, prefetch: int, on_delivery: Callable[[Delivery], None]) -> None:
        with self._talking() as connection:
            self._consumer(connection, queue in self._keyed).start(queue, prefetch, on_delivery)

    def _consumer(self, connection: AmqpConnection, keyed: bool) -> AmqpConsuming:
        if keyed not in self._consuming:
            consuming = AmqpConsuming(self, connection, self._declared, keyed=keyed)
            self._consuming[keyed] = consuming
        return self._consuming[keyed]

    def _divided(
        self, connection: AmqpConnection, deliveries: Sequence[Delivery]
    ) -> Iterator[tuple[AmqpConsuming, Sequence[Delivery]]]:
        """Yield deliveries with the channels that they came over."""
        names = self._keyed
        keyed = [delivery for delivery in deliveries if delivery.queue in names]
        if keyed:
            yield self._consumer(connection, True), keyed
            deliveries = [delivery for delivery in deliveries if delivery.queue not in names]
        if deliveries:
            yield self._consumer(connection, False), deliveries

    def cancel(self, queue: str) -> None:
        with self._talking() as connection:
            self._consumer(connection, queue in self._keyed).stop(queue)

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        with self._talking() as connection:
            for consuming, its in self._divided(connection, deliveries):
                consuming.acknowledge(its)
            if self._reading is not None:
                self._reading.acknowledge(deliveries)
            connection.flush()

    def requeue(self, deliveries: Sequence[Delivery]) -> None:
        with self._talking() as connection:
            for consuming, its in self._divided(connection, deliveries):
                consuming.give_back(its)
            connection.flush()

    def keep_alive(self) -> None:
        with self._talking() as connection:
            connection.keep_alive()

    # Which events end their processes

    def mark(self, delivery: Delivery) -> None:
        if (delivery.deliveries or 0) >= SUSPICIOUS:
            with self._talking() as connection:
                mark(self._question(connection), self._declared, delivery)

    def unmark(self, deliveries: Sequence[Delivery], *, done: bool) -> None:
        for delivery in deliveries:
            if (delivery.deliveries or 0) >= SUSPICIOUS:
                with self._talking() as connection:
                    unmark(self._question(connection), self._declared, delivery, done=done)

    def remove(self, queue: str) -> None:
        with self._talking() as connection, absent_is_empty():
            self._question(connection).queue_delete(queue)

    # Looking into a queue

    def size(self, queue: str) -> int:
        with self._talking() as connection, absent_is_empty():
            return int(self._question(connection).queue_declare(queue, passive=True).message_count)
        return 0  # of an absent one

    def purge(self, queue: str) -> int:
        with self._talking() as connection, absent_is_empty():
            return int(self._question(connection).queue_purge(queue))
        return 0

    def take(self, queue: str) -> Delivery | None:
        # A queue that is not there would close the channel, and with it give back what was taken.
        if self.size(queue) == 0:
            return None
        with self._talking() as connection:
            return self._consumer(connection, queue in self._keyed).get(queue)

    def read(self, queue: str) -> Iterator[Delivery]:
        with self._talking() as connection:
            self._reading = reading = AmqpReading(
                self, connection, self._question(connection), queue, self._declared
            )
        while self._reading is reading:
            with self._talking():
                delivery = reading.take()
            if delivery is None:
                return
            yield delivery

    def end_reading(self, held: Sequence[Delivery]) -> None:
        with self._talking():
            reading, self._reading = self._reading, None
            if reading is not None:
                reading.end()
