"""What a handler may ask about the event that it handles."""

from __future__ import annotations

import contextvars

from ..envelope import Envelope

__all__ = ["current_event", "deduplication_key", "running_event", "running_key"]

#: The event that the running greenlet handles, or None.
running_event: contextvars.ContextVar[Envelope | None] = contextvars.ContextVar(
    "gemstone_sync_running_event", default=None
)
#: What `deduplication_key` returns.
running_key: contextvars.ContextVar[str | None] = contextvars.ContextVar(
    "gemstone_sync_running_key", default=None
)


def current_event() -> Envelope | None:
    """The event that is being handled: its id, name, time, key, emitter, attempts; else None.

    >>> current_event() is None
    True
    """
    return running_event.get()


def deduplication_key() -> str | None:
    """Under which key the running handler's event is remembered once it is handled.

    For a store that writes the mark in the handler's own transaction
    (`SqliteProcessedEvents.record`). None outside a handler with ``idempotent=False``.
    """
    return running_key.get()
