"""Observers of calls, requests and events, called by whoever makes, sends or handles them.

Statistics, metrics and plugins are observers. There may be several; where nobody overrides a method
of theirs, nothing is called and nothing is made for it.

Calls and handled events belong to a service. Requests of the client and what is published belong to
the process: whoever observes one of its services sees them all.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

from ..client import observed as requests
from ..client.observed import ObservedRequest
from ..concurrency import USER_FAULTS, Call, DeadlineReached, Deadlines
from ..dispatch import LogThrottle, ObservedCall
from ..event import observed as events
from ..event.observed import ObservedEvent, ObservedPublish

__all__ = ["Observer", "notifier", "observe_process", "overrides"]

_logger = logging.getLogger("gemstone_sync.service")

#: Seconds that a call or an event waits for one of the user's observers, and where: what a method
#: waits for is bounded by its deadline, and what a client waits for may be in any thread.
_PATIENCE = 5.0
_BOUNDED = {
    *("on_call_begun", "on_call_finished", "on_batch", "on_event_begun", "on_event_finished"),
    "on_internal_error",
}
_PACKAGE = __name__.partition(".")[0]


class Observer:
    """Base class of observers: override what you want to see.

    Each method is called in the greenlet and in the context of the call or event, which waits for
    it. Where that is a call served or an event handled, it waits for 5 s: then the method is cut
    off, and its caller has an answer. What it raises is logged, and reaches nobody else. Whatever
    begins also finishes, unless its process is killed.
    """

    def on_call_begun(self, call: ObservedCall, /) -> None:
        """Called before each call, one that is refused too."""

    def on_call_finished(self, call: ObservedCall, /) -> None:
        """Called after each call, with what `on_call_begun` got."""

    def on_batch(self, size: int, /) -> None:
        """Called with the number of requests in each batch, before its calls begin."""

    def on_request_begun(self, request: ObservedRequest, /) -> None:
        """Called before each call, notification or batch that this process sends to a service."""

    def on_request_finished(self, request: ObservedRequest, /) -> None:
        """Called when it was answered or given up, with what `on_request_begun` got."""

    def on_publish_begun(self, events: ObservedPublish, /) -> None:
        """Called before this process publishes an event, or several in one go."""

    def on_publish_finished(self, events: ObservedPublish, /) -> None:
        """Called when the broker or outbox has them, or not, with what `on_publish_begun` got."""

    def on_event_begun(self, event: ObservedEvent, /) -> None:
        """Called before each attempt of a handler at an event."""

    def on_event_finished(self, event: ObservedEvent, /) -> None:
        """Called after each attempt of a handler at an event, with what `on_event_begun` got."""


def overrides(part: object, base: type, *names: str) -> bool:
    """Tell whether an object, or its class, has methods of its own in the place of a base's."""
    return any(
        name in vars(part) or getattr(type(part), name) is not getattr(base, name) for name in names
    )


def notifier(
    observers: Iterable[object], hook: str, base: type = Observer
) -> Callable[..., None] | None:
    """Make a function that calls a method of all observers that override it; None for none."""
    functions = [
        (
            _bounded(getattr(one, hook))
            if hook in _BOUNDED and _is_users(one)
            else getattr(one, hook),
            one,
        )
        for one in observers
        if overrides(one, base, hook)
    ]
    if not functions:
        return None
    throttle = LogThrottle(_logger)  # a broken observer fails every call

    def notify(*what: Any) -> None:
        for function, observer in functions:
            try:
                function(*what)
            except USER_FAULTS as error:
                text = f"{observer} failed in {hook}"
                throttle.log(logging.ERROR, str(observer), text, error=error)

    return notify


def _is_users(observer: object) -> bool:
    return type(observer).__module__.partition(".")[0] != _PACKAGE


def _bounded(function: Callable[..., object]) -> Callable[..., None]:
    """Make a function that is cut off when it does not come back."""

    def call(*what: Any) -> None:
        bound = Call(time.monotonic() + _PATIENCE)
        deadlines = Deadlines.of_this_hub()
        deadlines.enter(bound)
        try:
            function(*what)
        except DeadlineReached:
            if not bound.reached:  # of the call that it is told of
                raise
        finally:
            deadlines.leave(bound)
        if bound.reached:
            raise TimeoutError(f"it was cut off after {_PATIENCE:g} s")

    return call


_MOMENTS = ("begun", "finished")

#: Those that observe what the process sends, in the order in which they came.
_observing: list[Observer] = []


def observe_process(observers: Iterable[Observer]) -> Callable[[], None]:
    """Tell observers of what this process sends and publishes; return what ends that."""
    mine = list(observers)
    _observing.extend(mine)
    _tell_of_process()

    def end() -> None:
        for one in mine:
            _observing.remove(one)
        mine.clear()
        _tell_of_process()

    return end


def _tell_of_process() -> None:
    begun, finished = (notifier(_observing, f"on_request_{what}") for what in _MOMENTS)
    requests.tell(requests.RequestHooks(begun, finished) if begun or finished else None)
    begun, finished = (notifier(_observing, f"on_publish_{what}") for what in _MOMENTS)
    events.tell(events.PublishHooks(begun, finished) if begun or finished else None)
