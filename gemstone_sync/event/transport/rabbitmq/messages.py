"""Between envelopes and AMQP's messages: what RabbitMQ adds to one is taken off here."""

from __future__ import annotations

import functools
import time
from datetime import datetime, timezone
from typing import Any

import amqp
from amqp.serialization import dumps

from ...envelope import DeadLetter, Envelope, from_message, to_message
from ...topology import Topology

__all__ = ["publish_arguments", "read", "write"]


def write(envelope: Envelope) -> Any:
    """A message of py-amqp's."""
    properties, headers = to_message(envelope)
    return amqp.Message(envelope.body, application_headers=headers, **properties)


@functools.lru_cache(maxsize=1024)
def publish_arguments(exchange: str, routing_key: str, mandatory: bool) -> bytes:
    """The arguments of basic.publish. Kept, for programs emit few names often."""
    arguments: bytes = dumps("Bssbb", (0, exchange, routing_key, mandatory, False))
    return arguments


def read(message: Any, queue: str, topology: Topology | None) -> tuple[Envelope, int]:
    """What a message carries, and how often it was delivered before.

    Quorum queues count in a header; of classic ones it is known only whether. RabbitMQ's record of
    dead-lettering (``x-death``) means something in the queue of dead letters: a message that this
    program put there has its reason with it, any other one crashed those who handled it. Elsewhere
    it tells of delays, and goes no further.
    """
    properties = message.properties
    headers = properties.get("application_headers") or {}
    info = message.delivery_info
    count = headers.get("x-delivery-count")
    deliveries = count if isinstance(count, int) else int(info["redelivered"])
    exchange, routing_key = info["exchange"], info["routing_key"]
    death = None
    if topology is not None and queue == topology.dead:
        death = _crash(headers)
        if death is not None:
            keys = death.get("routing-keys")
            exchange = death.get("exchange")
            routing_key = keys[0] if isinstance(keys, list) and keys else routing_key
    name = _event_name(exchange, routing_key, topology)
    envelope = from_message(getattr(message, "body", b""), properties, headers, name)
    if death is not None and envelope.dead is None:
        envelope = envelope.with_changes(dead=_dead_letter(death))
    return envelope, deliveries


def _event_name(exchange: object, routing_key: object, topology: Topology | None) -> str:
    """The event's name for a message that does not tell: other programs set no ``type``."""
    name = routing_key if isinstance(routing_key, str) else ""
    if topology is not None and exchange in (topology.keyed, *topology.work):
        return name.partition(".")[2] or name
    return name


def _crash(headers: dict[str, Any]) -> dict[str, Any] | None:
    deaths = headers.get("x-death")
    latest = deaths[0] if isinstance(deaths, list) and deaths else None
    if isinstance(latest, dict) and latest.get("reason") == "delivery_limit":
        return latest
    return None


def _dead_letter(death: dict[str, Any]) -> DeadLetter:
    moment = death.get("time")
    if isinstance(moment, datetime):
        seconds = moment.replace(tzinfo=timezone.utc).timestamp()
    else:
        seconds = time.time()
    queue = death.get("queue")
    return DeadLetter(
        reason="crashed",
        error="delivered too often without an acknowledgement: whoever handled it ended",
        queue=queue if isinstance(queue, str) else "",
        time=seconds,
    )
