"""The contract of the stores of events in SQLite, Redis and memory: `QueueStore`.

A store keeps exchanges, bindings, queues and messages where several processes reach them, and it
knows leases (a message that was taken and not acknowledged comes back), how often a message was
taken, when it is due, and order by key: what kombu's own virtual transports do not know.

Functions may block the thread that calls them: whoever must not be blocked calls them in another.
A store object may be called from several threads; it locks what must be locked.
"""

from __future__ import annotations

import abc
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Generic, NamedTuple, TypeAlias, TypeVar

from ...names import matches, route

__all__ = [
    "Binding",
    "Entry",
    "KnownBindings",
    "QueueStore",
    "Routes",
    "Stored",
    "StoredQueue",
]

Q = TypeVar("Q")
V = TypeVar("V")

#: Seconds for which a binding that is gone is missed: whoever consumes notices within one, and may
#: have to connect again.
_MISSED = 30.0
#: Routes kept; an application whose event names have no end must not fill the memory.
_ROUTES = 10_000

#: Exchange, pattern and queue.
Binding: TypeAlias = "tuple[str, str, str]"


class StoredQueue(NamedTuple):
    """A queue as it is declared.

    :ivar expires: seconds without `touch` after which it goes, with its bindings and messages.
    :ivar delivery_limit: a message that was taken so often, and comes back once more, is moved to
        `dead_letter_queue` by the store (its payload unchanged).
    """

    name: str
    expires: float | None = None
    delivery_limit: int | None = None
    dead_letter_queue: str | None = None


class Entry(NamedTuple):
    """A message to store.

    :ivar exchange: empty for the queue that `routing_key` names.
    :ivar payload: any bytes.
    :ivar key: messages of one queue with the same key are taken one at a time, in order.
    :ivar due: seconds since 1970 before which it is not taken; 0 for at once. A message with a key
        that is not due yet holds back those behind it with the same key.
    """

    exchange: str
    routing_key: str
    payload: bytes
    key: str | None = None
    due: float = 0.0


class Stored(NamedTuple):
    """A message that was taken.

    :ivar id: what the store knows it by, with the lease: the id of a message that came back
        and was taken by another does not acknowledge it.
    :ivar deliveries: how often it was taken before.
    """

    id: str
    queue: str
    payload: bytes
    deliveries: int


class QueueStore(abc.ABC):
    """Stores queues. Every function raises `StoreFault` when the store is out of reach."""

    @abc.abstractmethod
    def open(self) -> None:
        """Connect, and make the tables where they are missing. May be repeated."""

    @abc.abstractmethod
    def close(self) -> None:
        """Disconnect. Never raises. What is used again opens it again."""

    def leave_thread(self) -> None:  # noqa: B027  # nothing to do where threads share a connection
        """Close what only this thread can close, before it ends. Never raises."""

    # Declaring

    @abc.abstractmethod
    def declare(
        self,
        exchanges: Mapping[str, str],
        queues: Sequence[StoredQueue] = (),
        bindings: Sequence[Binding] = (),
    ) -> None:
        """Make all of them, or none; change what is there, and keep its messages.

        :param exchanges: each with its kind, ``"topic"`` or ``"work"``: see `names.route`.
        :raises StoreFault: when there is no queue to bind.
        """

    @abc.abstractmethod
    def delete_queue(self, queue: str) -> None:
        """Remove a queue, its bindings and its messages."""

    @abc.abstractmethod
    def touch(self, queues: Sequence[str], bindings: Sequence[Binding] = ()) -> None:
        """Keep expiring queues for at least three quarters of their time from now.

        :raises StoreFault: when a queue or a binding is gone: it must be declared again.
        """

    # Messages

    @abc.abstractmethod
    def publish(self, entries: Sequence[Entry]) -> list[int]:
        """Store messages, all or none, in this order; durable when it returns.

        :returns: for each, into how many queues it went. An entry for a queue that does not exist
            goes nowhere (0). One that its `KnownBindings` miss a queue for is not stored (-1).
        """

    @abc.abstractmethod
    def take(self, wanted: Sequence[tuple[str, int]], lease: float) -> list[Stored]:
        """Take messages that are due, oldest first: of each (queue, number) at most so many.

        Those of a key of which one is taken and not yet acknowledged stay where they are. A queue
        that does not exist has none.

        :param lease: seconds after which a message that is not acknowledged comes back.
        """

    @abc.abstractmethod
    def acknowledge(self, ids: Sequence[str]) -> int:
        """Remove messages that were taken; return how many of them were still ours."""

    @abc.abstractmethod
    def release(self, ids: Sequence[str]) -> None:
        """Give messages back, to be taken again at once, in their old place.

        It does not count as a delivery: only a lease that ended does. One that has ended meanwhile
        is not counted any more: whoever had it lives.
        """

    @abc.abstractmethod
    def postpone(self, id_: str, payload: bytes, seconds: float) -> bool:
        """Give a message back with another payload, to be taken in so many seconds.

        It stays in its place before others of its key, and has not been delivered before.

        :returns: False when it is not ours any more, or there is no room for it.
        """

    @abc.abstractmethod
    def renew(self, ids: Sequence[str], lease: float) -> None:
        """Keep messages that were taken for so many seconds from now."""

    @abc.abstractmethod
    def size(self, queue: str) -> int:
        """Return how many messages lie in a queue and are not taken, due or not."""

    @abc.abstractmethod
    def purge(self, queue: str) -> int:
        """Remove those that `size` counts; return how many there were."""

    # Waiting

    @abc.abstractmethod
    def changed(self) -> bool:
        """Tell cheaply whether there may be something to take since this was asked last.

        True as well when a message has become due or a lease has ended. May be True for nothing;
        never False when there is something new.
        """

    @abc.abstractmethod
    def waking(self, wake: Callable[[], object]) -> AbstractContextManager[None]:
        """Within the block, have `wake` called when others may have changed something.

        In this thread's hub, or in any thread. `changed` tells of what had changed before.
        """

    @abc.abstractmethod
    def seconds_left(self) -> float:
        """Return for how many seconds `changed` need not be asked while nobody wakes."""

    #: True when its functions block the whole thread, so that a hub must call them in another one;
    #: False when they return at once or wait as greenlets do.
    blocks: bool = True


class Routes(Generic[Q, V]):
    """The routes of messages at one version of a store's bindings.

    :param version: tells it from what it was before.
    :param kinds: exchange -> kind, see `names.route`.
    :param bindings: each with True if its queue does not expire.
    :param place: what the store knows a queue by; None for one that is not there.
    :param known: what was bound before, if anything is to be missed.
    """

    def __init__(
        self,
        version: V,
        kinds: dict[str, str],
        bindings: Iterable[tuple[Binding, bool]],
        place: Callable[[str], Q | None],
        known: KnownBindings | None,
    ) -> None:
        self.version = version
        self._kinds = kinds
        self._place = place
        self._before = known
        self._bindings: dict[str, list[tuple[str, str]]] = {}
        lasting = []
        for binding, lasts in bindings:
            exchange, pattern, queue = binding
            self._bindings.setdefault(exchange, []).append((pattern, queue))
            if lasts:
                lasting.append(binding)
        if known is not None:
            known.learn(lasting)
        self._known: dict[tuple[str, str], list[Q]] = {}

    def queues_of(self, exchange: str, routing_key: str) -> list[Q]:
        """Return the places that a message goes to; none for an exchange that is not there."""
        found = self._known.get((exchange, routing_key))
        if found is None:
            names = [routing_key]
            if exchange:
                bindings = self._bindings.get(exchange, [])
                names = route(self._kinds.get(exchange, ""), bindings, routing_key)
            found = [place for place in map(self._place, names) if place is not None]
            if len(self._known) >= _ROUTES:
                self._known.clear()
            self._known[exchange, routing_key] = found
        return found

    def misses(self, exchange: str, routing_key: str) -> bool:
        """Tell whether a queue that such a message went to is gone, and not for long."""
        return self._before is not None and self._before.misses(exchange, routing_key)


class KnownBindings:
    """Remembers what the publishers of a process have seen bound, over all their connections.

    A store that was emptied, or a queue that was deleted, would have events go nowhere until
    whoever consumes has declared it again. Those of queues that expire are not kept here: they go
    when nobody is there to receive.
    """

    def __init__(self) -> None:
        self._known: frozenset[Binding] = frozenset()
        self._missed: dict[Binding, float] = {}

    def learn(self, bindings: Iterable[Binding]) -> None:
        """Note those that are there now."""
        known = frozenset(bindings)
        gone = dict.fromkeys(self._known - known, time.monotonic() + _MISSED)
        missed = {**self._missed, **gone}
        self._missed = {each: moment for each, moment in missed.items() if each not in known}
        self._known = known

    def misses(self, exchange: str, routing_key: str) -> bool:
        """Do as `Routes.misses`."""
        if not self._missed:
            return False
        now = time.monotonic()
        self._missed = {each: moment for each, moment in self._missed.items() if moment > now}
        return any(
            where == exchange and matches(pattern, routing_key)
            for where, pattern, _ in self._missed
        )
