"""Handled events, remembered by one process: `MemoryProcessedEvents`."""

from __future__ import annotations

import time
from collections import OrderedDict

from gevent import monkey

from ...errors import ServiceConfigurationError
from .base import Claim, ProcessedEvents
from .window import DAY, check_window

__all__ = ["MemoryProcessedEvents"]

#: The real one: nothing waits while it is held, and threads may ask too.
_native_lock = monkey.get_original("_thread", "allocate_lock")


class MemoryProcessedEvents(ProcessedEvents):
    """Remembers what this process has handled, until it ends.

    :param window: seconds for which an event is remembered.
    :param limit: how many are remembered at most; past it the oldest are forgotten.
    :raises ServiceConfigurationError: when one of them cannot be used.

    >>> store = MemoryProcessedEvents()
    >>> store.claim("order 1", "a worker", lease=30)
    <Claim.OURS: 'ours'>
    >>> store.done("order 1", "a worker")
    >>> store.claim("order 1", "another", lease=30)
    <Claim.DONE: 'done'>
    """

    shared = False

    def __init__(self, window: float = DAY, limit: int = 100_000) -> None:
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
            raise ServiceConfigurationError(f"limit is a whole number above 0, not {limit!r}")
        self._window = check_window(window)
        self._limit = limit
        self._lock = _native_lock()
        #: Key -> when it is forgotten; the earliest first.
        self._done: OrderedDict[str, float] = OrderedDict()
        #: Key -> (owner, end of the lease); the one that was renewed longest ago first.
        self._claims: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def claim(self, key: str, owner: str, lease: float) -> Claim:
        now = time.monotonic()
        with self._lock:
            self._forget(now)
            if key in self._done:
                return Claim.DONE
            known = self._claims.get(key)
            if known is not None and known[0] != owner and known[1] > now:
                return Claim.BUSY
            self._keep(key, owner, now + lease)
            return Claim.OURS

    def renew(self, key: str, owner: str, lease: float) -> None:
        now = time.monotonic()
        with self._lock:
            known = self._claims.get(key)
            if known is not None and known[0] == owner:
                self._keep(key, owner, now + lease)

    def done(self, key: str, owner: str) -> None:
        now = time.monotonic()
        with self._lock:
            self._claims.pop(key, None)
            self._done[key] = now + self._window
            self._done.move_to_end(key)
            self._forget(now)

    def release(self, key: str, owner: str) -> None:
        with self._lock:
            known = self._claims.get(key)
            if known is not None and known[0] == owner:
                del self._claims[key]

    def close(self) -> None:
        """Nothing is open, and nothing is forgotten."""

    def _keep(self, key: str, owner: str, until: float) -> None:
        self._claims[key] = (owner, until)
        self._claims.move_to_end(key)

    def _forget(self, now: float) -> None:
        done, claims = self._done, self._claims
        while done and (len(done) > self._limit or next(iter(done.values())) <= now):
            done.popitem(last=False)
        while claims and next(iter(claims.values()))[1] <= now:
            claims.popitem(last=False)
