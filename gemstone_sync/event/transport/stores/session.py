"""A store as one connection uses it: `StoreSession`.

What was taken is kept by renewing its lease, and goes back when the session is closed.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import gevent
from gevent import monkey
from gevent._hub_local import get_hub_if_exists

from ....concurrency.native import NativeThreads, native_lock
from ....errors import StoreFault
from .store import QueueStore, Stored

__all__ = ["StoreSession"]

T = TypeVar("T")
_start_native_thread = monkey.get_original("_thread", "start_new_thread")

#: Seconds that `close` takes at most, where another thread does it.
_CLOSING = 2.0


class StoreSession:
    """Used by one greenlet or thread at a time.

    A store that blocks is called in a native thread: nothing that it waits for, a disk or a lock,
    then stops the other greenlets. One thread, so that what is given back in the end comes after a
    `take` that nobody waits for any more.

    :param lease: seconds for which messages are taken.
    """

    def __init__(self, store: QueueStore, lease: float) -> None:
        self.store = store
        self.lease = lease
        #: Whether what was held has been given back at the end.
        self.returned = False
        # Not the hub's own: a locked file would hold up those who look up host names there.
        self._threads = NativeThreads(1)
        self._process = os.getpid()
        # Kept by the thread: a take whose caller was cut off is known here all the same.
        self._held: set[str] = set()
        #: While a thread renews what is held: let go to end it, and why it could not.
        self._keeping: Any = None
        self._kept = False
        self._fault: StoreFault | None = None

    # Life

    def open(self) -> None:
        """:raises StoreFault: when the store is out of reach."""
        self._process = os.getpid()
        self.call(self.store.open)

    def close(self) -> None:
        """Give back what was taken, and disconnect. Never raises."""
        if os.getpid() != self._process:
            return  # after a fork: what was taken is the parent's
        keeping, self._keeping = self._keeping, None
        if keeping is not None:
            keeping.release()
            end = time.monotonic() + _CLOSING
            while not self._kept and time.monotonic() < end:
                gevent.sleep(0.001)
        with contextlib.suppress(Exception):
            if self.store.blocks:
                with gevent.Timeout(_CLOSING, False):
                    self.call(self._give_back)
            else:
                self._give_back()

    def _give_back(self) -> None:
        held, self._held = list(self._held), set()
        try:
            self.store.release(held)
            self.returned = True
        finally:
            self.store.close()

    # Calling the store

    def call(self, function: Callable[..., T], *args: Any) -> T:
        """Call one of the store's functions, where it stops nobody else.

        :raises StoreFault: as it does.
        """
        fault, self._fault = self._fault, None
        if fault is not None:
            raise fault
        if not self.store.blocks:
            return function(*args)
        return self._threads.call(function, *args)

    def take(self, wanted: Sequence[tuple[str, int]]) -> list[Stored]:
        """As `QueueStore.take`; what is taken is held until it is settled."""
        return self.call(self._take, wanted)

    def _take(self, wanted: Sequence[tuple[str, int]]) -> list[Stored]:
        taken = self.store.take(wanted, self.lease)
        self._held.update(message.id for message in taken)
        return taken

    def acknowledge(self, ids: Sequence[str]) -> None:
        """They are done with."""
        self.call(self.store.acknowledge, ids)
        self._held.difference_update(ids)

    def release(self, ids: Sequence[str]) -> None:
        """Give them back."""
        self.call(self.store.release, ids)
        self._held.difference_update(ids)

    def leave(self, ids: Sequence[str]) -> None:
        """Do not give them back when this is closed: this process goes on with them."""
        self._held.difference_update(ids)

    def adopt(self, held: Sequence[str], others: Sequence[str]) -> None:
        """Take over what an earlier session has left, and give back the others that it had."""
        self.call(self.store.renew, held, self.lease)
        self._held.update(held)
        self.call(self.store.release, others)

    # Keeping

    def keep(self) -> None:
        """From now on renew what is held, in a native thread: a greenlet may compute for long."""
        self._keeping = keeping = native_lock()
        keeping.acquire()
        _start_native_thread(self._keep, (keeping,))

    def _keep(self, keeping: Any) -> None:
        try:
            while not keeping.acquire(True, self.lease / 3):
                try:
                    if held := list(self._held):
                        self.store.renew(held, self.lease)
                except StoreFault as error:
                    self._fault = error  # for the owner, who connects again
                if self._keeping is not keeping:
                    self.store.close()  # it was closed meanwhile
        finally:
            self.store.leave_thread()
            self._kept = True
            hub = get_hub_if_exists()
            if hub is not None:
                hub.destroy(destroy_loop=True)
