"""From a URL to a transport."""

from __future__ import annotations

from typing import Any

from ...broker_urls import RABBITMQ_SCHEMES, REDIS_SCHEMES, scheme_of
from .broker import BrokerEventTransport
from .rabbitmq import RabbitMqEventTransport
from .stores import MemoryEventTransport, RedisEventTransport, SqliteEventTransport
from .urls import take_options

__all__ = ["transport_from_url"]


def transport_from_url(url: str, **options: Any) -> BrokerEventTransport:
    """Make the transport that a URL names.

    ::

        event_transports = [transport_from_url(os.environ.get("EVENTS_URL", "events.db"))]

    :param url: ``amqp://`` and ``amqps://`` for RabbitMQ, ``redis://`` and ``rediss://``,
        ``sqlite:///file`` or the path of a file, ``memory://``, or any other of kombu's URLs. Every
        option may be in it: ``amqp://host?application=shop&heartbeat=3``.
    :param options: those of the transport; they count more than those in the URL.
    :raises ServiceConfigurationError: when it is none of these.
    """
    scheme = scheme_of(url)
    if scheme in RABBITMQ_SCHEMES:
        return RabbitMqEventTransport.from_url(url, **options)
    if scheme in REDIS_SCHEMES:
        return RedisEventTransport(url, **options)
    if scheme == "memory":
        given = take_options(url, MemoryEventTransport)[1]
        return MemoryEventTransport(**{**given, **options})
    if scheme in ("", "sqlite"):
        return SqliteEventTransport(url, **options)
    from .kombu import KombuEventTransport

    return KombuEventTransport(url, **options)
