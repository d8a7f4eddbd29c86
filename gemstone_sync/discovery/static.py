"""Services whose places are known when the program is written, or are in its configuration."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import ServiceConfigurationError
from .base import BaseDiscoveryStrategy
from .urls import abridged, is_endpoint

__all__ = ["StaticDiscoveryStrategy"]


class StaticDiscoveryStrategy(BaseDiscoveryStrategy):
    """Names and URLs that do not change.

    :param services: a service's name -> its URL, or the URLs of its instances.
    :raises ServiceConfigurationError: when a name or a URL cannot be used.

    >>> strategy = StaticDiscoveryStrategy(
    ...     {
    ...         "users": "http://10.0.0.5:8000/api",
    ...         "orders.eu": ["http://10.0.0.6:8000/api", "http://10.0.0.7:8000/api"],
    ...     }
    ... )
    >>> strategy.locate("orders.*")
    ['http://10.0.0.6:8000/api', 'http://10.0.0.7:8000/api']
    >>> strategy.locate("payments")
    []
    """

    def __init__(self, services: Mapping[str, str | Sequence[str]]) -> None:
        if not isinstance(services, Mapping):
            raise ServiceConfigurationError(
                "StaticDiscoveryStrategy wants a dict of names and URLs, "
                f"not a {type(services).__name__}"
            )
        self._services = {_checked_name(name): _urls_of(name, services[name]) for name in services}

    def ping(self, name: str, location: str, **kwargs: Any) -> None:
        """Do nothing: what is known does not change."""

    def locate(self, name: str) -> list[str]:
        found = [urls for known, urls in self._services.items() if fnmatch.fnmatchcase(known, name)]
        return list(dict.fromkeys(url for urls in found for url in urls))

    def __repr__(self) -> str:
        return f"StaticDiscoveryStrategy({', '.join(self._services)})"


def _checked_name(name: object) -> str:
    if not isinstance(name, str) or not name:
        raise ServiceConfigurationError(f"a service's name is a text, not {name!r}")
    if set(name) & set("*?["):
        raise ServiceConfigurationError(
            f"{name!r} is a pattern: StaticDiscoveryStrategy wants names, each with its URLs; "
            "patterns are for locate() and get_service()"
        )
    return name


def _urls_of(name: str, given: object) -> tuple[str, ...]:
    urls = [given] if isinstance(given, str) else given
    if not isinstance(urls, Sequence) or not urls:
        raise ServiceConfigurationError(
            f"the service {name!r} wants a URL or a list of URLs, not {abridged(given)}"
        )
    for url in urls:
        if not is_endpoint(url):
            raise ServiceConfigurationError(
                f"the service {name!r} cannot be at {abridged(url)}: write it like "
                "'http://127.0.0.1:8000/api', without a user and password"
            )
    return tuple(urls)
