"""What the tests of `AmqpLink` share: its owner, which a link needs to get anywhere."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from gemstone_sync.event.envelope import Envelope
from gemstone_sync.event.handlers import Handler, Subscriber
from gemstone_sync.event.link import Delivery, Outgoing
from gemstone_sync.event.links.amqp import AmqpLink
from gemstone_sync.event.signals import Signal
from gemstone_sync.event.topology import Queue, Topology
from tests.support.waiting import LIMIT


class Owner:
    """Owns a link as publishers and consumers do, and records what comes of it.

    :ivar settled: (name, error) of each message that was settled, in order.
    :ivar received: the deliveries of what is consumed.
    """

    def __init__(self, link: AmqpLink, topology: Topology) -> None:
        self.link = link
        self.topology = topology
        self.signal = Signal()
        self.settled: list[tuple[str, str | None]] = []
        self.received: list[Delivery] = []

    def until(self, condition: Callable[[], Any], what: str, limit: float = LIMIT) -> Any:
        """Go on until the condition holds."""
        end = time.monotonic() + limit
        while not (value := condition()):
            assert time.monotonic() < end, f"waited {limit} s for: {what}"
            self.link.wait(self.signal, 0.1)
            self.link.pump()
        return value

    def outgoing(self, name: str, *, delay: float = 0.0, **fields: Any) -> Outgoing:
        envelope = Envelope(name=name, **{"body": b"{}", **fields})
        return Outgoing(
            envelope,
            self.topology.address_of(envelope),
            lambda error: self.settled.append((name, error)),
            delay,
        )

    def publish(self, *messages: Outgoing) -> list[str | None]:
        """Publish, wait until all are settled, and return the errors, in the order of settling."""
        before = len(self.settled)
        self.link.publish(messages)
        self.until(lambda: len(self.settled) == before + len(messages), "confirms")
        return [error for _name, error in self.settled[before:]]

    def consume(self, queue: str, prefetch: int = 100) -> None:
        self.link.consume(queue, prefetch, self.received.append)

    def receive(self, count: int, limit: float = LIMIT) -> list[Delivery]:
        """The first so many deliveries, once there are so many."""
        self.until(lambda: len(self.received) >= count, f"{count} deliveries", limit)
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
def owner(
    url: str, topology: Topology, queues: Sequence[Queue] = (), **options: Any
) -> Iterator[Owner]:
    """An open link with everything declared."""
    link = AmqpLink(url, **{"connect_timeout": LIMIT, **options})
    link.open()
    try:
        link.declare(topology, queues)
        yield Owner(link, topology)
    finally:
        link.close()
