"""One relay at a time per database, whatever the number of processes: a lease with a heartbeat."""

from __future__ import annotations

import time
from collections.abc import Callable

import gevent
from gevent.lock import BoundedSemaphore

from ...errors import StoreFault
from .box import Box, Lease

__all__ = ["Tenure"]

#: Seconds between two beats.
BEAT = 1.0

#: Seconds without a beat after which another one takes over.
SILENCE = 4.0


class Tenure:
    """A relay's right to send what a box holds.

    It is taken when nobody has it, or when the one who has it did not beat for `SILENCE`, by the
    taker's own clock. One that was stopped meanwhile notices at its next beat.

    :param call: calls a function of the box without blocking the hub.
    :param owner: what tells this relay from all others.
    """

    def __init__(self, box: Box, call: Callable[..., object], owner: str) -> None:
        self._box = box
        self._call = call
        self._owner = owner
        self._mine: Lease | None = None
        self._confirmed = 0.0
        self._seen: Lease | None = None
        self._seen_at = 0.0
        self._beating: gevent.Greenlet[..., None] | None = None
        # A beat and the giving back must not be under way at once.
        self._swapping = BoundedSemaphore(1)

    @property
    def held(self) -> bool:
        """Whether nobody else can have taken it."""
        return self._mine is not None and time.monotonic() - self._confirmed < SILENCE

    def take(self) -> bool:
        """Try to get it; False while another one has it."""
        with self._swapping:
            self._mine = None
            lease = self._call(self._box.lease)
            assert isinstance(lease, Lease)
            now = time.monotonic()
            if lease != self._seen:
                self._seen, self._seen_at = lease, now
            silent = now - self._seen_at >= SILENCE
            if lease.owner not in ("", self._owner) and not silent:
                return False
            if not self._swap(lease, self._owner):
                return False
        if self._beating is None or self._beating.dead:
            self._beating = gevent.spawn(self._beat)
        return True

    def give_back(self) -> None:
        """Let another one have it at once."""
        with self._swapping:
            if self._beating is not None:
                self._beating.kill(block=False)
                self._beating = None
            lease, self._mine = self._mine, None
            if lease is not None:
                self._call(self._box.swap, lease, "")

    def _beat(self) -> None:
        while True:
            gevent.sleep(BEAT)
            with self._swapping:
                if self._mine is None:
                    return
                try:
                    if not self._swap(self._mine, self._owner):
                        return
                except StoreFault:
                    # `held` turns False by itself when that lasts.
                    continue

    def _swap(self, seen: Lease, owner: str) -> bool:
        # From before the question: the answer may have been long on its way.
        asked = time.monotonic()
        if not self._call(self._box.swap, seen, owner):
            self._mine = None
            return False
        self._mine, self._confirmed = Lease(owner, seen.beat + 1), asked
        return True
