"""Periodic tasks: a greenlet each, no overlap, no drift."""

from __future__ import annotations

import contextvars
import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

import gevent

from ..callables import name_of
from ..concurrency import USER_FAULTS, Call, current_call
from ..dispatch.refusals import Refusals

__all__ = ["PeriodicTasks"]

_logger = logging.getLogger("gemstone_sync.service")


class _Task:
    def __init__(self, function: Callable[[], Any], seconds: float, failures: Refusals) -> None:
        self._failures = failures
        self.function = function
        self.seconds = seconds
        self.running = self.stopping = False
        self.greenlet: gevent.Greenlet[..., None] | None = None

    def loop(self) -> None:
        started = time.monotonic()
        while True:
            # The next multiple of the period after the start: a run that took longer than the
            # period skips the ones it missed, and none of them shifts the next.
            elapsed = time.monotonic() - started
            due = (elapsed // self.seconds + 1) * self.seconds
            gevent.sleep(due - elapsed)
            if self.stopping:
                return  # it would be killed as soon as it waits
            self.running = True
            try:
                contextvars.copy_context().run(self._run)
            except USER_FAULTS as error:
                name = name_of(self.function)
                self._failures.tell(
                    logging.ERROR, name, f"periodic task {name} failed", error=error
                )
            finally:
                self.running = False

    def _run(self) -> None:
        # A call of the service's own: what it calls in turn shares one request id.
        current_call.set(Call())
        self.function()


class PeriodicTasks:
    """The periodic tasks of one service.

    :param tasks: (callable, seconds) pairs.
    """

    def __init__(self, tasks: Iterable[tuple[Callable[[], Any], float]]) -> None:
        failures = Refusals(_logger)
        self._tasks = [_Task(function, seconds, failures) for function, seconds in tasks]

    def __bool__(self) -> bool:
        return bool(self._tasks)

    def start(self) -> None:
        """Begin; the first run of each comes after one period."""
        for task in self._tasks:
            task.stopping = False
            task.greenlet = gevent.spawn(task.loop)

    def stop(self, timeout: float) -> None:
        """End those that wait at once; give those that run `timeout` seconds."""
        deadline = time.monotonic() + timeout
        for task in self._tasks:
            task.stopping = True
            if task.greenlet is not None and not task.running:
                task.greenlet.kill(block=False)
        while any(task.running for task in self._tasks) and time.monotonic() < deadline:
            gevent.sleep(0.01)
        for task in self._tasks:
            if task.greenlet is not None:
                task.greenlet.kill(block=False)
                task.greenlet = None
