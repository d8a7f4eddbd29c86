"""Telling that something holds the hub, so that no other greenlet of its thread goes on.

Then no greenlet can tell, nor can a signal: a native thread does. Several times in `blocked_after`
it asks the hub for a sign of life, which costs calls nothing (some 0.1 % of a core). A hub that
gives none for that long is held by whatever its thread is at: Python code, a C call, or the
collection of garbage. A C call may hold the interpreter too, and then this thread with it: that is
told when it ends, and known by the processor time that the hub's thread has had. Where it had none,
the process was stopped or the machine asleep, and nobody is to blame; nor for the time in which the
thread waited for a processor that others had, although it may have kept this one waiting for the
interpreter meanwhile. Whoever counts lag and blocks is told by this watch: there is no other.

That the thread waits for a native lock, where objects that are older than the patch stay native, is
told once more after a while: then it stands still for good. That is known on Linux only, from the
kernel.
"""

from __future__ import annotations

import atexit
import collections
import contextlib
import gc
import logging
import math
import os
import sys
import threading
import time
import traceback
import types
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import gevent
from gevent import monkey
from gevent.hub import Hub

from . import patching
from .doing import Doing, collector_paused, doing, place
from .stacks import calling

__all__ = ["Blocks", "HubObserver", "blocks", "watch_no_more", "watch_this_hub"]

#: Seconds between two looks for a native lock.
PERIOD = 1.0

#: After how many looks that find it in the same place the hub stands still.
LOOKS = 3

#: Questions in `blocked_after`: so much later than that a block may be told, in parts of it.
_QUESTIONS = 4

#: Looks, a millisecond apart, that all find one instruction before it counts as a call into C: the
#: interpreter hands over at few instructions, so two are often alike.
_SAMPLES = 8

#: Names that are counted by themselves, and the name of the others.
_NAMES, _OTHER = 200, "_OTHER"

#: Newest blocks that are kept.
_KEPT = 20

_GARBAGE = "garbage collection"

_logger = logging.getLogger("gemstone_sync.blocked")

_native_lock, _start_native_thread, _native_ident = monkey.get_original(
    "_thread", ["allocate_lock", "start_new_thread", "get_ident"]
)


class HubObserver(Protocol):
    """Is told of the hubs of this process that are watched; must not wait."""

    def on_lag(self, seconds: float) -> None:
        """Take, in the hub, how long it took to answer."""

    def on_block(self, name: str) -> None:
        """Take, in a native thread, the name under which a block is counted that is going on."""


class Blocks:
    """Counts how often the hubs of this process were held for longer than `blocked_after`.

    :ivar count: how often.
    :ivar seconds: for how long in sum, up to the last one that is over.
    :ivar by_name: how often by method, event handler or periodic task, ``garbage collection``, or
        ``_OTHER``.
    :ivar recent: the newest, oldest first: when each was told, in seconds since 1970, and what.
    :ivar holding: what holds a hub now, as it was told, and since when (``time.monotonic()``); None
        while nothing does.
    :ivar lag: seconds that the hub took to answer the last question.
    :ivar observer: is told of each block, and of each answer.
    """

    def __init__(self) -> None:
        self.observer: HubObserver | None = None
        self.count = 0
        self.seconds = 0.0
        self.by_name: dict[str, int] = {}
        self.recent: collections.deque[tuple[float, str]] = collections.deque(maxlen=_KEPT)
        self.holding: tuple[float, str] | None = None
        self.lag = 0.0

    def add(self, name: str | None, text: str, seconds: float) -> None:
        """Count one that is going on for so long already."""
        if name is None or (name not in self.by_name and len(self.by_name) >= _NAMES):
            name = _OTHER
        self.by_name[name] = self.by_name.get(name, 0) + 1
        self.count += 1
        self.recent.append((time.time(), text))
        self.holding = time.monotonic() - seconds, text
        if self.observer is not None:
            self.observer.on_block(name)


#: Those of this process.
blocks = Blocks()


def watch_this_hub(blocked_after: float | None = None) -> None:
    """Watch the current thread's hub from now on; with one thread, however often it is called.

    :param blocked_after: seconds after which it is told what holds the hub; None for never. The
        shortest that was asked for counts. Lag is told of in any case where somebody observes.
    """
    if blocked_after is None and blocks.observer is None and not patching.may_block():
        return
    hub = gevent.get_hub()
    watch: _Watch | None = getattr(hub, "gemstone_sync_watch", None)
    if watch is not None and watch.pid == os.getpid():
        watch.add(blocked_after)
        return
    if watch is not None:  # of the process that has forked this one
        watch.close()
    hub.gemstone_sync_watch = watch = _Watch(hub, blocked_after)
    if _collector.note not in gc.callbacks:
        gc.callbacks.append(_collector.note)
    _start_native_thread(watch.run, ())
    atexit.register(watch.stop)


def watch_no_more(blocked_after: float | None) -> None:
    """Take back a `watch_this_hub`: what holds the hub later is nobody's service's."""
    watch: _Watch | None = getattr(gevent.get_hub(), "gemstone_sync_watch", None)
    if watch is not None and watch.pid == os.getpid():
        watch.remove(blocked_after)


class _Collector:
    """Knows when garbage is collected.

    :ivar began: when the collection that is going on began (``time.monotonic()``); or None.
    :ivar ended: when the last one that took long began and ended.
    """

    def __init__(self) -> None:
        self.began: float | None = None
        self.ended = (0.0, 0.0)

    def note(self, phase: str, info: object) -> None:
        """Called by the collector."""
        now = time.monotonic()
        if phase == "start":
            self.began = now
        elif self.began is not None:
            if now - self.began > 0.05:
                self.ended = self.began, now
            self.began = None

    def is_at_work(self, since: float, now: float) -> bool:
        """Tell whether most of a time went into it."""
        begins = [(self.began, now)] if self.began is not None else []
        spans = [*begins, self.ended]
        return any(end - max(since, begin) > (now - since) / 2 for begin, end in spans)


_collector = _Collector()


class _Seen(NamedTuple):
    """Where a thread was."""

    frame: types.FrameType
    f_code: types.CodeType
    f_lasti: int
    f_lineno: int | None
    doing: Doing | None


class _Watch:
    """Looks after the hub of the thread that makes it."""

    def __init__(self, hub: Any, blocked_after: float | None) -> None:
        self.pid = os.getpid()
        #: Not held: the first look is at once.
        self._woken, self._ended = _native_lock(), _native_lock()
        self._ended.acquire()
        self._stopping = False
        self._wanted: list[float] = []
        self._after: float | None = None
        self.add(blocked_after)
        self._thread = _native_ident()
        # macOS has none: there C calls that hold the interpreter are not told of.
        has_clock = hasattr(time, "pthread_getcpuclockid")
        self._clock = time.pthread_getcpuclockid(self._thread) if has_clock else None
        self._task = f"/proc/self/task/{threading.get_native_id()}"
        self._run_delay = _RunDelay()
        self._alive = False
        self._asked = self._answered = self._delayed = 0.0
        self._question = hub.loop.async_(ref=False)
        self._question.start(self._answer)
        #: Looks for a native lock that found the same, what they found, and when the next is due.
        self._looks, self._next_look = 0, 0.0
        self._last_place: tuple[int, int, list[str]] | None = None
        # From now on: the first call may come before the thread has had its first turn.
        self._ask(self._run_delay.read())
        self._spent = self._processor_time()

    def add(self, blocked_after: float | None) -> None:
        """Tell of blocks of so many seconds too."""
        if blocked_after is not None:
            self._wanted.append(blocked_after)
            self._after = min(self._wanted)
            self._wake()  # it may be about to wait for much longer than that

    def _wake(self) -> None:
        with contextlib.suppress(RuntimeError):  # it was woken just now
            self._woken.release()

    def remove(self, blocked_after: float | None) -> None:
        """Forget that somebody wants to be told of blocks of so many seconds."""
        if blocked_after in self._wanted:
            self._wanted.remove(blocked_after)
            self._after = min(self._wanted, default=None)

    def _answer(self) -> None:
        """Runs in the hub."""
        self._answered = time.monotonic()
        blocks.lag = self._answered - self._asked
        if blocks.observer is not None:
            blocks.observer.on_lag(blocks.lag)
        self._alive = True

    def _ask(self, delayed: float) -> None:
        self._alive = False
        self._asked, self._delayed = time.monotonic(), delayed
        self._question.send()

    def run(self) -> None:
        """Look until the process or the hub's thread ends."""
        told, mine = False, _RunDelay()
        try:
            before, spent = self._asked, self._spent
            delayed, mine_delayed = self._delayed, mine.read()
            while self._wait(tick := self._tick()):
                now, cpu = time.monotonic(), self._processor_time()
                # Before anything that lets the thread go on: it may have come out of C just now.
                seen = self._see() if now - before - tick > self._most_lateness() else None
                delay, mine_delay = self._run_delay.read(), mine.read()
                # This thread had no turn for so long, and not for want of a processor: while one of
                # the two waits for that, the other mostly does, too.
                busy, waited = cpu - spent, max(delay - delayed, mine_delay - mine_delayed)
                late = now - before - tick - waited
                if told and self._alive:  # until then it was kept by what has been told
                    late -= max(0.0, self._answered - before)
                before, spent, delayed, mine_delayed = now, cpu, delay, mine_delay
                if self._alive:
                    if told:
                        blocks.seconds += blocks.lag
                        blocks.holding = None
                    told = False
                after = self._after
                if seen is not None and late > self._most_lateness():
                    # A process that was stopped has worked for a tick meanwhile at most.
                    if not told and (busy > 1.5 * tick or _collector.is_at_work(now - late, now)):
                        told = self._tell(late, seen)
                        blocks.seconds += late if told and self._alive else 0.0
                    elif not told:
                        self._asked += late
                elif after is not None and not (told or self._alive):
                    waited = delay - self._delayed  # of its thread, for a processor
                    if now - self._asked - waited >= after:
                        told = self._tell(now - self._asked)
                self._look_for_lock(now)
                if self._alive:
                    self._ask(delay)
        except (OSError, KeyError, ValueError):
            pass  # the hub is gone
        finally:
            mine.close()
            self.close()
            self._ended.release()

    def close(self) -> None:
        """Let go of the descriptor; a forked child has it too."""
        self._run_delay.close()

    def _wait(self, seconds: float) -> bool:
        """Wait until the next look; return False when there is none."""
        self._woken.acquire(timeout=seconds)
        return not self._stopping

    def _processor_time(self) -> float:
        """Return the seconds of a processor that the hub's thread has had.

        :raises OSError: when it has ended.
        """
        return 0.0 if self._clock is None else time.clock_gettime(self._clock)

    def _most_lateness(self) -> float:
        """Return how much later than it wanted this thread may have its turn."""
        return math.inf if self._after is None else self._after * 3 / 4

    def _tick(self) -> float:
        after = self._after
        return PERIOD if after is None else min(PERIOD, after / _QUESTIONS)

    def _tell(self, seconds: float, seen: _Seen | None = None) -> bool:
        """Log what holds the hub; False when it waits for sockets and timers as it should.

        :param seen: where it was in C, if it did not even let this thread run.
        """
        try:
            return self._find_and_tell(seconds, seen)
        except Exception:  # of the user's handlers, or of what a frame holds
            _write(
                logging.ERROR, f"something has held the hub for {seconds:.1f} s: {sys.exc_info()}"
            )
            return True

    def _find_and_tell(self, seconds: float, seen: _Seen | None) -> bool:
        now = time.monotonic()
        collecting = _collector.is_at_work(now - seconds, now)
        in_c = seen is not None
        seen = seen or self._see()
        if seen.f_code is Hub.run.__code__ and not collecting:
            return False
        what = seen.doing
        if collecting:
            call: str | None = _GARBAGE
        else:
            call = calling(seen) if in_c or self._stays_in(seen.frame) else None
        text = _described(what, seen, call, seconds)
        blocks.add(_GARBAGE if collecting else what and what.name, text, seconds)
        _write(logging.WARNING, text, what)
        return True

    def _see(self) -> _Seen:
        """Note where the hub's thread is, without letting it go on."""
        with collector_paused():
            frame = sys._current_frames()[self._thread]
            while frame.f_code is _Collector.note.__code__ and frame.f_back is not None:
                frame = frame.f_back
            return _Seen(frame, frame.f_code, frame.f_lasti, frame.f_lineno, doing(frame))

    def _stays_in(self, frame: types.FrameType) -> bool:
        """Tell whether the thread does not leave one instruction: it is in a C call."""
        sleep, at = monkey.get_original("time", "sleep"), frame.f_lasti
        for _ in range(_SAMPLES):
            sleep(0.001)
            now = sys._current_frames().get(self._thread)
            if now is not frame or now.f_lasti != at:
                return False
        return True

    def _look_for_lock(self, now: float) -> None:
        """Tell, once, that the thread waits for a native lock and nothing changes any more."""
        if now < self._next_look or not patching.may_block():
            return
        self._next_look = now + PERIOD * 0.9
        place = None if self._alive else self._place()
        self._looks = self._looks + 1 if place is not None and place == self._last_place else 0
        self._last_place = place
        if self._looks == LOOKS:
            self._tell_of_lock(sys._current_frames()[self._thread])

    def stop(self) -> None:
        """End the thread: one that runs while the interpreter ends may crash it."""
        if self.pid == os.getpid():
            self._stopping = True
            self._wake()
            self._ended.acquire(timeout=1)

    def _place(self) -> tuple[int, int, list[str]] | None:
        """Tell where the hub's thread waits for a lock, and the processor time it has had."""
        with open(f"{self._task}/wchan") as wchan:
            if "futex" not in wchan.read():
                return None
        with open(f"{self._task}/stat") as stat:
            times = stat.read().rpartition(")")[2].split()[11:13]
        frame = sys._current_frames()[self._thread]
        return id(frame), frame.f_lasti, times

    def _tell_of_lock(self, frame: types.FrameType) -> None:
        code = frame.f_code
        with collector_paused():
            stack = "".join(traceback.format_stack(frame))
        text = (
            f"the process stands still: {code.co_name} at {code.co_filename}:{frame.f_lineno} has "
            f"been waiting for a native lock for {LOOKS * PERIOD:.0f} s. Until that is released no "
            "call is answered, no time-out strikes, and SIGTERM is not obeyed: SIGKILL ends it. "
            f"{patching.REMEDY}\n{stack}"
        )
        _write(logging.ERROR, text)


class _RunDelay:
    """Reads the seconds in which the thread that makes it could have run, and had no processor.

    They stay 0 where the kernel does not tell (Documentation/scheduler/sched-stats.rst, of Linux).
    The file stays open: to open it costs three times what reading it does, eight times a second.
    """

    def __init__(self) -> None:
        path = f"/proc/self/task/{threading.get_native_id()}/schedstat"
        self._file: int | None = None
        with contextlib.suppress(OSError):
            self._file = os.open(path, os.O_RDONLY)

    def read(self) -> float:
        if self._file is None:
            return 0.0
        try:
            return int(os.pread(self._file, 100, 0).split()[1]) / 1e9
        except (OSError, IndexError, ValueError):
            return 0.0

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _described(what: Doing | None, seen: _Seen, call: str | None, seconds: float) -> str:
    where = "" if call is None else f" in {call}" if call == _GARBAGE else f" in the C call {call}"
    text = f"{what or 'something'} has held the hub for {seconds:.1f} s{where}, {place(seen)}"
    if what is not None and what.frame is not None and what.frame is not seen.frame:
        text += f", called by {place(what.frame)}"
    return f"{text}: nothing else runs meanwhile"


def _write(level: int, text: str, what: Doing | None = None) -> None:
    """Log it, unless that would wait."""
    extra = {}
    if what is not None:
        extra[what.kind.replace(" ", "_")] = what.name
        if what.call is not None:
            extra["request_id"] = what.call.request_id
    if all(_is_free(handler.lock) for handler in _handlers()):
        _logger.log(level, "%s", text, extra=extra)
    else:  # the lock is waited for by what logs
        os.write(2, f"{text}\n".encode(errors="backslashreplace"))


def _handlers() -> Iterator[logging.Handler]:
    logger: logging.Logger | None = _logger
    while logger is not None:
        yield from logger.handlers
        logger = logger.parent if logger.propagate else None


def _is_free(lock: Any) -> bool:
    if lock is None or not lock.acquire(blocking=False):
        return lock is None
    lock.release()
    return True
