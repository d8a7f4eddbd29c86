"""Health of a service, for load balancers and orchestrators: is it alive, ready, started.

Answered are documents of draft-inadarei-api-health-check-06 (``application/health+json``): a status
word, and for who may know more the checks by component. Liveness asks nobody but the process
itself: one that is ended for a broker that is away would be no better off afterwards.

A check of the user's runs in a greenlet of its own, at most once in `every` seconds however often
its result is asked for, and for `timeout` seconds at most.
"""

from __future__ import annotations

import contextvars
import datetime
import enum
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import gevent

from ..broker_urls import without_passwords
from ..concurrency import USER_FAULTS, Call, Doing, Work, current_call, tells_doing
from ..protocol import encode_json

__all__ = [
    "FAIL",
    "PASS",
    "WARN",
    "Component",
    "Health",
    "HealthCheck",
    "Lifecycle",
    "Report",
    "State",
    "text_of",
]

PASS, WARN, FAIL = "pass", "warn", "fail"

#: Characters of a text that is shown.
_SHOWN = 500

logger = logging.getLogger("gemstone_sync.health")


class State(enum.Enum):
    """Where a service is in its life."""

    #: Made, not started: used in process, by tests and by ``flask run``.
    NEW = "new"
    STARTING = "starting"
    RUNNING = "running"
    DRAINING = "draining"
    STOPPED = "stopped"
    #: A start hook raised.
    FAILED = "failed"


class Lifecycle:
    """The state of one service."""

    def __init__(self) -> None:
        self.state = State.NEW
        #: It runs, and is about to be drained: nobody new should come.
        self.leaving = False

    def is_starting(self) -> bool:
        """Tell whether calls must not run yet; for good when the start failed."""
        return self.state in (State.STARTING, State.FAILED)


@dataclass(frozen=True)
class Component:
    """A thing that a service depends on, as it was when it was last looked at.

    :param name: the key among the checks; several may share one.
    :param status: ``"pass"``, ``"warn"`` or ``"fail"``; only the last makes the service not ready.
    :param id: tells those of one name apart.
    :param output: why it does not pass.
    :param value: what was observed; None for nothing.
    :param unit: of the value.
    :param time: when it was looked at, in seconds since 1970; None for now.
    """

    name: str
    status: str = PASS
    id: str | None = None
    kind: str | None = None
    output: str | None = None
    value: Any = None
    unit: str | None = None
    time: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the object of the draft, section 4, without what is not known."""
        at = time.time() if self.time is None else self.time
        moment = datetime.datetime.fromtimestamp(at, datetime.timezone.utc)
        known = {
            "componentId": self.id,
            "componentType": self.kind,
            "observedValue": self.value,
            "observedUnit": self.unit,
            "status": self.status,
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "output": None if self.status == PASS else self.output,
        }
        return {key: value for key, value in known.items() if value is not None}


class Report(NamedTuple):
    """An answer to a health path.

    :ivar status: the word for everybody.
    :ivar details: the whole document, for who may know more.
    """

    status: str
    details: dict[str, Any]


class HealthCheck:
    """A check of the user's, and its last result.

    :param name: the key among the checks.
    :param function: returns anything but False, which is the observed value, or raises.
    :param timeout: seconds that it may take.
    :param every: seconds for which a result is kept.

    >>> check = HealthCheck("disk", lambda: 0.4)
    >>> check.begin(); check.result().value
    0.4
    """

    def __init__(
        self,
        name: str,
        function: Callable[[], Any],
        *,
        timeout: float = 2.0,
        every: float = 10.0,
    ) -> None:
        self.name = name
        self._function = function
        self._timeout = timeout
        self._every = every
        self._begun = float("-inf")
        self._running: Any = None
        self._result = Component(name)

    def begin(self) -> None:
        """Start it, if it is due and does not run; does not wait."""
        now = time.monotonic()
        if self._running is None and now - self._begun >= self._every:
            self._begun = now
            # Without the caller's context: its deadline is not the check's.
            self._running = gevent.spawn(contextvars.Context().run, self._run)

    def result(self) -> Component:
        """Return the last result; that of a check that runs, within its time-out."""
        if (running := self._running) is not None:
            running.join(max(0.0, self._begun + self._timeout - time.monotonic()))
            if self._running is running:
                self._set(FAIL, "timed out")
                # One that cannot be ended keeps its place: there are never two.
                running.kill(block=False)
        return self._result

    def _run(self) -> None:
        try:
            work = Work("health_check", self.name, "")
            current_call.set(Call(time.monotonic() + self._timeout, work=work))
            status, output, value = self._outcome()
        finally:
            self._running = None
        self._set(status, output, value)

    @tells_doing(lambda local: Doing("health check", local["self"].name))
    def _outcome(self) -> tuple[str, str | None, Any]:
        try:
            value = self._function()
        except USER_FAULTS as error:
            return FAIL, without_passwords(f"{type(error).__name__}: {text_of(error)}"), None
        if value is False:
            return FAIL, "returned False", None
        return PASS, None, None if value is True else _shown(value)

    def _set(self, status: str, output: str | None, value: Any = None) -> None:
        before = self._result.status
        self._result = Component(
            self.name, status, output=output, value=value, kind="component", time=time.time()
        )
        if status == FAIL and before != FAIL:
            logger.warning("health check %r fails: %s", self.name, ascii(output)[1:-1])
        elif status != FAIL and before == FAIL:
            logger.info("health check %r passes again", self.name)


def text_of(error: BaseException) -> str:
    """Return the text of an exception, not too long, whatever its class does."""
    try:
        return str(error)[:_SHOWN]
    except Exception:
        return "(its text cannot be made)"


def _shown(value: Any) -> Any:
    """Return a value if JSON can hold it, and a text of it otherwise."""
    try:
        encode_json(value)
    except Exception:  # whatever a class of the user's raises
        return without_passwords(str(type(value).__name__))
    return without_passwords(value) if isinstance(value, str) else value


class Health:
    """Answers the health paths of one service.

    :param about: gives what stands in each document, such as ``version`` and ``serviceId``.
    :param checks: the user's.
    :param components: asked each time for what the service itself depends on; they must not wait.
    """

    def __init__(
        self,
        lifecycle: Lifecycle,
        about: Callable[[], dict[str, str]],
        checks: Sequence[HealthCheck] = (),
        components: Sequence[Callable[[], Iterable[Component]]] = (),
    ) -> None:
        self._lifecycle = lifecycle
        self._about = about
        self._checks = checks
        self._components = components

    def live(self) -> Report:
        """Tell whether the process is worth keeping; it is not after a failed start."""
        failed = self._lifecycle.state is State.FAILED
        return self._report(FAIL, "failed to start") if failed else self._report(PASS)

    def startup(self) -> Report:
        """Tell whether the start is over: the start hooks have returned."""
        state = self._lifecycle.state
        if state in (State.STARTING, State.FAILED):
            return self._report(FAIL, state.value)
        return self._report(PASS)

    def ready(self) -> Report:
        """Tell whether requests should be sent here."""
        state = self._lifecycle.state
        if state is State.NEW:
            return self._report(PASS)
        if state is not State.RUNNING:
            return self._report(FAIL, state.value)
        if self._lifecycle.leaving:
            return self._report(FAIL, State.DRAINING.value)
        found = self.look()
        worst = next((s for s in (FAIL, WARN) if any(each.status == s for each in found)), PASS)
        output = next((each.output for each in found if each.status == worst != PASS), None)
        return self._report(worst, output, found)

    def look(self) -> list[Component]:
        """Return every component, the checks of the user's included, as they are now."""
        for check in self._checks:
            check.begin()
        found: list[Component] = []
        for components in self._components:
            try:
                found += components()
            except USER_FAULTS as error:
                logger.exception("a part of the service cannot tell how it is")
                found.append(Component("service", FAIL, output=type(error).__name__))
        return [*found, *(check.result() for check in self._checks)]

    def _report(
        self, status: str, output: str | None = None, found: Iterable[Component] = ()
    ) -> Report:
        details: dict[str, Any] = {"status": status, **self._about()}
        if output is not None:
            details["output"] = output
        checks: dict[str, list[dict[str, Any]]] = {}
        for each in found:
            checks.setdefault(each.name, []).append(each.as_dict())
        if checks:
            details["checks"] = checks
        return Report(status, details)
