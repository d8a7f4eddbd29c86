"""Periodic tasks: a greenlet each, no overlap, no drift."""

from __future__ import annotations

import contextvars
import logging
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import gevent

from .. import tracing
from ..broker_urls import without_passwords
from ..callables import name_of
from ..concurrency import USER_FAULTS, Call, Doing, Work, current_call, tells_doing
from ..dispatch.log_throttle import LogThrottle
from ..ops.health import PASS, WARN, Component, text_of

__all__ = ["PeriodicTasks"]

_logger = logging.getLogger("gemstone_sync.service")


class LastRun(NamedTuple):
    """A run that is over: when it began (seconds since 1970), how long it took, why it failed."""

    time: float
    seconds: float
    failure: str | None


class _Task:
    def __init__(
        self, function: Callable[[], Any], seconds: float, throttle: LogThrottle, service: str
    ) -> None:
        self._throttle = throttle
        self._service = service
        self.function = function
        self.seconds = seconds
        self.running = self.stopping = False
        self.greenlet: gevent.Greenlet[..., None] | None = None
        self.last: LastRun | None = None
        #: When the next run begins (``time.monotonic()``); None while it does not wait for one.
        self.due: float | None = None

    def loop(self) -> None:
        started = time.monotonic()
        while True:
            # The next multiple of the period after the start: a run that took longer than the
            # period skips the ones it missed, and none of them shifts the next.
            elapsed = time.monotonic() - started
            due = (elapsed // self.seconds + 1) * self.seconds
            self.due = started + due
            gevent.sleep(due - elapsed)
            self.due = None
            if self.stopping:
                return  # it would be killed as soon as it waits
            self.running = True
            begun, failure = time.monotonic(), None
            at = time.time()
            try:
                contextvars.copy_context().run(self._run)
            except USER_FAULTS as error:
                failure = f"{type(error).__name__}: {text_of(error)}"
                name = name_of(self.function)
                self._throttle.log(logging.ERROR, name, f"periodic task {name} failed", error=error)
            finally:
                self.running = False
                self.last = LastRun(at, time.monotonic() - begun, failure)

    @tells_doing(lambda local: Doing("periodic task", name_of(local["self"].function)))
    def _run(self) -> None:
        # A call of the service's own: what it calls in turn shares one request id.
        work = Work("periodic_task", name_of(self.function), self._service)
        current_call.set(Call(work=work))
        if not tracing.is_on():
            self.function()
            return
        with tracing.in_span(name_of(self.function)):
            self.function()


class PeriodicTasks:
    """The periodic tasks of one service.

    :param tasks: (callable, seconds) pairs.
    :param service: its name, for logs.
    """

    def __init__(self, tasks: Iterable[tuple[Callable[[], Any], float]], service: str = "") -> None:
        throttle = LogThrottle(_logger)
        self._tasks = [_Task(function, seconds, throttle, service) for function, seconds in tasks]

    def __bool__(self) -> bool:
        return bool(self._tasks)

    def start(self) -> None:
        """Begin; the first run of each comes after one period."""
        for task in self._tasks:
            task.stopping = False
            task.greenlet = gevent.spawn(task.loop)

    def components(self) -> list[Component]:
        """Tell how the last run of each ended."""
        return [
            Component(
                "periodic:lastRun",
                PASS if last.failure is None else WARN,
                id=name_of(task.function),
                kind="component",
                output=last.failure and without_passwords(last.failure),
                value=round(last.seconds, 6),
                unit="s",
                time=last.time,
            )
            for task in self._tasks
            if (last := task.last) is not None
        ]

    def runs(self) -> list[dict[str, Any]]:
        """Tell of each task: name, period, whether it runs, the last run and when the next begins.

        Moments are seconds since 1970; None where there is none, as of tasks that another worker
        runs.
        """
        return [
            {
                "name": name_of(task.function),
                "every": task.seconds,
                "running": task.running,
                "next": None if due is None else time.time() + due - time.monotonic(),
                "last": last and last.time,
                "seconds": last and last.seconds,
                "failure": last and last.failure and without_passwords(last.failure),
            }
            for task in self._tasks
            if task.greenlet is not None
            for last, due in [(task.last, task.due)]
        ]

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
