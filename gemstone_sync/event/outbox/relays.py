"""The relays of one process: a greenlet each, in a thread of their own where nothing is patched."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable, Mapping, Sequence

import gevent

from ...concurrency import is_patched
from ...concurrency.native import NativeThreads
from ..wakeups import Signal, seconds_until
from .box import Box
from .lane import Send
from .relay import Relay

__all__ = ["Relays"]

#: Seconds between two looks for databases in which other processes have stored events.
_LOOK = 5.0

#: Seconds for greenlets to end that are not waited for any longer.
_GRACE = 1.0


class Relays:
    """Runs a relay for each box.

    :param boxes: those that are known from the start.
    :param find: gives the boxes that there are by now; it may block the thread. Never raises.
    :param sends, owner: see `Relay`.
    """

    def __init__(
        self,
        boxes: Sequence[Box],
        find: Callable[[], Sequence[Box]],
        sends: Mapping[str, Send],
        owner: str,
        logger: logging.Logger,
    ) -> None:
        self._boxes = boxes
        self._find = find
        self._sends = sends
        self._owner = owner
        self._logger = logger
        self._relays: dict[Hashable, Relay] = {}
        self._running: list[gevent.Greenlet[..., None]] = []
        self._changed: Signal | None = None
        self._stopping: Signal | None = None
        self._end: float | None = None
        self._thread: threading.Thread | None = None
        self._greenlet: gevent.Greenlet[..., None] | None = None

    def start(self) -> None:
        """Begin; returns at once."""
        if is_patched():
            self._greenlet = gevent.spawn(self._run)
        else:
            self._thread = threading.Thread(
                target=self._run_in_thread, name="gemstone_sync outbox", daemon=True
            )
            self._thread.start()

    def stop(self, timeout: float) -> None:
        """Send what can be sent within so many seconds, and end."""
        self._end = time.monotonic() + timeout
        if self._stopping is not None:
            self._stopping.set()
        patience = timeout + 2 * _GRACE
        if self._greenlet is not None:
            self._greenlet.join(patience)
            self._greenlet.kill(timeout=_GRACE)
        elif self._thread is not None:
            self._thread.join(patience)

    def wake(self, key: Hashable | None = None) -> None:
        """Something was stored in a box, or in any."""
        for relay in list(self._relays.values()) if key is None else self._relay(key):
            relay.wake()

    def expect(self, key: Hashable) -> None:
        """Something may be committed in a box in the next seconds."""
        for relay in self._relay(key):
            relay.expect()

    def look(self) -> None:
        """There may be a box that was not there before."""
        if self._changed is not None:
            self._changed.set()

    def troubles(self) -> list[tuple[int, str]]:
        """Of each box in which something is refused: how much, and why."""
        found = [relay.trouble for relay in list(self._relays.values())]
        return [trouble for trouble in found if trouble is not None]

    def _relay(self, key: Hashable) -> list[Relay]:
        relay = self._relays.get(key)
        return [] if relay is None else [relay]

    def _run_in_thread(self) -> None:
        try:
            self._run()
        finally:
            gevent.get_hub().destroy()

    def _run(self) -> None:
        self._changed = Signal()
        self._stopping = Signal()
        self._begin(self._boxes)
        finder = gevent.spawn(self._keep_finding, self._changed)
        try:
            if self._end is None:
                self._stopping.wait()
            finder.kill(block=False)
            for relay in self._relays.values():
                relay.stop()
            gevent.joinall(self._running, timeout=seconds_until(self._end or 0.0))
        finally:
            gevent.killall([finder, *self._running], timeout=_GRACE)

    def _keep_finding(self, changed: Signal) -> None:
        threads = NativeThreads(1)
        while True:
            changed.clear()
            self._begin(threads.call(self._find))
            changed.wait(_LOOK)

    def _begin(self, boxes: Sequence[Box]) -> None:
        for box in boxes:
            if box.key not in self._relays:
                relay = Relay(box, self._sends, self._owner, self._logger)
                self._relays[box.key] = relay
                self._running.append(gevent.spawn(relay.run))
