"""The log of slow calls, for ``slow_call_seconds``."""

from __future__ import annotations

import logging

from ..dispatch import LogThrottle, ObservedCall
from ..event.observed import ObservedEvent
from .observers import Observer

__all__ = ["SlowCalls"]


class SlowCalls(Observer):
    """Logs calls, and attempts of event handlers, that took long; once a second of each method.

    :param seconds: from how many on.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._throttle = LogThrottle(logging.getLogger("gemstone_sync.slow"))

    def on_call_finished(self, call: ObservedCall) -> None:
        """Log it if it was slow."""
        if call.seconds >= self._seconds and not call.refused:
            self._tell(call.name, call.seconds, call.request_id)

    def on_event_finished(self, event: ObservedEvent) -> None:
        """Log it if it was slow."""
        if event.seconds >= self._seconds and event.handler is not None:
            self._tell(event.handler, event.seconds, event.request_id or "-")

    def _tell(self, name: str, seconds: float, request_id: str) -> None:
        text = f"{name} took {seconds:.3f} s [request_id={request_id}]"
        self._throttle.log(logging.WARNING, name, text, request_id)
