"""Sending what databases hold, in order, until they are empty, and then again.

`Relays` are those of one process, a greenlet each, in a thread of their own where nothing is
patched; a `Relay` sends what one database holds.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable, Hashable, Mapping, Sequence

import gevent
from gevent.pool import Group

from ...concurrency import USER_FAULTS, is_patched
from ...concurrency.native import NativeThreads
from ...errors import StoreFault
from ..wakeups import Signal, seconds_until
from .delivery import Answers, Destination, Event, Ledger, Outage, Send
from .lease import RelayLease
from .storage import Storage, ask

__all__ = ["Relay", "Relays"]

#: Seconds without events after which another process may send as well.
_IDLE = 1.0

#: Seconds for which a transport that has answered waits for the others. After that they have theirs
#: from where it waits for them, and the next events go out.
_PATIENCE = 1.0

#: After a transaction was left: for so many seconds look so often whether it was committed.
_EXPECTING, _EXPECTING_INTERVAL = 5.0, 0.02

#: Seconds between two looks for databases in which other processes have stored events.
_FIND = 5.0

#: Seconds for greenlets to end that are not waited for any longer.
_GRACE = 1.0


class Relay:
    """Sends the events of one storage. Made and run in the thread whose hub it uses.

    New events go to every transport at once. What one of them has not got when others have, or
    refuses, waits for that one: it goes out as soon as the transport is there, before what is new,
    or when its own time has come.

    :param sends: see `Outbox.start`.
    :param owner: what tells this process's relays from those of others.
    :ivar ledger: what it writes down, and what is refused.
    """

    def __init__(
        self, storage: Storage, sends: Mapping[str, Send], owner: str, logger: logging.Logger
    ) -> None:
        self._storage = storage
        self._logger = logger
        # One reads and deletes, one beats, and in an unpatched process each transport sends.
        self._threads = NativeThreads(2 + 2 * len(sends))
        if not is_patched():
            # They may really block the thread, and the lease must be kept meanwhile.
            call = self._threads.call
            sends = {name: functools.partial(call, send) for name, send in sends.items()}
        self._destinations = [
            Destination(name, send, Outage(storage.name, logger)) for name, send in sends.items()
        ]
        self._outage = Outage(storage.name, logger)
        self._call = functools.partial(ask, self._threads, storage)
        self._lease = RelayLease(storage, self._call, owner)
        self.ledger = Ledger(storage, self._destinations, self._lease, self._call, logger)
        self._wake = Signal()
        self._stopping = Signal()
        self._expecting_until = 0.0
        self._last_sent = 0.0
        self._greenlets = Group()

    # From other greenlets and threads

    @property
    def outage(self) -> str:
        """Why the storage cannot be used; empty while it can."""
        return self._outage.why

    def wake(self, expecting: bool = False) -> None:
        """Look for what was stored, or may be committed in the next seconds."""
        if expecting:
            self._expecting_until = time.monotonic() + _EXPECTING
        self._wake.set()

    def stop(self) -> None:
        """Send what is there, as long as that works, and end."""
        self._stopping.set()
        self._wake.set()

    # The loop

    def run(self) -> None:
        """Send until `stop` is called."""
        # What was stored before `stop` is looked for after it, once at least.
        last = False
        try:
            while True:
                self._wake.clear()
                if self._stopping.is_set() and not last:
                    last = True
                    for destination in self._destinations:
                        destination.ready_at = 0.0
                try:
                    busy = self._send_batch()
                    self.ledger.look_for_trouble()
                except USER_FAULTS as error:
                    pause = self._outage.fail(error)
                    if last:
                        return
                    self._stopping.wait(pause)
                    continue
                self._outage.end()
                if busy:
                    continue
                if last and not any(destination.busy for destination in self._destinations):
                    return
                self._wake.wait(self._idle_seconds())
        finally:
            self._close()

    def _send_batch(self) -> bool:
        """Send one batch; False when there is nothing to send, or nothing that we may send."""
        self.ledger.write()
        if not self._lease.held and not self._take_lease():
            return False
        for destination in self._destinations:
            due = destination.has_backlog or destination.look_at <= time.monotonic()
            if due and destination.is_ready():
                destination.busy = True
                self._greenlets.spawn(self._send_backlog, destination)
        free = [each for each in self._destinations if each.is_ready() and not each.has_backlog]
        if not free:
            return False
        events = self.ledger.read()
        if not events:
            quiet = time.monotonic() - self._last_sent > _IDLE
            if quiet and len(free) == len(self._destinations):
                self._lease.give_back()
            return False
        self._last_sent = time.monotonic()
        self._distribute(events, free)
        return True

    def _take_lease(self) -> bool:
        """Begin to send, if there is anything and nobody else does."""
        if not self._call(self._storage.has_events):
            return False
        self._call(self._storage.prepare)
        if not self._lease.take():
            return False
        waiting = self._call(self._storage.adopt, [each.name for each in self._destinations])
        for destination in self._destinations:
            destination.has_backlog = destination.name in waiting
            destination.waiting_lines = set()
            destination.look_later()
        return True

    def _idle_seconds(self) -> float:
        now = time.monotonic()
        if now < self._expecting_until:
            return _EXPECTING_INTERVAL
        waits = [each.ready_at - now for each in self._destinations if not each.busy]
        return min([self._storage.poll_interval, *(wait for wait in waits if wait > 0)])

    def _close(self) -> None:
        self._greenlets.kill()
        try:
            self.ledger.write()
            self._lease.give_back()
            self._call(self._storage.close)
        except StoreFault as error:
            self._logger.debug("outbox: %s", error)

    # New events

    def _distribute(self, events: Sequence[Event], free: Sequence[Destination]) -> None:
        """Give events to the transports that are free, and note what became of each at each."""
        asked: dict[Destination, list[Event]] = {}
        # Of the others nobody has any: they stay where they are.
        removed_ids: set[int] = set()
        for destination in free:
            held = {event.id for event in events if destination.holds_back(event)}
            asked[destination] = [event for event in events if event.id not in held]
            removed_ids |= held
        answers = self._send_to_all(asked)
        removed_ids.update(*answers.values())
        if len(answers) < len(free):  # one that does not answer may have got all of them
            removed_ids.update(event.id for event in events)
        removed = [event for event in events if event.id in removed_ids]
        self.ledger.record(removed, answers)

    def _send_to_all(
        self, asked: Mapping[Destination, Sequence[Event]]
    ) -> dict[Destination, Answers]:
        """Send to all at once; wait for all answers, or a while after the first one."""

        def deliver(destination: Destination, events: Sequence[Event]) -> None:
            sent: Answers = {}
            try:
                sent = destination.deliver(events) if events else {}
            finally:
                if destination in pending:
                    pending.remove(destination)
                    answers[destination] = sent
                    destination.busy = False
                    answered.set()
                else:
                    self._settle_late(destination, events, sent)

        answers: dict[Destination, Answers] = {}
        pending, answered = set(asked), Signal()
        for destination, events in asked.items():
            destination.busy = True
            if len(self._destinations) == 1:
                deliver(destination, events)  # which needs no greenlet of its own
            else:
                self._greenlets.spawn(deliver, destination, events)
        end = None
        while pending:
            answered.clear()
            if end is None and any(answers.values()):
                end = time.monotonic() + _PATIENCE
            if not answered.wait(None if end is None else seconds_until(end)):
                pending.clear()
        return answers

    def _settle_late(
        self, destination: Destination, events: Sequence[Event], answers: Answers
    ) -> None:
        """Settle events that a transport has answered too late, and that wait for it by now."""
        try:
            while not self.ledger.is_written:  # that they do
                gevent.sleep(0.01)
            self.ledger.settle(destination, events, answers)
        except StoreFault as error:
            self._outage.fail(error)
        finally:
            destination.busy = False
            self._wake.set()

    # Events that wait

    def _send_backlog(self, destination: Destination) -> None:
        """Send what waits for a transport and is due, until there is nothing, or it is away."""
        try:
            while self._lease.held:
                destination.has_backlog = False
                destination.look_later()
                events = self.ledger.read_waiting(destination)
                if not events:
                    destination.waiting_lines = self._call(
                        self._storage.waiting_lines, destination.name
                    )
                    if destination.has_backlog:
                        continue
                    return
                destination.has_backlog = True
                answers = destination.deliver(events)
                self.ledger.settle(destination, events, answers)
                self._last_sent = time.monotonic()
                if len(answers) < len(events):
                    return
        except StoreFault as error:
            destination.ready_at = time.monotonic() + self._outage.fail(error)
        finally:
            destination.busy = False
            self._wake.set()


class Relays:
    """Runs a relay for each storage.

    :param storages: those that are known from the start.
    :param find: gives the storages that there are by now; it may block the thread. Never raises.
    :param make: makes the relay of a storage.
    """

    def __init__(
        self,
        storages: Sequence[Storage],
        find: Callable[[], Sequence[Storage]],
        make: Callable[[Storage], Relay],
    ) -> None:
        self._storages = storages
        self._find = find
        self._make = make
        self._relays: dict[Hashable, Relay] = {}
        self._changed: Signal | None = None
        self._stopping: Signal | None = None
        self._stop_by: float | None = None
        self._runner: gevent.Greenlet[..., None] | threading.Thread

    def start(self) -> None:
        """Begin; returns at once."""
        if is_patched():
            self._runner = gevent.spawn(self._run)
        else:
            self._runner = threading.Thread(
                target=self._run_in_thread, name="gemstone_sync outbox", daemon=True
            )
            self._runner.start()

    def stop(self, timeout: float) -> None:
        """Send what can be sent within so many seconds, and end."""
        self._stop_by = time.monotonic() + timeout
        if self._stopping is not None:
            self._stopping.set()
        self._runner.join(timeout + 2 * _GRACE)

    def wake(self, key: Hashable | None = None, expecting: bool = False) -> None:
        """Wake the relay of a storage, or all: see `Relay.wake`."""
        for known, relay in list(self._relays.items()):
            if key is None or key == known:
                relay.wake(expecting)

    def look(self) -> None:
        """Look for a storage that was not there before."""
        if self._changed is not None:
            self._changed.set()

    def troubles(self) -> list[tuple[int, str]]:
        """List how much is refused, and why, for each storage in which something is."""
        found = [relay.ledger.trouble for relay in list(self._relays.values())]
        return [trouble for trouble in found if trouble is not None]

    def outages(self) -> list[str]:
        """List why storages cannot be used, of those that cannot."""
        return [relay.outage for relay in list(self._relays.values()) if relay.outage]

    def _run_in_thread(self) -> None:
        try:
            self._run()
        finally:
            gevent.get_hub().destroy()

    def _run(self) -> None:
        self._changed = Signal()
        self._stopping = Signal()
        self._running = Group()
        self._start_relays(self._storages)
        finder = self._running.spawn(self._watch_for_storages, self._changed)
        try:
            if self._stop_by is None:
                self._stopping.wait()
            finder.kill(block=False)
            for relay in self._relays.values():
                relay.stop()
            self._running.join(timeout=seconds_until(self._stop_by or 0.0))
        finally:
            self._running.kill(timeout=_GRACE)

    def _watch_for_storages(self, changed: Signal) -> None:
        threads = NativeThreads(1)
        while True:
            changed.clear()
            self._start_relays(threads.call(self._find))
            changed.wait(_FIND)

    def _start_relays(self, storages: Sequence[Storage]) -> None:
        for storage in storages:
            if storage.key not in self._relays:
                relay = self._relays[storage.key] = self._make(storage)
                self._running.spawn(relay.run)
