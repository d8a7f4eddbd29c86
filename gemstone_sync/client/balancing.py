"""Which of a service's endpoints takes a call, and which are left alone for a while. No I/O.

Source: Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing" (2001): of two that
are drawn at random, the one with fewer calls in flight is nearly as good as the best of all, and
does not send everybody to the same one.

Hot path: `EndpointSet.choose` runs for each call.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from ..broker_urls import without_passwords
from ..errors import ConnectionFailed
from .endpoint import RemoteEndpoint
from .messages import HttpReply

__all__ = ["EndpointSet", "EndpointSource", "FixedEndpoints"]

#: Seconds that an endpoint which cannot be reached is left alone: at first, and at most.
_FIRST_REST = 1.0
_LONGEST_REST = 30.0


class EndpointSource(Protocol):
    """A source of a client's URLs, which may change while it lives."""

    def urls(self) -> Sequence[str]:
        """Return those known now, without waiting; the same object while nothing changes."""

    def unreachable(self, url: str) -> None:
        """Take note that an endpoint does not answer: a source may ask anew. Does not wait."""

    def leaves(self, url: str) -> None:
        """Take note that an endpoint may be about to stop: a source may ask anew. Does not wait."""

    def renew(self, seconds: float) -> None:
        """Ask anew, and wait for that so many seconds at most."""


class FixedEndpoints:
    """An `EndpointSource` that never changes."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._urls = tuple(urls)

    def urls(self) -> Sequence[str]:
        return self._urls

    def unreachable(self, url: str) -> None:
        """Do nothing: no other is known."""

    def leaves(self, url: str) -> None:
        """Do nothing: no other is known."""

    def renew(self, seconds: float) -> None:
        """Do nothing: no other is known."""

    def __str__(self) -> str:
        return without_passwords(", ".join(self._urls))


class EndpointSet:
    """The endpoints of one service, as its source tells them.

    :param source: asked before each call.
    :param make: makes the endpoint for a URL.
    """

    def __init__(self, source: EndpointSource, make: Callable[[str], RemoteEndpoint]) -> None:
        self._source = source
        self._make = make
        #: What the source said, and the endpoints made from it: replaced together.
        self._known: tuple[Sequence[str] | None, tuple[RemoteEndpoint, ...]] = (None, ())

    def current(self) -> tuple[RemoteEndpoint, ...]:
        """Return the endpoints known now."""
        urls = self._source.urls()
        known, endpoints = self._known
        if urls is not known:
            old = {endpoint.url: endpoint for endpoint in endpoints}
            endpoints = tuple(old.get(url) or self._make(url) for url in dict.fromkeys(urls))
            self._known = (urls, endpoints)
            for url in old.keys() - {endpoint.url for endpoint in endpoints}:
                old[url].leave()
        return endpoints

    def choose(self, tried: Collection[RemoteEndpoint] = ()) -> RemoteEndpoint:
        """Choose the endpoint for an attempt: preferably one not tried yet that can be reached.

        :raises ConnectionFailed: when none is known.
        """
        endpoints = self.current()
        if len(endpoints) == 1:
            return endpoints[0]
        if not endpoints:
            raise ConnectionFailed(f"{self._source}: no endpoint is known")
        untried = [e for e in endpoints if e not in tried] if tried else endpoints
        now = time.monotonic()
        ready = [e for e in untried or endpoints if e.rests_until <= now]
        if not ready:  # all of them rest: the one that has rested longest is as good a guess as any
            return min(untried or endpoints, key=lambda endpoint: endpoint.rests_until)
        if len(ready) == 1:
            return ready[0]
        first, second = _draw_two(ready)
        return first if len(first.in_flight) <= len(second.in_flight) else second

    def has_others(self, tried: Collection[RemoteEndpoint]) -> bool:
        """Tell whether there are endpoints that were not tried."""
        return any(endpoint not in tried for endpoint in self.current())

    def renew(self, seconds: float) -> None:
        """Ask the source anew, and wait for that so many seconds at most."""
        self._source.renew(seconds)

    def unreachable(self, endpoint: RemoteEndpoint) -> None:
        """Leave an endpoint alone for a while, longer each time."""
        now = time.monotonic()
        if endpoint.rests_until <= now:  # a hundred calls that one end has broken count once
            endpoint.rest = min(_LONGEST_REST, endpoint.rest * 2 or _FIRST_REST)
            endpoint.rests_until = now + endpoint.rest * random.uniform(0.5, 1)
        self._source.unreachable(endpoint.url)

    def reached(self, endpoint: RemoteEndpoint, reply: HttpReply) -> None:
        """Take note that an endpoint answers."""
        if endpoint.rest:
            endpoint.rest = endpoint.rests_until = 0.0
        if reply.leaves:
            self._source.leaves(endpoint.url)


def _draw_two(endpoints: Sequence[RemoteEndpoint]) -> tuple[RemoteEndpoint, RemoteEndpoint]:
    """Draw two different ones: of three, one drawn twice would get a ninth of all calls."""
    # random.sample takes ten times as long.
    count = len(endpoints)
    first = int(random.random() * count)
    second = int(random.random() * (count - 1))
    return endpoints[first], endpoints[second + (second >= first)]
