"""Reads what is given as a service's endpoint: a URL, a list of them, or a source."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast
from urllib.parse import SplitResult, unquote, urlsplit

from ..broker_urls import is_misread, without_passwords
from .authentication import BasicAuth
from .balancing import EndpointSource, FixedEndpoints
from .bridge import prepared_url

__all__ = ["checked_url", "source_of"]


def source_of(
    given: str | Sequence[str] | EndpointSource,
) -> tuple[EndpointSource, BasicAuth | None]:
    """Return where the URLs come from, and the credentials that stand in the one URL given.

    :raises ValueError, TypeError: when they are no endpoints.
    """
    if isinstance(given, str):
        given = [given]
    elif not isinstance(given, (list, tuple)):
        if not hasattr(given, "urls"):
            raise TypeError(f"a service's endpoint is a URL or a list of them, not {given!r}")
        return cast("EndpointSource", given), None
    parts = [checked_url(url) for url in given]
    if not parts:
        raise ValueError("a service has at least one endpoint")
    credentials = None
    if parts[0].username is not None and len(parts) == 1:
        credentials = BasicAuth(unquote(parts[0].username), unquote(parts[0].password or ""))
        parts = [parts[0]._replace(netloc=parts[0].netloc.rpartition("@")[2])]
    if any(origin.username is not None for origin in parts):
        raise ValueError("credentials do not stand in several URLs: use authentication_method")
    return FixedEndpoints([origin.geturl() for origin in parts]), credentials


def checked_url(url: str) -> SplitResult:
    """Return a URL in its parts, once it is known to be one.

    :raises ValueError, TypeError: when no service can be there.
    """
    if not isinstance(url, str):
        raise TypeError(f"a service's endpoint is a URL, not {url!r}")
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        valid = valid and not is_misread(parts) and min(url) > " "
        prepared_url(url)
    except ValueError:
        valid = False
    if not valid:
        shown = without_passwords(url).rpartition("@")[2]
        raise ValueError(
            f"not a service's endpoint: {shown!r}; write it like "
            "'http://127.0.0.1:8000/api', and /, ?, # and @ of a password as %2F, %3F, %23 and %40"
        )
    return parts._replace(fragment="")
