"""Many writers of one file at a time: `GroupCommit`."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from gevent import monkey
from gevent.event import Event

from ..concurrency import is_patched
from ..concurrency.native import NativeThreads, native_lock
from ..errors import StoreFault
from .file import BUSY

__all__ = ["GroupCommit"]

W = TypeVar("W")


@dataclass(eq=False, slots=True)
class _Ticket(Generic[W]):
    """An item that a caller wants written, and the outcome.

    :ivar end: when the caller's time is over, of ``time.monotonic()``.
    """

    item: W
    end: float
    done: bool = False
    outcome: Any = None
    fault: StoreFault | None = None


class GroupCommit(Generic[W]):
    """Writes what greenlets and threads want at the same time in one transaction.

    One wait for the disk serves all who wait for it, and no greenlet's hub waits.

    :param commit: writes items, all or none, within so many seconds; returns an outcome for each.
        In a patched process it is called in a native thread.
    :param name: what errors call the file.
    """

    def __init__(self, commit: Callable[[Sequence[W], float], Sequence[Any]], name: str) -> None:
        self._commit = commit
        self._name = name
        self._start()

    def _start(self) -> None:
        self._process = os.getpid()
        self._threads = NativeThreads(2)
        self._waiting: list[_Ticket[W]] = []
        #: For a few microseconds at a time: greenlets put into the list what native threads take.
        self._mutex = native_lock()
        self._committing = native_lock()
        #: For each thread with greenlets: what is set when the commit is over that one asked for.
        self._local = monkey.get_original("threading", "local")()

    def write(self, item: W, timeout: float) -> Any:
        """Write an item; return its outcome once it is written.

        :param timeout: seconds.
        :raises StoreFault: when it is not known to be written.
        """
        if os.getpid() != self._process:
            self._start()
        ticket = _Ticket(item, time.monotonic() + timeout)
        with self._mutex:
            self._waiting.append(ticket)
        try:
            if is_patched():
                self._await(ticket)
            else:
                self._write_all(ticket)
        finally:
            if not ticket.done:
                with self._mutex:  # unless it is being written just now
                    self._waiting = [other for other in self._waiting if other is not ticket]
        if ticket.fault is not None:
            raise ticket.fault
        return ticket.outcome

    def _await(self, ticket: _Ticket[W]) -> None:
        """Commit in a native thread; of this thread's greenlets one asks, the others wait for it.

        A semaphore would not do: the one that releases it comes first again, with one more item,
        and nothing is shared (measured: 4,951 commits for 5,000 items of 50 greenlets).
        """
        while not ticket.done:
            committed = getattr(self._local, "committed", None)
            if committed is not None:
                committed.wait(_seconds_until(ticket.end))
                if not ticket.done and time.monotonic() >= ticket.end:
                    raise self._late()
                continue
            committed = self._local.committed = Event()
            try:
                self._threads.call(self._write_all, ticket, limit=_seconds_until(ticket.end))
            except TimeoutError as error:
                raise StoreFault(f"{self._name}: {error}") from error
            finally:
                self._local.committed = None
                committed.set()

    def _write_all(self, ticket: _Ticket[W]) -> None:
        """Write all that waits, unless another thread has written this one; block the thread."""
        if not self._committing.acquire(True, min(4 * BUSY, _seconds_until(ticket.end))):
            raise self._late()
        try:
            if not ticket.done:
                with self._mutex:
                    group, self._waiting = self._waiting, []
                self._write_group(group)
        finally:
            self._committing.release()

    def _late(self) -> StoreFault:
        return StoreFault(f"{self._name}: not written in time; it may still be")

    def _write_group(self, group: Sequence[_Ticket[W]]) -> None:
        fault: StoreFault | None = StoreFault(f"{self._name}: something cannot be written")
        try:
            if group:
                # A little less, so that it can still say what is in the way.
                limit = 0.9 * _seconds_until(max(ticket.end for ticket in group))
                outcomes = self._commit([ticket.item for ticket in group], limit)
                for ticket, outcome in zip(group, outcomes, strict=True):
                    ticket.outcome = outcome
            fault = None
        except StoreFault as error:
            fault = error
        finally:
            for ticket in group:
                ticket.fault = fault
                ticket.done = True


def _seconds_until(moment: float) -> float:
    return max(0.0, moment - time.monotonic())
