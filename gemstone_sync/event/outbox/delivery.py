"""Delivery by a relay: the transports that it sends to, and its record of what each one got."""

from __future__ import annotations

import hashlib
import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from ...concurrency import USER_FAULTS
from ...errors import EventNotDelivered, ServiceConfigurationError, StoreFault
from ..envelope import Envelope
from .lease import RelayLease
from .storage import Row, Storage, Waiting, one_line

__all__ = ["Answers", "Destination", "Event", "Ledger", "Outage", "Send"]

Send: TypeAlias = Callable[[Sequence[Envelope]], None]

#: What `send` raises of an event that no broker will ever take.
_NEVER = (ServiceConfigurationError, ValueError, TypeError)

#: Seconds between two attempts while the broker is away: at first, and at most.
_AWAY = (0.1, 1.5)
#: The same for an event that is refused; so late at most it goes once somebody takes it.
_REFUSED = (1.0, 15.0)

#: What one call of `send` gets at most: events, and bytes of them.
_ROWS = 500
_SIZE = 4_000_000

#: Seconds between two looks for events that are refused.
_LOOK = 1.0


class Event(NamedTuple):
    """A stored event.

    :ivar beat: the relay's when it was read, see `Storage.goes_on`.
    """

    id: int
    envelope: Envelope
    event: bytes
    attempts: int
    beat: int

    @property
    def line(self) -> str | None:
        """Name the line of events that do not overtake each other: same name, same key."""
        if self.envelope.key is None:
            return None
        text = f"{self.envelope.name} {self.envelope.key}".encode("utf-8", "surrogatepass")
        return hashlib.blake2b(text, digest_size=16).hexdigest()


class Refusal(NamedTuple):
    """The reason why a transport that is there does not take an event."""

    reason: str
    never: bool

    def due(self, attempts: int) -> float | None:
        """Tell when to try again, in seconds since 1970; None for never."""
        return None if self.never else time.time() + back_off(attempts + 1, *_REFUSED)


#: The answers of a transport about events, by their ids: None for what it has.
Answers: TypeAlias = dict[int, Refusal | None]


class Outage:
    """An outage of a broker or a database, told by one line in the log.

    :param name: of the database.
    :ivar why: it is away; empty while it is not.
    """

    def __init__(self, name: str, logger: logging.Logger) -> None:
        self.why = ""
        self._name = name
        self._logger = logger
        self._failures = 0

    def fail(self, error: BaseException) -> float:
        """Log why events wait, unless it was logged; return the seconds until the next attempt."""
        known, self.why = self.why, one_line(error)
        self._failures += 1
        if self.why != known:
            expected = isinstance(error, (EventNotDelivered, StoreFault))
            level = logging.WARNING if expected else logging.ERROR
            if known and expected:
                level = logging.DEBUG
            text = self.why if isinstance(error, StoreFault) else f"{self._name}: {self.why}"
            self._logger.log(
                level, "outbox: events wait in %s", text, exc_info=None if expected else error
            )
        return back_off(self._failures, *_AWAY)

    def end(self) -> None:
        """Log that they go again."""
        if self.why:
            self._logger.info("outbox: the events in %s are sent again", self._name)
        self.why, self._failures = "", 0


class Destination:
    """A transport, and what waits for it.

    :param send: as that of `Outbox.start`.
    :ivar has_backlog: True while events may wait for it that go before all new ones.
    :ivar waiting_lines: of which events wait by themselves; those that come later go behind them.
    :ivar busy: True while it is asked.
    :ivar ready_at: when it may be asked again, by ``time.monotonic()``; it was away.
    :ivar look_at: when to look for what waits by itself and is due, by ``time.monotonic()``.
    """

    def __init__(self, name: str, send: Send, outage: Outage) -> None:
        self.name = name
        self.has_backlog = True
        self.waiting_lines: set[str] = set()
        self.busy = False
        self.ready_at = 0.0
        self.look_at = 0.0
        self._send = send
        self._outage = outage

    def is_ready(self) -> bool:
        """Tell whether the transport may be asked now."""
        return not self.busy and time.monotonic() >= self.ready_at

    def look_later(self) -> None:
        """Put off the next look for what waits by itself."""
        self.look_at = time.monotonic() + _LOOK

    def holds_back(self, event: Event) -> bool:
        """Tell whether an event of the same line waits for it."""
        return bool(self.waiting_lines) and event.line in self.waiting_lines

    def deliver(self, events: Sequence[Event]) -> Answers:
        """Send events; return the answers, without those of which nothing is known."""
        answers: Answers = {}
        try:
            self._send_by_halves(events, answers)
        except USER_FAULTS as error:
            self.ready_at = time.monotonic() + self._outage.fail(error)
        else:
            self._outage.end()
        return answers

    def waiting(self, event: Event, refusal: Refusal | None = None) -> Waiting:
        """Make the record of a new event that the transport refuses, or has not got."""
        due: float | None = 0.0
        attempts, reason = 0, self._outage.why
        if refusal is not None:
            due, attempts, reason = refusal.due(0), 1, refusal.reason
        now = time.time()
        return Waiting(event.id, self.name, event.event, event.line, due, attempts, reason, now)

    def _send_by_halves(self, events: Sequence[Event], answers: Answers) -> None:
        try:
            self._send([event.envelope for event in events])
        except _NEVER as error:
            # Which of them it is that can never be sent is found by halves.
            if len(events) == 1:
                answers[events[0].id] = _refusal(error)
                return
            half = len(events) // 2
            self._send_by_halves(events[:half], answers)
            self._send_by_halves(events[half:], answers)
        except EventNotDelivered as error:
            if error.unconfirmed is None:
                raise
            unconfirmed = set(error.unconfirmed)
            for event in events:
                refused = error.refused.get(event.envelope.id)
                if refused is not None:
                    answers[event.id] = _refusal(refused)
                elif event.envelope.id not in unconfirmed:
                    answers[event.id] = None
            if unconfirmed:
                raise
        else:
            answers.update((event.id, None) for event in events)


class Ledger:
    """Reads the events of a storage, and records what became of them.

    :ivar trouble: how much is refused, and why; None when nothing is.
    """

    def __init__(
        self,
        storage: Storage,
        destinations: Sequence[Destination],
        lease: RelayLease,
        call: Callable[..., Any],
        logger: logging.Logger,
    ) -> None:
        self.trouble: tuple[int, str] | None = None
        self._storage = storage
        self._destinations = destinations
        self._lease = lease
        self._call = call
        self._logger = logger
        self._look_at = 0.0
        self._last_logged_reason: str | None = None
        #: What was sent, and is not noted yet: those events, and what waits of them.
        self._unwritten: tuple[Sequence[Event], list[Waiting]] = ([], [])

    def read(self) -> list[Event]:
        """Read the next new events; none when there are none."""
        return self._read_events(self._storage.read)

    def read_waiting(self, destination: Destination) -> list[Event]:
        """Read the next events that wait for a transport and are due."""
        return self._read_events(self._storage.read_waiting, destination.name)

    def look_for_trouble(self) -> None:
        """Bring `trouble` up to date, if that is due."""
        if time.monotonic() >= self._look_at:
            self.trouble = self._call(self._storage.trouble)
            if self.trouble is None:
                self._last_logged_reason = None
            self._look_at = time.monotonic() + _LOOK

    # New events

    def record(self, events: Sequence[Event], answers: Mapping[Destination, Answers]) -> None:
        """Remove new events, and have them wait for the transports that have not got them."""
        waiting = []
        for event in events:
            for destination in self._destinations:
                answered = answers.get(destination, {})
                if event.id not in answered:
                    waiting.append(destination.waiting(event))
                elif (refusal := answered[event.id]) is not None:
                    self._log_refusal(destination, event, refusal)
                    waiting.append(destination.waiting(event, refusal))
        self._unwritten = (events, waiting)
        self.write()

    def write(self) -> None:
        """Write what was recorded; when that fails, it is not sent again meanwhile."""
        events, waiting = self._unwritten
        ids = [event.id for event in events]
        if waiting:
            self._change(events, self._storage.move, ids, waiting)
        elif ids:
            self._change(events, self._storage.delete, ids)
        self._unwritten = ([], [])
        backlogged = {each.transport for each in waiting if each.due == 0}
        for destination in self._destinations:
            # Now that it is there: one that looks just now may not have seen it.
            destination.has_backlog = destination.has_backlog or destination.name in backlogged

    @property
    def is_written(self) -> bool:
        """Tell whether nothing that was recorded is still to be written."""
        return not self._unwritten[0]

    # Events that wait

    def settle(self, destination: Destination, events: Sequence[Event], answers: Answers) -> None:
        """Write what became of events that wait for a transport."""
        done, again = [], []
        for event in events:
            if event.id in answers:
                refusal = answers[event.id]
                if refusal is None:
                    done.append(event.id)
                else:
                    self._log_refusal(destination, event, refusal)
                    again.append((event.id, refusal.due(event.attempts), refusal.reason))
        if done or again:
            self._change(events, self._storage.settle, destination.name, done, again)

    # Within

    def _change(self, events: Sequence[Event], change: Callable[..., None], *args: Any) -> None:
        """Write what became of events to the database that they were read from, and no other."""
        beat = min(event.beat for event in events)

        def check_and_change() -> bool:
            if goes_on := self._storage.goes_on(beat):
                change(*args)
            return goes_on

        if not self._call(check_and_change):
            self._lease.lose()
            self._logger.warning(
                "outbox: %s was replaced while events from it were sent: those that are in it now "
                "are sent, some of them perhaps again",
                self._storage.name,
            )

    def _read_events(self, read: Callable[..., list[Row]], *args: Any) -> list[Event]:
        """Read events; set aside what is none."""

        def read_and_check(beat: int) -> list[Row] | None:
            rows = read(*args, _ROWS, _SIZE)
            return rows if not rows or self._storage.goes_on(beat) else None

        while True:
            beat = self._lease.beat
            rows = self._call(read_and_check, beat)
            if rows is None:
                self._lease.lose()
                return []
            events = []
            for row in rows:
                try:
                    envelope = Envelope.from_json(row.event)
                except ValueError as error:
                    reason = f"{type(error).__name__}: {error}"
                    self._log_set_aside("an event", reason)
                    aside = Waiting(row.id, "", row.event, None, None, 0, reason, time.time())
                    self._call(self._storage.move, [row.id], [aside])
                else:
                    events.append(Event(row.id, envelope, row.event, row.attempts, beat))
            if events or not rows:
                return events

    def _log_refusal(self, destination: Destination, event: Event, refusal: Refusal) -> None:
        """Log that an event is refused; have those of its line that come later go behind it."""
        self._look_at = 0.0
        if refusal.never:
            self._log_set_aside(repr(event.envelope.name), refusal.reason)
            return
        if event.line is not None:
            destination.waiting_lines.add(event.line)
        if refusal.reason != self._last_logged_reason:  # of thousands with one reason the first
            self._last_logged_reason = refusal.reason
            name, storage = event.envelope.name, self._storage.name
            self._logger.warning("outbox: %r in %s waits: %s", name, storage, refusal.reason)

    def _log_set_aside(self, what: str, reason: str) -> None:
        said = "outbox: %s in %s can never be sent and was set aside: %s"
        self._logger.error(said, what, self._storage.name, reason)


def back_off(failures: int, shortest: float, longest: float) -> float:
    """Double the seconds each time; not alike in each process, or all would try at once."""
    seconds: float = min(longest, shortest * 2.0 ** min(failures - 1, 10))
    return seconds * random.uniform(0.5, 1.0)


def _refusal(error: Exception) -> Refusal:
    never = isinstance(error, _NEVER)
    text = one_line(error)
    return Refusal(f"{type(error).__name__}: {text}" if never else text, never)
