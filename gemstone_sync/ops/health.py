"""Whether a service lives and whether it is ready, for load balancers and orchestrators."""

from __future__ import annotations

import enum
from collections.abc import Callable

__all__ = ["Lifecycle", "State"]


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
    """The state of one service, and what the two health paths say of it.

    :param why_not_ready: asked while the service runs: None when nothing that it depends on is
        missing, otherwise what.
    """

    def __init__(self, why_not_ready: Callable[[], str | None] = lambda: None) -> None:
        self.state = State.NEW
        self._why_not_ready = why_not_ready

    def is_starting(self) -> bool:
        """True while calls must not run yet, and for good when the start failed."""
        return self.state in (State.STARTING, State.FAILED)

    def why_not_live(self) -> str | None:
        """None while the process is worth keeping; it is not after a failed start."""
        return "failed to start" if self.state is State.FAILED else None

    def why_not_ready(self) -> str | None:
        """None while requests should be sent here."""
        if self.state is State.RUNNING:
            return self._why_not_ready()
        return None if self.state is State.NEW else self.state.value
