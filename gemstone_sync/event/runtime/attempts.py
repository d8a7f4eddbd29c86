"""Attempts at handling an event: their context, their time, and what went wrong in words.

`current_event` and `deduplication_key` are what a handler may ask meanwhile. What follows from a
failure belongs to `processing`.

Hot path: `attempt` runs for every event and handler.
"""

from __future__ import annotations

import contextvars
import logging
import os
import time
import traceback
from collections.abc import Callable
from typing import Any

import gevent

from ... import tracing
from ...concurrency import (
    USER_FAULTS,
    Call,
    DeadlineReached,
    Deadlines,
    Doing,
    Work,
    carried_headers,
    current_call,
    tells_doing,
)
from ...errors import ParseError
from ...protocol import decode_json
from ..envelope import Envelope
from ..handlers import Handler

__all__ = [
    "InvalidBody",
    "attempt",
    "current_event",
    "deduplication_key",
    "describe",
    "last_traceback",
    "shortened",
]

logger = logging.getLogger("gemstone_sync.event")

#: Bytes of a dead letter's texts: they travel in a header, and all headers of a message must fit
#: into one AMQP frame (131,072 bytes with RabbitMQ).
_LONGEST_ERROR = 2_000
_LONGEST_TRACEBACK = 10_000
#: Frames of each exception that are shown at most.
_FRAMES = 50

_running_event: contextvars.ContextVar[Envelope | None] = contextvars.ContextVar(
    "gemstone_sync_running_event", default=None
)
_running_key: contextvars.ContextVar[str | None] = contextvars.ContextVar(
    "gemstone_sync_running_key", default=None
)


def current_event() -> Envelope | None:
    """Return the event that is being handled: its id, name, time, key, emitter, attempts; or None.

    >>> current_event() is None
    True
    """
    return _running_event.get()


def deduplication_key() -> str | None:
    """Return the key under which the running handler's event is remembered once it is handled.

    For a store that writes the mark in the handler's own transaction
    (`SqliteProcessedEvents.record`). None outside a handler with ``idempotent=False``.
    """
    return _running_key.get()


class InvalidBody(Exception):
    """Raised for a body that is not JSON, or not what the handler's hint says."""


def attempt(
    envelope: Envelope,
    handler: Handler,
    run: Callable[[Handler, Any], Any],
    key: str | None = None,
) -> BaseException | None:
    """Call a handler once with an event; return what went wrong, or None.

    It leaves its call in the context, for what is logged of the attempt afterwards.

    :param run: calls the handler with a value.
    :param key: for `deduplication_key`.

    `gevent.GreenletExit` and `KeyboardInterrupt` are raised: they are not about the event. A
    handler that computes without ever blocking cannot be interrupted at its time-out; when it ends
    well, late, that counts.
    """
    process = os.getpid()
    error = _attempt(envelope, handler, run, key)
    if os.getpid() != process:
        _end_child(handler, error)
    return error


def _end_child(handler: Handler, error: BaseException | None) -> None:
    """End a process that a handler has forked and that left it: the event is the parent's."""
    if isinstance(error, SystemExit):
        code = error.code
        os._exit(code if isinstance(code, int) else int(code is not None))
    logger.error(
        "%s: a process that it has forked came out of it, and is ended: end it by os._exit",
        handler.name,
        exc_info=error,
    )
    os._exit(1)


@tells_doing(lambda local: Doing("event handler", local["handler"].name, local["call"]))
def _attempt(
    envelope: Envelope,
    handler: Handler,
    run: Callable[[Handler, Any], Any],
    key: str | None,
) -> BaseException | None:
    deadline = None if handler.timeout is None else time.monotonic() + handler.timeout
    work = Work("event", envelope.name, handler.service)
    call = Call(deadline, 0, envelope.request_id, envelope.traceparent, work=work)
    if not tracing.is_on():  # the span's context has it, and may change it
        call.carried = carried_headers(envelope.tracestate, envelope.baggage)
    current_call.set(call)
    _running_event.set(envelope)
    _running_key.set(key)
    try:
        # Once more for each handler: what one does to the value must not reach the next one.
        value = _read(envelope, handler)
        if deadline is None:
            run(handler, value)
        else:
            _run_within(call, handler, run, value)
    except (gevent.GreenletExit, KeyboardInterrupt):
        raise
    except BaseException as error:  # asyncio.CancelledError is one, too
        return error
    return None


def _read(envelope: Envelope, handler: Handler) -> Any:
    try:
        value = decode_json(envelope.body)
    except ParseError as error:
        raise InvalidBody(f"the body is not JSON: {error.__cause__ or error}") from error
    if handler.convert is None:
        return value
    try:
        return handler.convert(value)
    except ValueError as error:
        raise InvalidBody(f"the body does not fit {handler.name}: {error}") from error


def _run_within(
    call: Call, handler: Handler, run: Callable[[Handler, Any], Any], value: Any
) -> None:
    deadlines = Deadlines.of_this_hub()
    deadlines.enter(call)
    reached: DeadlineReached | None = None
    try:
        run(handler, value)
    except DeadlineReached as error:
        if not call.reached:
            raise
        reached = error  # its traceback tells where the time went
    finally:
        deadlines.leave(call)
    if call.reached:  # also when the handler swallowed it: it was cut short somewhere
        raise TimeoutError(f"longer than its timeout of {handler.timeout:g} s") from reached


# In words


def describe(error: BaseException) -> str:
    """Return class and text of an exception, short enough for a header.

    >>> describe(OSError("not today"))
    'OSError: not today'
    """
    name = type(error).__name__
    try:
        text = str(error)
    except USER_FAULTS:  # a __str__ of the user's that fails too
        text = "(it has no readable text)"
    return shortened(f"{name}: {text}" if text else name)


def shortened(text: str) -> str:
    """Return a text for a dead letter's header: not too long, and such that JSON can hold it."""
    encoded = _utf8(text)
    if len(encoded) > _LONGEST_ERROR:
        encoded = encoded[: _LONGEST_ERROR - 3] + b"..."
    return encoded.decode("utf-8", "ignore")


def last_traceback(error: BaseException) -> str:
    """Return the traceback as text; of a long one the end, where the reason stands."""
    try:
        lines = traceback.format_exception(type(error), error, error.__traceback__, limit=-_FRAMES)
    except USER_FAULTS:  # of an exception whose own attributes fail
        lines = [describe(error)]
    encoded = _utf8("".join(lines))
    if len(encoded) > _LONGEST_TRACEBACK:
        encoded = b"...\n" + encoded[4 - _LONGEST_TRACEBACK :]
    return encoded.decode("utf-8", "ignore")


def _utf8(text: str) -> bytes:
    """Encode a text that may hold lone surrogates (file names do), which JSON cannot."""
    return text.encode("utf-8", "backslashreplace")
