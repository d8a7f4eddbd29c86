"""The connection loop: a greenlet that opens a link, uses it, and makes the next one.

What is done with the link belongs to `publisher_loop` and `consumer_loop`; here are the life of the
greenlet, its thread, reconnecting, what the log says about it, and forks. `Runner` is what the
publisher and the consumer, which may be started again, have in common.

In a patched process the loops are greenlets of the main thread's hub. Where they are started by
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
from typing import Any, Generic, TypeVar

import gevent
import greenlet
from gevent import monkey
from gevent.hub import MAIN_THREAD_IDENT

from ...concurrency import is_patched, let_others_run
from ..link import Link, LinkLost, LinkRefused
from ..wakeups import Receipt, Signal, seconds_until, thread_id

__all__ = ["NOT_YET", "ConnectionLoop", "Runner"]

logger = logging.getLogger("gemstone_sync.event")
_start_native_thread = monkey.get_original("_thread", "start_new_thread")
_native_lock = monkey.get_original("_thread", "RLock")

#: Seconds after which a loop lets the others of its hub run.
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


class ConnectionLoop(abc.ABC):
    """Runs a connection, in one greenlet. It is started once, and ends once.

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
    ) -> None:
        self.name = name
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
        self._disconnected_since = time.monotonic()
        self._last_error = NOT_YET
        #: Why there is no connection, as far as the log has it.
        self._logged: set[str] = set()
        self._interruptible = False
        self._others_ran = 0.0
        self._endings: list[Receipt] = []

    # For subclasses

    @abc.abstractmethod
    def _run_with_link(self, link: Link) -> None:
        """Use an open link until it is lost (raise) or the work is done after `stop` (return).

        Calls `_mark_ready` once everything is declared.
        """

    def _is_idle(self) -> bool:
        """Tell whether nothing is left to do, once it is stopping. Asked while there is no link."""
        return True

    @abc.abstractmethod
    def _at_end(self) -> None:
        """Tell those who wait that nothing comes any more, as the greenlet's last act."""

    def _mark_ready(self) -> None:
        self._ready_since = time.monotonic()
        if self._logged:
            away = self._ready_since - self._disconnected_since
            logger.info("%s: connected to the broker after %.1f s", self.name, away)
        else:
            logger.debug("%s: connected to the broker", self.name)
        self._logged.clear()

    def _let_others_run(self) -> bool:
        """Let the others of the hub run when it is time; return True when it was.

        `Link.wait` returns at once while other threads keep handing over: that is no break.
        """
        if time.monotonic() - self._others_ran < _SLICE:
            return False
        let_others_run()
        self._others_ran = time.monotonic()
        return True

    # For those who use it, from any thread

    def start(self) -> None:
        """Begin; returns at once."""
        _watch_forks()
        _loops.add(self)
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
        """Tell whether this is called from within the loop's greenlet."""
        return greenlet.getcurrent() is self._greenlet

    def stop(self, timeout: float) -> bool:
        """Have it end when its work is done; cut it off after so many seconds.

        :returns: False when it had to be cut off.
        """
        self.deadline = min(self.deadline, time.monotonic() + timeout)
        self.stopping = True
        if self.ended or self.inherited or self.is_current():
            return not self.is_current()
        self.wake()
        self.interrupt()
        if self._wait_for_end(seconds_until(self.deadline)):
            return True
        self._call_in_hub(self._kill)
        # A greenlet that does not end even now (a native call in a thread of its own) ends later.
        self._wait_for_end(_GRACE)
        return False

    def _wait_for_end(self, seconds: float) -> bool:
        ending = Receipt()
        self._endings.append(ending)
        return self.ended or ending.wait(seconds)

    def interrupt(self) -> None:
        """End it now if it is stopping, waits for nothing but a broker, and nothing is left."""
        if self.stopping:
            self._call_in_hub(self._kill_if_idle)

    def why_not_ready(self) -> str | None:
        """Return None while it has a connection in use; otherwise why not."""
        if self._ready_since is not None:
            return None
        away = time.monotonic() - self._disconnected_since
        return f"no connection to the broker for {away:.1f} s: {self._last_error}"

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
            self._notify_ended()

    def _call_in_hub(self, function: Callable[[], None]) -> None:
        signal = self.signal
        if signal is not None:
            signal.call(function)

    def _kill_if_idle(self) -> None:
        if self._interruptible and self._is_idle():
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
                        self._notify_ended()

    def _notify_ended(self) -> None:
        self.ended = True
        for ending in list(self._endings):
            ending.wake()

    def _connect_for_ever(self) -> None:
        failures = 0
        while not (self.stopping and self._is_idle()):
            error = self._connect_once()
            if error is None:
                return
            ready_since, self._ready_since = self._ready_since, None
            now = time.monotonic()
            held = ready_since is not None and now - ready_since >= _HELD
            failures = 1 if held else failures + 1
            if ready_since is not None:
                self._disconnected_since = now
            self._log_failure(error)
            del error  # its traceback holds the link
            self._sleep_before_retry(failures)

    def _connect_once(self) -> BaseException | None:
        """Run a connection from its beginning to its end; return None when its work is done."""
        link = None
        try:
            self._interruptible = True
            link = self._make_link()
            self.link = link
            link.open()
            self._interruptible = False
            self._run_with_link(link)
        except (Exception, gevent.Timeout) as error:
            # Not only LinkLost: what a broker sends may hit upon a fault of the libraries, and a
            # loop that has ended for that would leave a service deaf.
            return error
        finally:
            self._interruptible = False
            if link is not None and not self.inherited:
                self.link = None
                link.close()
        return None

    def _sleep_before_retry(self, failures: int) -> None:
        """Sleep before the next attempt: half of it is by chance, so that not all come at once."""
        ceiling = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(failures - 1, 20))
        self._interruptible = True
        try:
            if not (self.stopping and self._is_idle()):
                gevent.sleep(ceiling / 2 + random.random() * ceiling / 2)
        finally:
            self._interruptible = False

    def _log_failure(self, error: BaseException) -> None:
        self._last_error = why = str(error) or type(error).__name__
        if why in self._logged:
            logger.debug("%s: still no connection to the broker: %s", self.name, why)
        elif isinstance(error, LinkRefused):
            logger.error("%s: the broker refuses: %s", self.name, why)
        else:
            unexpected = None if isinstance(error, LinkLost) else error
            logger.warning(
                "%s: no connection to the broker, trying until there is one: %s",
                self.name,
                why,
                exc_info=unexpected,
            )
        self._logged.add(why)

    # Forks

    def leave_to_parent(self) -> None:
        """In a forked child: the connection is the parent's; no greenlet here may go on with it."""
        self.inherited = True
        if self.ended or self.signal is None:
            return
        # Not to be collected: what the libraries do then would end the parent's connection.
        _inherited.append(self)
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


L = TypeVar("L", bound=ConnectionLoop)


class Runner(Generic[L]):
    """Runs a connection loop, and another one after a stop, in a forked child, or when it ended.

    :param name: what the log and errors call it.
    :param make_loop: makes a loop that is not started yet.
    """

    def __init__(self, name: str, make_loop: Callable[[], L]) -> None:
        self._name = name
        self._make_loop = make_loop
        self._loop: L | None = None

    def start(self) -> None:
        """Begin; returns at once. Does nothing when it runs, or is just being stopped."""
        loop = self._loop
        if loop is None or loop.inherited or (loop.ended and not loop.stopping):
            with _starting:
                if self._loop is loop:
                    self._loop = self._make_loop()
                    try:
                        self._loop.start()
                    except BaseException:
                        self._loop = loop
                        raise

    def _stop_loop(self, loop: L, timeout: float) -> None:
        """Stop a loop. It can be started again also when this is interrupted."""
        try:
            loop.stop(timeout)
        finally:
            if self._loop is loop:
                self._loop = None

    def why_not_ready(self) -> str | None:
        """Return None while it has a connection in use; otherwise why not."""
        loop = self._loop
        if loop is None or loop.inherited:
            return f"{self._name}: not started"
        why = loop.why_not_ready()
        return None if why is None else f"{self._name}: {why}"


#: Those that were started.
_loops: weakref.WeakSet[ConnectionLoop] = weakref.WeakSet()
#: What a forked child got with its parent's memory and must not touch.
_inherited: list[ConnectionLoop] = []
#: Under this lock loops are chosen and started.
_starting = _native_lock()
_watching = False


def _watch_forks() -> None:
    global _watching
    if not _watching:
        _watching = True
        os.register_at_fork(
            before=_before_fork,
            after_in_parent=_after_fork_in_parent,
            after_in_child=_after_fork_in_child,
        )


def _before_fork() -> None:
    _starting.acquire()


def _after_fork_in_parent() -> None:
    _starting.release()


def _after_fork_in_child() -> None:
    global _starting
    _starting = _native_lock()
    for loop in list(_loops):
        loop.leave_to_parent()
