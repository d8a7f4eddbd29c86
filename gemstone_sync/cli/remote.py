"""Ask services and registries: clients of them, and where services are.

It imports the client, which takes a tenth of a second: commands import it when they run.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

import click

from ..broker_urls import without_passwords
from ..client import RemoteService
from ..client.authentication import Credentials
from ..client.urls import source_of
from ..discovery.directory import MOST_FOUND
from ..discovery.http import HttpDiscoveryStrategy
from ..errors import BadResponse, InvalidParams, ServiceConfigurationError, ServiceNotFound
from .options import Access

__all__ = ["Clock", "client_of", "listing_of", "locate", "registry_client"]

#: Seconds to connect at most: enough for one packet that gets lost, twice.
_CONNECT = 5.0
#: What a registry is given with.
_REGISTRY = "--registry or GEMSTONE_REGISTRY"


class Clock:
    """Keep the time of a command, which all of its calls share.

    :param seconds: for all of them together.
    """

    def __init__(self, seconds: float) -> None:
        self._start = time.monotonic()
        self._seconds = seconds

    @property
    def left(self) -> float:
        """Seconds that are left, as a number to show; never none: the call tells of its end."""
        return max(0.01, round(self._seconds - self.passed, 2))

    @property
    def passed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._start


class _SameHeaders(Credentials):
    """Several credentials at once, the same in every request."""

    def __init__(self, parts: Sequence[Credentials]) -> None:
        self._parts = parts

    def __call__(self, request: Any) -> Any:
        for part in self._parts:
            request = part(request)
        return request

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._parts!r})"  # these do not show what is secret


def client_of(
    urls: str | Sequence[str], access: Access, seconds: float | None = None, *, hint: str = "URL"
) -> RemoteService:
    """Make a client.

    :param urls: where the service answers; a user and password in one given alone are sent.
    :param seconds: for a whole call, if not those of `access`.
    :param hint: what the URLs are given with.
    :raises click.BadParameter: for what is no URL, and for a token or header that cannot be sent.
    """
    try:
        source, credentials = source_of(urls)
        parts: list[Credentials] = [] if credentials is None else [credentials]
        if access.token is not None:
            hint = "--token or GEMSTONE_TOKEN"
            parts.append(Credentials("X-Api-Token", access.token))
        for name, value in access.headers.items():
            hint = "--header"
            parts.append(Credentials(name, value))
    except ValueError as error:  # it does not show a secret
        raise click.BadParameter(str(error), param_hint=hint) from None
    return RemoteService(
        source,
        authentication_method=_SameHeaders(parts) if parts else None,
        **_options(access, seconds),
    )


def registry_client(url: str, access: Access) -> RemoteService:
    """Make a client of a registry, which gets no credentials.

    :raises click.BadParameter: for what is no URL.
    """
    return client_of(url, access._replace(token=None, headers={}), hint=_REGISTRY)


def _options(access: Access, seconds: float | None) -> dict[str, Any]:
    seconds = access.timeout if seconds is None else seconds
    timeout = (min(_CONNECT, seconds), seconds)
    return {"timeout": timeout, "total_timeout": seconds, **access.trust._asdict()}


def locate(registry: str, name: str, access: Access, seconds: float | None = None) -> list[str]:
    """Ask a registry where a service is.

    :param registry: the registry's endpoint.
    :param name: a name, or a pattern.
    :param seconds: for all of it, if not those of `access`.
    :raises ServiceNotFound: when the registry knows none.
    :raises RemoteError, TransportError: when the registry cannot be asked.
    :raises click.BadParameter: when its endpoint is no URL.
    """
    # What of an answer cannot be used is logged, and here stderr is for one line.
    logging.getLogger("gemstone_sync").addHandler(logging.NullHandler())
    try:
        asked = HttpDiscoveryStrategy(registry, **_options(access, seconds))
    except ServiceConfigurationError as error:
        raise click.BadParameter(str(error), param_hint=_REGISTRY) from None
    try:
        found = asked.locate(name)
    finally:
        asked.close()
    if not found:
        where = without_passwords(asked.registry_url)
        raise ServiceNotFound(f"the registry {where} knows no service {name!r}")
    return found


def listing_of(client: RemoteService, pattern: str | None = None) -> dict[str, list[Any]]:
    """Ask a registry for all that it knows: one of this framework tells it page by page.

    :returns: by each name, what is known of each of its URLs, which stands there as ``url``.
    :raises RemoteError, TransportError: when it cannot be asked, or what it says is no listing.
    """
    params = None if pattern is None else [pattern]
    page = listing = _page_of(client, params)
    while sum(map(len, page.values())) >= MOST_FOUND:
        params = ["*" if pattern is None else pattern, max(page)]
        try:
            page = _page_of(client, params)
        except InvalidParams:  # of another framework, or of an earlier version: that was all
            break
        listing |= page
    return listing


def _page_of(client: RemoteService, params: list[str] | None) -> dict[str, list[Any]]:
    answer = client.call_method("list_services", params, idempotent=True).value()
    try:
        if all(isinstance(place["url"], str) for places in answer.values() for place in places):
            return answer  # type: ignore[no-any-return]
    except (AttributeError, KeyError, TypeError):
        pass
    raise BadResponse(
        f"{client.url}: list_services gave {answer!r:.60}, which is no list of services"
    )
