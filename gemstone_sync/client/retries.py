"""When to try again: bounded attempts, full jitter, a budget, and a breaker. No I/O.

Counts are not locked: two threads that count at once may lose one count, and nothing depends on it.

Sources: "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015) for the jitter; "Handling
Overload" (Site Reliability Engineering, chapter 21) for the budget: retries are at most a tenth of
the calls once the first ones are used up, so that they do not bury a service that is struggling.
"""

from __future__ import annotations

import random
import time

from ..errors import CircuitOpen, ConnectionFailed

__all__ = ["MAX_ATTEMPTS", "CircuitBreaker", "RetryBudget", "backoff"]

#: The first attempt included.
MAX_ATTEMPTS = 3
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 2.0


def backoff(attempt: int) -> float:
    """Draw the seconds to wait after an attempt (from 1): anything up to a doubling bound."""
    return random.uniform(0, min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** (attempt - 1)))


class RetryBudget:
    """Retries that may be made now: ten to begin with, and one more for every ten calls."""

    CAPACITY = 10.0
    EARNED_BY_A_CALL = 0.1

    def __init__(self) -> None:
        self._left = self.CAPACITY

    def call(self) -> None:
        """Count a call, which earns a part of a repetition."""
        if self._left < self.CAPACITY:
            self._left += self.EARNED_BY_A_CALL

    def take(self) -> bool:
        """Spend one retry; False when there is none."""
        if self._left < 1:
            return False
        self._left -= 1
        return True


class CircuitBreaker:
    """Stops connecting for a second after five connection failures in a row.

    Then one call is let through to try; when it fails too, the next second begins.
    """

    FAILURES = 5
    PAUSE = 1.0

    def __init__(self) -> None:
        self._failures = 0
        self._closed_until = 0.0
        self._last: ConnectionFailed | None = None

    def check(self, url: str) -> None:
        """:raises CircuitOpen: when no connection is to be tried now."""
        if self._failures < self.FAILURES:
            return
        now = time.monotonic()
        if now >= self._closed_until:
            self._closed_until = now + self.PAUSE  # this one tries; the others wait for its outcome
            return
        error = CircuitOpen(
            f"{url}: not tried again yet after {self._failures} failures in a row "
            f"(the last: {self._last})"
        )
        error.retry_after = self._closed_until - now
        raise error

    def connected(self) -> None:
        """Take note that a connection worked."""
        self._failures = 0
        self._last = None

    def failed(self, error: ConnectionFailed) -> None:
        """Take note that a connection failed."""
        self._failures += 1
        self._last = error
        if self._failures >= self.FAILURES:
            self._closed_until = time.monotonic() + self.PAUSE
