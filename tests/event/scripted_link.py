"""A small broker in memory, and its `Link`, whose faults can be switched on and off.

Only what the tests of owners, publishers and consumers need belongs here: it routes by bindings,
confirms, delivers, takes back; and it is away, refuses, hangs, blocks and cuts when told to.
"""

import itertools
import os
import time
from collections import deque
from collections.abc import Callable, Sequence

import gevent
from gevent.event import Event

from gemstone_sync.event.envelope import Envelope
from gemstone_sync.event.link import Delivery, Link, LinkLost, LinkRefused, Outgoing
from gemstone_sync.event.names import matches
from gemstone_sync.event.signals import Signal, let_others_run
from gemstone_sync.event.topology import Binding, Queue, Topology


class Broker:
    """What is behind the links.

    :ivar away: why nobody answers, or None.
    :ivar refuses: what it says to whoever connects, or None.
    :ivar hangs: it takes connections and says nothing.
    :ivar blocked: why it takes nothing more, or None.
    :ivar confirms: False keeps confirms back.
    :ivar loses_after: cuts the connection when it got so many messages more, without a confirm.
    :ivar refused: reasons by event name.
    :ivar published: what it got, in order, what it got again too.
    :ivar log: what links were told, in order.
    """

    def __init__(self, *, window: int = 1000, relays: bool = False) -> None:
        self.away: str | None = None
        self.refuses: str | None = None
        self.hangs = False
        self.blocked: str | None = None
        self.confirms = True
        self.loses_after: int | None = None
        self.refused: dict[str, str] = {}
        self.published: list[Envelope] = []
        self.queues: dict[str, deque[tuple[Envelope, int]]] = {}
        self.bindings: set[tuple[str, Binding]] = set()
        self.links: list[ScriptedLink] = []
        self.opened = 0
        self.log: list[str] = []
        self.window = window
        self.relays = relays
        self.lease: float | None = None
        #: True: every message is kept in `published`.
        self.records = True

    def link(self) -> "ScriptedLink":
        return ScriptedLink(self)

    @property
    def names(self) -> list[str]:
        return [envelope.name for envelope in self.published]

    def put(self, queue: str, *envelopes: Envelope) -> None:
        """As if they had been published to the queue."""
        self.queues.setdefault(queue, deque()).extend((envelope, 0) for envelope in envelopes)
        self.poke()

    def poke(self) -> None:
        """Have the links look again."""
        for link in list(self.links):
            link.poke()

    def cut(self, why: str = "cut") -> None:
        """End every connection."""
        for link in list(self.links):
            link.lose(why)

    def go_away(self, why: str = "connection refused") -> None:
        self.away = why
        self.cut(why)

    def switch(self, **values: object) -> None:
        """Set attributes, and have the links look."""
        for name, value in values.items():
            setattr(self, name, value)
        self.poke()


class ScriptedLink(Link):
    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.window = broker.window
        self.relays = broker.relays
        self.lease = broker.lease
        self.pid = os.getpid()
        self.closed = self.abandoned = False
        self._lost: str | None = None
        self._something = Event()
        self._hub = gevent.get_hub()
        self._unconfirmed: deque[Outgoing] = deque()
        self._consumers: dict[str, tuple[int, Callable[[Delivery], None]]] = {}
        self._unacknowledged: dict[int, Delivery] = {}
        self._tags = itertools.count(1)

    # Faults

    def poke(self) -> None:
        self._hub.loop.run_callback_threadsafe(self._something.set)

    def lose(self, why: str) -> None:
        self._lost = why
        self.poke()

    @property
    def blocked(self) -> bool:  # type: ignore[override]
        return self.broker.blocked is not None

    @property
    def blocked_reason(self) -> str:  # type: ignore[override]
        return self.broker.blocked or ""

    def _check(self) -> None:
        assert os.getpid() == self.pid, "a connection of the parent's was used"
        if self._lost is not None:
            raise LinkLost(self._lost)
        assert not self.closed, "used after close"

    # Life

    def open(self) -> None:
        if self.broker.hangs:
            self.broker.log.append("hangs")
            Event().wait()
        if self.broker.refuses is not None:
            raise LinkRefused(self.broker.refuses)
        if self.broker.away is not None:
            raise LinkLost(self.broker.away)
        self.broker.links.append(self)
        self.broker.opened += 1

    def close(self) -> None:
        assert os.getpid() == self.pid, "a connection of the parent's was closed"
        self.closed = True
        if self in self.broker.links:
            self.broker.links.remove(self)
            for delivery in reversed(self._unacknowledged.values()):
                self._back(delivery, 1)
            self._unacknowledged.clear()
            self.broker.poke()

    def abandon(self) -> None:
        assert os.getpid() != self.pid
        self.abandoned = True

    def wait(self, signal: Signal, timeout: float) -> None:
        def notice(event: object) -> None:
            self._something.set()

        signal.notify(notice)
        try:
            self._something.wait(timeout)
        finally:
            signal.unnotify(notice)

    def pump(self) -> None:
        self._check()
        self._something.clear()
        began = time.monotonic()
        if self.broker.confirms and not self.blocked:
            while self._unconfirmed:
                message = self._unconfirmed.popleft()
                message.settle(self.broker.refused.get(message.envelope.name))
        for queue, (prefetch, on_delivery) in list(self._consumers.items()):
            waiting = self.broker.queues.setdefault(queue, deque())
            while waiting and self._held(queue) < prefetch and queue in self._consumers:
                envelope, deliveries = waiting.popleft()
                delivery = Delivery(self, queue, next(self._tags), envelope, deliveries)
                self._unacknowledged[delivery.tag] = delivery
                on_delivery(delivery)
                if time.monotonic() - began > 0.005:
                    let_others_run()
                    self._check()
                    began = time.monotonic()

    def _held(self, queue: str) -> int:
        return sum(1 for delivery in self._unacknowledged.values() if delivery.queue == queue)

    def _back(self, delivery: Delivery, more: int) -> None:
        self.broker.queues[delivery.queue].appendleft(
            (delivery.envelope, (delivery.deliveries or 0) + more)
        )

    # Declaring

    def declare(self, topology: Topology, queues: Sequence[Queue] = ()) -> None:
        self._check()
        self.broker.log.append("declare")
        for queue in queues:
            self.broker.queues.setdefault(queue.name, deque())
            self.broker.bindings.update((queue.name, binding) for binding in queue.bindings)

    # Publishing

    def publish(self, messages: Sequence[Outgoing]) -> None:
        self._check()
        assert not self.blocked, "published while blocked"
        for message in messages:
            if self.broker.loses_after is not None:
                self.broker.loses_after -= 1
                if self.broker.loses_after < 0:
                    self.broker.loses_after = None
                    self._lost = "cut in the middle"
                    self._check()
            if self.broker.records:
                self.broker.published.append(message.envelope)
                self._route(message)
            self._unconfirmed.append(message)
            assert len(self._unconfirmed) <= self.window, "more than the window"
        if self.broker.confirms:
            self._something.set()

    def _route(self, message: Outgoing) -> None:
        address = message.address
        for queue, binding in self.broker.bindings:
            if binding.exchange == address.exchange and matches(
                binding.pattern, address.routing_key
            ):
                self.broker.put(queue, message.envelope)

    # Consuming

    def consume(self, queue: str, prefetch: int, on_delivery: Callable[[Delivery], None]) -> None:
        self._check()
        self.broker.log.append(f"consume {queue} {prefetch}")
        self._consumers[queue] = (prefetch, on_delivery)
        self._something.set()

    def cancel(self, queue: str) -> None:
        self._check()
        self.broker.log.append(f"cancel {queue}")
        self._consumers.pop(queue, None)

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        self._check()
        for delivery in deliveries:
            assert delivery.link is self, "acknowledged over another link"
            del self._unacknowledged[delivery.tag]
        self._something.set()

    def requeue(self, deliveries: Sequence[Delivery]) -> None:
        self._check()
        for delivery in reversed(deliveries):
            assert delivery.link is self, "given back over another link"
            del self._unacknowledged[delivery.tag]
            self._back(delivery, 0)
        self.broker.poke()

    def renew(self, deliveries: Sequence[Delivery]) -> None:
        self._check()
        self.broker.log.append(f"renew {len(deliveries)}")

    # Looking into a queue

    def size(self, queue: str) -> int:
        self._check()
        return len(self.broker.queues.get(queue, ()))

    def remove(self, queue: str) -> None:
        self._check()
        self.broker.queues.pop(queue, None)

    def purge(self, queue: str) -> int:
        self._check()
        gone = self.size(queue)
        self.broker.queues.pop(queue, None)
        return gone

    def take(self, queue: str) -> Delivery | None:
        self._check()
        if not self.size(queue):
            return None
        envelope, deliveries = self.broker.queues[queue].popleft()
        delivery = Delivery(self, queue, next(self._tags), envelope, deliveries)
        self._unacknowledged[delivery.tag] = delivery
        return delivery
