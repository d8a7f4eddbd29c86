"""Addresses of brokers: taken apart, and shown without what is secret."""

from __future__ import annotations

from typing import Any
from urllib.parse import SplitResult, quote, urlsplit

from ...errors import ServiceConfigurationError

__all__ = ["amqp_url", "shown", "split", "sqlite_path"]


def split(url: object, schemes: tuple[str, ...], example: str) -> SplitResult:
    """:raises ServiceConfigurationError: when `url` is none of these schemes.

    Neither the URL nor the reason is shown: either may hold a piece of a password.
    """
    if isinstance(url, str):
        try:
            parts = urlsplit(url)
            if parts.scheme in schemes and parts.port != 0:
                return parts
        except ValueError:
            pass
    raise ServiceConfigurationError(
        f"the URL is like {example!r}; in the user and the password, characters such as / and @ "
        "are written %2F and %40"
    )


def shown(url: str) -> str:
    """The URL without user, password and query."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


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
