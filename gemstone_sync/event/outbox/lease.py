"""The relay lease: one relay at a time sends, whatever the number of processes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import gevent
from gevent.lock import BoundedSemaphore

from ...errors import StoreFault
from .storage import Lease, Storage

__all__ = ["RelayLease"]

#: Seconds between two beats.
BEAT = 1.0

#: Seconds without a beat after which another one takes over.
SILENCE = 4.0


class RelayLease:
    """A relay's right to send what a storage holds, with a heartbeat.

    It is taken when nobody has it, or when the one who has it did not beat for `SILENCE`, by the
    taker's own clock. One that was stopped meanwhile notices at its next beat.

    :param call: calls a function of the storage without stopping the other greenlets.
    :param owner: what tells this relay from all others.
    """

    def __init__(self, storage: Storage, call: Callable[..., Any], owner: str) -> None:
        self._storage = storage
        self._call = call
        self._owner = owner
        #: The last one of its own.
        self.beat = 0
        self._mine: Lease | None = None
        self._confirmed = 0.0
        self._seen: Lease | None = None
        self._seen_at = 0.0
        self._renewing: gevent.Greenlet[..., None] | None = None
        # A beat and the giving back must not be under way at once.
        self._renewal_lock = BoundedSemaphore(1)

    @property
    def held(self) -> bool:
        """Tell whether nobody else can have taken it."""
        return self._mine is not None and time.monotonic() - self._confirmed < SILENCE

    def take(self) -> bool:
        """Take the lease; False while another relay has it."""
        with self._renewal_lock:
            self._mine = None
            lease: Lease = self._call(self._storage.lease)
            now = time.monotonic()
            if lease != self._seen:
                self._seen, self._seen_at = lease, now
            if lease.owner not in ("", self._owner) and now - self._seen_at < SILENCE:
                return False
            if not self._renew(lease):
                return False
        if self._renewing is None or self._renewing.dead:
            self._renewing = gevent.spawn(self._keep_renewing)
        return True

    def lose(self) -> None:
        """Take it anew before anything else: it is another database now."""
        self._mine = None

    def give_back(self) -> None:
        """Give the lease back, for another relay to have it at once."""
        with self._renewal_lock:
            if self._renewing is not None:
                self._renewing.kill(block=False)
                self._renewing = None
            lease, self._mine = self._mine, None
            if lease is not None:
                self._call(self._storage.swap, lease, "")

    def _keep_renewing(self) -> None:
        while True:
            gevent.sleep(BEAT)
            with self._renewal_lock:
                try:
                    if self._mine is None or not self._renew(self._mine):
                        return
                except StoreFault:
                    # `held` turns False by itself when that lasts.
                    continue

    def _renew(self, seen: Lease) -> bool:
        # From before the question: the answer may have been long on its way.
        asked = time.monotonic()
        swapped: bool = self._call(self._storage.swap, seen, self._owner)
        self._mine = None
        if swapped:
            self.beat = seen.beat + 1
            self._mine = Lease(self._owner, self.beat)
        self._confirmed = asked
        return swapped
