"""An event as observers see it: when it is published, and at each attempt of a handler."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .envelope import DeadLetter, Envelope

__all__ = [
    "EventHooks",
    "ObservedEvent",
    "ObservedPublish",
    "PublishHooks",
    "hooks",
    "tell",
]


class ObservedEvent:
    """An attempt of a handler at an event: the same object when it begins and when it is over.

    :ivar name: the name of the event; over a transport of your own, the pattern of the handler.
    :ivar handler: the name of the handler; None for a dead letter that no handler was called with.
    :ivar envelope: the event with its id, key, emitter and attempts before this one; None over a
        transport of your own.
    :ivar started: when it began, of ``time.monotonic()``.
    :ivar seconds: how long it took; 0.0 while it runs.
    :ivar exception: what the handler raised, or its body is not what its hint says; or None.
    :ivar letter: why the event goes to the dead letters; None when it does not.
    :ivar delay: seconds until it is tried again; None when it is not.
    :ivar system: what carries it, as OpenTelemetry names it: ``rabbitmq``, ``redis``, ``sqlite`` …
    :ivar group: the name of the service that handles it; None over a transport of your own.
    """

    __slots__ = (
        "delay",
        "envelope",
        "exception",
        "group",
        "handler",
        "letter",
        "name",
        "seconds",
        "span",
        "started",
        "system",
    )

    def __init__(
        self,
        name: str,
        handler: str | None,
        envelope: Envelope | None = None,
        system: str = "_OTHER",
        group: str | None = None,
    ) -> None:
        self.name = name
        self.handler = handler
        self.envelope = envelope
        self.system = system
        self.group = group
        #: For whoever traces it.
        self.span: Any = None
        self.started = time.monotonic()
        self.seconds = 0.0
        self.exception: BaseException | None = None
        self.letter: DeadLetter | None = None
        self.delay: float | None = None

    @property
    def id(self) -> str | None:
        """Return the id of the event."""
        return None if self.envelope is None else self.envelope.id

    @property
    def request_id(self) -> str | None:
        """Return the id that marks everything done for one outer request, or None."""
        return None if self.envelope is None else self.envelope.request_id

    @property
    def failed(self) -> bool:
        """Tell whether it is over and the event was not handled."""
        return self.exception is not None or self.letter is not None

    def end(
        self,
        exception: BaseException | None = None,
        letter: DeadLetter | None = None,
        delay: float | None = None,
    ) -> None:
        """Note how the attempt ended, and when."""
        self.seconds = time.monotonic() - self.started
        self.exception, self.letter, self.delay = exception, letter, delay


@dataclass(frozen=True)
class EventHooks:
    """Functions that see each attempt; None costs nothing.

    :param begun: gets each attempt before it is made.
    :param finished: gets the same object when it is over, in whatever way.
    :param system: what carries the events, as OpenTelemetry names it.
    :param group: the name of the service that handles them.
    """

    begun: Callable[[ObservedEvent], object] | None = None
    finished: Callable[[ObservedEvent], object] | None = None
    system: str = "_OTHER"
    group: str | None = None

    def __bool__(self) -> bool:
        return self.begun is not None or self.finished is not None

    def observed(
        self, name: str, handler: str | None, envelope: Envelope | None = None
    ) -> ObservedEvent:
        """Make what observers see of an attempt."""
        return ObservedEvent(name, handler, envelope, self.system, self.group)

    def finish(
        self,
        observed: ObservedEvent,
        exception: BaseException | None = None,
        letter: DeadLetter | None = None,
        delay: float | None = None,
    ) -> None:
        """Tell that an attempt is over."""
        observed.end(exception, letter, delay)
        if self.finished is not None:
            self.finished(observed)


class ObservedPublish:
    """Events that are published in one go: the same object when it begins and when it is over.

    With an outbox it is over when they are stored there.

    :ivar name: the name of the event; of several, what all are called, or None.
    :ivar count: how many they are.
    :ivar envelopes: the events; none before they are made, which may be refused.
    :ivar emitter: the name of the service or the `EventEmitter`; or None.
    :ivar system: what carries it, as OpenTelemetry names it: ``rabbitmq``, ``redis``, ``sqlite`` …
    :ivar started: when it began, of ``time.monotonic()``.
    :ivar seconds: how long it took; 0.0 while it runs.
    :ivar exception: what the caller gets; or None.
    """

    __slots__ = (
        "count",
        "emitter",
        "envelopes",
        "exception",
        "name",
        "seconds",
        "span",
        "started",
        "system",
    )

    def __init__(self, name: str | None, count: int, emitter: str | None, system: str) -> None:
        self.name = name
        self.count = count
        self.emitter = emitter
        self.system = system
        self.envelopes: Sequence[Envelope] = ()
        self.started = time.monotonic()
        self.seconds = 0.0
        self.exception: BaseException | None = None
        #: For whoever traces it.
        self.span: Any = None

    def take(self, envelopes: Sequence[Envelope]) -> None:
        """Note which events they are, now that they are made."""
        self.envelopes, self.count = envelopes, len(envelopes)
        names = {envelope.name for envelope in envelopes}
        self.name = names.pop() if len(names) == 1 else None

    @property
    def failed(self) -> bool:
        """Tell whether it is over and the events are not known to be delivered."""
        return self.exception is not None

    def end(self, exception: BaseException | None) -> None:
        """Note how it ended, and when."""
        self.seconds = time.monotonic() - self.started
        self.exception = exception


@dataclass(frozen=True)
class PublishHooks:
    """Functions that see whatever the process publishes; None costs nothing."""

    begun: Callable[[ObservedPublish], object] | None = None
    finished: Callable[[ObservedPublish], object] | None = None

    def finish(self, observed: ObservedPublish, exception: BaseException | None) -> None:
        """Tell that they are published, or not."""
        observed.end(exception)
        if self.finished is not None:
            self.finished(observed)


#: Those that are told now; None while there is nobody.
_hooks: PublishHooks | None = None


def hooks() -> PublishHooks | None:
    """Return those that are told of what is published; None when nobody is."""
    return _hooks


def tell(told: PublishHooks | None) -> None:
    """Have publishing told to these from now on; to nobody else."""
    global _hooks
    _hooks = told
