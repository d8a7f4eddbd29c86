"""Claims: an event is handled by one worker at a time, and not again once it was.

The memories in which they are kept belong to `deduplication`.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable

import gevent

from ..deduplication import Claim, ProcessedEvents
from ..envelope import Envelope
from ..handlers import Handler, Subscriber
from .attempts import describe

__all__ = ["EventClaim", "Renewals", "claim_key"]

logger = logging.getLogger("gemstone_sync.event")

#: The same in this process's own memory: if it is killed, the memory is gone too.
_NEVER = 86400.0
#: Characters of a key.
_LONGEST = 200
#: Seconds before a mark that could not be written is tried again.
_PAUSES = (0.2, 1.0)
_FAILS = "the memory of handled events fails: %s"


def claim_key(envelope: Envelope, subscriber: Subscriber, handler: Handler, is_work: bool) -> str:
    """Return the key under which it is remembered that a handler has handled an event.

    All who must not handle it once more have the same key: of work every worker that handles the
    pattern; of a broadcast event the instances of a service, or the instance alone.
    """
    if is_work:
        key = f"{envelope.id}:work:{handler.pattern}"
    elif handler.scope == "instance":
        key = f"{envelope.id}:{subscriber.service}/{subscriber.instance}:{handler.name}"
    else:
        key = f"{envelope.id}:{subscriber.service}:{handler.name}"
    if len(key) <= _LONGEST and key.isascii():
        return key
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


class Renewals:
    """Keeps the claims of events that are being handled: one greenlet for all of them.

    One for each claim would cost every event 40 µs, of which few take long enough to need it.

    :param store: the memory that workers share.
    :param lease: seconds.
    """

    def __init__(self, store: ProcessedEvents, lease: float) -> None:
        self.store = store
        self.lease = lease
        #: Key and owner.
        self._claims: set[tuple[str, str]] = set()
        self._is_running = False

    def add(self, key: str, owner: str) -> None:
        """Renew a claim from now on."""
        self._claims.add((key, owner))
        if not self._is_running:
            self._is_running = True
            gevent.spawn(self._run)

    def remove(self, key: str, owner: str) -> None:
        """Renew a claim no more."""
        self._claims.discard((key, owner))

    def _run(self) -> None:
        try:
            while self._claims:
                gevent.sleep(self.lease / 3)
                self._renew()
        finally:
            self._is_running = False

    def _renew(self) -> None:
        for claim in list(self._claims):
            if claim not in self._claims:
                continue  # done while the others were renewed
            try:
                self.store.renew(*claim, self.lease)
            except OSError as error:
                logger.warning(_FAILS, describe(error))
                return


class EventClaim:
    """Holds the claim of an attempt on an event, in the memories that concern it.

    :param recent: this process's own, or None.
    :param renewals: with the one that workers share, or None.
    """

    __slots__ = ("_owner", "_recent", "_renewals", "here", "key")

    def __init__(
        self,
        key: str,
        recent: ProcessedEvents | None,
        renewals: Renewals | None,
    ) -> None:
        self.key = key
        #: When the answer is BUSY: True if it is this process that is at it.
        self.here = False
        self._recent = recent
        self._renewals = renewals
        # Not the process: a message may come to it again while it is still at it.
        self._owner = os.urandom(16).hex()

    def take(self) -> Claim:
        """Ask whether to handle it; afterwards `done` or `release` must be called if it is OURS.

        :raises OSError: when a memory cannot be reached.
        """
        if self._recent is not None:
            answer = self._recent.claim(self.key, self._owner, _NEVER)
            self.here = answer is Claim.BUSY
            if answer is not Claim.OURS:
                return answer
        if self._renewals is None:
            return Claim.OURS
        return self._take_shared(self._renewals)

    def _take_shared(self, renewals: Renewals) -> Claim:
        try:
            answer = renewals.store.claim(self.key, self._owner, renewals.lease)
        except OSError:
            self._release(self._recent)
            raise
        except BaseException:  # killed while it was asking: it may have the claim
            self.release()
            raise
        if answer is Claim.OURS:
            renewals.add(self.key, self._owner)
        elif answer is Claim.BUSY:
            self._release(self._recent)
        elif self._recent is not None:
            self._recent.done(self.key, self._owner)
        return answer

    def done(self) -> None:
        """Remember that it was handled. Never raises OSError: that would have it handled again."""
        try:
            if self._renewals is not None:
                self._write_done(self._renewals.store)
            if self._recent is not None:
                self._write_done(self._recent)
        finally:
            # Only now, so that the claim holds while the mark is being written.
            if self._renewals is not None:
                self._renewals.remove(self.key, self._owner)

    def release(self) -> None:
        """Give it back: it was not handled. Never raises OSError: the lease ends it as well."""
        if self._renewals is not None:
            self._renewals.remove(self.key, self._owner)
            self._release(self._renewals.store)
        self._release(self._recent)

    def _write_done(self, store: ProcessedEvents) -> None:
        for pause in (*_PAUSES, None):
            if self._tried(store.done):
                return
            if pause is not None:
                gevent.sleep(pause)
        logger.error(
            "%s was handled, which could not be remembered: a repetition is handled again", self.key
        )

    def _release(self, store: ProcessedEvents | None) -> None:
        if store is not None:
            self._tried(store.release)

    def _tried(self, function: Callable[[str, str], None]) -> bool:
        try:
            function(self.key, self._owner)
        except OSError as error:
            logger.warning(_FAILS, describe(error))
            return False
        return True
