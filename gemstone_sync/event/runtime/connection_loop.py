"""Who owns a connection: one greenlet, which opens a link, uses it, and makes the next one.

What is done with the link belongs to `publisher` and `consumer`; here are the life of the greenlet,
its thread, reconnecting, what the log says about it, and forks.

In a patched process owners are greenlets of the main thread's hub. Where they are started by
another thread, whose hub may never turn, and in a process that is not patched, each has a native
daemon thread of its own with a hub: a broker that does not answer holds up nobody else there.
"""

from __future__ import annotations

import abc
import contextlib
import encodings.idna  # noqa: F401  # which the first look-up of a host imports, in its thread
import logging
import os
import random
import time
import weakref
from collections.abc import Callable
from typing import Any

import gevent
import greenlet
from gevent import monkey
from gevent.hub import MAIN_THREAD_IDENT

from ...concurrency import is_patched, let_others_run
from ..link import Link, LinkLost, LinkRefused
from ..wakeups import Receipt, Signal, seconds_until, thread_id

__all__ = ["NOT_YET", "Owner", "starting"]

_logger = logging.getLogger("gemstone_sync.event")
_start_native_thread = monkey.get_original("_thread", "start_new_thread")
_native_lock = monkey.get_original("_thread", "RLock")

#: Seconds after which an owner lets the others of its hub run.
_SLICE = 0.005
#: Seconds before the first new attempt to connect, and the most it doubles to: two seconds after
#: the broker is back all are. An attempt that fails takes 0.6 ms of CPU over AMQP.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 1.5
#: Seconds for which a connection must have held for the pauses to start anew.
_HELD = 5.0
#: Seconds beyond its time that `stop` gives a greenlet that is killed: `Link.close` may take two.
_GRACE = 2.5


#: Why it is not ready, as long as nothing has failed.
NOT_YET = "not connected yet"


class Owner(abc.ABC):
    """The greenlet that owns a connection. It is started once, and ends once.

    :param make_link: makes a link that is not open yet.
    :param name: what the log and errors call it.
    :param threaded: True for a native thread of its own, False for the main thread's hub, if that
        is where it is started; None to do what fits the process.
    """

    def __init__(
        self,
        make_link: Callable[[], Link],
        *,
        name: str,
        threaded: bool | None = None,
        logger: logging.Logger | None = None,
    ) -> None:
        self.name = name
        self.logger = _logger if logger is None else logger
        #: True in a process that was forked from the one in which it runs: of no use any more.
        self.inherited = False
        #: True once `stop` was called, and the moment until which it may go on.
        self.stopping = False
        self.deadline = float("inf")
        #: True once the greenlet is through.
        self.ended = False
        #: The link while there is one, open or about to be.
        self.link: Link | None = None
        #: Set to make the greenlet look; None until it runs.
        self.signal: Signal | None = None
        self._make_link = make_link
        self._threaded = not is_patched() if threaded is None else threaded
        self._greenlet: Any = None
        self._ready_since: float | None = None
        self._away_since = time.monotonic()
        self._why = NOT_YET
        self._reported = False
        self._refusals: set[str] = set()
        self._interruptible = False
        self._breathed = 0.0
        self._endings: list[Receipt] = []

    # For subclasses

    @abc.abstractmethod
    def _use(self, link: Link) -> None:
        """Use an open link until it is lost (raise) or the work is done after `stop` (return).

        Calls `_is_ready` once everything is declared.
        """

    def _may_end(self) -> bool:
        """Whether nothing is left to do, once it is stopping. Looked at while there is no link."""
        return True

    @abc.abstractmethod
    def _at_end(self) -> None:
        """The last thing the greenlet does: tell those who wait that nothing comes any more."""

    def _is_ready(self) -> None:
        self._ready_since = time.monotonic()
        if self._reported:
            away = self._ready_since - self._away_since
            self.logger.info("%s: connected to the broker after %.1f s", self.name, away)
        else:
            self.logger.debug("%s: connected to the broker", self.name)
        self._reported = False
        self._refusals.clear()

    def _breathe(self) -> bool:
        """Let the others of the hub run when it is time; True when it was.

        `Link.wait` returns at once while other threads keep handing over: that is no break.
        """
        if time.monotonic() - self._breathed < _SLICE:
            return False
        let_others_run()
        self._breathed = time.monotonic()
        return True

    # For those who use it, from any thread

    def start(self) -> None:
        """Begin; returns at once."""
        _watch_forks()
        _owners.add(self)
        # An executor's thread has no hub that turns once the call is through.
        self._threaded = self._threaded or thread_id() != MAIN_THREAD_IDENT
        if self._threaded:
            # It imports here what it needs, where forks wait for it: what a thread imports while
            # another one forks the child waits for without end.
            with contextlib.suppress(Exception):  # told when it connects
                self._make_link()
            _start_native_thread(self._run_thread, ())
        else:
            self._spawn()

    def wake(self) -> None:
        """Have the greenlet look at what there is to do."""
        signal = self.signal
        if signal is not None:
            signal.set()

    def is_current(self) -> bool:
        """Tell whether this is called from within the owner's greenlet."""
        return greenlet.getcurrent() is self._greenlet

    def stop(self, timeout: float) -> bool:
        """Have it end when its work is done; cut it off after so many seconds.

        :returns: False when it had to be cut off.
        """
        self.deadline = min(self.deadline, time.monotonic() + timeout)
        self.stopping = True
        if self.ended or self.inherited or self.is_current():
            return not self.is_current()
        ending = Receipt()
        self._endings.append(ending)
        self.wake()
        self.interrupt()
        if self.ended or ending.wait(seconds_until(self.deadline)):
            return True
        self._in_hub(self._kill)
        # A greenlet that does not end even now (a native call in a thread of its own) ends later.
        again = Receipt()
        self._endings.append(again)
        if not self.ended:
            again.wait(_GRACE)
        return False

    def interrupt(self) -> None:
        """End it now if it is stopping, waits for nothing but a broker, and nothing is left."""
        if self.stopping:
            self._in_hub(self._interrupt)

    def why_not_ready(self) -> str | None:
        """None while it has a connection in use; otherwise why not."""
        if self._ready_since is not None:
            return None
        away = time.monotonic() - self._away_since
        return f"no connection to the broker for {away:.1f} s: {self._why}"

    # The greenlet

    def _spawn(self) -> None:
        self.signal = Signal()
        self._greenlet = gevent.spawn(self._run)

    def _run_thread(self) -> None:
        hub = gevent.get_hub()
        try:
            self._spawn()
            while not self._greenlet.dead:
                # With a time-out: a hub that only other threads can wake gives up.
                self._greenlet.join(3600)
        finally:
            # First: a process that ends while a thread destroys its loop may crash.
            hub.destroy(destroy_loop=True)
            self._tell_ended()

    def _in_hub(self, function: Callable[[], None]) -> None:
        signal = self.signal
        if signal is not None:
            signal.call(function)

    def _interrupt(self) -> None:
        if self._interruptible and self._may_end():
            self._kill()

    def _kill(self) -> None:
        if self._greenlet is not None:
            self._greenlet.kill(block=False)

    def _run(self) -> None:
        try:
            self._connect_for_ever()
        except gevent.GreenletExit:
            pass
        finally:
            if not self.inherited:
                try:
                    self._at_end()
                finally:
                    if not self._threaded:
                        self._tell_ended()

    def _tell_ended(self) -> None:
        self.ended = True
        for ending in list(self._endings):
            ending.wake()

    def _connect_for_ever(self) -> None:
        failures = 0
        while not (self.stopping and self._may_end()):
            error = self._connect_once()
            if error is None:
                return
            ready_since, self._ready_since = self._ready_since, None
            now = time.monotonic()
            held = ready_since is not None and now - ready_since >= _HELD
            failures = 1 if held else failures + 1
            if ready_since is not None:
                self._away_since = now
            self._report(error)
            del error  # its traceback holds the link
            self._pause(failures)

    def _connect_once(self) -> BaseException | None:
        """One connection, from its beginning to its end: None when its work is done."""
        link = None
        try:
            self._interruptible = True
            link = self._make_link()
            self.link = link
            link.open()
            self._interruptible = False
            self._use(link)
        except (Exception, gevent.Timeout) as error:
            # Not only LinkLost: what a broker sends may hit upon a fault of the libraries, and an
            # owner that has ended for that would leave a service deaf.
            return error
        finally:
            self._interruptible = False
            if link is not None and not self.inherited:
                self.link = None
                link.close()
        return None

    def _pause(self, failures: int) -> None:
        """Equal jitter: half of the time is by chance, so that many owners do not come at once."""
        ceiling = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(failures - 1, 20))
        self._interruptible = True
        if not (self.stopping and self._may_end()):
            gevent.sleep(ceiling / 2 + random.random() * ceiling / 2)
        self._interruptible = False

    def _report(self, error: BaseException) -> None:
        self._why = why = str(error) or type(error).__name__
        if isinstance(error, LinkRefused) and why not in self._refusals:
            self._refusals.add(why)
            self.logger.error("%s: the broker refuses: %s", self.name, why)
        elif self._reported:
            self.logger.debug("%s: still no connection to the broker: %s", self.name, why)
        else:
            unexpected = None if isinstance(error, LinkLost) else error
            self.logger.warning(
                "%s: no connection to the broker, trying until there is one: %s",
                self.name,
                why,
                exc_info=unexpected,
            )
        self._reported = True

    # Forks

    def leave_to_parent(self) -> None:
        """In a forked child: the connection is the parent's; no greenlet here may go on with it."""
        if self.ended or self.signal is None:
            self.inherited = True
            return
        self.inherited = True
        # Not to be collected: what the libraries do then would end the parent's connection.
        _kept.append(self)
        mine, current = self._greenlet, greenlet.getcurrent()
        here = self.signal.thread == thread_id()
        if here and not self.signal.is_dead() and not mine.dead and mine is not current:
            # Now, before a hub runs: any turn of it might read from the parent's socket. A greenlet
            # that ends goes on in its parent, which must not be the hub meanwhile.
            mine.parent = current
            with contextlib.suppress(Exception):
                mine.throw(gevent.GreenletExit())
        if self.link is not None:
            self.link.abandon()


#: Those that were started.
_owners: weakref.WeakSet[Owner] = weakref.WeakSet()
#: What a forked child got with its parent's memory and must not touch.
_kept: list[Owner] = []
_starting = _native_lock()
_watching = False


def starting() -> Any:
    """The lock under which owners are chosen and started."""
    return _starting


def _watch_forks() -> None:
    global _watching
    if not _watching:
        _watching = True
        os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)


def _before() -> None:
    _starting.acquire()


def _in_parent() -> None:
    _starting.release()


def _in_child() -> None:
    global _starting
    _starting = _native_lock()
    for owner in list(_owners):
        owner.leave_to_parent()
