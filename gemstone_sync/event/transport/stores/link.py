"""The link over a `QueueStore`: SQLite, Redis, memory.

A message is `Envelope.to_json`'s text; a whole batch is published in one transaction.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import msgspec

from ....concurrency import let_others_run
from ....errors import StoreFault
from ...envelope import DeadLetter, Envelope
from ...link import Delivery, Link, LinkLost, Outgoing
from ...topology import Queue, Topology
from ...wakeups import Signal
from .session import StoreSession
from .store import Binding, Entry, QueueStore, Stored

__all__ = ["StoreLink"]

#: Seconds after which other greenlets get their turn.
_SLICE = 0.005
#: Seconds between two looks whether the queues are still there.
_TOUCH = 1.0


class StoreLink(Link):
    """A connection to a store.

    :param store: not shared with another link: each has a `changed` of its own.
    :param lease: seconds after which what a process that has died has taken goes to another.
    :param delivery_limit: how often that may happen to an event before it is a dead letter.
    """

    window = 2000

    def __init__(self, store: QueueStore, *, lease: float = 60.0, delivery_limit: int = 10) -> None:
        self.lease = self._lease = lease
        self._store = store
        self._delivery_limit = delivery_limit
        self._opened: StoreSession | None = None
        self._dead = ""
        self._consumed: dict[str, _Consumed] = {}
        self._queues: list[str] = []
        self._bindings: list[Binding] = []
        self._touch_interval = _TOUCH
        self._touch_at = 0.0
        #: Once it is closed: whether the store was out of reach, and has not got back what it held.
        self.owes = False

    # Life

    def open(self) -> None:
        self._opened = session = StoreSession(self._store, self._lease)
        with _mapped():
            session.open()

    def close(self) -> None:
        session, self._opened = self._opened, None
        if session is not None:
            session.close()
            self.owes = not session.returned

    def wait(self, signal: Signal, timeout: float) -> None:
        if not any(each.room for each in self._consumed.values()):
            signal.wait(timeout)
        elif not signal.is_set():
            with _mapped(), self._store.waking(signal.set):
                if not self._is_curious():
                    signal.wait(min(timeout, self._store.seconds_left()))

    def pump(self) -> None:
        if not self._consumed:
            return
        session = self._session
        with _mapped():
            self._touch_in_time()
            self._is_curious()
            began = time.monotonic()
            while wanted := self._wanted():
                for stored in session.take(wanted):
                    self._deliver(stored)
                    if time.monotonic() - began > _SLICE:
                        let_others_run()
                        began = time.monotonic()

    def _touch_in_time(self) -> None:
        """Keep queues that expire, and see whether all that was declared is still there."""
        now = time.monotonic()
        if now >= self._touch_at:
            self._touch_at = now + self._touch_interval
            self._session.call(self._store.touch, self._queues, self._bindings)

    def _is_curious(self) -> bool:
        """Whether there may be something to take."""
        if self._store.changed():
            for each in self._consumed.values():
                each.exhausted = False
        return any(each.room and not each.exhausted for each in self._consumed.values())

    def _wanted(self) -> list[tuple[str, int]]:
        wanted = []
        for queue, each in self._consumed.items():
            if each.room and not each.exhausted:
                wanted.append((queue, each.room))
                # Unless it turns out that there are as many as were asked for.
                each.exhausted = True
        return wanted

    # Declaring

    def declare(self, topology: Topology, queues: Sequence[Queue] = ()) -> None:
        self._dead = topology.dead
        expiring = [queue.expires for queue in queues if queue.expires is not None]
        self._touch_interval = min([_TOUCH, *(expires / 4 for expires in expiring)])
        self._queues = [topology.dead, *(queue.name for queue in queues)]
        self._bindings = [
            # One exchange for all work: the store chooses the best match among all patterns.
            (
                topology.work[0] if each.exchange in topology.work else each.exchange,
                each.pattern,
                queue.name,
            )
            for queue in queues
            for each in queue.bindings
        ]
        with _mapped():
            self._session.call(self._declare, topology, queues)

    def _declare(self, topology: Topology, queues: Sequence[Queue]) -> None:
        store = self._store
        for exchange in (topology.events, topology.keyed):
            store.declare_exchange(exchange, "topic")
        store.declare_exchange(topology.work[0], "work")
        store.declare_queue(topology.dead)
        for queue in queues:
            store.declare_queue(
                queue.name,
                expires=queue.expires,
                delivery_limit=self._delivery_limit,
                dead_letter_queue=topology.dead,
            )
        for binding in self._bindings:
            store.bind(*binding)

    # Publishing

    def publish(self, messages: Sequence[Outgoing]) -> None:
        sent, entries = [], []
        for message in messages:
            try:
                entries.append(_entry(message))
            except (ValueError, TypeError) as error:
                # It would fail again over every other connection.
                message.settle(f"{message.envelope.name!r} cannot be written: {error}")
            else:
                sent.append(message)
        session = self._session
        with _mapped():
            counts = session.call(self._store.publish, entries)
        missed = []
        for message, count in zip(sent, counts, strict=True):
            if count < 0:
                missed.append(message.envelope.name)
            else:
                wanted = count or not message.address.mandatory
                message.settle(None if wanted else _unwanted(message))
        if missed:
            raise LinkLost(
                f"a queue that {missed[0]!r} goes to is gone: whoever consumes from it declares "
                "it again"
            )

    # Consuming

    def consume(self, queue: str, prefetch: int, on_delivery: Callable[[Delivery], None]) -> None:
        consumed = self._consumed.setdefault(queue, _Consumed(prefetch, on_delivery))
        consumed.prefetch = prefetch

    def cancel(self, queue: str) -> None:
        consumed = self._consumed.get(queue)
        if consumed is not None:
            # The queue is kept, and what is still handled counted, until the end.
            consumed.prefetch = 0

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        ids = self._settled(deliveries)
        with _mapped():
            self._session.acknowledge(ids)

    def requeue(self, deliveries: Sequence[Delivery]) -> None:
        ids = self._settled(deliveries)
        with _mapped():
            self._session.release(ids)

    def keep(self) -> None:
        self._session.keep()

    def adopt(self, begun: Sequence[Delivery], others: Sequence[Delivery]) -> None:
        owed = [d.tag for d in others if isinstance(d.link, StoreLink) and d.link.owes]
        with _mapped():
            self._session.adopt([delivery.tag for delivery in begun], owed)
        for delivery in begun:
            delivery.link, delivery.gone = self, False
            if (consumed := self._consumed.get(delivery.queue)) is not None:
                consumed.unsettled.add(delivery.tag)

    def leave(self, deliveries: Sequence[Delivery]) -> None:
        if self._opened is not None:
            self._session.leave([each.tag for each in deliveries if each.link is self])

    def _settled(self, deliveries: Sequence[Delivery]) -> list[str]:
        ids = []
        for delivery in deliveries:
            if delivery.link is self:
                ids.append(delivery.tag)
                consumed = self._consumed.get(delivery.queue)
                if consumed is not None:
                    consumed.unsettled.discard(delivery.tag)
        return ids

    def _deliver(self, stored: Stored) -> None:
        consumed = self._consumed[stored.queue]
        delivery = self._delivery(stored)
        if delivery is None:
            return
        consumed.unsettled.add(stored.id)
        consumed.exhausted = consumed.exhausted and consumed.room > 0
        consumed.on_delivery(delivery)

    def _delivery(self, stored: Stored) -> Delivery | None:
        """None for what is not a message, which is then with the dead letters."""
        try:
            envelope = Envelope.from_json(stored.payload)
        except ValueError as error:
            self._set_aside(stored, str(error))
            return None
        if stored.queue == self._dead and envelope.dead is None:
            # Nobody but the store puts there what has no reason.
            envelope = envelope.with_changes(
                dead=DeadLetter(
                    reason="crashed",
                    error="the processes that handled it ended, or held it for too long",
                )
            )
        return Delivery(self, stored.queue, stored.id, envelope, stored.deliveries)

    def _set_aside(self, stored: Stored, error: str) -> None:
        """What cannot be read is kept for whoever looks through the dead letters."""
        dead = DeadLetter(reason="invalid", error=error, queue=stored.queue, time=time.time())
        text = stored.payload.decode("utf-8", "replace")
        envelope = Envelope(name="unreadable", body=msgspec.json.encode(text), dead=dead)
        session = self._session
        session.call(self._store.publish, [Entry("", self._dead, envelope.to_json())])
        session.acknowledge([stored.id])

    def remove(self, queue: str) -> None:
        with _mapped():
            self._session.call(self._store.delete_queue, queue)

    # Looking into a queue

    def size(self, queue: str) -> int:
        with _mapped():
            return self._session.call(self._store.size, queue)

    def purge(self, queue: str) -> int:
        with _mapped():
            return self._session.call(self._store.purge, queue)

    def take(self, queue: str) -> Delivery | None:
        with _mapped():
            while taken := self._session.take([(queue, 1)]):
                delivery = self._delivery(taken[0])
                if delivery is not None:
                    return delivery
        return None

    # The connection

    @property
    def _session(self) -> StoreSession:
        if self._opened is None:
            raise LinkLost("not connected")
        return self._opened


class _Consumed:
    """A queue that is consumed from.

    :ivar exhausted: nothing more was there when it was last looked at.
    """

    __slots__ = ("exhausted", "on_delivery", "prefetch", "unsettled")

    def __init__(self, prefetch: int, on_delivery: Callable[[Delivery], None]) -> None:
        self.prefetch = prefetch
        self.on_delivery = on_delivery
        self.unsettled: set[str] = set()
        self.exhausted = False

    @property
    def room(self) -> int:
        """How many more may be delivered."""
        return max(0, self.prefetch - len(self.unsettled))


def _entry(message: Outgoing) -> Entry:
    """:raises ValueError, TypeError: when JSON has no way to write it."""
    address, envelope = message.address, message.envelope
    due = time.time() + message.delay if message.delay > 0 else 0.0
    return Entry(address.exchange, address.routing_key, envelope.to_json(), envelope.key, due)


def _unwanted(message: Outgoing) -> str:
    if message.address.exchange:
        return f"nobody handles work named {message.envelope.name!r}"
    return f"there is no queue {message.address.routing_key!r} any more"


@contextmanager
def _mapped() -> Iterator[None]:
    try:
        yield
    except StoreFault as error:
        raise LinkLost(str(error)) from error
