"""Making an `Envelope` of what a caller says: names, bodies, delays and times checked.

Used by services, by `EventEmitter` and by the transports themselves, so that all refuse the same.
"""

from __future__ import annotations

import datetime
import math
import time
from collections.abc import Iterable, Mapping
from typing import Any, TypeGuard

from ..concurrency import current_call, current_trace
from ..number_checks import is_number
from ..protocol import PLAIN, Encoder
from .envelope import Envelope
from .names import check_event_name

__all__ = ["LONGEST_DELAY", "MAX_SIZE", "check_emitter", "make_envelope", "make_envelopes"]

#: Bytes of a body, unless said otherwise: brokers are slow with more.
MAX_SIZE = 1_000_000

#: Seconds: what a number of milliseconds in a header still holds, and nobody waits for.
LONGEST_DELAY = 10 * 366 * 86400.0

_OPTIONS = ("broadcast", "key", "delay", "at", "expires_in")


def make_envelope(
    event_name: str,
    event_body: Any,
    *,
    broadcast: bool = True,
    key: str | None = None,
    delay: float | None = None,
    at: datetime.datetime | float | None = None,
    expires_in: float | None = None,
    emitter: str | None = None,
    max_size: int = MAX_SIZE,
    encoder: Encoder = PLAIN,
) -> Envelope:
    """Make the envelope of an event.

    :param broadcast: False for work, which one worker does.
    :param key: events with the same key are handled in the order in which they were emitted.
    :param delay: seconds until it is delivered.
    :param at: when it is delivered: an aware datetime, or seconds since 1970.
    :param expires_in: seconds after which it is not handled any more.
    :param emitter: the name of the service.
    :param max_size: bytes of the body as JSON.
    :param encoder: writes the body.
    :raises ValueError: for a name, a time or a key that makes no sense, or a body that is too long.
    :raises TypeError: for a body that JSON cannot represent.

    The running call's request id and trace context go along; its deadline does not, since the work
    outlives the call.
    """
    check_event_name(event_name)
    if key is not None and (not _is_text(key) or len(key) > 255):
        raise ValueError(f"the key of {event_name!r} is a text of 1 to 255 characters, not {key!r}")
    try:
        body = encoder.encode(event_body)
    except UnicodeEncodeError as error:  # which is made of five arguments
        raise ValueError(
            f"the body of {event_name!r} holds text that is no UTF-8: {error}"
        ) from error
    except (TypeError, ValueError, RecursionError) as error:
        raise type(error)(f"the body of {event_name!r}: {error}") from error
    if len(body) > max_size:
        raise ValueError(
            f"the body of {event_name!r} has {len(body)} bytes, more than {max_size}: "
            "emit where it can be found instead of the whole"
        )
    now = time.time()
    call, trace = current_call.get(), current_trace()
    return Envelope(
        name=event_name,
        body=body,
        time=now,
        broadcast=bool(broadcast),
        key=key,
        emitter=emitter,
        request_id=None if call is None else call.request_id,
        traceparent=trace.get("traceparent"),
        tracestate=trace.get("tracestate"),
        baggage=trace.get("baggage"),
        deadline=None if expires_in is None else now + _seconds("expires_in", expires_in),
        due=_due(now, delay, at),
    )


def make_envelopes(
    events: Iterable[tuple[Any, ...]],
    *,
    emitter: str | None = None,
    max_size: int = MAX_SIZE,
    encoder: Encoder = PLAIN,
) -> list[Envelope]:
    """Make several: of (name, body) pairs or (name, body, options) triples.

    :param events: options are a dict of those of `make_envelope`.
    :raises ValueError: also for an entry that is neither, or an unknown option.
    """
    envelopes = []
    for entry in events:
        if not isinstance(entry, (tuple, list)) or len(entry) not in (2, 3):
            raise ValueError(f"an event is (name, body) or (name, body, options), not {entry!r}")
        options = entry[2] if len(entry) == 3 else {}
        if not isinstance(options, Mapping) or not set(options) <= set(_OPTIONS):
            raise ValueError(f"the options of an event are {', '.join(_OPTIONS)}, not {options!r}")
        envelopes.append(
            make_envelope(
                entry[0], entry[1], emitter=emitter, max_size=max_size, encoder=encoder, **options
            )
        )
    return envelopes


def _due(now: float, delay: float | None, at: datetime.datetime | float | None) -> float | None:
    if delay is not None and at is not None:
        raise ValueError("an event has a delay or a moment (at), not both")
    if delay is not None:
        seconds = _seconds("delay", delay)
        return now + seconds if seconds else None
    if at is None:
        return None
    if isinstance(at, datetime.datetime):
        if at.tzinfo is None:
            raise ValueError("at wants an aware datetime, such as datetime.now(timezone.utc)")
        at = at.timestamp()
    if not is_number(at) or math.isnan(at):
        raise ValueError(f"at is a datetime or seconds since 1970, not {at!r}")
    seconds = _seconds("at", max(0.0, at - now))
    return now + seconds if seconds else None


def _seconds(name: str, value: object) -> float:
    if not is_number(value) or not 0 <= value < LONGEST_DELAY:
        raise ValueError(f"{name} is a number of seconds from 0 to ten years, not {value!r}")
    return float(value)


def check_emitter(name: object) -> None:
    """Check the name of an emitter, of which AMQP carries 255 bytes.

    :raises ValueError: for what is none.
    """
    if name is not None and (not _is_text(name) or len(name.encode()) > 255):
        raise ValueError(f"the name of an emitter is a text of 1 to 255 bytes, not {name!r}")


def _is_text(value: object) -> TypeGuard[str]:
    """Tell whether it can be written as UTF-8, and is not empty: names of files may hold others."""
    if not isinstance(value, str) or not value:
        return False
    return value.encode(errors="replace").decode() == value
