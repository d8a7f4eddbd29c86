"""A small broker in memory, and its `Link`, whose faults can be switched on and off."""

import dataclasses
import itertools
import os
import signal
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import field
from typing import Any

import gevent
from gevent.event import Event

from gemstone_sync.concurrency import let_others_run
from gemstone_sync.event.envelope import Envelope
from gemstone_sync.event.link import Delivery, Link, LinkLost, LinkRefused, Outgoing
from gemstone_sync.event.names import matches
from gemstone_sync.event.topology import Binding, Queue, Topology
from gemstone_sync.event.wakeups import Signal
from tests.support.programs import fork
from tests.support.waiting import LIMIT


@dataclasses.dataclass
class Broker:
    """What is behind the links."""

    away: str | None = None  #: why nobody answers
    refuses: str | None = None  #: what it says to whoever connects
    hangs: bool = False  #: it takes connections and says nothing
    blocked: str | None = None  #: why it takes nothing more
    confirms: bool = True  #: False keeps confirms back
    loses_after: int | None = None  #: it cuts after so many messages more, without a confirm
    refused: dict[str, str] = field(default_factory=dict)  #: reasons by event name
    on_request: Callable[[], None] = lambda: None  #: called with each request of a link
    published: list[Envelope] = field(default_factory=list)  #: what it got, again too
    #: (envelope, deliveries before), by queue
    queues: dict[str, deque[tuple[Envelope, int]]] = field(default_factory=dict)
    bindings: set[tuple[str, Binding]] = field(default_factory=set)
    links: list["ScriptedLink"] = field(default_factory=list)
    opened: int = 0
    log: list[str] = field(default_factory=list)  #: what links were told, in order
    window: int = 1000
    uses_due: bool = False
    claims_keys: bool = False
    lease: float | None = None
    deaf: bool = False  #: acknowledgements are lost on their way
    adopts: bool = False  #: a new link takes over what an earlier one has left
    #: (envelope, deliveries before) of what links that are gone have left
    left: dict[Delivery, tuple[Envelope, int]] = field(default_factory=dict)

    def link(self) -> Any:
        return ScriptedLink(self)

    @property
    def names(self) -> list[str]:
        return [envelope.name for envelope in self.published]

    def put(self, queue: str, *envelopes: Envelope) -> None:
        """Deliver these as if they had been published to the queue."""
        self.queues.setdefault(queue, deque()).extend((envelope, 0) for envelope in envelopes)
        self.poke()

    def waiting(self, queue: str) -> list[Envelope]:
        return [envelope for envelope, _ in self.queues.get(queue, ())]

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
        self.uses_due = broker.uses_due
        self.claims_keys = broker.claims_keys
        self.lease = broker.lease
        self.pid = os.getpid()
        self.closed = self.abandoned = False
        self._lost: str | None = None
        self._something = Event()
        self._hub = gevent.get_hub()
        self._unconfirmed: deque[tuple[Outgoing, str | None]] = deque()
        self._consumers: dict[str, tuple[int, Callable[[Delivery], None]]] = {}
        #: (queue, envelope, deliveries before) by tag.
        self._held: dict[int, tuple[str, Envelope, int]] = {}
        self._held_of: Counter[str] = Counter()
        self._tags = itertools.count(1)

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
        self.broker.on_request()
        if self._lost is not None:
            raise LinkLost(self._lost)
        assert not self.closed, "used after close"

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
            self._give_back(list(self._held), more=1)

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
        while self.broker.confirms and not self.blocked and self._unconfirmed:
            message, reason = self._unconfirmed.popleft()
            message.settle(reason)
        for queue, (prefetch, on_delivery) in list(self._consumers.items()):
            waiting = self.broker.queues.setdefault(queue, deque())
            while waiting and self._held_of[queue] < prefetch and queue in self._consumers:
                on_delivery(self._deliver(queue))
                if time.monotonic() - began > 0.005:
                    let_others_run()
                    self._check()
                    began = time.monotonic()

    def _deliver(self, queue: str) -> Delivery:
        envelope, deliveries = self.broker.queues[queue].popleft()
        delivery = Delivery(self, queue, next(self._tags), envelope, deliveries)
        self._held[delivery.tag] = (queue, envelope, deliveries)
        self._held_of[queue] += 1
        return delivery

    def _let_go(self, tag: int) -> tuple[str, Envelope, int]:
        held = self._held.pop(tag)
        self._held_of[held[0]] -= 1
        return held

    def _give_back(self, tags: list[int], more: int) -> None:
        for tag in reversed(tags):
            queue, envelope, deliveries = self._let_go(tag)
            self.broker.queues[queue].appendleft((envelope, deliveries + more))
        self.broker.poke()

    def declare(self, topology: Topology, queues: Sequence[Queue] = ()) -> None:
        self._check()
        self.broker.log.append("declare")
        for queue in queues:
            self.broker.queues.setdefault(queue.name, deque())
            self.broker.bindings.update((queue.name, binding) for binding in queue.bindings)

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
            reason = self.broker.refused.get(message.envelope.name)
            self.broker.published.append(message.envelope)
            reason = reason or self._route(message)
            self._unconfirmed.append((message, reason))
            assert len(self._unconfirmed) <= self.window, "more than the window"
        if self.broker.confirms:
            self._something.set()

    def _route(self, message: Outgoing) -> str | None:
        exchange, key = message.address.exchange, message.address.routing_key
        if not exchange:
            if key not in self.broker.queues:
                return f"there is no queue {key}"
            self.broker.put(key, message.envelope)
        for queue, binding in self.broker.bindings:
            if binding.exchange == exchange and matches(binding.pattern, key):
                self.broker.put(queue, message.envelope)
        return None

    def consume(self, queue: str, prefetch: int, on_delivery: Callable[[Delivery], None]) -> None:
        self._check()
        self.broker.log.append(f"consume {queue} {prefetch}")
        self._consumers[queue] = (prefetch, on_delivery)
        self._something.set()

    def cancel(self, queue: str) -> None:
        self._check()
        self.broker.log.append(f"cancel {queue}")
        self._consumers.pop(queue, None)

    def _tags_of(self, deliveries: Sequence[Delivery]) -> list[int]:
        self._check()
        assert all(delivery.link is self for delivery in deliveries), "settled over another link"
        return [delivery.tag for delivery in deliveries]

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        for tag in self._tags_of(deliveries) if not self.broker.deaf else ():
            self._let_go(tag)
        self._something.set()

    def requeue(self, deliveries: Sequence[Delivery]) -> None:
        self._give_back(self._tags_of(deliveries), more=0)

    def keep_alive(self) -> None:
        self.broker.log.append("keep")

    def detach(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries if self.broker.adopts else ():
            if delivery.link is self:
                self.broker.left[delivery] = self._let_go(delivery.tag)[1:]

    def keeps(self, delivery: Delivery) -> bool:
        return delivery in self.broker.left

    def adopt(
        self, begun: Sequence[Delivery], handled: Sequence[Delivery], others: Sequence[Delivery]
    ) -> None:
        self.broker.log.append(f"adopt {len(begun)} {len(handled)} {len(others)}")
        for delivery in (*begun, *handled):
            self.broker.left.pop(delivery, None)
        for delivery in others:
            if (left := self.broker.left.pop(delivery, None)) is not None:
                self.broker.queues[delivery.queue].appendleft(left)
        for delivery in begun if self.broker.adopts else ():
            delivery.link, delivery.gone, delivery.tag = self, False, next(self._tags)
            self._held[delivery.tag] = (delivery.queue, delivery.envelope, 0)
            self._held_of[delivery.queue] += 1

    def size(self, queue: str) -> int:
        self._check()
        return len(self.broker.queues.get(queue, ()))

    def remove(self, queue: str) -> None:
        self._check()
        self.broker.queues.pop(queue, None)

    def purge(self, queue: str) -> int:
        gone = self.size(queue)
        self.broker.queues[queue].clear()
        return gone

    def take(self, queue: str) -> Delivery | None:
        return self._deliver(queue) if self.size(queue) else None


def in_child(check: Callable[[], bool]) -> bool:
    """Tell whether a function is true in a forked child, which ends without cleaning up."""
    pid = fork()
    if pid == 0:
        try:
            os._exit(0 if check() else 1)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(2)
    end = time.monotonic() + LIMIT
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status) == 0
        if time.monotonic() > end:
            os.kill(pid, signal.SIGKILL)
        gevent.sleep(0.01)
