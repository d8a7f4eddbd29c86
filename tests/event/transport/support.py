"""What the tests of links share: an owner, which a link needs to get anywhere."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from gemstone_sync.event.envelope import Envelope
from gemstone_sync.event.handlers import Handler, Subscriber
from gemstone_sync.event.link import Delivery, Link, Outgoing
from gemstone_sync.event.topology import Queue, Topology
from gemstone_sync.event.transport.rabbitmq.link import AmqpLink
from gemstone_sync.event.wakeups import Signal
from tests.support.waiting import LIMIT


class Owner:
    """Owns a link as publishers and consumers do, and records what comes of it.

    :ivar settled: (name, error) of each message that was settled, in order.
    :ivar received: the deliveries of what is consumed.
    """

    def __init__(self, link: Link, topology: Topology) -> None:
        self.link: Any = link
        self.topology = topology
        self.signal = Signal()
        self.settled: list[tuple[str, str | None]] = []
        self.received: list[Delivery] = []

    @property
    def bodies(self) -> list[int]:
        return [int(delivery.envelope.body) for delivery in self.received]

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        """Go on until the condition holds."""
        end = time.monotonic() + LIMIT
        while not (value := condition()):
            assert time.monotonic() < end, f"waited {LIMIT} s for: {what}"
            self.signal.clear()
            self.link.pump()
            self.link.wait(self.signal, 0.1)
        return value

    def outgoing(self, name: str, *, delay: float = 0.0, **fields: Any) -> Outgoing:
        return self.sent_on(Envelope(name=name, **{"body": b"{}", **fields}), delay)

    def sent_on(self, envelope: Envelope, delay: float = 0.0) -> Outgoing:
        def settle(error: str | None) -> None:
            self.settled.append((envelope.name, error))

        return Outgoing(envelope, self.topology.address_of(envelope), settle, delay)

    def publish(self, *messages: Outgoing) -> list[str | None]:
        """Publish, wait until all are settled, and return the errors, in the order of settling."""
        before = len(self.settled)
        self.link.publish(messages)
        self.until(lambda: len(self.settled) == before + len(messages), "confirms")
        return [error for _name, error in self.settled[before:]]

    def fill(self, count: int, name: str = "paid", **fields: Any) -> str:
        """Publish so many; the queue where they lie."""
        events = [self.outgoing(name, body=b"%d" % number, **fields) for number in range(count)]
        assert self.publish(*events) == [None] * count
        return self.queue(name, ":service:" if fields.get("key") is None else ":keyed:")

    def queue(self, pattern: str, part: str = ":service:") -> str:
        return named(queues_of(self.topology, pattern), part)

    def consume(self, queue: str, prefetch: int = 100) -> None:
        self.link.consume(queue, prefetch, self.received.append)

    def receive(self, count: int) -> list[Delivery]:
        """The first so many deliveries, once there are so many."""
        self.until(lambda: len(self.received) >= count, f"{count} deliveries")
        return self.received[:count]

    def take(self, queue: str) -> Delivery:
        """Take one message, as soon as there is one."""
        found: Delivery = self.until(lambda: self.link.take(queue), f"a message in {queue}")
        return found


def queues_of(
    topology: Topology, *patterns: str, service: str = "shop", scope: str = "service"
) -> list[Queue]:
    """The queues of a service that handles the patterns."""
    handlers = tuple(
        Handler(pattern=pattern, function=print, name=pattern, scope=scope) for pattern in patterns
    )
    return topology.queues_of(Subscriber(service=service, instance="1", handlers=handlers))


def named(queues: Sequence[Queue], part: str) -> str:
    """The name of the one queue that has such a part."""
    (name,) = (queue.name for queue in queues if part in queue.name)
    return name


@contextlib.contextmanager
def opened(link: Link, topology: Topology, queues: Sequence[Queue] = ()) -> Iterator[Owner]:
    """The owner of the link, with everything declared."""
    link.open()
    try:
        link.declare(topology, queues)
        yield Owner(link, topology)
    finally:
        link.close()


def amqp(
    url: str, topology: Topology, queues: Sequence[Queue] = (), **options: Any
) -> contextlib.AbstractContextManager[Owner]:
    return opened(AmqpLink(url, **{"connect_timeout": LIMIT, **options}), topology, queues)
