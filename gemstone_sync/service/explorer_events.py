"""Events as the explorer tells them: those that were handled, and the dead letters."""

from __future__ import annotations

import collections
import functools
import time
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeVar

from ..broker_urls import without_passwords
from ..errors import (
    BrokerUnavailable,
    EventNotDelivered,
    InvalidParams,
    RpcError,
    ServiceConfigurationError,
)
from ..event import deadletters
from ..event.handlers import Handler
from ..event.names import matches
from ..event.observed import ObservedEvent
from ..event.topology import Topology
from ..ops import Observer
from ..protocol import encode_json
from .base import ServiceBase

__all__ = ["Handled", "dead_letters", "emit", "replay", "stores_of"]

T = TypeVar("T")

#: Newest handled events that are kept.
_HANDLED = 50
#: Dead letters of one store that are told at once.
_DEAD_LETTERS = 200
#: Characters of a body, an error or a traceback that are kept or told: fifty of the largest bodies
#: would be 50 MB.
_LONGEST = 20_000


class Handled(Observer):
    """Keeps the newest events that handlers of this process have had."""

    def __init__(self) -> None:
        self._seen: collections.deque[dict[str, Any]] = collections.deque(maxlen=_HANDLED)

    def on_event_finished(self, event: ObservedEvent) -> None:
        error, envelope = event.exception, event.envelope
        self._seen.append(
            {
                "time": time.time(),
                "name": event.name,
                "handler": event.handler,
                "id": event.id,
                "seconds": event.seconds,
                "error": None if error is None else f"{type(error).__name__}: {error}"[:_LONGEST],
                "again_in": event.delay,
                "dead": None if event.letter is None else event.letter.reason,
                "body": None if envelope is None else _text_of(envelope.body),
            }
        )

    def newest(self) -> list[dict[str, Any]]:
        """List them, the newest first."""
        return [*reversed(self._seen)]


def stores_of(service: ServiceBase) -> dict[str, Any]:
    """Find what keeps dead letters, by names that are the same in every worker."""
    found: dict[str, Any] = {
        without_passwords(str(transport)): transport
        for transport in service.event_transports
        if isinstance(getattr(transport, "topology", None), Topology)
    }
    return found if service.outbox is None else {**found, "outbox": service.outbox}


def dead_letters(service: ServiceBase) -> list[Mapping[str, Any]]:
    """List the dead letters of all stores, those of each store oldest first.

    :raises RpcError: when a broker is not there, in its words.
    """
    return [
        _letter(name, entry)
        for name, store in stores_of(service).items()
        for entry in _asked(functools.partial(deadletters.list, store, limit=_DEAD_LETTERS))
    ]


def replay(service: ServiceBase, store: str, id: str) -> int:
    """Put a dead letter back to where it came from; return how many had that id.

    :raises InvalidParams: when there is none.
    :raises RpcError: when a broker is not there, or does not take it, in its words.
    """
    found = stores_of(service).get(store)
    if found is None:
        _refuse("store", "there is none of that name")
    try:
        return _asked(lambda: deadletters.replay(found, id))
    except ValueError as error:
        _refuse("id", str(error))


def emit(
    service: ServiceBase, handlers: tuple[Handler, ...], name: str, body: Any, broadcast: bool
) -> str:
    """Emit an event that a service emits or handles; return its id.

    :raises InvalidParams: for another one, or a body that does not fit.
    """
    known = any(matches(handler.pattern, name) for handler in handlers)
    if not known and name not in service.emits:
        _refuse("name", "the service neither emits nor handles such an event")
    try:
        made: str = service.emit_event(name, body, broadcast=broadcast)  # type: ignore[attr-defined]
        return made
    except (ValueError, TypeError) as error:
        _refuse("body", str(error))


def _asked(ask: Callable[[], T]) -> T:
    try:
        return ask()
    except (BrokerUnavailable, EventNotDelivered, ServiceConfigurationError) as error:
        raise RpcError(without_passwords(str(error))[:_LONGEST]) from error


def _refuse(name: str, reason: str) -> NoReturn:
    raise InvalidParams(data={"parameters": [{"name": name, "reason": reason}]})


def _letter(store: str, entry: deadletters.DeadLetterEntry) -> Mapping[str, Any]:
    body = entry.body if isinstance(entry.body, bytes) else encode_json(entry.body)
    return {
        "store": store,
        "id": entry.id,
        "name": entry.name,
        "reason": entry.reason,
        "error": entry.error[:_LONGEST],
        "traceback": entry.traceback[-_LONGEST:],
        "attempts": entry.attempts,
        "handler": entry.handler,
        "emitter": entry.emitter,
        "emitted": entry.emitted,
        "died": entry.died,
        "body": _text_of(body),
    }


def _text_of(body: bytes) -> str:
    """Return the text of a body, as long as it may be."""
    return body[:_LONGEST].decode("utf-8", "replace")
