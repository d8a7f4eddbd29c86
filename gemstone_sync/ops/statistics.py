"""Statistics of each method, kept in memory, for ``use_statistics = True``."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

from ..dispatch import ObservedCall
from .observers import Observer

__all__ = ["Statistics"]

#: Percentiles are over the last calls of a method; a thousand make the 99th mean something.
WINDOW = 1000


class _MethodStatistics:
    __slots__ = ("calls", "errors", "longest", "recent", "total")

    def __init__(self) -> None:
        self.calls = 0
        self.errors = 0
        self.total = 0.0
        self.longest = 0.0
        self.recent: deque[float] = deque(maxlen=WINDOW)

    def as_dict(self) -> dict[str, Any]:
        ordered = sorted(self.recent)

        def percentile(share: float) -> float:
            return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

        return {
            "calls": self.calls,
            "errors": self.errors,
            "mean": self.total / self.calls,
            "max": self.longest,
            "p50": percentile(0.50),
            "p95": percentile(0.95),
            "p99": percentile(0.99),
        }


class Statistics(Observer):
    """Counts and durations of calls, by method."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._methods: dict[str, _MethodStatistics] = {}

    def on_call_finished(self, call: ObservedCall) -> None:
        """Count a call, unless it was refused."""
        if call.refused:
            return
        entry = self._methods.get(call.name)
        if entry is None:
            entry = self._methods[call.name] = _MethodStatistics()
        entry.calls += 1
        entry.errors += call.failed
        entry.total += call.seconds
        entry.longest = max(entry.longest, call.seconds)
        entry.recent.append(call.seconds)

    def as_dict(self) -> dict[str, Any]:
        """Return everything, in seconds.

        ``{"uptime": …, "methods": {name: {"calls", "errors", "mean", "max", "p50", "p95",
        "p99"}}}``; mean and max are over all calls, percentiles over the last 1,000.
        """
        return {
            "uptime": time.monotonic() - self._started,
            "methods": {name: entry.as_dict() for name, entry in self._methods.items()},
        }
