"""One attempt at handling an event: its context, its time, and what went wrong in words.

What follows from a failure belongs to `processing`.

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

from ...concurrency import USER_FAULTS, Call, DeadlineReached, Deadlines, current_call
from ...errors import ParseError
from ...protocol import decode_json
from ..envelope import Envelope
from ..handlers import Handler
from .current import running_event, running_key

__all__ = ["InvalidBody", "attempt", "describe", "last_traceback", "shortened"]

logger = logging.getLogger("gemstone_sync.event")

#: Bytes of a dead letter's texts: they travel in a header, and all headers of a message must fit
#: into one AMQP frame (131,072 bytes with RabbitMQ).
_LONGEST_ERROR = 2_000
_LONGEST_TRACEBACK = 10_000
#: Frames of each exception that are shown at most.
_FRAMES = 50


class InvalidBody(Exception):
    """The body is not JSON, or not what the handler's type hint says; the text says why."""


def attempt(
    envelope: Envelope,
    handler: Handler,
    run: Callable[[Handler, Any], Any],
    key: str | None = None,
) -> BaseException | None:
    """Call a handler once with an event; return what went wrong, or None.

    :param run: calls the handler with a value.
    :param key: for `deduplication_key`.

    `gevent.GreenletExit` and `KeyboardInterrupt` are raised: they are not about the event. A
    handler that computes without ever blocking cannot be interrupted at its time-out; when it ends
    well, late, that counts.
    """
    process = os.getpid()
    # A context of its own: variables that one handler sets do not reach the next one.
    error = contextvars.copy_context().run(_attempt, envelope, handler, run, key)
    if os.getpid() != process:
        _end_child(handler, error)
    return error


def _end_child(handler: Handler, error: BaseException | None) -> None:
    """What a handler has forked came back out of it: the event is the parent's to settle."""
    if isinstance(error, SystemExit):
        code = error.code
        os._exit(code if isinstance(code, int) else int(code is not None))
    logger.error(
        "%s: a process that it has forked came out of it, and is ended: end it by os._exit",
        handler.name,
        exc_info=error,
    )
    os._exit(1)


def _attempt(
    envelope: Envelope,
    handler: Handler,
    run: Callable[[Handler, Any], Any],
    key: str | None,
) -> BaseException | None:
    deadline = None if handler.timeout is None else time.monotonic() + handler.timeout
    call = Call(deadline, 0, envelope.request_id, envelope.traceparent)
    current_call.set(call)
    running_event.set(envelope)
    running_key.set(key)
    try:
        # Once more for each handler: what one does to the value must not reach the next one.
        value = _read(envelope, handler)
        if deadline is None:
            run(handler, value)
        else:
            _run_within(call, handler, run, value)
    except (*USER_FAULTS, DeadlineReached) as error:
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
    """Class and text of an exception, short enough for a header.

    >>> describe(OSError("not today"))
    'OSError: not today'
    """
    name = type(error).__name__
    try:
        text = str(error)
    except Exception:  # a __str__ of the user's that fails too
        text = "(it has no readable text)"
    return shortened(f"{name}: {text}" if text else name)


def shortened(text: str) -> str:
    """A text for the header of a dead letter: not too long, and such that JSON can hold it."""
    encoded = _utf8(text)
    if len(encoded) > _LONGEST_ERROR:
        encoded = encoded[: _LONGEST_ERROR - 3] + b"..."
    return encoded.decode("utf-8", "ignore")


def last_traceback(error: BaseException) -> str:
    """The traceback as text; of a long one the end, where the reason stands."""
    try:
        lines = traceback.format_exception(type(error), error, error.__traceback__, limit=-_FRAMES)
    except Exception:  # of an exception whose own attributes fail
        lines = [describe(error)]
    encoded = _utf8("".join(lines))
    if len(encoded) > _LONGEST_TRACEBACK:
        encoded = b"...\n" + encoded[4 - _LONGEST_TRACEBACK :]
    return encoded.decode("utf-8", "ignore")


def _utf8(text: str) -> bytes:
    """A text may hold lone surrogates (file names do), which JSON cannot."""
    return text.encode("utf-8", "backslashreplace")
