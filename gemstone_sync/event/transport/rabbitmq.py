"""Events over RabbitMQ."""

from __future__ import annotations

import difflib
from typing import Any
from urllib.parse import unquote

from ...broker_urls import RABBITMQ_SCHEMES, shown, split
from ...errors import ServiceConfigurationError
from ..link import Link
from .broker import BrokerEventTransport
from .urls import amqp_url

__all__ = ["RabbitMqEventTransport"]

_EXAMPLE = "amqp://user:password@127.0.0.1:5672/%2F"

#: Options of pika's ConnectionParameters, which gemstone took, with the name that they have here.
_OF_PIKA = {
    "heartbeat_interval": "heartbeat",
    "socket_timeout": "connect_timeout",
    "blocked_connection_timeout": None,
    "connection_attempts": None,
    "retry_delay": None,
}
_TRANSPORT = ("application", "pool_size", "service", "queue_limit", "shards")
_LINK = ("heartbeat", "connect_timeout", "delivery_limit")


class RabbitMqEventTransport(BrokerEventTransport):
    """Events over RabbitMQ 3.10 or later.

    ::

        class Shop(MicroService):
            name = "shop"
            event_transports = [RabbitMqEventTransport("127.0.0.1", 5672, "guest", "guest")]

    Queues are durable quorum queues with a delivery limit and dead letters; what is published is
    confirmed.

    :param host: a host name or an IP address.
    :param username, password: "guest" when empty.
    :param options: ``virtual_host`` ("/"); ``heartbeat`` (10 seconds; a broker that is silent for
        two is given up); ``connect_timeout`` (5 seconds); ``delivery_limit`` (10: an event that
        came back so often because its process died goes to the dead letters); ``ssl`` (True, or a
        dict of py-amqp's ssl options); ``shards`` (4: over how many queues the events with keys of
        one service are spread); and those of `BrokerEventTransport`.
    :raises ServiceConfigurationError: for an option that there is not.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 5672,
        username: str = "",
        password: str = "",
        **options: Any,
    ) -> None:
        ssl = options.pop("ssl", False)
        url = amqp_url(
            host,
            port,
            username or "guest",
            password or "guest",
            options.pop("virtual_host", "/"),
            "amqps" if ssl else "amqp",
        )
        self._url = url
        self._link_options, of_transport = _sorted_out(options)
        if isinstance(ssl, dict):
            self._link_options["tls"] = ssl
        #: One below the broker's: here it is known which handler it was.
        self.handled_limit = self._link_options.get("delivery_limit", 10)
        super().__init__(**{"shards": 4, **of_transport})

    @classmethod
    def from_url(cls, url: str, **options: Any) -> RabbitMqEventTransport:
        """Make one from ``"amqp://user:password@host:port/virtual-host"`` (``amqps`` for TLS)."""
        parts = split(url, RABBITMQ_SCHEMES, _EXAMPLE)
        secure = parts.scheme == "amqps"
        if secure:
            options.setdefault("ssl", True)
        virtual_host = unquote(parts.path[1:]) or "/"  # a bare or missing path is the default one
        return cls(
            parts.hostname or "127.0.0.1",
            parts.port or (5671 if secure else 5672),
            unquote(parts.username or ""),
            unquote(parts.password or ""),
            **{"virtual_host": virtual_host, **options},
        )

    def _delay_queues(self) -> list[str]:
        from ..links.ladder import LONGEST, SHORTEST

        steps = [SHORTEST]
        while steps[-1] < LONGEST:
            steps.append(steps[-1] * 2)
        return [self.topology.due, *map(self.topology.delay_queue, steps)]

    def make_link(self, role: str) -> Link:
        from ..links.amqp import AmqpLink

        return AmqpLink(self._url, name=f"gemstone_sync {role}", **self._link_options)

    def __str__(self) -> str:
        return f"RabbitMqEventTransport({shown(self._url)})"


def _sorted_out(options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options of the link, and those of the transport."""
    known = (*_LINK, *_TRANSPORT)  # and virtual_host and ssl, taken already
    link: dict[str, Any] = {}
    transport: dict[str, Any] = {}
    for name, value in options.items():
        if name in _LINK:
            link[name] = value
        elif name in _TRANSPORT:
            transport[name] = value
        elif name in _OF_PIKA:
            better = _OF_PIKA[name]
            hint = f"it is called {better} here" if better else "connections are retried for ever"
            raise ServiceConfigurationError(f"{name} is an option of pika's: {hint}")
        else:
            close = difflib.get_close_matches(name, (*known, "virtual_host", "ssl"), n=1)
            hint = f"; did you mean {close[0]}?" if close else f"; there are {', '.join(known)}"
            raise ServiceConfigurationError(f"RabbitMqEventTransport has no option {name}{hint}")
    return link, transport
