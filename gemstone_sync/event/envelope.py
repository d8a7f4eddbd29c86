"""Envelopes: an event's body with what is known about it. Pure.

AMQP's properties and headers carry the envelope, so that other programs can read and write events
too: the body is plain JSON, the AMQP 0-9-1 properties ``message_id``, ``type``, ``app_id``,
``correlation_id`` and ``timestamp`` mean what they mean elsewhere, and the rest stands in headers.
"""

from __future__ import annotations

import operator
import re
import time
import uuid
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from ..concurrency import carried_headers, travelling_id
from ..exit_codes import printable
from ..number_checks import is_number

__all__ = ["DeadLetter", "Envelope", "Reason", "from_message", "to_message"]

#: W3C Trace Context, section 3.2.
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")

#: Exact in a double, and fits into every integer of AMQP.
_LARGEST = 2**53

# What `Envelope.from_json` takes: whoever may write to a broker may write anything.
_Text = Annotated[str, Meta(min_length=1)]
#: Goes into headers and log lines.
_Travelling = Annotated[str, Meta(pattern=r"\A[ -~]+\Z")]
_Moment = Annotated[float, Meta(ge=0, le=_LARGEST)]


class Envelope(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """An event on its way.

    :ivar name: the event's name; it is the routing key.
    :ivar body: JSON text in UTF-8.
    :ivar id: what tells it from every other event, however often it is delivered.
    :ivar time: when it was emitted, in seconds since 1970.
    :ivar broadcast: False for work, which one worker does.
    :ivar key: events with the same key are handled in the order in which they were emitted.
    :ivar emitter: the name of the service that emitted it.
    :ivar request_id, traceparent, tracestate, baggage: of the call in which it was emitted.
    :ivar deadline: seconds since 1970; it is not handled any more afterwards.
    :ivar attempts: how often a handler has failed.
    :ivar handler: set after a failure: only this handler is still to take it.
    :ivar queue: set when it goes to this one queue only: after a delay, or to be tried again.
    :ivar due: seconds since 1970 when a delayed event is to be delivered.
    """

    name: _Text
    body: bytes
    id: _Text = msgspec.field(default_factory=lambda: uuid.uuid4().hex)
    time: _Moment = msgspec.field(default_factory=time.time)
    broadcast: bool = True
    key: str | None = None
    emitter: str | None = None
    request_id: _Travelling | None = None
    traceparent: _Travelling | None = None
    deadline: _Moment | None = None
    attempts: Annotated[int, Meta(ge=0, le=_LARGEST)] = 0
    handler: str | None = None
    queue: str | None = None
    due: _Moment | None = None
    #: Set for one that nobody could handle.
    dead: DeadLetter | None = None
    tracestate: _Travelling | None = None
    baggage: _Travelling | None = None

    def trace_headers(self) -> dict[str, str]:
        """Return the W3C context that it carries, as headers."""
        names = ("traceparent", "tracestate", "baggage")
        return {name: text for name in names if (text := getattr(self, name)) is not None}

    @property
    def shown(self) -> str:
        """Return what the log calls it: its name and id, which may be any text of a stranger's.

        >>> Envelope(name="paid", body=b"1", id="a\\nb").shown
        "event 'paid' (a\\\\nb)"
        """
        return f"event {self.name[:200]!r} ({printable(self.id[:100])})"

    def with_changes(self, **changes: Any) -> Envelope:
        """Return a copy with other values."""
        return msgspec.structs.replace(self, **changes)

    def to_json(self) -> bytes:
        """Return all of it as JSON text: the stored form, in an outbox, SQLite or Redis."""
        return msgspec.json.encode(self)

    @classmethod
    def from_json(cls, text: bytes | str) -> Envelope:
        """:raises ValueError: when the text is not from `to_json`."""
        try:
            return msgspec.json.decode(text, type=cls)
        except RecursionError as error:
            raise ValueError("nested too deeply") from error


class Reason:
    """Reasons of dead letters, as they travel and are shown."""

    FAILED = "failed"  # every attempt
    REJECTED = "rejected"  # by its handler, with `Reject`
    INVALID = "invalid"  # its body
    EXPIRED = "expired"
    UNHANDLED = "unhandled"  # nobody has a handler of that name
    CRASHED = "crashed"  # the processes that handled it ended, too often
    REFUSED = "refused"  # in an outbox: by a transport; it is tried again
    UNSENDABLE = "unsendable"  # in an outbox: it can never be sent


class DeadLetter(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The reason why an event lies with the dead letters.

    :ivar reason: one of `Reason`'s.
    :ivar error: class and text of the exception.
    :ivar traceback: of the last attempt.
    :ivar queue: the queue it came from, where `replay` puts it back.
    :ivar time: seconds since 1970.
    """

    reason: str
    error: str = ""
    traceback: str = ""
    queue: str = ""
    time: _Moment = 0.0


_DEAD = "x-gemstone-dead"
_TIME = "x-gemstone-time"
_WORK = "x-gemstone-work"


def to_message(envelope: Envelope) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the properties and the headers of a message that carries the envelope.

    Times are in whole milliseconds: AMQP's table has no double that every client reads.
    """
    properties: dict[str, Any] = {
        "content_type": "application/json",
        "content_encoding": "utf-8",
        "delivery_mode": 2,
        "message_id": envelope.id,
        "type": envelope.name,
        "timestamp": int(envelope.time),
    }
    if envelope.emitter is not None:
        properties["app_id"] = envelope.emitter
    if envelope.request_id is not None:
        properties["correlation_id"] = envelope.request_id
    headers: dict[str, Any] = {_TIME: int(envelope.time * 1000)}
    if not envelope.broadcast:
        headers[_WORK] = 1
    if envelope.key is not None:
        headers["x-gemstone-key"] = envelope.key
    headers |= envelope.trace_headers()
    if envelope.attempts:
        headers["x-gemstone-attempts"] = envelope.attempts
    if envelope.handler is not None:
        headers["x-gemstone-handler"] = envelope.handler
    if envelope.queue is not None:
        headers["x-gemstone-queue"] = envelope.queue
    if envelope.deadline is not None:
        headers["x-gemstone-deadline"] = int(envelope.deadline * 1000)
    if envelope.due is not None:
        headers["x-gemstone-due"] = int(envelope.due * 1000)
    if envelope.dead is not None:
        headers[_DEAD] = msgspec.json.encode(envelope.dead).decode()
    return properties, headers


def from_message(
    body: bytes | str,
    properties: dict[str, Any],
    headers: dict[str, Any],
    routing_key: str,
) -> Envelope:
    """Read a message; one that another program has published lacks most of what ours have.

    Nothing in it is trusted: a header of the wrong type counts as absent.
    """
    values: dict[str, Any] = {}
    for name, value in headers.items():
        if name in _HEADERS:
            field, read = _HEADERS[name]
            values[field] = read(value)
    if values.get("time") is None:
        seconds = _number(properties.get("timestamp"))
        values["time"] = time.time() if seconds is None else seconds
    return Envelope(
        name=_text(properties.get("type")) or routing_key,
        body=body.encode("utf-8", "surrogatepass") if isinstance(body, str) else bytes(body),
        id=_text(properties.get("message_id")) or uuid.uuid4().hex,
        emitter=_text(properties.get("app_id")),
        request_id=travelling_id(_text(properties.get("correlation_id"))),
        **values,
    )


def _text(value: object) -> str | None:
    if not isinstance(value, str) or not value:
        return None
    # py-amqp lets lone surrogates through, which nothing could encode again.
    return value if value.isascii() or value.encode("utf-8", "replace").decode() == value else None


def _number(value: object) -> float | None:
    # What is no number, or one that could not be sent on, counts as absent.
    return float(value) if is_number(value) and 0 <= value <= _LARGEST else None


def _moment(value: object) -> float | None:
    number = _number(value)
    return None if number is None else number / 1000


def _dead(value: object) -> DeadLetter | None:
    if not isinstance(value, str):
        return None
    try:
        return msgspec.json.decode(value, type=DeadLetter)
    except (ValueError, RecursionError):  # of what is nested too deeply
        return None


def _carried(name: str) -> Callable[[object], str | None]:
    return lambda value: (carried_headers(**{**_NOTHING, name: value}) or {}).get(name)


_NOTHING: dict[str, object] = {"tracestate": None, "baggage": None}


def _traceparent(value: object) -> str | None:
    text = _text(value)
    return text if text is not None and _TRACEPARENT.fullmatch(text) else None


#: What is read of a message's headers: into which attribute, and how.
_HEADERS: dict[str, tuple[str, Callable[[object], Any]]] = {
    _TIME: ("time", _moment),
    _WORK: ("broadcast", operator.not_),
    _DEAD: ("dead", _dead),
    "traceparent": ("traceparent", _traceparent),
    "tracestate": ("tracestate", _carried("tracestate")),
    "baggage": ("baggage", _carried("baggage")),
    "x-gemstone-attempts": ("attempts", lambda value: int(_number(value) or 0)),
    "x-gemstone-deadline": ("deadline", _moment),
    "x-gemstone-due": ("due", _moment),
    "x-gemstone-handler": ("handler", _text),
    "x-gemstone-key": ("key", _text),
    "x-gemstone-queue": ("queue", _text),
}
