"""Handlers: which events each takes and what is done when it fails. Pure.

A `Handler` is made once, from `event_handler`'s options, and checked then. A `Subscriber` is all
handlers of one running service.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ..number_checks import is_number, is_whole
from .names import check_pattern, matches
from .places import Places

__all__ = ["Backoff", "Handler", "Subscriber", "delay_before"]

#: Seconds before the first retry (it doubles each time), the seconds before each, or a function
#: that gets the number of failed attempts, 1 at first.
Backoff: TypeAlias = "float | Sequence[float] | Callable[[int], float]"

_SCOPES = ("service", "instance")
#: Seconds: where doubling ends.
_LONGEST = 3600.0


@dataclass(frozen=True, kw_only=True)
class Handler:
    """A handler of a service.

    :param pattern: an event name, or a pattern.
    :param function: takes the event's body.
    :param name: what logs, retries and dead letters call it.
    :param scope: ``"service"``: one instance of the service takes each event; ``"instance"``: every
        instance that runs.
    :param retries: attempts after the first one.
    :param backoff: see `Backoff`.
    :param timeout: seconds that one attempt may take; None for no limit.
    :param concurrency: how many events it handles at once in one process; None for the transport's.
    :param idempotent: False when handling an event twice does harm: ids that were handled already
        are dropped.
    :param convert: makes the body what the function's type hint says.
        Raises ValueError with the reason when it cannot.
    :param service: the name of the service, for logs.
    :ivar places: those that `concurrency` grants, whatever queues and brokers feed it; None for no
        bound.
    :raises ValueError: for an option that makes no sense; the text names it.
    """

    pattern: str
    function: Callable[[Any], Any]
    name: str
    scope: str = "service"
    retries: int = 5
    backoff: Backoff = 1.0
    timeout: float | None = None
    concurrency: int | None = None
    idempotent: bool = True
    convert: Callable[[Any], Any] | None = None
    service: str = ""
    places: Places | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_pattern(self.pattern)
        if self.scope not in _SCOPES:
            raise ValueError(f"scope is 'service' or 'instance', not {self.scope!r}")
        if not is_whole(self.retries, 0):
            raise ValueError(f"retries is a whole number, 0 or more, not {self.retries!r}")
        if self.concurrency is not None and not is_whole(self.concurrency, 1):
            raise ValueError(f"concurrency is a whole number above 0, not {self.concurrency!r}")
        if self.timeout is not None and not (is_number(self.timeout) and self.timeout > 0):
            raise ValueError(f"a timeout is a number of seconds above 0, not {self.timeout!r}")
        if not isinstance(self.idempotent, bool):
            raise ValueError(f"idempotent is True or False, not {self.idempotent!r}")
        if not _is_backoff(self.backoff):
            raise ValueError(
                "backoff is a number of seconds, a list of them, or a function of the number of "
                f"failed attempts, not {self.backoff!r}"
            )
        if self.concurrency is not None:
            object.__setattr__(self, "places", Places(self.concurrency))


@dataclass(frozen=True, kw_only=True)
class Subscriber:
    """A running service, as far as events go.

    :param service: its name: instances of one name share their work.
    :param instance: what tells this process's run of it from every other one.
    """

    service: str
    instance: str
    handlers: tuple[Handler, ...]

    def handlers_for(self, name: str, scope: str | None = None) -> list[Handler]:
        """Return those whose pattern matches an event of that name."""
        return [
            handler
            for handler in self.handlers
            if matches(handler.pattern, name) and scope in (None, handler.scope)
        ]


def delay_before(handler: Handler, failures: int) -> float:
    """Return the seconds until the next attempt after so many failed ones (1 at least).

    >>> handler = Handler(pattern="a", function=print, name="h", backoff=(1, 5))
    >>> [delay_before(handler, n) for n in (1, 2, 3)]
    [1.0, 5.0, 5.0]
    """
    backoff = handler.backoff
    if callable(backoff):
        return max(0.0, float(backoff(failures)))
    if isinstance(backoff, (int, float)):
        return float(min(_LONGEST, backoff * 2 ** min(failures - 1, 30)))
    return float(backoff[min(failures, len(backoff)) - 1])


def _is_backoff(value: object) -> bool:
    if callable(value):
        return True
    if is_number(value):
        return value >= 0
    return (
        isinstance(value, (list, tuple))
        and len(value) > 0
        and all(is_number(seconds) and seconds >= 0 for seconds in value)
    )
