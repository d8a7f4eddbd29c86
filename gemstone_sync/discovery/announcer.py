"""Telling registries that a service is there: a ping at every interval, and a goodbye at the end.

Each registry has a greenlet of its own, so that one which is down or slow disturbs no other.
"""

from __future__ import annotations

import inspect
import logging
import random
import time
from collections.abc import Callable, Sequence
from typing import Any

import gevent
from gevent.event import Event

from ..concurrency import USER_FAULTS
from ..errors import CircuitOpen
from .base import close_strategy

__all__ = ["Announcer"]

#: Seconds until the first repetition after a failure; it doubles up to the interval.
_FIRST_PAUSE = 0.5
#: Seconds that pings in flight, and then the goodbyes, may take at the end.
_PATIENCE = 2.0


class Announcer:
    """Tells registries that a service is there, again and again.

    :param name: the service's name.
    :param location: the URL of its endpoint, as others reach it.
    :param instance: what tells this run of the service from every other one.
    :param strategies: objects with ``ping`` and, if they have one, ``goodbye``.
    :param interval: seconds between two pings.
    :param on_ping: called with a strategy's name and whether it has taken a ping.
    """

    def __init__(
        self,
        name: str,
        location: str,
        *,
        instance: str,
        strategies: Sequence[Any],
        interval: float,
        logger: logging.Logger,
        on_ping: Callable[[str, bool], object] | None = None,
    ) -> None:
        self._name = name
        self._location = location
        self._instance = instance
        self._strategies = strategies
        self._interval = interval
        self._logger = logger
        self._on_ping = on_ping or (lambda name, worked: None)
        self._stopping = Event()
        self._greenlets: list[gevent.Greenlet[..., None]] = []
        #: Those of which the log has told that they cannot be told.
        self._failing: set[int] = set()
        #: When each last answered or failed, and how.
        self._states: dict[int, tuple[float, str | None]] = {}

    def start(self) -> None:
        """Begin to ping. Does not wait for the first answer."""
        if self._stopping.is_set():
            return
        # Without the starter's context: its deadline is not the pings'.
        self._greenlets = [gevent.spawn(self._keep_told, s) for s in self._strategies]

    def states(self) -> list[tuple[str, float, str | None]]:
        """Tell of each strategy that was tried: its name, when (seconds since 1970), why it failed.

        The last is None where it was told.
        """
        found = [(each, self._states.get(id(each))) for each in self._strategies]
        return [(str(each), *state) for each, state in found if state is not None]

    def stop(self, patience: float = _PATIENCE) -> None:
        """Stop pinging, then say goodbye to those that were told.

        :param patience: seconds for the pings in flight, and again for the goodbyes.
        """
        begun = bool(self._greenlets) and not self._stopping.is_set()
        self._stopping.set()
        if not begun:
            return
        # A ping that arrives after the goodbye would bring the service back: let it arrive first.
        gevent.joinall(self._greenlets, timeout=patience)
        gevent.killall(self._greenlets, block=False)
        goodbyes = [gevent.spawn(self._say_goodbye, s) for s in self._strategies]
        gevent.joinall(goodbyes, timeout=patience)
        gevent.killall(goodbyes, block=False)
        for strategy in self._strategies:
            close_strategy(strategy)

    def _keep_told(self, strategy: Any) -> None:
        failures = 0
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                _call(
                    strategy.ping,
                    self._name,
                    self._location,
                    instance=self._instance,
                    interval=self._interval,
                )
            except USER_FAULTS as error:  # a strategy of the user's may raise anything
                failures += 1
                self._failing.add(id(strategy))
                self._on_ping(str(strategy), False)
                why = str(error) or type(error).__name__
                self._states[id(strategy)] = time.time(), why
                self._tell_of_failure(strategy, error, failures)
                pause = self._pause_after(error, failures)
            else:
                self._on_ping(str(strategy), True)
                if failures:
                    self._logger.info("%s is told of %s again", strategy, self._name)
                    self._failing.discard(id(strategy))
                failures = 0
                self._states[id(strategy)] = time.time(), None
                pause = self._interval - (time.monotonic() - began)
            self._stopping.wait(max(0.0, pause))

    def _pause_after(self, error: BaseException, failures: int) -> float:
        if isinstance(error, CircuitOpen):
            # Nothing was tried. Any longer, and a registry that is back is not told in an interval.
            return min(self._interval, error.retry_after)
        longest = min(self._interval, _FIRST_PAUSE * 2 ** min(failures - 1, 10))
        return random.uniform(longest / 2, longest)

    def _tell_of_failure(self, strategy: Any, error: BaseException, failures: int) -> None:
        level = logging.WARNING if failures == 1 else logging.DEBUG
        self._logger.log(
            level,
            "%s cannot be told of %s; it is tried again: %s",
            strategy,
            self._name,
            str(error) or type(error).__name__,
        )

    def _say_goodbye(self, strategy: Any) -> None:
        goodbye = getattr(strategy, "goodbye", None)
        if goodbye is None:
            return
        try:
            _call(goodbye, self._name, self._location, instance=self._instance)
        except USER_FAULTS as error:
            self._logger.log(
                logging.DEBUG if id(strategy) in self._failing else logging.WARNING,
                "%s was not told that %s has ended; its entry will expire: %s",
                strategy,
                self._name,
                str(error) or type(error).__name__,
            )


def _call(function: Callable[..., object], name: str, location: str, **kwargs: Any) -> None:
    """Call a strategy's function with those keywords only that it takes."""
    parameters = inspect.signature(function).parameters.values()
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        known = {p.name for p in parameters}
        kwargs = {key: value for key, value in kwargs.items() if key in known}
    function(name, location, **kwargs)
