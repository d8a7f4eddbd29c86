"""The page of a registry for browsers: every service, its URLs, their age and health.

Plain HTML and CSS that loads nothing from anywhere and runs nothing; it asks the browser to load it
again every few seconds.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias
from urllib.parse import urlsplit

import jinja2
from markupsafe import Markup

from ..broker_urls import without_passwords
from ..discovery.directory import MOST_FOUND, Listed

__all__ = ["SECURITY_HEADERS", "Page"]

#: Seconds after which the browser loads it again.
REFRESH_SECONDS = 10
#: Seconds for which one page is good for everybody: however many watch, it is made once.
KEPT_SECONDS = 1.0
#: URLs of one service that a browser shows without trouble; the rest is counted.
MOST_URLS = 50
#: Pages for different patterns that are kept.
_MOST_KEPT = 20

_FOLDER = Path(__file__).parent / "templates"
_CSS = (_FOLDER / "registry.css").read_text(encoding="utf-8")
_CSS_HASH = base64.b64encode(hashlib.sha256(_CSS.encode()).digest()).decode()

#: Nothing but the page's own style is allowed to do anything, should a name ever get out of hand.
SECURITY_HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_CSS_HASH}'; img-src data:; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}

Listing: TypeAlias = dict[str, list[Listed]]


class Page:
    """Makes the page, and keeps it for a moment.

    :param listing: gives what is known of the names that a pattern matches.
    """

    def __init__(self, listing: Callable[[str], Listing]) -> None:
        self._listing = listing
        self._made: dict[str, tuple[float, str]] = {}

    def html(self, pattern: str) -> str:
        """Render the page.

        :param pattern: only the services whose names it matches, as for ``locate_service``.
        """
        made, html = self._made.get(pattern, (-math.inf, ""))
        if time.monotonic() - made > KEPT_SECONDS:
            html = _render(self._listing(pattern), pattern)
            if len(self._made) >= _MOST_KEPT:
                self._made.clear()
            self._made[pattern] = (time.monotonic(), html)
        return html


def _render(listing: Listing, pattern: str) -> str:
    places = [place for each in listing.values() for place in each]
    return _template().render(
        css=Markup(_CSS),  # the package's own file; everything else is escaped
        services=listing,
        more=len(places) >= MOST_FOUND,
        most_urls=MOST_URLS,
        pattern=pattern,
        instances=sum(place.instances for place in places),
        late=sum(place.late for place in places),
        urls=len(places),
        count=len(listing),
        refresh=REFRESH_SECONDS,
    )


@functools.lru_cache(maxsize=1)
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER), autoescape=True, trim_blocks=True
    )
    environment.filters["ago"] = _ago
    environment.filters["explorer"] = _explorer
    environment.filters["without_passwords"] = without_passwords
    return environment.get_template("registry.html")


def _explorer(url: str) -> str | None:
    """Make the address of a service's explorer; None for a URL that no browser should follow.

    >>> _explorer("http://user:word@10.0.0.1:8000/api/")
    'http://10.0.0.1:8000/api/docs'
    """
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not host:
        return None
    return f"{parts.scheme}://{host}{parts.path.rstrip('/')}/docs"


def _ago(seconds: float) -> str:
    """Write a time that is easy to read: two digits are enough.

    >>> [_ago(seconds) for seconds in (0.2, 59.9, 200, 7200, 200000)]
    ['0 s', '59 s', '3 min', '2 h', '2 d']
    """
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} s"
