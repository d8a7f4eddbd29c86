"""Sending what one database holds, in order, until it is empty, and then again."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from ...concurrency import USER_FAULTS, is_patched
from ...errors import EventNotDelivered, ServiceConfigurationError
from ..envelope import Envelope
from ..native import NativeThreads
from ..signals import Signal
from .asking import ask
from .box import Box, BoxFault, Row, one_line
from .tenure import Tenure

__all__ = ["Relay"]

T = TypeVar("T")

#: What one call of `send` gets at most: events, and bytes of them.
ROWS = 500
SIZE = 4_000_000

#: Seconds between two attempts while the broker is away: at first, and at most.
_SHORTEST, _LONGEST = 0.1, 5.0

#: Seconds without events after which another process may send as well.
_IDLE = 1.0

#: After a transaction was left: for so many seconds look so often whether it was committed.
_EXPECTING, _EXPECTING_INTERVAL = 5.0, 0.02

#: What `send` raises of an event that no broker will ever take.
_NEVER = (ServiceConfigurationError, ValueError, TypeError)


class Relay:
    """Sends the events of one box. Made and run in the thread whose hub it uses.

    :param send: returns when the broker has all events that it was given; raises EventNotDelivered
        when it has not, and ServiceConfigurationError or ValueError for what can never be sent.
    :param owner: what tells this process's relays from those of others.
    """

    def __init__(
        self,
        box: Box,
        send: Callable[[Sequence[Envelope]], None],
        owner: str,
        logger: logging.Logger,
    ) -> None:
        self._box = box
        self._send = send
        self._logger = logger
        # One reads and deletes, one beats, and in an unpatched process one sends.
        self._threads = NativeThreads(3)
        self._tenure = Tenure(box, self._call, owner)
        self._wake = Signal()
        self._stopping = Signal()
        self._expecting_until = 0.0
        self._last_sent = 0.0
        self._complaint: str | None = None
        #: Sent, and not deleted yet.
        self._sent: list[int] = []

    # From other greenlets and threads

    def wake(self) -> None:
        """Something was stored."""
        self._wake.set()

    def expect(self) -> None:
        """Something may be committed in the next seconds."""
        self._expecting_until = time.monotonic() + _EXPECTING
        self._wake.set()

    def stop(self) -> None:
        """Send what is there, as long as that works, and end."""
        self._stopping.set()
        self._wake.set()

    # The loop

    def run(self) -> None:
        """Send until `stop` is called."""
        failures = 0
        try:
            while True:
                self._wake.clear()
                try:
                    busy = self._turn()
                except USER_FAULTS as error:
                    self._complain(error)
                    if self._stopping.is_set():
                        return
                    failures += 1
                    self._stopping.wait(_back_off(failures))
                    continue
                failures = 0
                if busy:
                    self._recover()
                elif self._stopping.is_set():
                    return
                else:
                    self._wake.wait(self._pause())
        finally:
            self._end()

    def _turn(self) -> bool:
        """Send one batch; False when there is nothing to send, or nothing that we may send."""
        if self._sent:
            self._call(self._box.delete, self._sent)
            self._sent = []
        if not self._tenure.held:
            if not self._call(self._box.has_events):
                return False
            self._call(self._box.prepare)
            if not self._tenure.take():
                return False
        rows = self._call(self._box.read, ROWS, SIZE)
        if not rows:
            if time.monotonic() - self._last_sent > _IDLE:
                self._tenure.give_back()
            return False
        self._deliver(self._readable(rows))
        self._last_sent = time.monotonic()
        return True

    def _pause(self) -> float:
        if time.monotonic() < self._expecting_until:
            return _EXPECTING_INTERVAL
        return self._box.poll_interval

    def _end(self) -> None:
        try:
            self._tenure.give_back()
            self._call(self._box.close)
        except BoxFault as error:
            self._logger.debug("outbox: %s", error)

    # Sending

    def _readable(self, rows: Sequence[Row]) -> list[tuple[int, Envelope]]:
        events = []
        for row in rows:
            try:
                events.append((row.id, Envelope.from_json(row.event)))
            except ValueError as error:
                self._set_aside(row.id, "an event", error)
        return events

    def _deliver(self, events: Sequence[tuple[int, Envelope]]) -> None:
        """Send and delete; one that can never be sent is looked for and set aside."""
        if not events:
            return
        try:
            self._send_all([envelope for _, envelope in events])
        except _NEVER as error:
            if len(events) == 1:
                self._set_aside(events[0][0], repr(events[0][1].name), error)
                return
            half = len(events) // 2
            self._deliver(events[:half])
            self._deliver(events[half:])
            return
        # Noted first: when deleting fails, they are not sent again meanwhile.
        self._sent = [id for id, _ in events]
        self._call(self._box.delete, self._sent)
        self._sent = []

    def _send_all(self, envelopes: Sequence[Envelope]) -> None:
        if is_patched():
            self._send(envelopes)
        else:
            # It may really block the thread, and the lease must be kept meanwhile.
            self._threads.call(self._send, envelopes)

    def _set_aside(self, id: int, what: str, error: Exception) -> None:
        self._call(self._box.set_aside, id, f"{type(error).__name__}: {one_line(error)}")
        self._logger.error(
            "outbox: %s in %s can never be sent and was set aside: %s",
            what,
            self._box.name,
            one_line(error),
        )

    def _call(self, function: Callable[..., T], *args: object) -> T:
        return ask(self._threads, self._box, function, *args)

    # The log: a broker that is away for an hour is one line

    def _complain(self, error: BaseException) -> None:
        expected = isinstance(error, (EventNotDelivered, BoxFault))
        text = one_line(error)
        if not isinstance(error, BoxFault):
            text = f"{self._box.name}: {text}"
        known, self._complaint = self._complaint, text
        if text == known:
            return
        level = logging.DEBUG
        if known is None or not expected:
            level = logging.WARNING if expected else logging.ERROR
        self._logger.log(
            level, "outbox: events wait in %s", text, exc_info=None if expected else error
        )

    def _recover(self) -> None:
        if self._complaint is not None:
            self._logger.info("outbox: the events in %s are sent again", self._box.name)
            self._complaint = None


def _back_off(failures: int) -> float:
    """Seconds: doubling, and different in each process, or all would try at once."""
    longest = min(_LONGEST, _SHORTEST * 2.0 ** min(failures - 1, 10))
    return longest * random.uniform(0.5, 1.0)
