"""Addresses of brokers, made and taken apart."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from ...errors import ServiceConfigurationError

__all__ = ["amqp_url", "sqlite_path"]


def amqp_url(
    host: str, port: int, username: str, password: str, virtual_host: str, scheme: str
) -> str:
    """The URL of a RabbitMQ.

    >>> amqp_url("rabbit", 5672, "ada", "p/w", "/", "amqp")
    'amqp://ada:p%2Fw@rabbit:5672/%2F'
    """
    where = f"[{host}]" if ":" in host else host
    who = f"{quote(username, safe='')}:{quote(password, safe='')}"
    return f"{scheme}://{who}@{where}:{port}/{quote(virtual_host, safe='')}"


def sqlite_path(location: Any) -> str:
    """The path in ``"events.db"`` or ``"sqlite:///events.db"``.

    As in SQLAlchemy's URLs three slashes start a relative path and four an absolute one.

    >>> sqlite_path("sqlite:///events.db"), sqlite_path("sqlite:////var/lib/events.db")
    ('events.db', '/var/lib/events.db')
    """
    path = location if isinstance(location, str) else getattr(location, "__fspath__", str)()
    if path.startswith("sqlite:"):
        path = path[len("sqlite:///") :] if path.startswith("sqlite:///") else ""
    elif "://" in path:
        path = ""
    if not path:
        # What was given is not shown: it may be the URL of something that wants a password.
        raise ServiceConfigurationError(
            "the place of the events is like 'events.db' or 'sqlite:///events.db'"
        )
    return path
