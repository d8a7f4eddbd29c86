"""The contract between connection loops and brokers: `Link`, one connection.

A link is used by one greenlet only, the one that opened it. Implementations are in `transport`;
connection loops know of no broker. Every function raises `LinkLost` when the connection is gone,
and then the link is closed and a new one made: links do not reconnect.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .envelope import Envelope
from .handlers import Handler
from .topology import Address, Publication, Queue, Topology

if TYPE_CHECKING:
    from .wakeups import Signal

__all__ = ["Delivery", "Link", "LinkLost", "LinkRefused", "Outgoing"]


class LinkLost(Exception):
    """There is no connection to the broker, or it broke. Trying again may help."""


class LinkRefused(LinkLost):
    """The broker refuses: a wrong password, a queue with other arguments. The text says what."""


@dataclass(slots=True, eq=False)
class Outgoing:
    """A message to publish.

    :param settle: called once: with None when the broker has it for good, else with the reason
        (a text) why it has not. It must not block.
    :param delay: seconds until the broker delivers it.
    """

    envelope: Envelope
    address: Address
    settle: Callable[[str | None], None]
    delay: float = 0.0


@dataclass(slots=True, eq=False)
class Delivery:
    """A message that was received, and is the broker's until it is acknowledged.

    :param queue: the name of the queue that it came from.
    :param tag: what the link knows it by.
    :param deliveries: how often it was delivered before without being acknowledged; None when the
        broker does not tell.
    :ivar gone: True once its link is lost: the broker delivers it again, here or elsewhere.
    :ivar crashes: how many processes have died while they handled it, as far as `Link.mark` knows.
    :ivar begun: True once a handler of this process was asked.
    :ivar may_repeat: True if the same event may come again and be meant: it must not be dropped.
    :ivar handlers: those that are still to handle it, in this order.
    :ivar tried: the event as the first of them has left it, when it is to try again.
    :ivar outgoing: what is to be published before it is settled: a retry, a dead letter.
    :ivar unpublished: how many of those the broker has not taken yet.
    :ivar identity: what `Link.mark` knows its event by.
    """

    link: Link
    queue: str
    tag: Any
    envelope: Envelope
    deliveries: int | None = None
    gone: bool = False
    crashes: int = 0
    begun: bool = False
    may_repeat: bool = False
    handlers: list[Handler] = field(default_factory=list)
    tried: Envelope | None = None
    outgoing: Publication | None = None
    unpublished: int = 0
    identity: str = field(init=False)

    def __post_init__(self) -> None:
        self.identity = self.envelope.id


class Link(abc.ABC):
    """A connection to a broker.

    ::

        link = AmqpLink(...)
        try:
            link.open()
            link.declare(topology, queues)
            link.consume(queue.name, 100, on_delivery)
            while ...:
                link.wait(signal, 1.0)
                link.pump()
        finally:
            link.close()
    """

    #: How many published messages may wait for their confirms at once.
    window: int = 1000
    #: True while the broker takes nothing more (``connection.blocked``): then nothing is published.
    blocked: bool = False
    #: Why it is blocked, in the broker's words.
    blocked_reason: str = ""
    #: True when what is delayed comes back through the queue `due`.
    uses_due: bool = False
    #: True when a keyed queue belongs to one consumer as long as it consumes: nobody else waits for
    #: what that one has taken in advance. Once it is cancelled, the next consumer gets it when all
    #: of it is acknowledged or given back, and what was given back first and in its order.
    claims_keys: bool = False

    @property
    def without_queue(self) -> str:
        """Tell why published events are tried again for want of a queue; empty when none is."""
        return ""

    # Life

    @abc.abstractmethod
    def open(self) -> None:
        """Connect. Bounded by a connect time-out.

        :raises LinkLost: when nobody answers.
        :raises LinkRefused: when the broker wants nothing of us.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Disconnect. Never raises and takes at most about two seconds, whatever the broker does.

        What was delivered and not acknowledged goes back to its queue.
        """

    def abandon(self) -> None:  # noqa: B027  # nothing to do where a fork shares no connection
        """Close, in a forked child, the descriptor that the parent opened, and say nothing.

        Neither end of the connection may be shut down, and nothing sent: it is the parent's.
        """

    @abc.abstractmethod
    def wait(self, signal: Signal, timeout: float) -> None:
        """Return when something may have arrived, `signal` is set, or so many seconds are over.

        May return early for no reason, with the signal set. Does not reset it.
        """

    @abc.abstractmethod
    def pump(self) -> None:
        """Take what has arrived, without waiting for more: confirms, deliveries, heartbeats.

        Calls the callbacks given to `publish` and `consume`; yields to other greenlets every few
        milliseconds.
        """

    # Declaring

    @abc.abstractmethod
    def declare(self, topology: Topology, queues: Sequence[Queue] = ()) -> None:
        """Declare the exchanges, the dead-letter queue and `queues`, and bind them."""

    # Publishing

    @abc.abstractmethod
    def publish(self, messages: Sequence[Outgoing]) -> None:
        """Publish, in this order. Each is settled now, or later from within `pump`.

        When it raises, those that are not settled yet stay with the caller, who publishes them
        again over the next link.
        """

    # Consuming

    @abc.abstractmethod
    def consume(self, queue: str, prefetch: int, on_delivery: Callable[[Delivery], None]) -> None:
        """Consume: `pump` calls `on_delivery` with what comes, at most `prefetch` unacknowledged.

        Called again it changes the prefetch, which is not done where `claims_keys` and the order
        of a keyed queue would be lost.
        """

    @abc.abstractmethod
    def cancel(self, queue: str) -> None:
        """Take nothing more from the queue. What was delivered can still be acknowledged."""

    @abc.abstractmethod
    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """Acknowledge deliveries; those of another link are passed over."""

    @abc.abstractmethod
    def requeue(self, deliveries: Sequence[Delivery]) -> None:
        """Give deliveries back, to be delivered again; those of another link are passed over."""

    def postpone(self, delivery: Delivery, envelope: Envelope, seconds: float) -> bool:
        """Give a delivery back to be delivered as `envelope`, in so many seconds, in its old place.

        With a key it holds back those behind it meanwhile.

        :returns: False where the broker cannot, or the delivery is not ours any more.
        """
        return False

    @abc.abstractmethod
    def remove(self, queue: str) -> None:
        """Remove a queue and what is in it; nothing happens when there is none."""

    # While a process lives

    def keep_alive(self) -> None:  # noqa: B027  # nothing to do where there is no lease
        """Hold the connection, and what it receives, though a greenlet computes for long."""

    def detach(self, deliveries: Sequence[Delivery]) -> None:  # noqa: B027
        """Keep these deliveries at `close` for the next link: it adopts them."""

    def keeps(self, delivery: Delivery) -> bool:
        """Tell whether this link, closed, has left a delivery for the next one to settle."""
        return False

    def adopt(  # noqa: B027
        self, begun: Sequence[Delivery], handled: Sequence[Delivery], others: Sequence[Delivery]
    ) -> None:
        """Take over what earlier links of this process received, if the broker lets it.

        :param begun: what is being handled, and this link's from now on. Where it cannot be, it
            stays `gone`, and is delivered again.
        :param handled: what is acknowledged. Where it cannot be, it is delivered again.
        :param others: what is given back.
        """

    def mark(self, delivery: Delivery) -> None:
        """Find out how many processes have died of a delivery, for `Delivery.crashes`.

        If this process dies before `unmark`, it counts as one more.
        """
        delivery.crashes = delivery.deliveries or 0

    def unmark(self, deliveries: Sequence[Delivery], *, done: bool) -> None:  # noqa: B027
        """Note that deliveries did not end this process.

        :param done: True when they were handled, and nothing is to be remembered of them.
        """

    # Looking into a queue

    @abc.abstractmethod
    def size(self, queue: str) -> int:
        """Return how many messages wait in a queue; 0 when there is no such queue."""

    @abc.abstractmethod
    def purge(self, queue: str) -> int:
        """Remove what waits in a queue; return how many messages that were."""

    @abc.abstractmethod
    def take(self, queue: str) -> Delivery | None:
        """Take one message, to be acknowledged or requeued; None when there is none."""

    def read(self, queue: str) -> Iterator[Delivery]:
        """Yield the messages that are in a queue now, in its order; none that comes meanwhile.

        Each is held until it is acknowledged, or `end_reading` puts it back where it was.
        """
        for _ in range(self.size(queue)):
            if (delivery := self.take(queue)) is None:
                return
            yield delivery

    def end_reading(self, held: Sequence[Delivery]) -> None:
        """Give back those of the messages that were read which are still held."""
        self.requeue(held)
