"""Consumers over the scripted broker: queues, events, and a handler that can be held."""

from collections.abc import Callable
from typing import Any

import gevent
from gevent.event import Event

from gemstone_sync.event.envelope import Envelope
from gemstone_sync.event.handlers import Handler
from gemstone_sync.event.link import Delivery
from gemstone_sync.event.runtime.consumer import Consumer
from gemstone_sync.event.topology import Queue, Topology
from tests.event.scripted_link import Broker
from tests.support.waiting import LIMIT, wait_until

TOPOLOGY = Topology("test")
Make = Callable[..., Consumer]


def queue(name: str = "q", *, concurrency: int | None = None, keyed: bool = False) -> Queue:
    handler = Handler(pattern="a", function=print, name="h", concurrency=concurrency)
    return Queue(name, (), (handler,), keyed=keyed)


def events(count: int, key: str | None = None, first: int = 0) -> list[Envelope]:
    return [Envelope(name="a", body=b"%d" % n, key=key) for n in range(first, first + count)]


def number(delivery: Delivery) -> int:
    return int(delivery.envelope.body)


def waiting(broker: Broker, name: str = "q") -> list[int]:
    return [int(envelope.body) for envelope in broker.waiting(name)]


class Handling:
    """A handler that holds what it gets until it is let go.

    :ivar began, ended: numbers, in order.
    :ivar most: how many ran at once at most.
    """

    def __init__(self) -> None:
        self.gate = Event()
        self.began: list[int] = []
        self.ended: list[int] = []
        self.running = self.most = 0

    def __call__(self, delivery: Delivery, queue: Queue) -> None:
        self.began.append(number(delivery))
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            self.gate.wait()
            gevent.sleep(0)
        finally:
            self.running -= 1
        self.ended.append(number(delivery))


def stop(broker: Broker, consumer: Consumer, spawn: Any = gevent.spawn) -> Any:
    """Begin to stop it; what came of it comes later."""
    stopping = spawn(consumer.stop, LIMIT)
    wait_until(lambda: "cancel q" in broker.log, "the end")
    return stopping


def done(consumer: Consumer, broker: Broker) -> None:
    wait_until(
        lambda: not consumer.in_flight and not any(broker.queues.values()),
        "everything to be handled",
    )
