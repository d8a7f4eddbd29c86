"""Methods that run elsewhere than in the greenlet of their call: in threads, or in processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from ..callables import name_of
from ..errors import ServiceConfigurationError
from .base import ServiceBase
from .container import Container
from .decorators import Marks
from .processes import ProcessCalls
from .threads import ThreadedCalls

__all__ = ["Elsewhere"]


class Elsewhere:
    """The threads and processes of one service's methods; they begin with the first call.

    :param containers: the service, and its modules.
    """

    def __init__(self, service: ServiceBase, containers: Sequence[Container]) -> None:
        processors = os.cpu_count() or 1
        bounds = (service.max_waiting_calls, service.max_wait_seconds)
        self.threads = ThreadedCalls(service.max_threads or processors, *bounds)
        self.processes = ProcessCalls(containers, service.max_processes or processors, *bounds)
        self._containers = containers

    def wrap(self, function: Callable[..., Any], marks: Marks) -> Callable[..., Any]:
        """Return what runs a method where it is marked to run: itself, for most.

        :raises ServiceConfigurationError: when it cannot run there.
        """
        if marks.runs_in == "a thread":
            return self.threads.wrap(function)
        if marks.runs_in != "a process":
            return function
        home = getattr(function, "__self__", None)
        attribute = home.attribute_of(marks.name or "") if isinstance(home, Container) else None
        if attribute is None:
            raise ServiceConfigurationError(
                f"{name_of(function)} has cpu=True: it must be a method of an instance"
            )
        return self.processes.wrap(function, attribute)

    def stop(self) -> None:
        """End the processes, and wait for the threads that are at work."""
        self.processes.stop()
        self.threads.join()
