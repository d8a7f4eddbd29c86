"""What travels: an event's body with what is known about it. Pure.

Kombu's properties and headers carry the envelope, so that other programs can read and write events
too: the body is plain JSON, the AMQP 0-9-1 properties ``message_id``, ``type``, ``app_id``,
``correlation_id`` and ``timestamp`` mean what they mean elsewhere, and the rest stands in headers.
"""

from __future__ import annotations

import operator
import re
import time
import uuid
from collections.abc import Callable
from typing import Any

import msgspec

from ..concurrency import travelling_id

__all__ = ["DeadLetter", "Envelope", "from_message", "to_message"]

#: W3C Trace Context, section 3.2.
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


class Envelope(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One event on its way.

    :ivar name: the event's name; it is the routing key.
    :ivar body: JSON text in UTF-8.
    :ivar id: what tells it from every other event, however often it is delivered.
    :ivar time: when it was emitted, in seconds since 1970.
    :ivar broadcast: False for work, which one worker does.
    :ivar key: events with the same key are handled in the order in which they were emitted.
    :ivar emitter: the name of the service that emitted it.
    :ivar request_id, traceparent: of the call in which it was emitted.
    :ivar deadline: seconds since 1970; it is not handled any more afterwards.
    :ivar attempts: how often a handler has failed.
    :ivar handler: set after a failure: only this handler is still to take it.
    :ivar queue: set for a delayed event that goes to this one queue.
    :ivar due: seconds since 1970 when a delayed event is to be delivered.
    """

    name: str
    body: bytes
    id: str = msgspec.field(default_factory=lambda: uuid.uuid4().hex)
    time: float = msgspec.field(default_factory=time.time)
    broadcast: bool = True
    key: str | None = None
    emitter: str | None = None
    request_id: str | None = None
    traceparent: str | None = None
    deadline: float | None = None
    attempts: int = 0
    handler: str | None = None
    queue: str | None = None
    due: float | None = None
    #: Set for one that nobody could handle.
    dead: DeadLetter | None = None

    def with_changes(self, **changes: Any) -> Envelope:
        """A copy with other values."""
        return msgspec.structs.replace(self, **changes)

    def to_json(self) -> bytes:
        """All of it as JSON text: the stored form, in an outbox, SQLite or Redis."""
        return msgspec.json.encode(self)

    @classmethod
    def from_json(cls, text: bytes | str) -> Envelope:
        """:raises ValueError: when the text is not from `to_json`."""
        try:
            return msgspec.json.decode(text, type=cls)
        except RecursionError as error:
            raise ValueError("nested too deeply") from error


class DeadLetter(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Why an event lies with the dead letters.

    :ivar reason: ``"failed"`` (every attempt), ``"rejected"``, ``"invalid"`` (the body),
        ``"expired"``, ``"unhandled"`` (no handler of that name) or ``"crashed"`` (the processes
        that handled it ended).
    :ivar error: class and text of the exception.
    :ivar traceback: of the last attempt.
    :ivar queue: the queue it came from, where `replay` puts it back.
    :ivar time: seconds since 1970.
    """

    reason: str
    error: str = ""
    traceback: str = ""
    queue: str = ""
    time: float = 0.0


_DEAD = "x-gemstone-dead"
_TIME = "x-gemstone-time"
_WORK = "x-gemstone-work"
#: Exact in a double, and fits into every integer of AMQP.
_LARGEST = 2**53


def to_message(envelope: Envelope) -> tuple[dict[str, Any], dict[str, Any]]:
    """The properties and the headers of a message that carries the envelope.

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
    if envelope.traceparent is not None:
        headers["traceparent"] = envelope.traceparent
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
    """What is no number, or one that could not be sent on, counts as absent."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if 0 <= value <= _LARGEST else None


def _moment(value: object) -> float | None:
    number = _number(value)
    return None if number is None else number / 1000


def _dead(value: object) -> DeadLetter | None:
    if not isinstance(value, str):
        return None
    try:
        return msgspec.json.decode(value, type=DeadLetter)
    except ValueError:
        return None


def _traceparent(value: object) -> str | None:
    text = _text(value)
    return text if text is not None and _TRACEPARENT.fullmatch(text) else None


#: What is read of a message's headers: into which attribute, and how.
_HEADERS: dict[str, tuple[str, Callable[[object], Any]]] = {
    _TIME: ("time", _moment),
    _WORK: ("broadcast", operator.not_),
    _DEAD: ("dead", _dead),
    "traceparent": ("traceparent", _traceparent),
    "x-gemstone-attempts": ("attempts", lambda value: int(_number(value) or 0)),
    "x-gemstone-deadline": ("deadline", _moment),
    "x-gemstone-due": ("due", _moment),
    "x-gemstone-handler": ("handler", _text),
    "x-gemstone-key": ("key", _text),
    "x-gemstone-queue": ("queue", _text),
}
