"""Services as commands ask them: clients, where services are, what to say when one says no.

It imports the client, which takes a tenth of a second: commands import it when they run.
"""

from __future__ import annotations

import difflib
import logging
import time
from collections.abc import Sequence
from typing import Any

import click

from ..broker_urls import without_passwords
from ..client import BasicAuth, HeaderToken, RemoteService
from ..client.urls import source_of
from ..discovery.directory import MOST_FOUND
from ..discovery.http import HttpDiscoveryStrategy
from ..errors import (
    UNSET,
    GemstoneError,
    InternalError,
    InvalidParams,
    MethodNotFound,
    RemoteError,
    ServiceConfigurationError,
    ServiceNotFound,
)
from ..protocol import encode_json
from .faults import REFUSED, CommandFailed, printable
from .parameters import Access, Trust

__all__ = [
    "Clock",
    "client_of",
    "listing_of",
    "locate",
    "refusal",
    "registry_client",
    "specs_of",
]

#: Seconds to connect at most: enough for one packet that gets lost, twice.
_CONNECT = 5.0
#: Seconds for asking a service for its methods, after one that it does not have.
_ASKING = 1.0
#: What a registry is given with.
_REGISTRY = "--registry or GEMSTONE_REGISTRY"
#: Characters of an error's data that are shown.
_LONGEST_DATA = 200


class Clock:
    """The time of a command, which all of its calls share.

    :param seconds: for all of them together.
    """

    def __init__(self, seconds: float) -> None:
        self._start = time.monotonic()
        self._seconds = seconds

    @property
    def left(self) -> float:
        """Seconds that are left, as a number to show.

        A little always is, so that the call itself tells of its end.
        """
        return max(0.01, round(self._seconds - self.passed, 2))

    @property
    def passed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._start


class _SameHeaders(HeaderToken):
    """Several credentials at once, the same in every request.

    A `HeaderToken`, because the client applies those once and not to each request.
    """

    def __init__(self, parts: Sequence[BasicAuth | HeaderToken]) -> None:
        self._parts = parts

    def __call__(self, request: Any) -> Any:
        for part in self._parts:
            request = part(request)
        return request

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._parts!r})"  # these do not show what is secret


def client_of(urls: str | list[str], access: Access, seconds: float) -> RemoteService:
    """A client.

    :param urls: where the service answers; a user and password in one given alone are sent.
    :param seconds: for a whole call.
    :raises click.BadParameter: for what is no URL, and for a token or header that cannot be sent.
    """
    try:
        source, credentials = source_of(urls)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="URL") from None
    parts: list[BasicAuth | HeaderToken] = [] if credentials is None else [credentials]
    if access.token is not None:
        parts.append(_header("X-Api-Token", access.token, "--token or GEMSTONE_TOKEN"))
    parts += [_header(name, value, "--header") for name, value in access.headers.items()]
    return _client(source, _SameHeaders(parts) if parts else None, seconds, access.trust)


def registry_client(url: str, seconds: float, trust: Trust) -> RemoteService:
    """A client of a registry.

    :raises click.BadParameter: for what is no URL.
    """
    try:
        return _client(url, None, seconds, trust)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=_REGISTRY) from None


def _client(
    urls: Any, authentication: HeaderToken | None, seconds: float, trust: Trust
) -> RemoteService:
    return RemoteService(
        urls,
        authentication_method=authentication,
        timeout=(min(_CONNECT, seconds), seconds),
        total_timeout=seconds,
        **trust._asdict(),
    )


def _header(name: str, value: str, option: str) -> HeaderToken:
    try:
        return HeaderToken(value, header=name)
    except ValueError as error:  # it does not show the value
        raise click.BadParameter(str(error), param_hint=option) from None


def locate(registry: str, name: str, seconds: float, trust: Trust) -> list[str]:
    """Where a service is.

    :param registry: the registry's endpoint.
    :param name: a name, or a pattern.
    :raises ServiceNotFound: when the registry knows none.
    :raises RemoteError, TransportError: when the registry cannot be asked.
    :raises click.BadParameter: when its endpoint is no URL.
    """
    # What of an answer cannot be used is logged, and here stderr is for one line.
    logging.getLogger("gemstone_sync").addHandler(logging.NullHandler())
    try:
        asked = HttpDiscoveryStrategy(
            registry,
            timeout=(min(_CONNECT, seconds), seconds),
            total_timeout=seconds,
            **trust._asdict(),
        )
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


def listing_of(client: RemoteService, pattern: str | None = None) -> object:
    """What a registry knows, all of it: a registry of this framework tells it page by page.

    :raises RemoteError, TransportError: when it cannot be asked.
    """
    params = None if pattern is None else [pattern]
    answer = client.call_method("list_services", params, idempotent=True).value()
    page = answer
    while isinstance(page, dict) and sum(map(_count, page.values())) >= MOST_FOUND:
        params = ["*" if pattern is None else pattern, max(page)]
        try:
            page = client.call_method("list_services", params, idempotent=True).value()
        except InvalidParams:  # of another framework, or of an earlier version: that was all
            break
        if isinstance(page, dict):
            answer.update(page)
    return answer


def _count(places: object) -> int:
    return len(places) if isinstance(places, list) else 0


def specs_of(client: RemoteService) -> object:
    """What a service says of itself, with signatures if it knows of them.

    :raises RemoteError, TransportError: when it cannot be asked.
    """
    try:
        wanted = {"signatures": True}
        return client.call_method("get_service_specs", wanted, idempotent=True).value()
    except (InvalidParams, InternalError):
        # gemstone 0.10.1, and services with a method of their own, know of none.
        return client.call_method("get_service_specs", idempotent=True).value()


# What to say


def refusal(error: RemoteError, client: RemoteService, seconds: float) -> CommandFailed:
    """The one line for an error that a service answered with; its data are in it when short.

    :param client: asked for a method of nearly the same name, when there is no such method.
    :param seconds: that are left for that.
    """
    text = str(error) + _details_of(error)
    if isinstance(error, MethodNotFound) and error.method is not None:
        text += _similar(error.method, client, min(_ASKING, seconds))
    return CommandFailed(printable(" ".join(text.split())), REFUSED)


def _details_of(error: RemoteError) -> str:
    data = error.data
    if data is UNSET or data is None or (isinstance(data, dict) and set(data) == {"error_id"}):
        return ""  # the text has the error's id already
    faults = _parameters_in(data)
    if faults:
        return f": {'; '.join(faults)}"
    text = encode_json(data).decode()
    return f": {text}" if len(text) <= _LONGEST_DATA else ""


def _parameters_in(data: object) -> list[str]:
    """What a service of this framework says of each parameter that does not fit."""
    entries = data.get("parameters") if isinstance(data, dict) else None
    if not isinstance(entries, list):
        return []
    told = []
    for entry in entries[:5]:
        if not isinstance(entry, dict) or "reason" not in entry:
            return []
        where = entry.get("name", f"position {entry.get('position')}")
        told.append(f"{where}: {entry['reason']}")
    return [*told, "..."] if len(entries) > len(told) else told


def _similar(method: str, client: RemoteService, seconds: float) -> str:
    asked = client.with_options(timeout=seconds, total_timeout=seconds)
    try:
        specs = asked.call_method("get_service_specs").value()
    except GemstoneError:
        return ""
    known = specs.get("methods") if isinstance(specs, dict) else None
    close = difflib.get_close_matches(method, known if isinstance(known, dict) else (), n=1)
    return f"; did you mean {close[0]}?" if close else ""
