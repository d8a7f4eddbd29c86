"""`AmqpLink`: one connection to RabbitMQ, its life and what it is asked.

How it is opened is in `opening`, how bytes come and go in `wire`, what queues are in
`queues`, what is published in `publishing`, what is received in `consuming`, how a
queue is read through in `reading`, and what errors mean in `faults`.

Three channels, each opened when it is needed: one asks (RabbitMQ closes a channel whose question it
refuses), one publishes (the confirms count its messages), one consumes.

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

import gevent

from ....concurrency import let_others_run
from ...link import Delivery, Link, LinkLost, LinkRefused, Outgoing
from ...runtime.isolation import SUSPICIOUS
from ...topology import Queue, Topology
from .consuming import AmqpConsuming
from .faults import FAULTS, absent_is_empty, consumer_timeout, fault, largest_message
from .known import Known
from .notes import mark, unmark
from .opening import describe, place_of, version_of
from .publishing import AmqpPublishing
from .queues import (
    HOLDING,
    LONGEST_HELD,
    bind,
    declare,
    declare_delay,
    held_too_long,
    note_deleted,
)
from .reading import AmqpReading
from .wire import AmqpConnection

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
#: The first RabbitMQ whose queues can say for how long a message may be held, and seconds between
#: two looks at what was held for long.
_SAYS_HOLDING, _RENEWAL = (3, 12), 60.0
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
    :param options: further arguments for `kombu.Connection`.
    :raises ValueError: for a URL that is none.
    """

    relays = True
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
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self._urls = url.split(";")
        self._delivery_limit = delivery_limit
        self._connect_timeout = connect_timeout
        self._consumer_timeout = consumer_timeout
        self._known = Known() if known is None else known
        self._describe = functools.partial(
            describe,
            name=name,
            heartbeat=heartbeat,
            connect_timeout=connect_timeout,
            tls=tls,
            options=options,
            on_blocked=self._on_blocked,
            on_unblocked=self._on_unblocked,
        )
        self._places = [place_of(self._describe(one)) for one in self._urls]
        self._place = self._places[0]
        self._connection: AmqpConnection | None = None
        self._topology: Topology | None = None
        self._next_tick = self._next_renewal = self._next_binding = 0.0
        self._asking: Any = None
        self._publishing: AmqpPublishing | None = None
        self._consuming: AmqpConsuming | None = None
        self._queues: Sequence[Queue] = ()
        self._reading: AmqpReading | None = None
        #: What is not encoded yet, since the socket or the broker takes nothing.
        self._backlog: deque[Outgoing] = deque()

    def __str__(self) -> str:
        return f"RabbitMQ at {self._place}"

    # Life

    def open(self) -> None:
        last = len(self._urls) - 1
        for position, (url, place) in enumerate(zip(self._urls, self._places, strict=True)):
            self._place = place
            try:
                self._connection = self._connect(url)
                return
            except LinkRefused:
                raise
            except LinkLost:
                if position == last:
                    raise

    def _connect(self, url: str) -> AmqpConnection:
        description = self._describe(url)
        description.transport_options["deadline"] = time.monotonic() + 2 * self._connect_timeout
        # Looking up the host's name has no time-out of its own.
        timeout = gevent.Timeout(2 * self._connect_timeout + 1)
        try:
            with timeout:
                connection: AmqpConnection = description.transport.establish_connection()
        except gevent.Timeout as error:
            if error is not timeout:
                raise
            raise LinkLost(f"RabbitMQ at {self._place}: no connection in time") from None
        except FAULTS as error:
            raise fault(error, self._place) from error
        connection.deadline = None
        return connection

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if self._consuming is not None:
            self._consuming.ignore_all()
        connection.deadline = time.monotonic() + _GOODBYE
        # Whatever is wrong with it now, it is over. (RabbitMQ does not read from a connection that
        # it has blocked, so there it would not hear the goodbye.)
        try:
            if not self.blocked:
                connection.close()
        except Exception:
            logger.debug("%s: no orderly goodbye", self, exc_info=True)
        self._collect(connection)

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
        if connection.heartbeat and now >= self._next_tick:
            connection.heartbeat_tick()
            self._next_tick = now + connection.heartbeat / 4
        if self._queues and self._topology is not None and now >= self._next_binding:
            self._next_binding = now + _BINDING
            bind(self._question(connection), self._topology, self._queues)
        if self._consuming is not None and now >= self._next_renewal:
            held = min(self._held_for(connection), self._known.consumer_timeout or math.inf)
            self._next_renewal = now + min(_RENEWAL, held / 8)
            self._consuming.renew(now - held / 2)
        if connection.waiting_bytes and not self.blocked and now > connection.last_sent + _STALL:
            raise TimeoutError(f"it has read nothing for {_STALL:g} s")

    @contextlib.contextmanager
    def _talking(self) -> Iterator[AmqpConnection]:
        """Have whatever breaks in there close the connection and be a `LinkLost`."""
        connection = self._connection
        if connection is None:
            raise LinkLost(f"RabbitMQ at {self._place}: not connected")
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
            largest = largest_message(error)
            if largest is not None and self._publishing is not None:
                self._publishing.refuse_larger_than(largest)
            raise fault(error, self._place) from error
        except (AttributeError, TypeError) as error:
            # Py-amqp's way to say that it has closed; if it has not, it is a mistake of ours.
            if connection.channels is not None:
                raise
            self._drop(connection)
            raise LinkLost(f"RabbitMQ at {self._place}: the connection is closed") from error

    def _drop(self, connection: AmqpConnection) -> None:
        self._connection = None
        self._collect(connection)

    def _collect(self, connection: AmqpConnection) -> None:
        try:
            connection.collect()
        except Exception:
            logger.debug("%s: closing the socket failed", self, exc_info=True)

    def _on_blocked(self, reason: str) -> None:
        self.blocked, self.blocked_reason = True, reason

    def _on_unblocked(self) -> None:
        self.blocked, self.blocked_reason = False, ""

    # Declaring

    def declare(self, topology: Topology, queues: Sequence[Queue] = ()) -> None:
        with self._talking() as connection:
            self._topology, self._queues = topology, queues
            self._next_binding = time.monotonic() + _BINDING
            note_deleted(self._question(connection), topology, self._known)
            held = self._held_for(connection)
            for queue in queues:
                if (why := held_too_long(queue, held)) is not None:
                    raise LinkRefused(why)
            self._declare(connection, topology, queues)

    def _declare(
        self, connection: AmqpConnection, topology: Topology, queues: Sequence[Queue]
    ) -> None:
        says = version_of(connection) >= _SAYS_HOLDING
        held = self._held_for(connection) if says else None
        declare(self._question(connection), topology, queues, self._delivery_limit, held)

    def _held_for(self, connection: AmqpConnection) -> float:
        """For how many seconds the broker lets a message be held."""
        if self._consumer_timeout is not None:
            return self._consumer_timeout
        if version_of(connection) >= _SAYS_HOLDING:
            return LONGEST_HELD
        return HOLDING

    def _question(self, connection: AmqpConnection) -> Any:
        """The channel for questions."""
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
            backlog.extend(self._publishing.due())
        if not backlog or self.blocked:
            return
        if self._publishing is None:
            if self._topology is None:
                raise ValueError("declare a topology before publishing")
            self._publishing = AmqpPublishing(
                connection,
                self._topology,
                self._known,
                functools.partial(self._declare_step, connection, self._topology),
                functools.partial(self._declare, connection, self._topology, ()),
            )
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

    def _declare_step(self, connection: AmqpConnection, topology: Topology, step: int) -> str:
        declare_delay(self._question(connection), topology, step)
        return topology.delay_queue(step)

    @property
    def without_queue(self) -> str:
        return "" if self._publishing is None else self._publishing.without_queue

    # Consuming

    def consume(self, queue: str, prefetch: int, on_delivery: Callable[[Delivery], None]) -> None:
        with self._talking() as connection:
            self._consumer(connection).start(queue, prefetch, on_delivery)

    def _consumer(self, connection: AmqpConnection) -> AmqpConsuming:
        if self._consuming is None:
            sole = frozenset(queue.name for queue in self._queues if queue.keyed)
            self._consuming = AmqpConsuming(self, connection, self._topology, sole)
        return self._consuming

    def cancel(self, queue: str) -> None:
        with self._talking() as connection:
            self._consumer(connection).stop(queue)

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        with self._talking() as connection:
            self._consumer(connection).acknowledge(deliveries)
            if self._reading is not None:
                self._reading.acknowledge(deliveries)
            connection.flush()

    def requeue(self, deliveries: Sequence[Delivery]) -> None:
        with self._talking() as connection:
            self._consumer(connection).give_back(deliveries)
            connection.flush()

    def keep(self) -> None:
        with self._talking() as connection:
            connection.keep_alive()

    # Which events end their processes

    def mark(self, delivery: Delivery) -> None:
        if (delivery.deliveries or 0) >= SUSPICIOUS:
            with self._talking() as connection:
                mark(self._question(connection), self._note_of(delivery), delivery)

    def unmark(self, deliveries: Sequence[Delivery], *, done: bool) -> None:
        for delivery in deliveries:
            if (delivery.deliveries or 0) >= SUSPICIOUS:
                with self._talking() as connection:
                    unmark(self._question(connection), self._note_of(delivery), delivery, done=done)

    def _note_of(self, delivery: Delivery) -> str:
        assert self._topology is not None
        return self._topology.notes_of(delivery.identity)

    def remove(self, queue: str) -> None:
        with self._talking() as connection, absent_is_empty():
            self._question(connection).queue_delete(queue)

    # Looking into a queue

    def size(self, queue: str) -> int:
        with self._talking() as connection:
            return self._size(connection, queue)

    def _size(self, connection: AmqpConnection, queue: str) -> int:
        with absent_is_empty():
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
            return self._consumer(connection).get(queue)

    def read(self, queue: str) -> Iterator[Delivery]:
        with self._talking() as connection:
            size = functools.partial(self._size, connection)
            self._reading = reading = AmqpReading(
                self, connection, self._question(connection), queue, self._topology, size
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
