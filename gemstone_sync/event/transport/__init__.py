"""Event transports: what a service's ``event_transports`` holds.

Reading order: `base` (the contract), `broker` (what all over a broker share), `rabbitmq`, `stores`
(SQLite, Redis, memory), `kombu` (any other), `choice` (by URL).
"""

from .base import BaseEventTransport, Reception
from .broker import BrokerEventTransport
from .choice import transport_from_url
from .kombu import KombuEventTransport
from .rabbitmq import RabbitMqEventTransport
from .stores import MemoryEventTransport, RedisEventTransport, SqliteEventTransport

__all__ = [
    # the contract
    "BaseEventTransport",
    "Reception",
    # transports
    "BrokerEventTransport",
    "RabbitMqEventTransport",
    "RedisEventTransport",
    "SqliteEventTransport",
    "MemoryEventTransport",
    "KombuEventTransport",
    "transport_from_url",
]
