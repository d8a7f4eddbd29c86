"""Event transports: what a service's ``event_transports`` holds.

Reading order: `base` (the contract), `broker` (what all over a broker share), `rabbitmq`, `stores`
with `sqlite` and `redis` (queues of our own), `kombu` (any other), `choice` (by URL).
"""

from .base import BaseEventTransport, Reception
from .broker import BrokerEventTransport
from .choice import transport_from_url
from .kombu.transport import KombuEventTransport
from .rabbitmq.transport import RabbitMqEventTransport
from .stores.transport import MemoryEventTransport, RedisEventTransport, SqliteEventTransport

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
