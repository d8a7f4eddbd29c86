"""The contract of a database in which events are stored until they are sent: `Box`.

Two tables belong to every box, and one row of a third::

    gemstone_outbox          id, event               what is to be sent, in the order of the ids
    gemstone_outbox_failed   id, event, reason, time what can never be sent
    gemstone_outbox_relay    version, owner, beat    the tables' version, and who sends
"""

from __future__ import annotations

import abc
from collections.abc import Hashable, Sequence
from typing import NamedTuple

__all__ = ["VERSION", "Box", "BoxFault", "Failed", "Lease", "Row"]

#: Of the tables. A box with a higher one is left alone.
VERSION = 1


class BoxFault(Exception):
    """The database cannot be reached, read or written; the text says which and why, in one line."""


class Row(NamedTuple):
    """One stored event: `Envelope.to_json`'s text, unless somebody else has written it."""

    id: int
    event: bytes


class Failed(NamedTuple):
    """An event that can never be sent, and why.

    :ivar time: seconds since 1970.
    """

    event: bytes
    reason: str
    time: float


class Lease(NamedTuple):
    """Who sends what is stored, and how often it has said that it still does.

    There is no moment in it: the clocks of two machines need not agree.
    """

    owner: str
    beat: int


class Box(abc.ABC):
    """A database with stored events. Every function raises `BoxFault`.

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
        """Cheaply: is anything to be sent? False as well when the tables are missing."""

    @abc.abstractmethod
    def read(self, rows: int, size: int) -> list[Row]:
        """The oldest: at most so many, of about so many bytes together, one at least."""

    @abc.abstractmethod
    def delete(self, ids: Sequence[int]) -> None:
        """Remove what was sent."""

    @abc.abstractmethod
    def set_aside(self, id: int, reason: str) -> None:
        """Move one to those that can never be sent."""

    @abc.abstractmethod
    def count(self) -> int:
        """How many are to be sent."""

    @abc.abstractmethod
    def failed(self) -> list[Failed]:
        """Those that were set aside, the oldest first, a thousand at most."""

    @abc.abstractmethod
    def retry_failed(self) -> int:
        """Have those that were set aside sent after all others; how many that are."""

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
