"""Which URLs of services may be handed to a caller.

What a registry or a Redis says is other people's text: a caller would send its requests, with its
token in them, to whatever it names.
"""

from __future__ import annotations

import ipaddress
import logging
import re
from collections.abc import Iterable

from ..broker_urls import without_passwords
from ..client.hosts import host_in_url
from ..client.urls import checked_url

__all__ = ["UrlFilter", "abridged", "is_endpoint", "url_of"]

logger = logging.getLogger("gemstone_sync.discovery")

#: What every browser and proxy takes; RFC 9110, section 4.1 asks for 8,000 at least.
_LONGEST = 8000


def is_endpoint(text: object) -> bool:
    """Tell whether a text is a URL at which a service can answer.

    That is http or https, with a host, and without a user and password: those would be shown in
    logs, and to everybody who asks for the service.
    """
    if not isinstance(text, str) or len(text) > _LONGEST:
        return False
    try:
        return checked_url(text).username is None
    except ValueError:
        return False


def url_of(host: object, port: object) -> str | None:
    """Make the endpoint of a host and a port; None when they are wrong.

    The path is the one that services have by default; port 443 is HTTPS.
    """
    if isinstance(port, str) and port.isascii() and port.isdigit():
        port = int(port[:6])
    if not isinstance(host, str) or type(port) is not int or not 0 < port < 65536:
        return None
    if ":" in host:
        try:
            host = host_in_url(str(ipaddress.IPv6Address(host.strip("[]"))))
        except ValueError:
            return None
    url = f"{'https' if port == 443 else 'http'}://{host}:{port}/api"
    return url if is_endpoint(url) and not set(host) & set("/?#\\") else None


def abridged(item: object) -> str:
    """Shorten what somebody said, for a message, and mask what stands before an @."""
    return re.sub(r"[^\s'\"]*@", "***@", without_passwords(f"{item!r:.1000}"))[:100]


class UrlFilter:
    """Keeps the URLs that may be called, each once, and tells of what it drops: once.

    :param source: where they come from, for the log.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._has_told = False

    def usable(self, found: Iterable[object]) -> list[str]:
        """Return the endpoints among them, in their order."""
        kept: dict[str, None] = {}
        for item in found:
            if isinstance(item, str) and is_endpoint(item):
                kept[item] = None
            else:
                self._tell(item)
        return list(kept)

    def _tell(self, item: object) -> None:
        if self._has_told:
            return
        self._has_told = True
        logger.warning(
            "%s names what is no service's URL, which is left out (told once): %s",
            self._source,
            abridged(item),
        )
