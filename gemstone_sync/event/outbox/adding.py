"""Storing events durably, for many callers at once: one wait for the disk serves all that wait."""

from __future__ import annotations

from collections.abc import Sequence

from .box import BoxFault
from .native import native_lock
from .sqlite_box import SqliteBox

__all__ = ["Adder"]


class _Ticket:
    """What one caller wants stored, and what became of it."""

    __slots__ = ("done", "events", "fault")

    def __init__(self, events: Sequence[bytes]) -> None:
        self.events = events
        self.done = False
        self.fault: BoxFault | None = None


class Adder:
    """Stores events in a box. Measured: 50 callers at once share about 25 of them one commit."""

    def __init__(self, box: SqliteBox) -> None:
        self._box = box
        self._waiting: list[_Ticket] = []
        #: For a few microseconds at a time: greenlets put into the list what native threads take.
        self._mutex = native_lock()
        self._committing = native_lock()

    def ticket(self, events: Sequence[bytes]) -> _Ticket:
        """Take a place in the queue; the order of the tickets is that of the rows."""
        ticket = _Ticket(events)
        with self._mutex:
            self._waiting.append(ticket)
        return ticket

    def commit(self, ticket: _Ticket) -> None:
        """Store what waits, this ticket with it; blocks the thread.

        :raises BoxFault: when it is not stored.
        """
        with self._committing:
            if not ticket.done:
                with self._mutex:
                    group, self._waiting = self._waiting, []
                self._store(group)
        if ticket.fault is not None:
            raise ticket.fault

    def _store(self, group: Sequence[_Ticket]) -> None:
        fault: BoxFault | None = BoxFault("it was not stored with others that were to be stored")
        try:
            self._box.add([event for ticket in group for event in ticket.events])
            fault = None
        except BoxFault as error:
            fault = error
        finally:
            for ticket in group:
                ticket.fault = fault
                ticket.done = True
