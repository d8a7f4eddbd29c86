"""Addresses of brokers and of Redis: taken apart, and shown without what is secret in them."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit

from .errors import ServiceConfigurationError

__all__ = [
    "RABBITMQ_SCHEMES",
    "REDIS_SCHEMES",
    "check_redis_url",
    "scheme_of",
    "shown",
    "split",
    "wrong_url",
]

RABBITMQ_SCHEMES = ("amqp", "amqps", "pyamqp")
REDIS_SCHEMES = ("redis", "rediss", "unix")

_REDIS = "redis://user:password@127.0.0.1:6379/0"


def scheme_of(url: str) -> str:
    """The scheme, in small letters (RFC 3986, section 3.1); empty for a path.

    >>> scheme_of("AMQP://rabbit"), scheme_of("events.db")
    ('amqp', '')
    """
    return url.partition("://")[0].lower() if "://" in url else ""


def split(url: object, schemes: tuple[str, ...], example: str) -> SplitResult:
    """:raises ServiceConfigurationError: when `url` is none of these schemes."""
    if isinstance(url, str):
        try:
            parts = urlsplit(url)
            if parts.scheme in schemes and parts.port != 0:
                return parts
        except ValueError:
            pass
    raise wrong_url(example)


def check_redis_url(url: object) -> None:
    """:raises ServiceConfigurationError: when `url` is none of a Redis."""
    parts = split(url, REDIS_SCHEMES, _REDIS)
    # redis-py takes database 0 for a path that is no number; it may be the end of a password.
    if parts.scheme != "unix" and not re.fullmatch(r"(/\d*)?", parts.path):
        raise wrong_url()


def wrong_url(example: str = _REDIS) -> ServiceConfigurationError:
    """Shows neither the URL nor the reason: either may hold a piece of a password."""
    return ServiceConfigurationError(
        f"the URL is like {example!r}; in the user and the password, characters such as / and @ "
        "are written %2F and %40"
    )


def shown(url: str) -> str:
    """The URL without user, password and query.

    >>> shown("amqp://ada:pw@rabbit:5672/shop?heartbeat=10")
    'amqp://rabbit:5672/shop'
    """
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=host, query="", fragment="").geturl()
