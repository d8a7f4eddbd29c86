"""The contract of a database in which events are stored until they are sent: `Box`.

Two tables belong to every box, and one row of a third::

    gemstone_outbox          id, event               what is to be sent, in the order of the ids
    gemstone_outbox_waiting  id, transport, event,   what one transport has not got, and others
      line, due, attempts, reason, time              have, or what it refuses; see `Waiting`
    gemstone_outbox_relay    version, owner, beat    the tables' version, and who sends
"""

from __future__ import annotations

import abc
import time
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar

__all__ = [
    "COUNT",
    "VERSION",
    "WAITING_NOW",
    "Box",
    "Execute",
    "Lease",
    "Row",
    "Waiting",
]

T = TypeVar("T")

#: Executes a statement with named values, or with each of a list of them.
Execute: TypeAlias = Callable[[str, Any], Any]

#: Of the tables. A box with a higher one is left alone.
VERSION = 1

_FORGET = "DELETE FROM gemstone_outbox_waiting WHERE id = :id AND transport = :transport"
_INSERT = (
    "INSERT INTO gemstone_outbox_waiting "
    "(id, transport, event, line, due, attempts, reason, time) "
    "VALUES (:id, :transport, :event, :line, :due, :attempts, :reason, :time)"
)
# One that is due before another one of its line, which came earlier, is behind that.
_DUE = """
SELECT id, length(event) FROM gemstone_outbox_waiting AS mine
WHERE transport = :transport AND due <= :now AND (line IS NULL OR NOT EXISTS (
    SELECT 1 FROM gemstone_outbox_waiting AS earlier
    WHERE earlier.transport = mine.transport AND earlier.line = mine.line
    AND earlier.id < mine.id AND earlier.due > mine.due))
ORDER BY due, id LIMIT :rows
"""
_CHOSEN = (
    "SELECT id, event, attempts FROM gemstone_outbox_waiting "
    "WHERE transport = :transport AND id IN ({})"
)
_REFUSED_AGAIN = (
    "UPDATE gemstone_outbox_waiting SET due = :due, reason = :reason, attempts = attempts + 1 "
    "WHERE id = :id AND transport = :transport"
)
_LINES = (
    "SELECT DISTINCT line FROM gemstone_outbox_waiting "
    "WHERE transport = :transport AND line IS NOT NULL AND due IS NOT NULL"
)
_TRANSPORTS = "SELECT DISTINCT transport FROM gemstone_outbox_waiting WHERE due IS NOT NULL"
_BACK = (
    "INSERT INTO gemstone_outbox (event) SELECT event FROM gemstone_outbox_waiting "
    "WHERE transport = :transport AND due IS NOT NULL ORDER BY id"
)
_FORGET_LIVE = (
    "DELETE FROM gemstone_outbox_waiting WHERE transport = :transport AND due IS NOT NULL"
)
_REFUSED = (
    "SELECT id, transport, event, line, due, attempts, reason, time FROM gemstone_outbox_waiting "
    "WHERE (id > :id OR (id = :id AND transport > :transport)) AND (attempts > 0 OR due IS NULL) "
    "ORDER BY id, transport LIMIT :rows"
)
_TROUBLE = (
    "SELECT count(*), max(reason) FROM gemstone_outbox_waiting "
    "WHERE attempts > 0 AND due IS NOT NULL"
)
_AGAIN = (
    "UPDATE gemstone_outbox_waiting SET due = 0, attempts = 0 "
    "WHERE id = :id AND transport = :transport"
)
_UNREAD = (
    "INSERT INTO gemstone_outbox (event) SELECT event FROM gemstone_outbox_waiting "
    "WHERE id = :id AND transport = :transport"
)
#: For `Box.has_events` and `Box.count`.
COUNT = "SELECT count(DISTINCT id) FROM gemstone_outbox_waiting WHERE due IS NOT NULL"
WAITING_NOW = "SELECT 1 FROM gemstone_outbox_waiting WHERE due <= :now LIMIT 1"


class Row(NamedTuple):
    """One stored event: `Envelope.to_json`'s text, unless somebody else has written it.

    :ivar attempts: how often the transport has refused it.
    """

    id: int
    event: bytes
    attempts: int = 0


class Waiting(NamedTuple):
    """An event that one transport is still to get.

    :ivar transport: its name; empty for what no transport can be asked of.
    :ivar line: those of one line do not overtake each other: they have one name and one key.
    :ivar due: when it is to be sent, in seconds since 1970; 0 for as soon as the transport is
        there, None for never, unless somebody asks for it.
    :ivar attempts: how often the transport has refused it.
    :ivar time: since when it waits, in seconds since 1970.
    """

    id: int
    transport: str
    event: bytes
    line: str | None
    due: float | None
    attempts: int
    reason: str
    time: float

    @property
    def refused(self) -> bool:
        """False for one that only waits for the transport to be there, or for its turn."""
        return self.attempts > 0 or self.due is None


class Lease(NamedTuple):
    """Who sends what is stored, and how often it has said that it still does.

    There is no moment in it: the clocks of two machines need not agree.
    """

    owner: str
    beat: int


class Box(abc.ABC):
    """A database with stored events. Every function raises `StoreFault`.

    Ids are never given twice, so that a relay that was stopped for a while cannot delete a later
    event in place of the one that it sent.
    """

    #: What logs call it; without a password.
    name: str
    #: Two boxes with the same key are the same database.
    key: Hashable
    #: Seconds between two looks for what other processes have stored.
    poll_interval: float = 0.25
    #: True when in a patched process its functions switch greenlets while they wait.
    cooperative: bool = False
    #: False while an event cannot be inserted, for want of a table that `prepare` would make.
    prepared: bool = True

    @abc.abstractmethod
    def prepare(self) -> None:
        """Make the tables where they are missing. May be repeated, and by several at once."""

    @abc.abstractmethod
    def has_events(self) -> bool:
        """Cheaply: is anything to be sent now? False as well when the tables are missing."""

    @abc.abstractmethod
    def read(self, rows: int, size: int) -> list[Row]:
        """The oldest: at most so many, of about so many bytes together, one at least."""

    @abc.abstractmethod
    def delete(self, ids: Sequence[int]) -> None:
        """Remove what every transport has."""

    @abc.abstractmethod
    def count(self) -> int:
        """How many are to be sent; without those that wait until somebody asks for them."""

    # What waits: the same statements for every database

    @abc.abstractmethod
    def _reading(self, work: Callable[[Execute], T], missing: T) -> T:
        """Call it with what executes statements; `missing` when the tables are not there yet."""

    @abc.abstractmethod
    def _writing(self, work: Callable[[Execute], T]) -> T:
        """The same in one transaction."""

    def move(self, ids: Sequence[int], waiting: Sequence[Waiting]) -> None:
        """Remove what was read, and have what is left of it wait, in one transaction."""

        def work(execute: Execute) -> None:
            # Deleted first: it may have been done already, and the answer was lost.
            execute(_FORGET, [{"id": each.id, "transport": each.transport} for each in waiting])
            execute(_INSERT, [each._asdict() for each in waiting])
            execute("DELETE FROM gemstone_outbox WHERE id = :id", [{"id": id} for id in ids])

        self._writing(work)

    def read_waiting(self, transport: str, rows: int, size: int) -> list[Row]:
        """What is due for a transport, as `read`; nothing before an earlier one of its line."""

        def work(execute: Execute) -> list[Row]:
            values: dict[str, Any] = {"transport": transport, "now": time.time(), "rows": rows}
            ids, length = [], 0
            for id, its_length in execute(_DUE, values).fetchall():
                ids.append(id)
                length += its_length
                if length >= size:
                    break
            if not ids:
                return []
            chosen = {f"id{number}": id for number, id in enumerate(ids)}
            statement = _CHOSEN.format(", ".join(f":{name}" for name in chosen))
            found = execute(statement, {"transport": transport, **chosen}).fetchall()
            by_id = {row[0]: Row(row[0], bytes(row[1]), row[2]) for row in found}
            return [by_id[id] for id in ids if id in by_id]

        return self._reading(work, [])

    def settle(
        self, transport: str, ids: Sequence[int], refused: Sequence[tuple[int, float | None, str]]
    ) -> None:
        """Remove what a transport has, and note when to try again what it refuses.

        :param refused: (id, due, reason).
        """

        def work(execute: Execute) -> None:
            execute(_FORGET, [{"id": id, "transport": transport} for id in ids])
            keys = ("id", "due", "reason")
            values = [dict(zip(keys, each, strict=True), transport=transport) for each in refused]
            execute(_REFUSED_AGAIN, values)

        self._writing(work)

    def lines(self, transport: str) -> set[str]:
        """The lines of which something waits for a transport."""
        return self._reading(
            lambda execute: {
                row[0] for row in execute(_LINES, {"transport": transport}).fetchall()
            },
            set(),
        )

    def adopt(self, transports: Sequence[str]) -> set[str]:
        """Send through all transports what waits for one that is not among these any more.

        :returns: those for which something waits.
        """

        def work(execute: Execute) -> None:
            for transport in waiting - {*transports}:
                execute(_BACK, {"transport": transport})
                execute(_FORGET_LIVE, {"transport": transport})

        found: list[Any] = self._reading(lambda execute: execute(_TRANSPORTS, {}).fetchall(), [])
        waiting = {row[0] for row in found}
        if waiting - {*transports}:
            self._writing(work)
        return waiting

    def refused(self, after: tuple[int, str], rows: int) -> list[Waiting]:
        """So many of those that are `Waiting.refused`, after an (id, transport)."""
        values = {"id": after[0], "transport": after[1], "rows": rows}

        def work(execute: Execute) -> list[Waiting]:
            found = [Waiting(*row) for row in execute(_REFUSED, values).fetchall()]
            return [each._replace(event=bytes(each.event)) for each in found]

        return self._reading(work, [])

    def trouble(self) -> tuple[int, str] | None:
        """How many are refused and tried again, with a reason; None when there are none."""
        found: list[Any] = self._reading(lambda execute: execute(_TROUBLE, {}).fetchall(), [])
        return (found[0][0], found[0][1]) if found and found[0][0] else None

    def replay(self, chosen: Sequence[tuple[int, str]]) -> int:
        """Have (id, transport) pairs sent now, as if for the first time; how many there were."""

        def work(execute: Execute) -> int:
            number = 0
            for id, transport in chosen:
                values = {"id": id, "transport": transport}
                if transport:
                    number += execute(_AGAIN, values).rowcount
                else:
                    execute(_UNREAD, values)
                    number += execute(_FORGET, values).rowcount
            return number

        return self._writing(work) if chosen else 0

    def purge(self, chosen: Sequence[tuple[int, str]]) -> int:
        """Forget (id, transport) pairs; how many there were."""

        def work(execute: Execute) -> int:
            values = [{"id": id, "transport": transport} for id, transport in chosen]
            return sum(execute(_FORGET, each).rowcount for each in values)

        return self._writing(work) if chosen else 0

    # Who sends

    @abc.abstractmethod
    def lease(self) -> Lease:
        """Who sends; with an empty owner when nobody does."""

    @abc.abstractmethod
    def swap(self, seen: Lease, owner: str) -> bool:
        """Set the owner and count one beat more, if the lease still is what was seen."""

    @abc.abstractmethod
    def close(self) -> None:
        """Disconnect. Never raises. What is used again connects again."""


def one_line(error: BaseException) -> str:
    """What an exception says, or its class when it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__
