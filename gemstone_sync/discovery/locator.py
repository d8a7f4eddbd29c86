"""Finding services: strategies asked, answers remembered, clients that follow what comes and goes.

A client of a found service asks a `LocatedService` for the endpoints before each call, which never
waits: an answer that has become old is renewed in the background, and used until then.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import itertools
import logging
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, as_completed
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, TypeVar

from ..client import RemoteService, ServiceAdapter
from ..client.background import BackgroundCalls
from ..errors import ServiceConfigurationError, ServiceNotFound
from .base import close_strategy
from .urls import UrlFilter

__all__ = ["LocatedService", "Locator"]

T = TypeVar("T")

_logger = logging.getLogger("gemstone_sync.discovery")

#: Seconds between two questions for the same name, however many calls fail meanwhile.
_LEAST_INTERVAL = 0.5
#: Seconds for which endpoints that an answer lacks are kept while they answer themselves, when it
#: has less than half of what was known: a registry that was restarted knows everybody once they
#: have pinged it, by default after 30 s. Until then all callers would press upon the first that
#: pings. Netflix's Eureka has such a rule under the name of self-preservation.
_GRACE = 30.0
#: Names that are remembered: they may come from callers.
_MOST_NAMES = 1_000


class Locator:
    """Finds services by name, for one service.

    :param strategies: objects with ``locate``, asked in this order until one knows something;
        those of one class that follow each other are asked at once: the first good answer counts.
    :param time_to_live: seconds for which an answer is used without asking again.
    """

    def __init__(self, strategies: Sequence[Any], *, time_to_live: float = 10.0) -> None:
        self._groups = [list(group) for _, group in itertools.groupby(strategies, key=type)]
        self._time_to_live = time_to_live
        self._urls = UrlFilter("a discovery strategy")
        self._adapter = ServiceAdapter()
        # Two, because a renewal waits for questions: it must not take the last place from them.
        self._renewals = BackgroundCalls(32)
        self._questions = BackgroundCalls(32)
        self._located: dict[str, LocatedService] = {}
        self._clients: dict[Any, RemoteService] = {}

    def client_of(self, name: str, **options: Any) -> RemoteService:
        """Make a client over all endpoints that match; the same one for the same name.

        :param name: a name or a pattern.
        :param options: for the `RemoteService`.
        :raises ServiceConfigurationError: when there is no strategy to ask.
        :raises ServiceNotFound: when nothing matches, or nobody could be asked.
        """
        if not self._groups:
            raise ServiceConfigurationError(
                "no discovery strategy is configured: set service_registry_urls or "
                "discovery_strategies"
            )
        key = (name, *sorted(options.items())) if _is_hashable(options) else None
        client = self._clients.get(key)
        if client is None:
            client = RemoteService(self._locate(name), **self._completed(options))
            if key is not None:
                client = _remember(self._clients, key, client)
        return client

    def endpoints(self) -> dict[str, int]:
        """Count the endpoints that are known, by name."""
        return {name: len(located.known()) for name, located in list(self._located.items())}

    def _completed(self, options: dict[str, Any]) -> dict[str, Any]:
        """Add the adapter that all clients share, unless the options need one of their own."""
        if {"session", "adapter", "pool_size", "max_response_size"} & options.keys():
            return options
        return {**options, "adapter": self._adapter}

    def _locate(self, name: str) -> LocatedService:
        located = self._located.get(name)
        if located is None:
            located = LocatedService(name, self, self._renewals, self._time_to_live)
            located.ask_first()
            located = _remember(self._located, name, located)
        return located

    def ask(self, name: str) -> tuple[str, ...]:
        """Ask the strategies for the endpoints that they know.

        :returns: URLs, none of them twice; empty when somebody was asked, and nobody knows any.
        :raises ServiceNotFound: when nobody could be asked.
        """
        failures: list[str] = []
        answered = False
        for group in self._groups:
            for urls in self._answers_of(group, name, failures):
                answered = True
                if urls:
                    return tuple(urls)
        if failures and not answered:
            raise ServiceNotFound(f"{name!r} cannot be looked up: {'; '.join(failures)}")
        return ()

    def _answers_of(self, group: list[Any], name: str, failures: list[str]) -> Iterator[list[str]]:
        """Yield the answers of strategies, the quickest first; add what failed to `failures`."""
        if len(group) == 1:
            jobs: dict[Any, Any] = {}
            strategies = group
        else:
            ask = [functools.partial(self._answer_of, strategy, name) for strategy in group]
            jobs = {self._questions.submit(a): s for a, s in zip(ask, group, strict=True)}
            strategies = []
        for strategy in strategies:
            try:
                yield self._answer_of(strategy, name)
            except Exception as error:  # a strategy of the user's may raise anything
                failures.append(_told(strategy, error))
        for future in as_completed(jobs):
            try:
                yield future.result()
            except Exception as error:
                failures.append(_told(jobs[future], error))

    def _answer_of(self, strategy: Any, name: str) -> list[str]:
        found = strategy.locate(name)
        return self._urls.usable([found] if isinstance(found, str) else found or ())

    def close(self) -> None:
        """Give up the connections. Clients that were handed out can be used on."""
        self._renewals.close()
        self._questions.close()
        self._adapter.close()
        for strategy in itertools.chain(*self._groups):
            close_strategy(strategy)


class LocatedService:
    """The endpoints of the services that match a name: an `EndpointSource` of the client's.

    :param name: a name or a pattern.
    :param locator: is asked.
    :param renewals: where it is asked again, once something is known.
    """

    def __init__(
        self, name: str, locator: Locator, renewals: BackgroundCalls, time_to_live: float
    ) -> None:
        self.name = name
        self._locator = locator
        self._renewals = renewals
        self._time_to_live = time_to_live
        self._urls: tuple[str, ...] = ()
        self._asked_at = 0.0
        self._old_at = 0.0
        #: Whether the last answer was another one than the one before it.
        self._is_news = False
        self._renewal: Future[None] | None = None
        #: Endpoints that the last answer lacked, and since when; and those that did not answer
        #: since then.
        self._lacking: dict[str, float] = {}
        self._silent: frozenset[str] = frozenset()

    def ask_first(self) -> None:
        """Find the first endpoints, waiting for it.

        :raises ServiceNotFound: when there are none.
        """
        self._asked_at = time.monotonic()
        self._urls = self._locator.ask(self.name)
        if not self._urls:
            raise ServiceNotFound(f"no service {self.name!r} is known")
        self._is_news = True
        self._old_at = time.monotonic() + self._time_to_live

    def urls(self) -> tuple[str, ...]:
        """Return those known now; what is old is renewed in the background."""
        if time.monotonic() >= self._old_at:
            self._begin_renewal()
        return self._urls

    def known(self) -> tuple[str, ...]:
        """Return those known now, without asking anew."""
        return self._urls

    def unreachable(self, url: str) -> None:
        """Leave out a URL that does not answer, and ask again: it may have a successor."""
        self._silent |= {url}
        if url in self._lacking and len(self._urls) > 1:
            self._urls = tuple(known for known in self._urls if known != url)
        self._old_at = 0.0  # also when it was asked only just now: the next call asks again
        self._begin_renewal(in_doubt=True)

    def leaves(self, url: str) -> None:
        """Ask again in a moment, when its goodbye has arrived; it answers until then."""
        self._old_at = min(self._old_at, time.monotonic() + _LEAST_INTERVAL)

    def renew(self, seconds: float) -> None:
        """Ask now, and wait for the answer."""
        self._begin_renewal(in_doubt=True)
        if (renewal := self._renewal) is not None:
            with contextlib.suppress(TimeoutError, FutureTimeoutError):  # one, from 3.11 on
                renewal.result(seconds)

    def _begin_renewal(self, *, in_doubt: bool = False) -> None:
        now = time.monotonic()
        asking = self._renewal is not None and not self._renewal.done()
        # An answer that turns out to be wrong is asked about at once, but not again and again.
        at_once = in_doubt and self._is_news
        if asking or (now - self._asked_at < _LEAST_INTERVAL and not at_once):
            return
        self._is_news = False
        self._asked_at = now
        # In a context of its own: the deadline of the call that happens to come by is not its.
        self._renewal = self._renewals.submit(lambda: contextvars.Context().run(self._renew))

    def _renew(self) -> None:
        try:
            found = self._locator.ask(self.name)
        except ServiceNotFound as error:
            _logger.debug("%s", error)
            found = ()
        if found:
            self._old_at = time.monotonic() + self._time_to_live
            self._take(found)
        else:
            # A registry that was restarted knows nobody yet, and one that is down says nothing:
            # what was known is right until something better is.
            self._old_at = time.monotonic() + min(1.0, self._time_to_live)

    def _take(self, found: tuple[str, ...]) -> None:
        """Use an answer; of one that lacks most of what was known, keep what answers itself."""
        now = time.monotonic()
        lacking: dict[str, float] = {}
        if len(found) * 2 < len(self._urls):
            lacking = {
                url: self._lacking.get(url, now)
                for url in self._urls
                if url not in found and url not in self._silent
            }
        self._lacking = {url: since for url, since in lacking.items() if now - since < _GRACE}
        self._silent = frozenset()
        urls = (*found, *self._lacking)
        if set(urls) != set(self._urls):
            self._urls = urls  # the client looks whether it is the same object
            self._is_news = True

    def __str__(self) -> str:
        return self.name


def _told(strategy: Any, error: Exception) -> str:
    return f"{strategy}: {str(error) or type(error).__name__}"


def _is_hashable(options: dict[str, Any]) -> bool:
    try:
        hash(tuple(options.values()))
    except TypeError:
        return False
    return True


def _remember(memory: dict[Any, T], key: Any, value: T) -> T:
    """Keep a value, unless there is one under its key; return that one. The oldest makes room."""
    while len(memory) >= _MOST_NAMES and key not in memory:
        memory.pop(next(iter(memory)), None)
    return memory.setdefault(key, value)
