"""The contract of a database in which events are stored until they are sent: `Storage`.

Three tables belong to each; the statements on them are here, once for all kinds of databases::

    gemstone_outbox          id, event               what is to be sent, in the order of the ids
    gemstone_outbox_waiting  id, transport, event,   what one transport has not got, and others
      line, due, attempts, reason, time              have, or what it refuses; see `Waiting`
    gemstone_outbox_relay    id, version, owner,     the tables' version, and which relay sends
      beat
"""

from __future__ import annotations

import abc
import secrets
import time
from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, TypeVar

import gevent

from ...concurrency import is_patched
from ...concurrency.native import NativeThreads
from ...errors import StoreFault

__all__ = [
    "INSERT",
    "LIMIT",
    "VERSION",
    "Lease",
    "Row",
    "Storage",
    "Waiting",
    "ask",
    "first_beat",
    "one_line",
]

T = TypeVar("T")

#: Of the tables. Those of a higher one are left alone.
VERSION = 1

#: Seconds for one question to a database: SQLite says within ten that it is locked.
LIMIT = 20.0

#: Of one database between two looks: ten days of a beat each second.
_MOST_BEATS = 1_000_000

INSERT = "INSERT INTO gemstone_outbox (event) VALUES (:event)"
_DELETE = "DELETE FROM gemstone_outbox WHERE id BETWEEN :first AND :last"
_FORGET = "DELETE FROM gemstone_outbox_waiting WHERE id = :id AND transport = :transport"


class Row(NamedTuple):
    """A stored event: `Envelope.to_json`'s text, unless somebody else has written it.

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


class Lease(NamedTuple):
    """The relay that sends what is stored, and how often it has said that it still does.

    There is no moment in it: the clocks of two machines need not agree. The first beat of a
    database is a number by chance, see `Storage.goes_on`.
    """

    owner: str
    beat: int


class Storage(abc.ABC):
    """A database with stored events. Every function raises `StoreFault`.

    Ids are never given twice, so that a relay that was stopped for a while cannot delete a later
    event in place of the one that it sent; `goes_on` tells of a database that was replaced.
    """

    #: What logs call it; without a password.
    name: str
    #: Two storages with the same key are the same database.
    key: Hashable
    #: Seconds between two looks for what other processes have stored.
    poll_interval: float = 0.25
    #: True when in a patched process its functions switch greenlets while they wait.
    cooperative: bool = False
    #: False while an event cannot be inserted, for want of a table that `prepare` would make.
    prepared: bool = True
    #: What is selected of an event.
    _event: str = "event"

    @abc.abstractmethod
    def prepare(self) -> None:
        """Make the tables where they are missing. May be repeated, and by several at once."""

    @abc.abstractmethod
    def close(self) -> None:
        """Disconnect. Never raises. What is used again connects again."""

    @abc.abstractmethod
    def _reading(self) -> AbstractContextManager[Callable[..., Sequence[Any]]]:
        """Give ``select(statement, **values)``, with the rows; none while a table is missing."""

    @abc.abstractmethod
    def _writing(self) -> AbstractContextManager[Callable[[str, Any], int]]:
        """Begin a transaction; give ``execute(statement, values)``, with how many rows changed.

        The values are a mapping, or a list of mappings with each of which it is executed.
        """

    def _check_version(self, version: int) -> None:
        if version > VERSION:
            raise StoreFault(
                f"{self.name}: its gemstone_outbox tables are of version {version}, and this "
                f"gemstone_sync knows up to {VERSION}: upgrade it"
            )

    # New events

    def has_events(self) -> bool:
        """Tell cheaply whether anything is to be sent now; False too when tables are missing."""
        due = "SELECT 1 FROM gemstone_outbox_waiting WHERE due <= :now LIMIT 1"
        with self._reading() as select:
            new = select("SELECT 1 FROM gemstone_outbox LIMIT 1")
            return bool(new or select(due, now=time.time()))

    def count(self) -> int:
        """Count those to be sent; without those that wait until somebody asks for them."""
        waiting = "SELECT count(DISTINCT id) FROM gemstone_outbox_waiting WHERE due IS NOT NULL"
        with self._reading() as select:
            counts = [*select("SELECT count(*) FROM gemstone_outbox"), *select(waiting)]
        return sum(count for (count,) in counts)

    def read(self, rows: int, size: int) -> list[Row]:
        """Read the oldest: at most so many, of about so many bytes together, one at least."""
        # Drivers read the whole answer, however little of it is wanted: lengths are asked first.
        oldest = "SELECT id, length(event) AS size FROM gemstone_outbox ORDER BY id LIMIT :rows"
        sum_of = f"SELECT max(id), sum(size) FROM ({oldest}) AS oldest"
        wanted = (
            f"SELECT id, {self._event} FROM gemstone_outbox "
            "WHERE id <= :last ORDER BY id LIMIT :rows"
        )
        with self._reading() as select:
            for last, total in select(sum_of, rows=rows):
                if last is None:
                    break
                if total > size:
                    ids = _up_to(size, select(oldest, rows=rows))
                    last, rows = ids[-1], len(ids)
                return [Row(id, bytes(event)) for id, event in select(wanted, last=last, rows=rows)]
        return []

    def delete(self, ids: Sequence[int]) -> None:
        """Remove what every transport has: some that `read` has given."""
        with self._writing() as execute:
            execute(_DELETE, _runs(ids))

    def move(self, ids: Sequence[int], waiting: Sequence[Waiting]) -> None:
        """Remove what was read, and have what is left of it wait, in one transaction."""
        with self._writing() as execute:
            # Deleted first: it may have been done already, and the answer was lost.
            execute(_FORGET, [{"id": each.id, "transport": each.transport} for each in waiting])
            execute(
                "INSERT INTO gemstone_outbox_waiting "
                "(id, transport, event, line, due, attempts, reason, time) "
                "VALUES (:id, :transport, :event, :line, :due, :attempts, :reason, :time)",
                [each._asdict() for each in waiting],
            )
            execute(_DELETE, _runs(ids))

    # What waits

    def read_waiting(self, transport: str, rows: int, size: int) -> list[Row]:
        """Read what is due for a transport, as `read`; nothing before an earlier of its line."""
        # One that is due before another one of its line, which came earlier, is behind that.
        lengths = """
            SELECT id, length(event) FROM gemstone_outbox_waiting AS mine
            WHERE transport = :transport AND due <= :now AND (line IS NULL OR NOT EXISTS (
                SELECT 1 FROM gemstone_outbox_waiting AS earlier
                WHERE earlier.transport = mine.transport AND earlier.line = mine.line
                AND earlier.id < mine.id AND earlier.due > mine.due))
            ORDER BY due, id LIMIT :rows
        """
        wanted = (
            "SELECT id, event, attempts FROM gemstone_outbox_waiting "
            "WHERE transport = :transport AND id IN (:{})"
        )
        with self._reading() as select:
            found = select(lengths, transport=transport, now=time.time(), rows=rows)
            ids = _up_to(size, found)
            if not ids:
                return []
            # SQLite took 999 values at most before 3.32.
            values = {f"id{number}": id for number, id in enumerate(ids)}
            chosen = select(wanted.format(", :".join(values)), transport=transport, **values)
            by_id = {id: Row(id, bytes(event), attempts) for id, event, attempts in chosen}
            return [by_id[id] for id in ids if id in by_id]

    def settle(
        self, transport: str, ids: Sequence[int], refused: Sequence[tuple[int, float | None, str]]
    ) -> None:
        """Remove what a transport has, and note when to try again what it refuses.

        :param refused: (id, due, reason).
        """
        with self._writing() as execute:
            execute(_FORGET, [{"id": id, "transport": transport} for id in ids])
            execute(
                "UPDATE gemstone_outbox_waiting "
                "SET due = :due, reason = :reason, attempts = attempts + 1 "
                "WHERE id = :id AND transport = :transport",
                [
                    {"id": id, "transport": transport, "due": due, "reason": reason}
                    for id, due, reason in refused
                ],
            )

    def waiting_lines(self, transport: str) -> set[str]:
        """List the lines of which something waits for a transport."""
        statement = (
            "SELECT DISTINCT line FROM gemstone_outbox_waiting "
            "WHERE transport = :transport AND line IS NOT NULL AND due IS NOT NULL"
        )
        with self._reading() as select:
            return {line for (line,) in select(statement, transport=transport)}

    def adopt(self, transports: Sequence[str]) -> set[str]:
        """Send through all transports what waits for one that is not among these any more.

        :returns: those for which something waits.
        """
        live = "FROM gemstone_outbox_waiting WHERE transport = :transport AND due IS NOT NULL"
        with self._reading() as select:
            found = select(
                "SELECT DISTINCT transport FROM gemstone_outbox_waiting WHERE due IS NOT NULL"
            )
        waiting = {transport for (transport,) in found}
        if gone := waiting - {*transports}:
            with self._writing() as execute:
                for transport in gone:
                    again = f"INSERT INTO gemstone_outbox (event) SELECT event {live} ORDER BY id"
                    execute(again, {"transport": transport})
                    execute(f"DELETE {live}", {"transport": transport})
        return waiting

    def refused(self, after: tuple[int, str], rows: int) -> list[Waiting]:
        """Read so many that are refused, or set aside, after an (id, transport)."""
        statement = (
            "SELECT id, transport, event, line, due, attempts, reason, time "
            "FROM gemstone_outbox_waiting "
            "WHERE (id > :id OR (id = :id AND transport > :transport)) "
            "AND (attempts > 0 OR due IS NULL) ORDER BY id, transport LIMIT :rows"
        )
        with self._reading() as select:
            found = select(statement, id=after[0], transport=after[1], rows=rows)
            return [each._replace(event=bytes(each.event)) for each in map(Waiting._make, found)]

    def trouble(self) -> tuple[int, str] | None:
        """Count those that are refused and tried again, with a reason; None when none is."""
        statement = (
            "SELECT count(*), max(reason) FROM gemstone_outbox_waiting "
            "WHERE attempts > 0 AND due IS NOT NULL"
        )
        with self._reading() as select:
            found = [(count, reason) for count, reason in select(statement) if count]
        return found[0] if found else None

    def replay(self, chosen: Sequence[tuple[int, str]]) -> int:
        """Have (id, transport) pairs sent now, as if for the first time; count them."""
        these = "WHERE id = :id AND transport = :transport"
        now = f"UPDATE gemstone_outbox_waiting SET due = 0, attempts = 0 {these}"
        # What could not be read is read again.
        back = (
            f"INSERT INTO gemstone_outbox (event) SELECT event FROM gemstone_outbox_waiting {these}"
        )
        number = 0
        with self._writing() as execute:
            for id, transport in chosen:
                values = {"id": id, "transport": transport}
                if not transport:
                    execute(back, values)
                number += execute(now if transport else _FORGET, values)
        return number

    def purge(self, chosen: Sequence[tuple[int, str]]) -> int:
        """Forget (id, transport) pairs; count them."""
        with self._writing() as execute:
            return sum(execute(_FORGET, {"id": id, "transport": name}) for id, name in chosen)

    # Which relay sends

    def lease(self) -> Lease:
        """Read which relay sends; with an empty owner when none does."""
        with self._reading() as select:
            found = select("SELECT owner, beat FROM gemstone_outbox_relay WHERE id = 1")
        return Lease(*found[0]) if found else Lease("", 0)

    def goes_on(self, beat: int) -> bool:
        """Tell whether this still is the database that had a beat.

        One that was made anew, or an older copy, gives ids that the other one gave already.
        """
        return beat <= self.lease().beat < beat + _MOST_BEATS

    def swap(self, seen: Lease, owner: str) -> bool:
        """Set the owner and count one beat more, if the lease still is what was seen."""
        statement = (
            "UPDATE gemstone_outbox_relay SET owner = :new, beat = beat + 1 "
            "WHERE id = 1 AND owner = :owner AND beat = :beat"
        )
        with self._writing() as execute:
            return execute(statement, {"new": owner, **seen._asdict()}) == 1


def first_beat() -> int:
    """Choose the first beat of a database."""
    return secrets.randbits(40)


def ask(
    threads: NativeThreads,
    storage: Storage,
    function: Callable[..., T],
    *args: Any,
    limit: float = LIMIT,
) -> T:
    """Call a function of a storage without stopping the other greenlets.

    :param limit: seconds.
    :raises StoreFault: also when it took longer.
    """
    try:
        if storage.cooperative and is_patched():
            with gevent.Timeout(limit, TimeoutError(f"no answer within {limit:.2g} s")):
                return function(*args)
        return threads.call(function, *args, limit=limit)
    except TimeoutError as error:
        raise StoreFault(f"{storage.name}: {error}") from error


def one_line(error: BaseException) -> str:
    """Return an exception's text on one line; its class when it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def _runs(ids: Sequence[int]) -> list[dict[str, int]]:
    """Find the ids that follow each other: mostly all do, and one range is deleted at once."""
    runs: list[dict[str, int]] = []
    for id in ids:
        if runs and id == runs[-1]["last"] + 1:
            runs[-1]["last"] = id
        else:
            runs.append({"first": id, "last": id})
    return runs


def _up_to(size: int, lengths: Sequence[Any]) -> list[int]:
    """Take the first ids of (id, length) that are so long together, one at least."""
    ids, total = [], 0
    for id, length in lengths:
        ids.append(id)
        total += length
        if total >= size:
            break
    return ids
