"""One transport as a relay sees it: what became of the events that it was given."""

from __future__ import annotations

import hashlib
import logging
import random
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

from ...concurrency import USER_FAULTS
from ...errors import EventNotDelivered, ServiceConfigurationError, StoreFault
from ..envelope import Envelope
from .box import one_line

__all__ = ["Complaints", "Event", "Lane", "Refusal", "Send", "back_off"]

Send: TypeAlias = Callable[[Sequence[Envelope]], None]

#: What `send` raises of an event that no broker will ever take.
_NEVER = (ServiceConfigurationError, ValueError, TypeError)

#: Seconds between two attempts while the broker is away: at first, and at most.
_AWAY = (0.1, 1.5)
#: The same for an event that is refused; so late at most it goes once somebody takes it.
_REFUSED = (1.0, 15.0)


class Event(NamedTuple):
    """A stored event."""

    id: int
    envelope: Envelope
    event: bytes
    attempts: int

    @property
    def line(self) -> str | None:
        """What does not overtake each other: the same name with the same key."""
        if self.envelope.key is None:
            return None
        text = f"{self.envelope.name} {self.envelope.key}".encode("utf-8", "surrogatepass")
        return hashlib.blake2b(text, digest_size=16).hexdigest()


class Refusal(NamedTuple):
    """Why a transport that is there does not take an event."""

    reason: str
    never: bool

    def due(self, attempts: int) -> float | None:
        """When to try again, in seconds since 1970; None for never."""
        return None if self.never else time.time() + back_off(attempts + 1, *_REFUSED)


class Lane:
    """One transport.

    :param send: as that of `Outbox.start`.
    :ivar behind: True while events may wait for it that go before all new ones.
    :ivar lines: of which events wait by themselves; those that come later go behind them.
    :ivar busy: True while it is asked.
    :ivar ready_at: when it may be asked again, by ``time.monotonic()``; it was away.
    :ivar look_at: when to look for what waits by itself and is due, by ``time.monotonic()``.
    :ivar why: it is away; empty while it is not.
    """

    def __init__(self, name: str, send: Send, complaints: Complaints) -> None:
        self.name = name
        self.behind = True
        self.lines: set[str] = set()
        self.busy = False
        self.ready_at = 0.0
        self.look_at = 0.0
        self.why = ""
        self._failures = 0
        self._send = send
        self._complaints = complaints

    def is_ready(self) -> bool:
        """Whether it may be asked now."""
        return not self.busy and time.monotonic() >= self.ready_at

    def deliver(self, events: Sequence[Event]) -> dict[int, Refusal | None]:
        """What became of each, by id; nothing is said of those of which nothing is known."""
        outcomes: dict[int, Refusal | None] = {}
        try:
            self._deliver(events, outcomes)
        except USER_FAULTS as error:
            self.fail(error)
        else:
            self._failures, self.why = 0, ""
            self._complaints.recover()
        return outcomes

    def fail(self, error: BaseException) -> None:
        """It is away: it is not asked for a while."""
        self._failures += 1
        self.ready_at = time.monotonic() + back_off(self._failures, *_AWAY)
        self.why = one_line(error)
        self._complaints.complain(error)

    def _deliver(self, events: Sequence[Event], outcomes: dict[int, Refusal | None]) -> None:
        try:
            self._send([event.envelope for event in events])
        except _NEVER as error:
            # Which of them it is that can never be sent is found by halves.
            if len(events) == 1:
                outcomes[events[0].id] = _refusal(error)
                return
            half = len(events) // 2
            self._deliver(events[:half], outcomes)
            self._deliver(events[half:], outcomes)
        except EventNotDelivered as error:
            if error.unconfirmed is None:
                raise
            unconfirmed = set(error.unconfirmed)
            for event in events:
                refused = error.refused.get(event.envelope.id)
                if refused is not None:
                    outcomes[event.id] = _refusal(refused)
                elif event.envelope.id not in unconfirmed:
                    outcomes[event.id] = None
            if unconfirmed:
                raise
        else:
            outcomes.update((event.id, None) for event in events)


class Complaints:
    """The log: a broker, or a database, that is away for an hour is one line."""

    def __init__(self, name: str, logger: logging.Logger) -> None:
        self._name = name
        self._logger = logger
        self._last: str | None = None

    def complain(self, error: BaseException) -> None:
        """Events wait for this reason."""
        expected = isinstance(error, (EventNotDelivered, StoreFault))
        text = one_line(error)
        if not isinstance(error, StoreFault):
            text = f"{self._name}: {text}"
        known, self._last = self._last, text
        if text == known:
            return
        level = logging.DEBUG
        if known is None or not expected:
            level = logging.WARNING if expected else logging.ERROR
        self._logger.log(
            level, "outbox: events wait in %s", text, exc_info=None if expected else error
        )

    def recover(self) -> None:
        """They go again."""
        if self._last is not None:
            self._logger.info("outbox: the events in %s are sent again", self._name)
            self._last = None


def back_off(failures: int, shortest: float = _AWAY[0], longest: float = _AWAY[1]) -> float:
    """Seconds: doubling, and different in each process, or all would try at once."""
    seconds: float = min(longest, shortest * 2.0 ** min(failures - 1, 10))
    return seconds * random.uniform(0.5, 1.0)


def _refusal(error: Exception) -> Refusal:
    never = isinstance(error, _NEVER)
    text = one_line(error)
    return Refusal(f"{type(error).__name__}: {text}" if never else text, never)
