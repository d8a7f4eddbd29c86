"""The contract between the owners and a broker: `Link`, one connection.

A link is used by one greenlet only, the one that opened it. Implementations are in `links/`; what
is above knows of no broker. Every function raises `LinkLost` when the connection is gone, and then
the link is closed and a new one made: links do not reconnect.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterator, Sequence
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


class Outgoing:
    """A message to publish, and who is told what became of it.

    :param settle: called once: with None when the broker has it for good, else with the reason
        (a text) why it has not. It must not block.
    :param delay: seconds until the broker delivers it.
    """

    __slots__ = ("address", "delay", "envelope", "settle")

    def __init__(
        self,
        envelope: Envelope,
        address: Address,
        settle: Callable[[str | None], None],
        delay: float = 0.0,
    ) -> None:
        self.envelope = envelope
        self.address = address
        self.settle = settle
        self.delay = delay


class Delivery:
    """A message that was received, and is the broker's until it is acknowledged.

    :ivar queue: the name of the queue that it came from.
    :ivar tag: what the link knows it by.
    :ivar deliveries: how often it was delivered before without being acknowledged; None when the
        broker does not tell.
    :ivar crashes: how many processes have died while they handled it, as far as `Link.mark` knows.
    :ivar identity: what `Link.mark` knows its event by.
    :ivar gone: True once its link is lost: the broker delivers it again, here or elsewhere.
    :ivar begun: True once a handler of this process was asked.
    :ivar handlers: those that are still to handle it, in this order.
    :ivar unclear: whether it may come again as what it is: a repetition must not be dropped then.
    :ivar tried: the event as the first of them has left it, when it is to try again.
    :ivar outgoing: what is to be published before it is settled: a retry, a dead letter.
    :ivar unpublished: how many of those the broker has not taken yet.
    """

    __slots__ = (
        "begun",
        "crashes",
        "deliveries",
        "envelope",
        "gone",
        "handlers",
        "identity",
        "link",
        "outgoing",
        "queue",
        "tag",
        "tried",
        "unclear",
        "unpublished",
    )

    def __init__(
        self, link: Link, queue: str, tag: Any, envelope: Envelope, deliveries: int | None = None
    ) -> None:
        self.link = link
        self.queue = queue
        self.tag = tag
        self.envelope = envelope
        self.deliveries = deliveries
        self.gone = False
        self.crashes = 0
        self.identity = envelope.id
        self.begun = self.unclear = False
        self.handlers: list[Handler] = []
        self.tried: Envelope | None = None
        self.outgoing: Publication | None = None
        self.unpublished = 0


class Link(abc.ABC):
    """One connection to a broker.

    ::

        link = AmqpLink(...)
        link.open()
        try:
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
    #: Can it deliver later, keep an order by key, and give work to one of several patterns?
    #: What it cannot is refused before anything is published, with this class's name.
    delays: bool = True
    keys: bool = True
    #: True when what is delayed comes back through the queue `due`.
    relays: bool = False
    #: True when a keyed queue belongs to one consumer as long as it consumes: nobody else waits for
    #: what that one has taken in advance.
    claims_keys: bool = False
    #: Seconds after which the broker takes back what is not renewed; None where it never does.
    lease: float | None = None

    @property
    def without_queue(self) -> str:
        """Of published events that are tried again for want of a queue, why; empty for none."""
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
        """Give up, in a forked child, what the parent opened: close the descriptor, say nothing.

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
        """See to it that the exchanges, the dead-letter queue and `queues` are there and bound."""

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
        """Have `pump` call `on_delivery` with what comes; at most `prefetch` unacknowledged.

        Called again it changes the prefetch, which is not done where `claims_keys` and the order
        of a keyed queue would be lost.
        """

    @abc.abstractmethod
    def cancel(self, queue: str) -> None:
        """Take nothing more from the queue. What was delivered can still be acknowledged."""

    @abc.abstractmethod
    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """Tell the broker that they are done with."""

    @abc.abstractmethod
    def requeue(self, deliveries: Sequence[Delivery]) -> None:
        """Give them back, to be delivered again."""

    @abc.abstractmethod
    def remove(self, queue: str) -> None:
        """Remove a queue and what is in it; nothing happens when there is none."""

    # While a process lives

    def keep(self) -> None:  # noqa: B027  # nothing to do where there is no lease
        """From now on renew what is received until it is settled, though greenlets compute."""

    def leave(self, deliveries: Sequence[Delivery]) -> None:  # noqa: B027
        """Do not give them back at the end: they are handled, and the next link adopts them."""

    def adopt(self, begun: Sequence[Delivery], others: Sequence[Delivery]) -> None:  # noqa: B027
        """Take over what an earlier link of this process received, if the broker lets it.

        :param begun: they are being handled, and this link's from now on. Where they are not, they
            stay `gone`, and are delivered again.
        :param others: they are given back.
        """

    def mark(self, delivery: Delivery) -> None:
        """Find out how many processes have died of it, for `Delivery.crashes`.

        And see to it that one is counted if this one dies now, before `unmark`.
        """
        delivery.crashes = delivery.deliveries or 0

    def unmark(self, deliveries: Sequence[Delivery], *, done: bool) -> None:  # noqa: B027
        """They did not end this process.

        :param done: they are done with: nothing is to be remembered of them.
        """

    # Looking into a queue

    @abc.abstractmethod
    def size(self, queue: str) -> int:
        """How many messages wait in a queue; 0 when there is no such queue."""

    @abc.abstractmethod
    def purge(self, queue: str) -> int:
        """Remove what waits in a queue; how many that were."""

    @abc.abstractmethod
    def take(self, queue: str) -> Delivery | None:
        """One message, to be acknowledged or requeued; None when there is none."""

    def read(self, queue: str) -> Iterator[Delivery]:
        """The messages that are in a queue now, in its order; one that comes meanwhile is not.

        Each is held until it is acknowledged, or `end_reading` puts it back where it was.
        """
        for _ in range(self.size(queue)):
            if (delivery := self.take(queue)) is None:
                return
            yield delivery

    def end_reading(self, held: Sequence[Delivery]) -> None:
        """Give back what was read, as far as it was not acknowledged."""
        self.requeue(held)
