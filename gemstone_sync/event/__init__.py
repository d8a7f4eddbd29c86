"""Events: broadcast to every service that subscribes, or work for exactly one worker.

Reading order: `names`, `envelope` (what travels), `emission` (made from what callers say),
`handlers` (what is promised to a handler), `observed` (what is told of an event) and `traced` (its
spans), `places`, `topology` (exchanges and queues), `link` (the contract with a broker), `wakeups`,
`runtime` (publishing and handling, whatever the broker),
`transport` (what users make, and the brokers, each in a folder), `deduplication`, `outbox`,
`deadletters`, `emitter`. None imports what comes after it, but for `deduplication`.

Importing it patches nothing, and loads no broker's library.
"""

from . import deadletters
from .deduplication import RedisProcessedEvents, SqliteProcessedEvents
from .emitter import EventEmitter
from .envelope import DeadLetter, Envelope
from .outbox import Outbox
from .runtime.attempts import current_event, deduplication_key
from .transport import (
    BaseEventTransport,
    KombuEventTransport,
    MemoryEventTransport,
    RabbitMqEventTransport,
    RedisEventTransport,
    SqliteEventTransport,
    transport_from_url,
)

__all__ = [
    # transports
    "BaseEventTransport",
    "RabbitMqEventTransport",
    "RedisEventTransport",
    "SqliteEventTransport",
    "MemoryEventTransport",
    "KombuEventTransport",
    "transport_from_url",
    # emitting without a service
    "EventEmitter",
    "Outbox",
    # in a handler
    "current_event",
    "Envelope",
    # dropping what was handled already
    "deduplication_key",
    "SqliteProcessedEvents",
    "RedisProcessedEvents",
    # what could not be handled
    "deadletters",
    "DeadLetter",
]
