"""Topology: exchanges and queues, what is bound where, and where an event goes. Pure.

One application has one topic exchange, ``<application>.events``, whose routing key is the event's
name; other programs bind to it as they like. Beside it:

========================  ==================================================================
``<application>.keyed``   broadcast events with a key; routing key ``<shard>.<name>``
``<application>.work``    work; routing key ``once.<name>``, with a key ``keyed.<name>``. An event
                          goes to the queue of its very name; failing that to those of a pattern
                          without ``#``; failing that to those with one (on RabbitMQ by
                          alternate exchanges, elsewhere to the best match only)
========================  ==================================================================

Queues (the version in the name stands for their arguments, which a broker does not let change):

=====================================  =====================================================
``<app>:1:service:<service>:<name>``   broadcast events for one handled name of a service; its
                                       instances share them
``<app>:1:keyed:<service>:<shard>``    those with a key, for all handled names of a service, so
                                       that the order holds across names
``<app>:1:instance:<service>:<id>``    for handlers of every instance; it expires
``<app>:1:work:<name>``                work, shared by all services that handle the name
``<app>:1:keyed-work:<name>``          work with a key
``<app>:1:due``                        what a delay has ended for (RabbitMQ only)
``<app>:1:delay:<milliseconds>``       the ladder of delays (RabbitMQ only)
``<app>:1:notes:<event>:<number>``     that a process has died of an event (RabbitMQ only)
``<app>:1:dead``                       dead letters
``<app>:1:dead:reader``                held by whoever looks through them (RabbitMQ only)
=====================================  =====================================================
"""

from __future__ import annotations

import hashlib
import re
import zlib
from dataclasses import dataclass, field
from typing import TypeAlias
from urllib.parse import quote

from .envelope import Envelope
from .handlers import Handler, Subscriber
from .names import matches, specificity

__all__ = ["Address", "Binding", "Publication", "Queue", "Topology"]

#: Bytes: AMQP's limit for a name.
_LONGEST = 255
_APPLICATION = re.compile(r"[A-Za-z0-9_.-]{1,60}", re.ASCII)


@dataclass(frozen=True)
class Address:
    """The place that a message is published to.

    :param exchange: empty for the queue that `routing_key` names.
    :param mandatory: it is an error when no queue takes it.
    """

    exchange: str
    routing_key: str
    mandatory: bool = False


#: What is published, where to, and in how many seconds it is to be delivered.
Publication: TypeAlias = tuple[Envelope, Address, float]


@dataclass(frozen=True)
class Binding:
    """Has a queue get from an exchange what matches a pattern."""

    exchange: str
    pattern: str


@dataclass(frozen=True)
class Queue:
    """A queue to consume from.

    :param keyed: events with one key are handled one after the other, in order.
    :param work: each event is for one handler only, of whichever service.
    :param expires: seconds without a consumer after which it goes; None for a durable one.
    :param handlers: those that its events are for, when they match.
    """

    name: str
    bindings: tuple[Binding, ...]
    handlers: tuple[Handler, ...] = field(compare=False)
    keyed: bool = False
    work: bool = False
    expires: float | None = None

    @property
    def concurrency(self) -> int | None:
        """Return how many of its events can be handled at once at most; None for no bound."""
        bounds = [handler.concurrency for handler in self.handlers]
        known = [bound for bound in bounds if bound is not None]
        return sum(known) if len(known) == len(bounds) else None

    def handlers_for(self, envelope: Envelope) -> list[Handler]:
        """Return those that are to handle an event, in order; none when nobody here does."""
        if envelope.handler is None or self.work:
            # Work that failed may come to another service, whose handler is called differently.
            return [h for h in self.handlers if matches(h.pattern, envelope.name)]
        return [h for h in self.handlers if h.name == envelope.handler][:1]


class Topology:
    """The names of one application's exchanges and queues.

    :param application: the first part of all names: applications that share a broker differ in it.
    :param shards: over how many queues a service's keyed events are spread; as many of its
        instances handle them at the same time.
    :param instance_expiry: seconds for which a queue of one instance outlives it.
    :raises ValueError: when names cannot start like this.
    """

    def __init__(
        self, application: str = "gemstone", *, shards: int = 1, instance_expiry: float = 60.0
    ) -> None:
        if not isinstance(application, str) or not _APPLICATION.fullmatch(application):
            raise ValueError(
                f"application is a text of letters, digits, dots, _ and -, not {application!r}"
            )
        self.application = application
        self.shards = shards
        self.instance_expiry = instance_expiry
        #: Broadcast events without a key.
        self.events = f"{application}.events"
        #: Broadcast events with a key.
        self.keyed = f"{application}.keyed"
        #: Work, by how special the handler's name is: see `names.specificity`.
        self.work = (
            f"{application}.work",
            f"{application}.work.patterns",
            f"{application}.work.any",
        )
        self.dead = self._queue("dead")
        self.due = self._queue("due")

    # Where events go

    def address_of(self, envelope: Envelope) -> Address:
        if envelope.queue is not None and self.has_queue(envelope.queue):
            return Address("", envelope.queue, mandatory=True)
        if not envelope.broadcast:
            kind = "once" if envelope.key is None else "keyed"
            return Address(self.work[0], f"{kind}.{envelope.name}", mandatory=True)
        if envelope.key is None:
            return Address(self.events, envelope.name)
        shard = zlib.crc32(envelope.key.encode("utf-8", "surrogatepass")) % self.shards
        return Address(self.keyed, f"{shard}.{envelope.name}")

    def has_queue(self, name: str) -> bool:
        """Tell whether a queue of that name is this application's.

        A message may name any: whoever forges one must not have us publish where they may not.
        """
        return name.startswith(self._queue(""))

    # What a service consumes

    def queues_of(self, subscriber: Subscriber) -> list[Queue]:
        """Return the queues of a service, in a fixed order."""
        handlers = subscriber.handlers
        by_pattern: dict[str, list[Handler]] = {}
        for handler in handlers:
            by_pattern.setdefault(handler.pattern, []).append(handler)
        queues = [q for p in sorted(by_pattern) for q in self._work_queues(p, by_pattern[p])]
        shared = [handler for handler in handlers if handler.scope == "service"]
        for pattern in sorted({handler.pattern for handler in shared}):
            own = tuple(handler for handler in shared if handler.pattern == pattern)
            name = self._queue("service", subscriber.service, pattern)
            queues.append(Queue(name, (Binding(self.events, pattern),), own))
        if shared:
            queues += self._keyed_queues(subscriber, tuple(shared))
        if each := tuple(handler for handler in handlers if handler.scope == "instance"):
            queues.append(self._instance_queue(subscriber, each))
        return queues

    def _work_queues(self, pattern: str, handlers: list[Handler]) -> list[Queue]:
        exchange = self.work[specificity(pattern)]
        once = Binding(exchange, f"once.{pattern}")
        keyed = Binding(exchange, f"keyed.{pattern}")
        # Work is done once: of several handlers with one name the first takes it.
        handler = (handlers[0],)
        return [
            Queue(self.work_queue(pattern), (once,), handler, work=True),
            Queue(self.work_queue(pattern, keyed=True), (keyed,), handler, keyed=True, work=True),
        ]

    def _keyed_queues(self, subscriber: Subscriber, handlers: tuple[Handler, ...]) -> list[Queue]:
        patterns = sorted({handler.pattern for handler in handlers})
        return [
            Queue(
                self._queue("keyed", subscriber.service, str(shard)),
                tuple(Binding(self.keyed, f"{shard}.{pattern}") for pattern in patterns),
                handlers,
                keyed=True,
            )
            for shard in range(self.shards)
        ]

    def _instance_queue(self, subscriber: Subscriber, handlers: tuple[Handler, ...]) -> Queue:
        patterns = sorted({handler.pattern for handler in handlers})
        plain = [Binding(self.events, pattern) for pattern in patterns]
        keyed = [Binding(self.keyed, f"*.{pattern}") for pattern in patterns]
        return Queue(
            self._queue("instance", subscriber.service, subscriber.instance),
            (*plain, *keyed),
            handlers,
            keyed=True,
            expires=self.instance_expiry,
        )

    def merged_bindings(self, queue: Queue) -> list[tuple[str, str, str]]:
        """List (exchange, pattern, queue) with one exchange for all work.

        For brokers where the best match among all patterns is chosen when publishing.
        """
        return [
            (
                self.work[0] if each.exchange in self.work else each.exchange,
                each.pattern,
                queue.name,
            )
            for each in queue.bindings
        ]

    def work_queue(self, pattern: str, *, keyed: bool = False) -> str:
        """Name the queue of work for one handled name."""
        return self._queue("keyed-work" if keyed else "work", pattern)

    def delay_queue(self, milliseconds: int, replaced: int = 0) -> str:
        """The step of the ladder that holds messages for so long, in place of so many others."""
        return self._queue("delay", str(milliseconds), *[str(replaced)] * bool(replaced))

    def notes_of(self, identity: str) -> str:
        """Name the queues that note which processes have died of an event."""
        return self._queue("notes", identity)

    def _queue(self, *parts: str) -> str:
        name = ":".join([self.application, "1", *(quote(part, safe="*#/@+,=") for part in parts)])
        if len(name) <= _LONGEST:
            return name
        digest = hashlib.sha256(name.encode()).hexdigest()[:16]
        return f"{name[: _LONGEST - 17]}~{digest}"
