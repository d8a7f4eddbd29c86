"""Telling of events, when they are published and at each attempt of a handler; and their spans.

What observers are told is told within the span.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..tracing import is_on, started_span
from . import observed
from .envelope import DeadLetter, Envelope
from .observed import EventHooks, ObservedEvent, ObservedPublish, PublishHooks

__all__ = ["begin", "finish", "published"]

# Publishing


class _Observation:
    """A block in which events are published."""

    __slots__ = ("_hooks", "_observed")

    def __init__(self, hooks: PublishHooks | None, events: ObservedPublish) -> None:
        self._hooks = hooks
        self._observed = events

    def __enter__(self) -> ObservedPublish:
        if is_on():
            _begin_send(self._observed)
        if self._hooks is not None and self._hooks.begun is not None:
            self._hooks.begun(self._observed)
        return self._observed

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self._hooks is not None:
            self._hooks.finish(self._observed, error)
        else:
            self._observed.end(error)
        _end_send(self._observed)


class _Unobserved:
    def __enter__(self) -> None:
        return None

    def __exit__(self, *exc_info: object) -> None:
        return None


_UNOBSERVED = _Unobserved()


def published(
    name: str | None, count: int, emitter: str | None, transports: Sequence[Any]
) -> _Observation | _Unobserved:
    """Tell of what is published in a ``with`` block; it gives an `ObservedPublish`, or None."""
    hooks = observed.hooks()
    if hooks is None and not is_on():
        return _UNOBSERVED
    system = transports[0].system if transports else "none"
    return _Observation(hooks, ObservedPublish(name, count, emitter, system))


# Handling


def begin(
    hooks: EventHooks, name: str, handler: str | None, envelope: Envelope | None = None
) -> ObservedEvent:
    """Tell that an attempt of a handler begins; return what observers see of it."""
    event = hooks.observed(name, handler, envelope)
    if is_on():
        _begin_process(event)
    if hooks.begun is not None:
        hooks.begun(event)
    return event


def finish(
    hooks: EventHooks,
    event: ObservedEvent,
    exception: BaseException | None = None,
    letter: DeadLetter | None = None,
    delay: float | None = None,
) -> None:
    """Tell that it is over."""
    hooks.finish(event, exception, letter, delay)
    _end_process(event)


# Spans


def _begin_send(events: ObservedPublish) -> None:
    """Begin the span of what is published; the events carry its context."""
    attributes = {
        "messaging.system": events.system,
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
    }
    events.span = started_span("send", "PRODUCER", attributes)


def _end_send(events: ObservedPublish) -> None:
    span, events.span = events.span, None
    if span is None:
        return
    attributes: dict[str, Any] = {}
    if events.name:  # None for several, empty for one that is refused
        attributes["messaging.destination.name"] = events.name
        span.span.update_name(f"send {events.name}")
    if events.count == 1 and events.envelopes:
        attributes["messaging.message.id"] = events.envelopes[0].id
    else:
        attributes["messaging.batch.message_count"] = events.count
    error = events.exception
    if error is None:
        span.end(attributes=attributes)
    else:
        span.end(type(error).__name__, str(error)[:200], error, attributes)


def _begin_process(event: ObservedEvent) -> None:
    """Begin the span of an attempt: in the trace of whoever has emitted the event."""
    attributes: dict[str, Any] = {
        "messaging.system": event.system,
        "messaging.destination.name": event.name,
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
    }
    if event.group is not None:
        attributes["messaging.consumer.group.name"] = event.group
    if event.handler is not None:
        attributes["gemstone.event.handler"] = event.handler
    carrier = {}
    if (envelope := event.envelope) is not None:
        attributes["messaging.message.id"] = envelope.id
        attributes["messaging.message.body.size"] = len(envelope.body)
        if envelope.attempts:
            attributes["gemstone.event.failed_attempts"] = envelope.attempts
        carrier = envelope.trace_headers()
    event.span = started_span(f"process {event.name}", "CONSUMER", attributes, carrier, linked=True)


def _end_process(event: ObservedEvent) -> None:
    span, event.span = event.span, None
    if span is None:
        return
    error, letter = event.exception, event.letter
    if error is not None:
        span.end(type(error).__name__, str(error)[:200], error)
    elif letter is not None:
        span.end(letter.reason, letter.error[:200])
    else:
        span.end()
