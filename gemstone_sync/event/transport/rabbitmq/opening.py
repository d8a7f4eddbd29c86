"""From the URL of a RabbitMQ to a connection that is not open yet."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Callable, Mapping
from typing import Any

from kombu.connection import Connection

from .wire import AmqpConnection, AmqpTransport

__all__ = ["describe", "place_of", "version_of"]

#: Py-amqp's second is too short: with a broker that stops reading, what was written is lost.
_SOCKET = {socket.TCP_USER_TIMEOUT: 30_000} if hasattr(socket, "TCP_USER_TIMEOUT") else {}


def describe(
    url: str,
    *,
    name: str,
    heartbeat: float,
    connect_timeout: float,
    tls: Mapping[str, Any] | None,
    options: Mapping[str, Any] | None,
    on_blocked: Callable[[str], None],
    on_unblocked: Callable[[], None],
) -> Any:
    """A `kombu.Connection`, which connects to nothing by itself.

    :raises ValueError: for a URL that is none.
    """
    scheme = url.partition("://")[0]
    if scheme not in ("amqp", "amqps"):
        raise ValueError("a URL of RabbitMQ starts with amqp:// or amqps://")
    given = dict(options or {})
    transport_options = {
        "client_properties": {"connection_name": name, "product": "gemstone_sync"},
        "on_blocked": on_blocked,
        "on_unblocked": on_unblocked,
        "socket_settings": _SOCKET,
        **given.pop("transport_options", {}),
    }
    try:
        description = Connection(
            url,
            transport=AmqpTransport,
            heartbeat=heartbeat,
            connect_timeout=connect_timeout,
            transport_options=transport_options,
            **given,
        )
    except (ValueError, TypeError):
        # Its text may quote a part of the password.
        raise ValueError(
            "not a URL of RabbitMQ: amqp://user:password@host:port/virtual-host, where "
            "special characters in the password are percent-encoded"
        ) from None
    if scheme == "amqps":
        description.ssl = _tls_options(tls or {}, description.hostname)
        description.port = description.port or 5671
    description.port = description.port or 5672
    return description


def _tls_options(given: Mapping[str, Any], host: str | None) -> dict[str, Any]:
    options = dict(given)
    if options.get("cert_reqs", ssl.CERT_REQUIRED) != ssl.CERT_NONE:
        # Without a name py-amqp takes any host's certificate.
        options.setdefault("server_hostname", host or "localhost")
        options.setdefault("cert_reqs", ssl.CERT_REQUIRED)
    return options


def place_of(description: Any) -> str:
    """Where it is, without the password."""
    place = f"{description.hostname or 'localhost'}:{description.port}"
    return place if description.virtual_host == "/" else f"{place}/{description.virtual_host}"


def version_of(connection: AmqpConnection) -> tuple[int, ...]:
    """The first two numbers of the broker's version."""
    found = re.match(r"(\d+)\.(\d+)", str(connection.server_properties.get("version", "")))
    return (0, 0) if found is None else (int(found[1]), int(found[2]))
