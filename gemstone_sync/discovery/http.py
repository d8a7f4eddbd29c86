"""Services that a registry knows: another service, asked and told by JSON-RPC.

A registry is whatever has the methods ``ping`` and ``locate_service``. gemstone 0.10.1 documents
``ping`` in two forms, this framework's own registry takes more, and others name the parameters as
they like; so a ping goes out in one form after the other until the registry takes one:

1. ``{name, url, instance, interval}``: a registry that tells instances apart.
2. ``{name, url}``: the document's.
3. ``{name, host, port}``: the document's other form.
4. ``[name, url]``, by position: a registry whose parameters have other names.

Parameters go by name as long as that is possible, because by position a registry of the third
form, with a default for its port, would take the URL for a host. For the same reason the fourth
comes last: such a registry has taken the third by then.
"""

from __future__ import annotations

import logging
import time
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from ..broker_urls import without_passwords
from ..client import HeaderToken, RemoteService
from ..client.authentication import Authentication
from ..client.hosts import host_of
from ..errors import (
    BadResponse,
    GemstoneError,
    InvalidParams,
    MethodNotFound,
    ServiceConfigurationError,
)
from .base import BaseDiscoveryStrategy
from .urls import UrlFilter, abridged, url_of

__all__ = ["HttpDiscoveryStrategy"]

logger = logging.getLogger("gemstone_sync.discovery")

#: Parameters in one form; None for a form in which this location cannot be told.
_Params: TypeAlias = "dict[str, Any] | list[Any] | None"

_HOST_AND_PORT = 2
#: A lesser form is given up after so many pings, for a registry that was replaced by a newer one
#: between two of them: with the default interval that is every ten minutes.
_KEEP_A_LESSER_FORM = 20


class HttpDiscoveryStrategy(BaseDiscoveryStrategy):
    """A registry at a URL.

    :param registry_url: the registry's endpoint, e.g. ``"http://registry:8000/api"``.
    :param authentication_method: as for `RemoteService`.
    :param token: short for ``authentication_method=HeaderToken(token)``.
    :param timeout: seconds to connect and to wait for an answer; one number sets both.
    :param verify: as for `RemoteService`.
    :param cert: as for `RemoteService`.
    :param total_timeout: seconds for one ping, locate or goodbye, repeated attempts included.
    :raises ServiceConfigurationError: when one of them cannot be used.

    Its methods raise what the registry answered with, a `RemoteError`, or a `TransportError` when
    it gave no answer that counts.
    """

    def __init__(
        self,
        registry_url: str,
        *,
        authentication_method: Authentication = None,
        token: str | None = None,
        timeout: float | tuple[float, float] = (1, 3),
        total_timeout: float = 5,
        verify: bool | str = True,
        cert: str | tuple[str, str] | None = None,
    ) -> None:
        if not isinstance(registry_url, str):
            raise ServiceConfigurationError(
                f"a registry's endpoint is a URL, not {abridged(registry_url)}"
            )
        if token is not None and authentication_method is not None:
            raise ServiceConfigurationError("give a token or an authentication_method, not both")
        try:
            self._registry = RemoteService(
                registry_url,
                authentication_method=(
                    authentication_method if token is None else HeaderToken(token)
                ),
                timeout=timeout,
                total_timeout=total_timeout,
                verify=verify,
                cert=cert,
            )
        except (TypeError, ValueError) as error:
            raise ServiceConfigurationError(f"not a registry that can be asked: {error}") from None
        self._total_timeout = total_timeout
        self._shown = without_passwords(self.registry_url)
        self._urls = UrlFilter(f"the registry {self._shown}")
        #: The form that the registry took last, by method, and how often since.
        self._taken: dict[str, tuple[int, int]] = {}
        self._knows_no_goodbye = False
        self._has_told_of_loss = False

    @property
    def registry_url(self) -> str:
        """The registry's endpoint, without user and password."""
        return self._registry.url

    def ping(self, name: str, location: str, **kwargs: Any) -> None:
        form = self._tell("ping", _forms(name, location, kwargs, "instance", "interval"))
        if form == _HOST_AND_PORT:
            self._tell_of_loss(location)

    def goodbye(self, name: str, location: str, **kwargs: Any) -> None:
        if self._knows_no_goodbye:
            return
        try:
            self._tell("goodbye", _forms(name, location, kwargs, "instance"))
        except MethodNotFound:
            # Of old registries; the entry goes when it expires, or never.
            self._knows_no_goodbye = True

    def locate(self, name: str) -> list[str]:
        # By position: the one parameter has other names elsewhere.
        answer = self._registry.call_method("locate_service", [name], idempotent=True).value()
        found = _locations_in(answer)
        usable = [] if found is None else self._urls.usable(found)
        if found is None or (found and not usable):
            raise BadResponse(
                f"{self._shown}: locate_service answered with {abridged(answer)}, "
                "which is no list of services' URLs"
            )
        return usable

    def close(self) -> None:
        self._registry.close()

    def __repr__(self) -> str:
        return f"HttpDiscoveryStrategy({self._shown!r})"

    # The forms

    def _tell(self, method: str, forms: list[_Params]) -> int:
        """Call a method in the first form that the registry takes; return that form's number."""
        first, times = self._taken.get(method, (0, 0))
        if times >= _KEEP_A_LESSER_FORM:
            first = times = 0
        deadline = time.monotonic() + self._total_timeout
        refusals: dict[int, GemstoneError] = {}
        try:
            for form in sorted(range(len(forms)), key=lambda number: (number != first, number)):
                params = forms[form]
                if params is None:
                    continue
                refusal = self._refusal_of(method, params, deadline)
                if refusal is None:
                    self._taken[method] = (form, times + 1 if form and form == first else 0)
                    return form
                refusals[form] = refusal
            raise refusals[min(refusals)]
        except GemstoneError:
            # What answers next may be another registry.
            self._taken.pop(method, None)
            self._knows_no_goodbye = False
            raise

    def _refusal_of(
        self, method: str, params: dict[str, Any] | list[Any], deadline: float
    ) -> GemstoneError | None:
        """Call the registry; return its error if it does not know these parameters, else None.

        :raises RemoteError, TransportError: for every other fault.
        """
        left = max(0.001, deadline - time.monotonic())
        registry = self._registry.with_options(total_timeout=left)
        error = registry.call_method(method, params, idempotent=True).error
        if error is None:
            return None
        if isinstance(error, InvalidParams) and not _is_about_values(error):
            return error
        raise error

    def _tell_of_loss(self, location: str) -> None:
        """Say once what a registry of hosts and ports cannot know."""
        address = _address_in(location)
        heard = None if address is None else url_of(*address)
        parts = urlsplit(location)
        if self._has_told_of_loss or (parts.scheme, parts.path) == ("http", "/api"):
            return
        self._has_told_of_loss = True
        logger.warning(
            "the registry %s keeps hosts and ports only: of %s others will know %s",
            self._shown,
            without_passwords(location),
            heard,
        )


def _forms(name: str, location: str, given: dict[str, Any], *more: str) -> list[_Params]:
    """Write the parameters in each form, in the order in which they are tried."""
    extra = {key: given[key] for key in more if given.get(key) is not None}
    plain = {"name": name, "url": location}
    address = _address_in(location)
    by_host = None if address is None else {"name": name, "host": address[0], "port": address[1]}
    return [{**plain, **extra} if extra else None, plain, by_host, [name, location]]


def _address_in(location: str) -> tuple[str, int] | None:
    """Return the host and port of a URL; None when it has none."""
    try:
        parts = urlsplit(location)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return None
    return None if not parts.hostname or port is None else (host_of(parts), port)


def _is_about_values(error: InvalidParams) -> bool:
    """Tell whether the registry knows the parameters, and refuses only their values."""
    data = error.data if isinstance(error.data, dict) else {}
    entries = data.get("parameters")
    if not isinstance(entries, list) or not entries:
        return False
    reasons = [entry.get("reason") for entry in entries if isinstance(entry, dict)]
    return not any(str(reason).startswith(("missing", "unexpected")) for reason in reasons)


# What registries answer


def _locations_in(answer: object) -> list[object] | None:
    """Read the locations in an answer, each as a URL where it is one; None for another answer."""
    if answer is None:
        return []
    if isinstance(answer, list) and not _is_pair(answer):
        return [_location_in(item) for item in answer]
    if isinstance(answer, (str, dict, list)):
        return [_location_in(answer)]
    return None


def _location_in(item: object) -> object:
    """Read a location: a URL, or a host and a port; anything else is returned as it is."""
    if isinstance(item, dict):
        return item["url"] if "url" in item else _of_host(item, item.get("host"), item.get("port"))
    if isinstance(item, list) and _is_pair(item):
        return _of_host(item, *item)
    return item


def _of_host(item: object, host: object, port: object) -> object:
    url = url_of(host, port)
    return item if url is None else url


def _is_pair(item: list[Any]) -> bool:
    """Tell whether a list is a host and its port, rather than two locations."""
    return len(item) == 2 and isinstance(item[0], str) and url_of(*item) is not None
