"""The contract of the stores that remember which events were handled."""

from __future__ import annotations

import abc
import enum

__all__ = ["Claim", "ProcessedEvents"]


class Claim(enum.Enum):
    """What a store says of an event that is about to be handled."""

    #: Handle it; the claim is this process's until `done`, `release`, or the lease's end.
    OURS = "ours"
    #: It was handled before: drop it.
    DONE = "done"
    #: Another worker handles it at this moment, or did when it was killed: ask again later.
    BUSY = "busy"


class ProcessedEvents(abc.ABC):
    """Remembers ids of handled events for a window of time.

    A key is an event's id with the handler's name, so that each handler has its own memory. All
    functions may be called from several greenlets and threads at once, and may block the greenlet.

    :raises OSError: from every function, when the store cannot be reached or written.
    """

    #: True when other processes see the same memory.
    shared: bool = True

    @abc.abstractmethod
    def claim(self, key: str, owner: str, lease: float) -> Claim:
        """Ask whether to handle an event.

        :param owner: who asks; it may claim again what it has claimed already.
        :param lease: seconds after which the claim of one that was killed counts no more.
        """

    @abc.abstractmethod
    def renew(self, key: str, owner: str, lease: float) -> None:
        """Keep a claim for so many seconds from now."""

    @abc.abstractmethod
    def done(self, key: str, owner: str) -> None:
        """Remember, for the window, that it was handled."""

    @abc.abstractmethod
    def release(self, key: str, owner: str) -> None:
        """Give a claim up: handling failed and is tried again."""

    @abc.abstractmethod
    def close(self) -> None:
        """Close what is open. A store that is used again opens it again."""
