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

__all__ = ["Announcer"]

#: Seconds until the first repetition after a failure; it doubles up to the interval.
_FIRST_PAUSE = 0.5
#: Seconds that pings in flight, and then the goodbyes, may take at the end.
_PATIENCE = 2.0


class Announcer:
    """Keeps the registries told.

    :param name: the service's name.
    :param location: the URL of its endpoint, as others reach it.
    :param instance: what tells this run of the service from every other one.
    :param strategies: objects with ``ping`` and, if they have one, ``goodbye``.
    :param interval: seconds between two pings.
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
    ) -> None:
        self._name = name
        self._location = location
        self._instance = instance
        self._strategies = strategies
        self._interval = interval
        self._logger = logger
        self._stopping = Event()
        self._greenlets: list[gevent.Greenlet[..., None]] = []

    def start(self) -> None:
        """Begin to ping. Does not wait for the first answer."""
        # Without the starter's context: its deadline is not the pings'.
        self._greenlets = [gevent.spawn(self._keep_told, s) for s in self._strategies]

    def stop(self, patience: float = _PATIENCE) -> None:
        """Stop pinging, then say goodbye to those that were told.

        :param patience: seconds for the pings in flight, and again for the goodbyes.
        """
        if self._stopping.is_set() or not self._greenlets:
            return
        self._stopping.set()
        # A ping that arrives after the goodbye would bring the service back: let it arrive first.
        gevent.joinall(self._greenlets, timeout=patience)
        gevent.killall(self._greenlets, block=False)
        goodbyes = [gevent.spawn(self._say_goodbye, s) for s in self._strategies]
        gevent.joinall(goodbyes, timeout=patience)
        gevent.killall(goodbyes, block=False)
        for strategy in self._strategies:
            if (close := getattr(strategy, "close", None)) is not None:
                close()

    def _keep_told(self, strategy: Any) -> None:
        failures = 0
        ping = _accepting(strategy.ping)
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                ping(self._name, self._location, instance=self._instance, interval=self._interval)
            except Exception as error:  # of a strategy of the user's, too
                failures += 1
                self._tell_of_failure(strategy, error, failures)
                longest = min(self._interval, _FIRST_PAUSE * 2 ** min(failures - 1, 10))
                pause = random.uniform(longest / 2, longest)
            else:
                if failures:
                    self._logger.info("%s is told of %s again", strategy, self._name)
                failures = 0
                pause = self._interval - (time.monotonic() - began)
            self._stopping.wait(max(0.0, pause))

    def _tell_of_failure(self, strategy: Any, error: Exception, failures: int) -> None:
        level = logging.WARNING if failures == 1 else logging.DEBUG
        self._logger.log(
            level,
            "%s cannot be told of %s; it is tried again: %s",
            strategy,
            self._name,
            error or type(error).__name__,
        )

    def _say_goodbye(self, strategy: Any) -> None:
        goodbye = getattr(strategy, "goodbye", None)
        if goodbye is None:
            return
        try:
            _accepting(goodbye)(self._name, self._location, instance=self._instance)
        except Exception as error:
            self._logger.warning(
                "%s was not told that %s has ended; its entry will expire: %s",
                strategy,
                self._name,
                error or type(error).__name__,
            )


def _accepting(function: Callable[..., object]) -> Callable[..., object]:
    """The function, called with those keywords only that it takes."""
    parameters = inspect.signature(function).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return function
    known = {p.name for p in parameters}

    def call(*args: Any, **kwargs: Any) -> object:
        return function(*args, **{name: v for name, v in kwargs.items() if name in known})

    return call
