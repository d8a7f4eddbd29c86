"""The link over a `QueueStore`: SQLite, Redis, memory.

A message is `Envelope.to_json`'s text; a whole batch is published in one transaction. Received
messages are kept by renewing their leases, and go back when the link is closed.

A store that blocks is called in a native thread: nothing that it waits for, a disk or a lock, then
stops the other greenlets. One thread, so that what is given back in the end comes after a `take`
that nobody waits for any more.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import gevent
import msgspec
from gevent import monkey
from gevent._hub_local import get_hub_if_exists

from ....concurrency import let_others_run
from ....concurrency.native import NativeThreads, native_lock
from ....errors import StoreFault
from ...envelope import DeadLetter, Envelope, Reason
from ...link import Delivery, Link, LinkLost, Outgoing
from ...topology import Queue, Topology
from ...wakeups import Signal
from .store import Binding, Entry, QueueStore, Stored, StoredQueue

__all__ = ["StoreLink"]

T = TypeVar("T")
_start_native_thread = monkey.get_original("_thread", "start_new_thread")

#: Seconds after which other greenlets get their turn.
_SLICE = 0.005
#: Seconds between two looks whether the queues are still there.
_TOUCH = 1.0
#: Seconds that `close` takes at most, where another thread does it.
_CLOSING = 2.0


class StoreLink(Link):
    """A connection to a store.

    :param store: not shared with another link: each has a `changed` of its own.
    :param lease: seconds after which what a process that has died has taken goes to another.
    :param delivery_limit: how often that may happen to an event before it is a dead letter.
    """

    window = 2000

    def __init__(self, store: QueueStore, *, lease: float = 60.0, delivery_limit: int = 10) -> None:
        self._store = store
        self._lease = lease
        self._delivery_limit = delivery_limit
        # Not the hub's own: a locked file would hold up those who look up host names there.
        self._threads = NativeThreads(1)
        self._process = os.getpid()
        self._is_open = False
        #: Ids. Added to by the thread: a take whose caller was cut off is known here all the same.
        self._held: set[str] = set()
        #: While a thread renews what is held: let go to end it, and why it could not.
        self._renewing: Any = None
        self._has_renewed = False
        self._fault: StoreFault | None = None
        self._dead = ""
        self._consumed: dict[str, _Consumed] = {}
        self._queues: list[str] = []
        self._bindings: list[Binding] = []
        self._touch_interval = _TOUCH
        self._touch_at = 0.0
        #: Ids of what was taken, and is neither kept by this link any more nor given back.
        self.owes: set[str] = set()

    # Life

    def open(self) -> None:
        self._is_open = True
        self._call(self._store.open)

    def close(self) -> None:
        if not self._is_open:
            return
        self._is_open = False
        if os.getpid() != self._process:
            return  # after a fork: what was taken is the parent's
        self.owes |= self._held
        renewing, self._renewing = self._renewing, None
        with contextlib.suppress(Exception), gevent.Timeout(_CLOSING, False):
            if renewing is not None:
                renewing.release()
                while not self._has_renewed:
                    gevent.sleep(0.001)
            self._apply(self._give_back)

    def _give_back(self) -> None:
        held, self._held = self._held, set()
        try:
            if held:
                self._store.release(list(held))
            self.owes -= held
        finally:
            self._store.close()

    def _call(self, function: Callable[..., T], *args: Any) -> T:
        """Call one of the store's functions, where it stops nobody else.

        :raises LinkLost: for a `StoreFault`, also one that renewing has met with.
        """
        with self._mapped():
            fault, self._fault = self._fault, None
            if fault is not None:
                raise fault
            return self._apply(function, *args)

    def _apply(self, function: Callable[..., T], *args: Any) -> T:
        return self._threads.call(function, *args) if self._store.blocks else function(*args)

    @contextlib.contextmanager
    def _mapped(self) -> Iterator[None]:
        if not self._is_open:
            raise LinkLost("not connected")
        try:
            yield
        except StoreFault as error:
            raise LinkLost(str(error)) from error

    def wait(self, signal: Signal, timeout: float) -> None:
        if not any(each.room for each in self._consumed.values()):
            signal.wait(timeout)
        elif not signal.is_set():
            with self._mapped(), self._store.waking(signal.set):
                # Asked once nothing is missed any more.
                if not self._may_take():
                    signal.wait(min(timeout, self._store.seconds_left()))

    def pump(self) -> None:
        if not self._consumed:
            return
        now = began = time.monotonic()
        if now >= self._touch_at:
            self._touch_at = now + self._touch_interval
            self._call(self._store.touch, self._queues, self._bindings)
        self._may_take()
        while wanted := self._wanted():
            for stored in self._call(self._take, wanted):
                self._deliver(stored)
                if time.monotonic() - began > _SLICE:
                    let_others_run()
                    began = time.monotonic()

    def _may_take(self) -> bool:
        """Tell whether there may be something to take."""
        with self._mapped():
            changed = self._store.changed()
        if changed:
            for each in self._consumed.values():
                each.exhausted = False
        return any(each.room and not each.exhausted for each in self._consumed.values())

    def _wanted(self) -> list[tuple[str, int]]:
        wanted = []
        for queue, each in self._consumed.items():
            if each.room and not each.exhausted:
                wanted.append((queue, each.room))
                # Unless it turns out that there are as many as were asked for.
                each.exhausted = True
        return wanted

    # Declaring

    def declare(self, topology: Topology, queues: Sequence[Queue] = ()) -> None:
        self._dead = topology.dead
        expiring = [queue.expires for queue in queues if queue.expires is not None]
        self._touch_interval = min([_TOUCH, *(expires / 4 for expires in expiring)])
        self._queues = [topology.dead, *(queue.name for queue in queues)]
        self._bindings = [each for queue in queues for each in topology.merged_bindings(queue)]
        exchanges = {topology.events: "topic", topology.keyed: "topic", topology.work[0]: "work"}
        stored = [
            StoredQueue(topology.dead),
            *(
                StoredQueue(queue.name, queue.expires, self._delivery_limit, topology.dead)
                for queue in queues
            ),
        ]
        self._call(self._store.declare, exchanges, stored, self._bindings)

    # Publishing

    def publish(self, messages: Sequence[Outgoing]) -> None:
        sent, entries = [], []
        for message in messages:
            try:
                entries.append(self._entry(message))
            except (ValueError, TypeError) as error:
                # It would fail again over every other connection.
                message.settle(f"{message.envelope.name!r} cannot be written: {error}")
            else:
                sent.append(message)
        counts = self._call(self._store.publish, entries)
        missed = []
        for message, count in zip(sent, counts, strict=True):
            if count < 0:
                missed.append(message.envelope.name)
            else:
                wanted = count or not message.address.mandatory
                message.settle(None if wanted else _unwanted(message))
        if missed:
            raise LinkLost(
                f"a queue that {missed[0]!r} goes to is gone: whoever consumes from it declares "
                "it again"
            )

    def _entry(self, message: Outgoing) -> Entry:
        """:raises ValueError, TypeError: when JSON has no way to write it."""
        address, envelope = message.address, message.envelope
        # Dead letters have no order to keep, and whoever looks through them holds all at once.
        key = None if (address.exchange, address.routing_key) == ("", self._dead) else envelope.key
        due = time.time() + message.delay if message.delay > 0 else 0.0
        return Entry(address.exchange, address.routing_key, envelope.to_json(), key, due)

    # Consuming

    def consume(self, queue: str, prefetch: int, on_delivery: Callable[[Delivery], None]) -> None:
        consumed = self._consumed.setdefault(queue, _Consumed(prefetch, on_delivery))
        consumed.prefetch = prefetch

    def cancel(self, queue: str) -> None:
        if queue in self._consumed:
            # The queue is kept, and what is still handled counted, until the end.
            self._consumed[queue].prefetch = 0

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        self._settle(self._store.acknowledge, deliveries)

    def requeue(self, deliveries: Sequence[Delivery]) -> None:
        self._settle(self._store.release, deliveries)

    def postpone(self, delivery: Delivery, envelope: Envelope, seconds: float) -> bool:
        if delivery.link is not self:
            return False
        payload = envelope.to_json()
        if not self._call(self._store.postpone, delivery.tag, payload, seconds):
            return False
        self._forget([delivery])
        return True

    def keep_alive(self) -> None:
        self._renewing = renewing = native_lock()
        renewing.acquire()
        # A native thread: a greenlet may compute for long.
        _start_native_thread(self._renew, (renewing,))

    def _renew(self, renewing: Any) -> None:
        try:
            while not renewing.acquire(True, self._lease / 3):
                try:
                    if held := list(self._held):
                        self._store.renew(held, self._lease)
                except StoreFault as error:
                    self._fault = error  # for the connection loop, which connects again
                if self._renewing is not renewing:
                    self._store.close()  # it was closed meanwhile
        finally:
            self._store.leave_thread()
            self._has_renewed = True
            hub = get_hub_if_exists()
            if hub is not None:
                hub.destroy(destroy_loop=True)

    def detach(self, deliveries: Sequence[Delivery]) -> None:
        mine = [each.tag for each in deliveries if each.link is self]
        self.owes.update(mine)
        self._held.difference_update(mine)

    def keeps(self, delivery: Delivery) -> bool:
        return delivery.tag in self.owes

    def adopt(
        self, begun: Sequence[Delivery], handled: Sequence[Delivery], others: Sequence[Delivery]
    ) -> None:
        if ids := _owed(handled):
            self._call(self._store.acknowledge, ids)
        if ids := _owed(others):
            self._call(self._store.release, ids)
        # Last: were this link lost in between, it would give back what is still being handled.
        if held := [delivery.tag for delivery in begun]:
            self._call(self._store.renew, held, self._lease)
            self._held.update(held)
        for delivery in begun:
            delivery.link, delivery.gone = self, False
            if (consumed := self._consumed.get(delivery.queue)) is not None:
                consumed.unsettled.add(delivery.tag)

    def _settle(
        self, function: Callable[[Sequence[str]], object], deliveries: Sequence[Delivery]
    ) -> None:
        """Call the store's `acknowledge` or `release` for what this link has received."""
        mine = [delivery for delivery in deliveries if delivery.link is self]
        if mine:
            self._call(function, [delivery.tag for delivery in mine])
            self._forget(mine)

    def _forget(self, deliveries: Sequence[Delivery]) -> None:
        """Hold these no more: they are settled."""
        for delivery in deliveries:
            self._held.discard(delivery.tag)
            if (consumed := self._consumed.get(delivery.queue)) is not None:
                consumed.unsettled.discard(delivery.tag)

    def _take(self, wanted: Sequence[tuple[str, int]]) -> list[Stored]:
        taken = self._store.take(wanted, self._lease)
        self._held.update(message.id for message in taken)
        return taken

    def _deliver(self, stored: Stored) -> None:
        consumed = self._consumed[stored.queue]
        delivery = self._delivery(stored)
        if delivery is not None:
            consumed.unsettled.add(stored.id)
            consumed.exhausted = consumed.exhausted and consumed.room > 0
            consumed.on_delivery(delivery)

    def _delivery(self, stored: Stored) -> Delivery | None:
        """Make a delivery; None for what is not a message, which is then with the dead letters."""
        try:
            envelope = Envelope.from_json(stored.payload)
        except ValueError as error:
            self._set_aside(stored, str(error))
            return None
        if stored.queue == self._dead and envelope.dead is None:
            # Nobody but the store puts there what has no reason.
            why = "the processes that handled it ended, or held it for too long"
            envelope = envelope.with_changes(dead=DeadLetter(reason=Reason.CRASHED, error=why))
        return Delivery(self, stored.queue, stored.id, envelope, stored.deliveries)

    def _set_aside(self, stored: Stored, error: str) -> None:
        """Keep what cannot be read for whoever looks through the dead letters."""
        dead = DeadLetter(reason=Reason.INVALID, error=error, queue=stored.queue, time=time.time())
        text = stored.payload.decode("utf-8", "replace")
        envelope = Envelope(name="unreadable", body=msgspec.json.encode(text), dead=dead)
        self._call(self._store.publish, [Entry("", self._dead, envelope.to_json())])
        self._call(self._store.acknowledge, [stored.id])
        self._held.discard(stored.id)

    def remove(self, queue: str) -> None:
        self._call(self._store.delete_queue, queue)

    # Looking into a queue

    def size(self, queue: str) -> int:
        return self._call(self._store.size, queue)

    def purge(self, queue: str) -> int:
        return self._call(self._store.purge, queue)

    def take(self, queue: str) -> Delivery | None:
        while taken := self._call(self._take, [(queue, 1)]):
            if (delivery := self._delivery(taken[0])) is not None:
                return delivery
        return None


@dataclass(eq=False, slots=True)
class _Consumed:
    """A queue that is consumed from.

    :ivar exhausted: nothing more was there when it was last looked at.
    """

    prefetch: int
    on_delivery: Callable[[Delivery], None]
    unsettled: set[str] = field(default_factory=set)
    exhausted: bool = False

    @property
    def room(self) -> int:
        """Return how many more may be delivered."""
        return max(0, self.prefetch - len(self.unsettled))


def _owed(deliveries: Sequence[Delivery]) -> list[str]:
    """Return the ids of those that the link which received them has left with the store."""
    return [each.tag for each in deliveries if each.link.keeps(each)]


def _unwanted(message: Outgoing) -> str:
    if message.address.exchange:
        return f"nobody handles work named {message.envelope.name!r}"
    return f"there is no queue {message.address.routing_key!r} any more"
