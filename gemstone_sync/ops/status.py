"""Counts and keeps, in the memory of each process, what the status page tells of calls and events.

Each worker says it as JSON (`Status.as_dict`), and who answers the page adds it up (`together`).

Hot path: `Status.on_call_begun` and `on_call_finished` run for each call.
"""

from __future__ import annotations

import collections
import math
import sys
import time
import types
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from gevent import getcurrent, monkey

from ..broker_urls import without_passwords
from ..concurrency import CallSlots, blocks
from ..concurrency.doing import collector_paused, doing, frames_from, place, waiting
from ..concurrency.stacks import awaited
from ..dispatch import ObservedCall
from ..errors import UNSET, DeadlineExceeded, InternalError, MethodNotFound
from ..event.observed import ObservedEvent
from ..protocol import encode_json
from .logs import error_fields
from .observers import Observer

__all__ = ["Status", "together"]

#: Stands for names that only a caller knows, and for those beyond so many.
_OTHER, _MOST = "_OTHER", 1000
#: Newest errors that are kept; in flight the oldest that are told, and frames of each.
_ERRORS, _IN_FLIGHT, _FRAMES = 50, 100, 20
#: Errors of which why they came is kept: others are answers, or the caller's doing.
_KEPT = (InternalError.code, DeadlineExceeded.code)
#: Errors of one kind at one place that come closer together, in seconds, are told as one.
_TOGETHER = 1.0
#: Characters of arguments that are kept, of an error's text, and of the end of its traceback.
_LONGEST = 5000

#: Slots of which a minute is made, and seconds of each; one more is being filled.
_SLOTS, _SLOT = 6, 10.0
#: Durations are counted in buckets, each 2**(1/4) times as wide as the one before: 50 ms may be
#: 46 or 55. The first ends at 10 µs, the last begins at three hours.
_FIRST, _PER_DOUBLING = 1e-5, 4
_BOUNDS = tuple(_FIRST * math.pow(2.0, number / _PER_DOUBLING) for number in range(121))


class _Slot:
    """Counts what is over within ten seconds."""

    __slots__ = ("buckets", "errors", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        self.errors = 0
        self.buckets: dict[int, int] = {}


class _Tally:
    """Counts what goes by one name: in all, and of the last minute."""

    __slots__ = ("_slot", "_state", "longest", "refused")

    def __init__(self) -> None:
        self.refused = 0
        self.longest = 0.0
        self._slot = _Slot(0)
        #: The sum of older slots, and those of the last minute: changed at once, for other threads.
        self._state: tuple[_Slot, list[_Slot]] = _Slot(0), [self._slot]

    def add(self, seconds: float, failed: bool, now: float) -> None:
        slot = self._slot
        if slot.number != (number := int(now / _SLOT)):
            slot = self._begin(number)
        bucket, buckets = bisect_left(_BOUNDS, seconds), slot.buckets
        buckets[bucket] = buckets.get(bucket, 0) + 1
        slot.errors += failed
        if seconds > self.longest:
            self.longest = seconds

    def _begin(self, number: int) -> _Slot:
        older, slots = self._state
        new = self._slot = _Slot(number)
        gone = [slot for slot in slots if slot.number < number - _SLOTS]
        total = _sum_of([older, *gone])
        self._state = total, [*(slot for slot in slots if slot not in gone), new]
        return new

    def as_dict(self, uptime: float) -> dict[str, Any]:
        """Tell it; quantiles come of it when all workers are put together."""
        now = time.monotonic()
        older, slots = self._state
        minute = _sum_of([slot for slot in slots if slot.number >= int(now / _SLOT) - _SLOTS])
        total = _sum_of([older, *slots])
        covered = min(_SLOTS * _SLOT + now % _SLOT, max(1.0, uptime))
        per_second = sum(minute.buckets.values()) / covered
        return {
            "refused": self.refused,
            "max": self.longest,
            "errors": total.errors,
            "buckets": total.buckets,
            "minute": {
                "per_second": per_second,
                "errors": minute.errors,
                "buckets": minute.buckets,
            },
        }


def _sum_of(slots: Iterable[_Slot]) -> _Slot:
    total = _Slot(0)
    for slot in slots:
        total.errors += slot.errors
        total.buckets = _added([total.buckets, slot.buckets.copy()])
    return total


def _added(counts: Iterable[Mapping[Any, int]]) -> dict[int, int]:
    total: collections.Counter[int] = collections.Counter()
    for each in counts:
        total.update({int(bucket): count for bucket, count in each.items()})
    return dict(total)


def together(tallies: Iterable[Mapping[str, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Put together what several processes have counted by name; those with most calls first.

    ``{"name", "calls", "errors", "refused", "max", "p50", "p95", "p99", "minute": {"calls",
    "errors", "per_second", "p50", "p95", "p99"}}``; seconds; quantiles within 10 % above 10 µs,
    None for those of nothing.
    """
    by_name: dict[str, list[Mapping[str, Any]]] = {}
    for each in tallies:
        for name, tally in each.items():
            by_name.setdefault(name, []).append(tally)
    found = []
    for name, parts in by_name.items():
        minutes = [part["minute"] for part in parts]
        longest = max(part["max"] for part in parts)
        entry = {"name": name, "max": longest, "minute": _sums(minutes, longest)}
        found.append({**entry, **_sums(parts, longest)})
    return sorted(found, key=lambda entry: (-entry["calls"], entry["name"]))


def _sums(parts: list[Any], longest: float) -> dict[str, Any]:
    names = [name for name in ("errors", "refused", "per_second") if name in parts[0]]
    buckets = _added(part["buckets"] for part in parts)
    quantiles = {f"p{q}": _quantile(buckets, q / 100, longest) for q in (50, 95, 99)}
    sums = {name: sum(part[name] for part in parts) for name in names}
    return {"calls": sum(buckets.values()), **sums, **quantiles}


def _quantile(buckets: Mapping[int, int], share: float, longest: float) -> float | None:
    left = share * sum(buckets.values())
    for bucket in sorted(buckets):
        left -= buckets[bucket]
        if left <= 0:
            middle = _FIRST * math.pow(2.0, (bucket - 0.5) / _PER_DOUBLING)
            return min(longest, middle)
    return None


class Status(Observer):
    """Knows the calls and events of one service in this process.

    :param mask: returns the params of a method without what is secret among them.
    """

    def __init__(self, mask: Callable[[str, Any], Any]) -> None:
        self._mask = mask
        self._started = time.monotonic()
        self._methods: dict[str, _Tally] = {}
        self._handlers: dict[str, _Tally] = {}
        #: What runs, with its greenlet.
        self._running: dict[ObservedCall | ObservedEvent, Any] = {}
        self._errors: collections.deque[dict[str, Any]] = collections.deque(maxlen=_ERRORS)
        self._newest: dict[tuple[str, str], dict[str, Any]] = {}
        self._thread = 0

    def start(self) -> None:
        """Note when it begins, in this worker, and the thread in which calls run."""
        self._started = time.monotonic()
        self._thread = monkey.get_original("_thread", "get_ident")()

    # What is observed

    def on_call_begun(self, call: ObservedCall) -> None:
        """Keep a call while it runs."""
        self._running[call] = getcurrent()

    def on_call_finished(self, call: ObservedCall) -> None:
        """Count a call, and keep why it failed if that was not its caller's doing."""
        self._running.pop(call, None)
        error = call.error
        if call.refused:
            is_known = error is None or error.code != MethodNotFound.code
            _tally(self._methods, call.name if is_known else _OTHER).refused += 1
            return
        name, seconds = call.request.method, call.seconds
        tally = self._methods.get(name) or _tally(self._methods, name)
        tally.add(seconds, error is not None, call.started + seconds)
        if error is not None and error.code in _KEPT:
            self._keep(name, call.exception, call, code=error.code, error_id=call.error_id)

    def on_event_begun(self, event: ObservedEvent) -> None:
        """Keep an attempt at an event while it runs."""
        self._running[event] = getcurrent()

    def on_event_finished(self, event: ObservedEvent) -> None:
        """Count an attempt at an event, and keep why it failed."""
        self._running.pop(event, None)
        if event.handler is None:
            return
        ended = event.started + event.seconds
        _tally(self._handlers, event.handler).add(event.seconds, event.failed, ended)
        if event.exception is not None:
            self._keep(event.handler, event.exception, event, event_id=event.id)

    def _keep(
        self, name: str, error: BaseException | None, of: ObservedCall | ObservedEvent, **ids: Any
    ) -> None:
        kind, now = type(error).__name__, time.time()
        newest = self._newest.get((name, kind))
        if newest is not None and 0 <= now - newest["time"] < _TOGETHER:
            newest["times"] += 1
            return
        if len(self._newest) > _ERRORS:
            self._newest = {}
        told = {"text": "", "stack": ""} if error is None else error_fields(error, _LONGEST)
        is_call = isinstance(of, ObservedCall)
        entry = self._newest[name, kind] = {
            "time": now,
            "times": 1,
            "method" if is_call else "handler": name,
            **ids,
            "request_id": of.request_id,
            "error": kind,
            "text": told["text"],
            "traceback": told["stack"],
            "arguments": self._arguments(of) if isinstance(of, ObservedCall) else None,
        }
        self._errors.append(entry)

    def _arguments(self, call: ObservedCall) -> str | None:
        """Write what a method was called with, without secrets."""
        if call.request.params is UNSET:
            return None
        try:
            masked = self._mask(call.request.method, call.request.params)
            text = encode_json(masked).decode("utf-8", "replace")
        except Exception:  # of the user's hints; nested too deeply
            return None
        # As `error_fields` cuts it.
        return without_passwords(text[: 2 * _LONGEST])[:_LONGEST]

    # What is told

    def as_dict(self, slots: CallSlots) -> dict[str, Any]:
        """Tell all of it, in any thread, while something holds the hub too.

        :param slots: the places of the service's calls.
        """
        now = time.monotonic()
        uptime = now - self._started
        holding = blocks.holding
        return {
            "uptime": uptime,
            "lag": blocks.lag,
            "running": slots.in_use,
            "waiting": slots.waiting,
            "places": slots.limit,
            "held_by": None if holding is None else without_passwords(holding[1]),
            "held_for": None if holding is None else now - holding[0],
            "blocks": [
                {"time": at, "text": without_passwords(text)} for at, text in list(blocks.recent)
            ],
            "methods": {name: each.as_dict(uptime) for name, each in list(self._methods.items())},
            "handlers": {name: each.as_dict(uptime) for name, each in list(self._handlers.items())},
            "in_flight": self._in_flight(now),
            "errors": [dict(each) for each in list(self._errors)],
        }

    def _in_flight(self, now: float) -> list[dict[str, Any]]:
        running = [*self._running.items()]  # at once: it changes in another thread
        running.sort(key=lambda each: each[0].started)
        with collector_paused():
            return [self._told(*each, now) for each in running[:_IN_FLIGHT]]

    def _told(self, of: ObservedCall | ObservedEvent, runs_in: Any, now: float) -> dict[str, Any]:
        frame = runs_in.gr_frame
        thread = None
        if frame is not None:
            thread = told.thread if (told := waiting(frame)) is not None else None
        elif not runs_in.dead:  # it is the one that runs
            thread = self._thread
        if thread is not None:
            frame = sys._current_frames().get(thread)
        waits = (
            "" if frame is None or thread is not None else ": ".join(filter(None, awaited(frame)))
        )
        is_call = isinstance(of, ObservedCall)
        name = of.name if isinstance(of, ObservedCall) else of.handler or of.name
        return {
            "method" if is_call else "handler": name,
            "request_id": of.request_id,
            "age": now - of.started,
            "waits_for": without_passwords(waits) or None,  # it is source code in part
            "stack": _stack(frame),
        }


def _stack(frame: types.FrameType | None) -> list[str]:
    """Write the user's part of a stack, the innermost frame first."""
    what = doing(frame)
    outermost = None if what is None else what.frame
    if what is not None and outermost is None:
        return []  # it has not begun, or runs elsewhere
    found = []
    for each in frames_from(frame):
        found.append(place(each))
        if each is outermost or len(found) == _FRAMES:
            break
    return found


def _tally(tallies: dict[str, _Tally], name: str) -> _Tally:
    found = tallies.get(name)
    if found is None:
        if len(tallies) >= _MOST:
            name = _OTHER
        found = tallies.setdefault(name, _Tally())
    return found
