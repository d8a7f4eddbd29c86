"""Testing what a service emits, and that everything emitted was handled.

What is recorded went through JSON, as it does on its way to other services. Nothing is replaced:
give the service under test a `MemoryEventTransport`, and the rest is as with a broker.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import gevent
from gevent.event import Event

from ..errors import EventNotDelivered
from ..protocol import decode_json

if TYPE_CHECKING:
    from ..event.envelope import Envelope
    from ..event.outbox import Outbox
    from ..event.transport import BaseEventTransport
    from ..service import MicroService

    Emitter: TypeAlias = MicroService | BaseEventTransport

__all__ = [
    "EventRecorder",
    "EventWaiter",
    "RecordedEvent",
    "drain",
    "event_waiter",
    "record_events",
]


#: Seconds in which an outbox has sent what is stored in it, in a test.
_LIMIT = 10.0


class RecordedEvent(NamedTuple):
    """An event that was emitted.

    :param due: seconds since 1970 when it is to be delivered; None for at once.
    :param emitter: the name of the service; None for other programs.
    """

    name: str
    body: Any
    broadcast: bool
    key: str | None
    id: str
    due: float | None
    emitter: str | None


class EventRecorder:
    """Records events that are emitted within its with block: see `record_events`."""

    def __init__(self, emitter: Emitter, *, send: bool = True) -> None:
        self._events: list[RecordedEvent] = []
        self._emitter = emitter
        self._send = send
        self._undo: list[Callable[[], None]] = []
        self._ids: set[str] = set()

    @property
    def events(self) -> list[RecordedEvent]:
        """Return the recorded events in order, each once; an outbox has sent its own by then."""
        self._settle()
        return self._events

    def named(self, pattern: str) -> list[RecordedEvent]:
        """Return those of that name, or of a pattern with ``*`` and ``#``."""
        return [event for event in self.events if _matches(pattern, event.name)]

    @property
    def names(self) -> list[str]:
        """Return the names of all recorded events."""
        return [event.name for event in self.events]

    def __enter__(self) -> EventRecorder:
        for transport in _transports_of(self._emitter):
            self._watch(transport)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._settle()
        self.stop()

    def stop(self) -> None:
        """Record no more."""
        while self._undo:
            self._undo.pop()()

    def _settle(self) -> None:
        if self._undo:
            _send_stored(self._emitter, time.monotonic() + _LIMIT)

    def _watch(self, transport: BaseEventTransport) -> None:
        publish = transport.publish
        own = vars(transport).get("publish")

        def recorded(envelopes: Sequence[Envelope], *, timeout: float) -> None:
            try:
                if self._send:
                    publish(envelopes, timeout=timeout)
            except EventNotDelivered as error:
                if error.unconfirmed is not None:
                    lost = {*error.unconfirmed, *error.refused}
                    self._record(each for each in envelopes if each.id not in lost)
                raise
            self._record(envelopes)

        def undo() -> None:
            if own is None:
                del transport.publish
            else:
                transport.publish = own  # type: ignore[method-assign]

        transport.publish = recorded  # type: ignore[method-assign]
        self._undo.append(undo)

    def _record(self, envelopes: Iterable[Envelope]) -> None:
        # A service may share its transports with others.
        name = getattr(self._emitter, "name", None)
        for envelope in envelopes:
            if envelope.id in self._ids or name not in (None, envelope.emitter):
                continue
            self._ids.add(envelope.id)
            event = RecordedEvent(
                envelope.name,
                decode_json(envelope.body),
                envelope.broadcast,
                envelope.key,
                envelope.id,
                envelope.due,
                envelope.emitter,
            )
            self._add(event)

    def _add(self, event: RecordedEvent) -> None:
        self._events.append(event)


class EventWaiter(EventRecorder):
    """Waits for an event: see `event_waiter`."""

    def __init__(self, emitter: Emitter, event_name: str) -> None:
        super().__init__(emitter)
        _matches(event_name, "")  # complains of what can match nothing
        self._wanted = event_name
        self._came = Event()

    def wait(self, timeout: float = 10.0) -> Any:
        """Return the body of the first such event since the block began, once it was emitted.

        :param timeout: seconds.
        :raises AssertionError: when none comes in time.
        """
        if not self._came.wait(timeout):
            others = ", ".join(event.name for event in self._events) or "none at all"
            raise AssertionError(
                f"no event {self._wanted!r} was emitted within {timeout:g} s; emitted: {others}"
            )
        return next(each.body for each in self._events if _matches(self._wanted, each.name))

    def __enter__(self) -> EventWaiter:
        super().__enter__()
        return self

    def _add(self, event: RecordedEvent) -> None:
        super()._add(event)
        if _matches(self._wanted, event.name):
            self._came.set()


def record_events(emitter: Emitter, *, send: bool = True) -> EventRecorder:
    """Record what a service, or whoever uses a transport, emits within a with block.

    ::

        with record_events(service) as recorded:
            client.call("pay", 17)
        assert recorded.named("orders.paid")[0].body == {"order": 17}

    An event is recorded when its transport has it. What an outbox has yet to send is waited for.

    :param send: False to keep what is emitted from the transport: for work, which is not delivered
        while nobody handles it.
    """
    return EventRecorder(emitter, send=send)


def event_waiter(emitter: Emitter, event_name: str) -> EventWaiter:
    """Wait until a service, or whoever uses a transport, emits an event.

    ::

        with event_waiter(service, "said_hello") as waiter:
            client.call("say_hello", "world")
            assert waiter.wait() == {"name": "world"}

    :param event_name: a name, or a pattern.
    """
    return EventWaiter(emitter, event_name)


def drain(emitter: Emitter, timeout: float = 10.0) -> None:
    """Wait until everything emitted was handled by the services of this process.

    Retries count, events with a delay, and those in the service's outbox. Handlers of other
    processes do not.

    :param timeout: seconds.
    :raises AssertionError: when it takes longer.
    """
    end = time.monotonic() + timeout
    handled = False
    while not handled:  # handlers may store events too
        if not _send_stored(emitter, end):
            raise AssertionError(f"the outbox: not everything was sent within {timeout:g} s")
        for transport in _transports_of(emitter):
            if not transport.drain(max(0.0, end - time.monotonic())):
                raise AssertionError(
                    f"{transport}: not everything was handled within {timeout:g} s"
                )
        outbox = _outbox_of(emitter)
        handled = outbox is None or outbox.pending() == 0


def _send_stored(emitter: Emitter, end: float) -> bool:
    """Wait until an outbox has sent all that a transport takes; tell whether it is empty."""
    outbox = _outbox_of(emitter)
    while outbox is not None and (waiting := outbox.pending()):
        if time.monotonic() >= end or waiting == len(outbox.refused()):
            return False
        outbox.drain(0)
        gevent.sleep(0.01)
    return True


def _outbox_of(emitter: Emitter) -> Outbox | None:
    outbox = getattr(emitter, "outbox", None)
    return outbox if hasattr(outbox, "drain") else None  # a path, until the service starts


def _matches(pattern: str, name: str) -> bool:
    # Imported late: this module is loaded with pytest's plugins, before anything is patched.
    from ..event.names import check_pattern, matches

    return matches(check_pattern(pattern), name)


def _transports_of(emitter: Emitter) -> list[BaseEventTransport]:
    transports = getattr(emitter, "event_transports", None)
    if transports is None:
        return [emitter]  # type: ignore[list-item]
    if not transports:
        raise ValueError(f"{emitter.name} has no event_transports")  # type: ignore[union-attr]
    return list(transports)
