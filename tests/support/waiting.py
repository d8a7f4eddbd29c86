"""Waiting with a limit: a test that would hang fails with what it was waiting for."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import gevent

#: Seconds for anything that should take a moment, on a machine that is busy.
LIMIT = 20.0


def wait_until(condition: Callable[[], Any], what: str, limit: float = LIMIT) -> Any:
    """The first true value of `condition`."""
    end = time.monotonic() + limit
    while True:
        if value := condition():
            return value
        assert time.monotonic() < end, f"waited {limit} s for: {what}"
        gevent.sleep(0.01)


def compute(seconds: float) -> None:
    """Hold this thread for so long; where the machine stood still at the end, a little longer.

    Other threads have their turns meanwhile: also those that are late then.
    """
    now = time.monotonic()
    end, last = now + seconds, now + LIMIT
    while now < end:
        before, now = now, time.monotonic()
        if now - before > 0.2:
            end = min(max(end, now + 0.3), last)


def gather(functions: Sequence[Callable[[], Any]], limit: float = 60.0) -> list[Any]:
    """Call all of them at once, a greenlet each; their results in order.

    What one of them raises is raised here.
    """
    greenlets = [gevent.spawn(function) for function in functions]
    gevent.joinall(greenlets, timeout=limit)
    unfinished = sum(not greenlet.ready() for greenlet in greenlets)
    gevent.killall(greenlets)
    assert not unfinished, f"{unfinished} of {len(greenlets)} did not end within {limit} s"
    return [greenlet.get() for greenlet in greenlets]


def why_not_ready(service: Any) -> str | None:
    """What ``/health/ready`` says is not as it should be; None when all is."""
    report = service._assemble().health.ready()
    return None if report.status == "pass" else str(report.details)
