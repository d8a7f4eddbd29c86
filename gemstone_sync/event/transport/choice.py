"""From a URL to a transport."""

from __future__ import annotations

import difflib
import re
from typing import Any

from ...broker_urls import (
    BROKER_SCHEMES,
    BROKER_URLS,
    RABBITMQ_SCHEMES,
    REDIS_SCHEMES,
    SCHEMES_OF_OTHERS,
    SQLITE_FILES,
    scheme_of,
)
from ...errors import ServiceConfigurationError
from .broker import BrokerEventTransport
from .rabbitmq.transport import RabbitMqEventTransport
from .stores.transport import MemoryEventTransport, RedisEventTransport, SqliteEventTransport
from .urls import MEMORY, take_options

__all__ = ["transport_from_url"]

#: A host, perhaps with port and virtual host; nothing in it can be a password.
_PLACE = re.compile(r"(?:[\w.-]+|\[[0-9A-Fa-f:.]+\])(:\d{1,5}(?:/[\w.-]*)?)?", re.ASCII)


def transport_from_url(url: str, **options: Any) -> BrokerEventTransport:
    """Make the transport that a URL names.

    ::

        event_transports = [transport_from_url(os.environ.get("EVENTS_URL", "events.db"))]

    :param url: ``amqp://`` and ``amqps://`` for RabbitMQ, ``redis://`` and ``rediss://``,
        ``sqlite:///file`` or the path of a file with a slash in it or the ending .db, .sqlite or
        .sqlite3, ``memory://`` or ``:memory:``, or any other of kombu's URLs. Every option may be
        in it: ``amqp://host?application=shop&heartbeat=3``.
    :param options: those of the transport; they count more than those in the URL.
    :raises ServiceConfigurationError: when it is none of these.
    """
    scheme = scheme_of(url)
    if scheme in RABBITMQ_SCHEMES:
        return RabbitMqEventTransport.from_url(url, **options)
    if scheme in REDIS_SCHEMES:
        return RedisEventTransport(url, **options)
    if scheme == "memory" or url.partition("?")[0] in (MEMORY, f"sqlite:///{MEMORY}"):
        given = take_options(url, MemoryEventTransport)[1]
        return MemoryEventTransport(**{**given, **options})
    if scheme == "":
        _check_file(url.partition("?")[0])
    if scheme in ("", "sqlite"):
        return SqliteEventTransport(url, **options)
    from .kombu.transport import KombuEventTransport

    _check_scheme(scheme)
    return KombuEventTransport(url, **options)


def _check_scheme(scheme: str) -> None:
    """:raises ServiceConfigurationError: for one that kombu has not either."""
    from kombu.transport import TRANSPORT_ALIASES

    if scheme.partition("+")[0] not in TRANSPORT_ALIASES:
        known = (*BROKER_SCHEMES, "memory", *SCHEMES_OF_OTHERS)
        close = difflib.get_close_matches(scheme, known, n=1)
        meant = f"there are {BROKER_URLS}, and kombu's"
        if close:
            meant = f"did you mean {SCHEMES_OF_OTHERS.get(close[0], close[0])}://?"
        raise ServiceConfigurationError(f"no events over {scheme}://; {meant}")


def _check_file(text: str) -> None:
    """:raises ServiceConfigurationError: for what may be the host of a broker."""
    found = _PLACE.fullmatch(text)
    if found is None or (found[1] is None and text.lower().endswith(SQLITE_FILES)):
        return
    scheme = "redis" if found[1] == ":6379" else "amqp"
    file = "" if found[1] else f" or sqlite:///{text}"
    raise ServiceConfigurationError(f"{text} has no scheme; did you mean {scheme}://{text}{file}?")
