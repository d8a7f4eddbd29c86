"""A processor with what stands around it, without a broker: it publishes into a list."""

import functools
from typing import Any

import gevent

from gemstone_sync.event.deduplication import MemoryProcessedEvents
from gemstone_sync.event.envelope import DeadLetter, Envelope
from gemstone_sync.event.handlers import Handler, Subscriber
from gemstone_sync.event.link import Delivery
from gemstone_sync.event.runtime.processing import Processor
from gemstone_sync.event.topology import Address, Publication, Queue, Topology

TOPOLOGY = Topology("test")


class Got(list[Any]):
    """What a handler got, and the handler's function: it raises `error` so many times."""

    def __init__(self, error: BaseException | None = None, times: int = 100) -> None:
        self.error = error
        self.times = times

    def __call__(self, body: Any) -> None:
        self.append(body)
        if self.error is not None and len(self) <= self.times:
            raise self.error


def handler(function: Any, pattern: str = "x", **options: Any) -> Handler:
    return Handler(pattern=pattern, function=function, **{"name": "on_event", **options})


def event(name: str = "x", body: bytes = b"1", **values: Any) -> Envelope:
    return Envelope(name=name, body=body, **values)


class Desk:
    """One service's processor.

    :ivar published: (envelope, address, delay) of what was left to publish, in order.
    """

    def __init__(self, *handlers: Handler, instance: str = "i1", **options: Any) -> None:
        self.published: list[Publication] = []
        self.subscriber = Subscriber(service="shop", instance=instance, handlers=handlers)
        self.queues = TOPOLOGY.queues_of(self.subscriber)
        self.processor = Processor(TOPOLOGY, self.subscriber, **options)

    def _publish(self, delivery: Delivery) -> None:
        if delivery.outgoing is not None:
            self.published.append(delivery.outgoing)
            delivery.outgoing = None

    def queue(self, kind: str = "service") -> Queue:
        return next(queue for queue in self.queues if queue.name.split(":")[2] == kind)

    def deliver(
        self, envelope: Envelope, kind: str = "service", deliveries: int | None = None
    ) -> bool:
        """Hand it to the processor, as often as the consumer would."""
        queue = self.queue(kind)
        delivery = Delivery(None, queue.name, 1, envelope, deliveries)  # type: ignore[arg-type]
        delivery.crashes = deliveries or 0
        delivery.handlers = queue.handlers_for(envelope)
        try:
            while (again := self.processor(delivery, queue)) is not None:
                self._publish(delivery)
                gevent.sleep(again)
        except gevent.GreenletExit:
            return False
        self._publish(delivery)
        return True

    def forward(self, envelope: Envelope) -> float | None:
        delivery = Delivery(None, TOPOLOGY.due, 1, envelope)  # type: ignore[arg-type]
        outcome = self.processor.forward(delivery)
        self._publish(delivery)
        return outcome

    def deliver_again(self) -> float:
        """Deliver what was published last as if its delay were over; how long that was."""
        envelope, _, delay = self.published.pop()
        assert self.deliver(envelope)
        return delay

    @property
    def letter(self) -> Envelope:
        """The one dead letter, which is all that was published."""
        ((envelope, address, delay),) = self.published
        assert (address, delay) == (Address("", TOPOLOGY.dead, mandatory=True), 0.0)
        return envelope

    @property
    def death(self) -> DeadLetter:
        """What the one dead letter says of it."""
        assert self.letter.dead is not None
        return self.letter.dead

    @property
    def reason(self) -> tuple[str, str]:
        return self.death.reason, self.death.error


def delivered(
    envelope: Envelope,
    *handlers: Handler,
    kind: str = "service",
    deliveries: int | None = None,
    **options: Any,
) -> Desk:
    """A desk that was given an event, and is done with it."""
    desk = Desk(*handlers, **options)
    assert desk.deliver(envelope, kind, deliveries)
    return desk


class Memory(MemoryProcessedEvents):
    """One that can be out of reach, and tells what it was asked.

    :ivar away: functions that fail now.
    :ivar calls: the functions that were called, in order.
    :ivar leases: the seconds that were asked for.
    """

    def __init__(self, *away: str) -> None:
        super().__init__()
        self.away = set(away)
        self.calls: list[str] = []
        self.leases: set[float] = set()
        for name in ("claim", "renew", "done", "release"):
            setattr(self, name, functools.partial(self._call, name, getattr(self, name)))

    def _call(self, name: str, function: Any, *arguments: Any) -> Any:
        self.calls.append(name)
        self.leases.update(arguments[2:])
        if name in self.away:
            raise OSError("connection refused")
        return function(*arguments)
