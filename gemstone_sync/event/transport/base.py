"""The contract of event transports: gemstone's four methods, and what the framework adds to them.

A subclass that has only the four works: it is told of the handlers, started in a greenlet of its
own, and asked to emit. What it does not take (delays, keys, retries) is refused with a clear error
rather than ignored.
"""

from __future__ import annotations

import abc
import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import gevent
from gevent.event import Event

from ...callables import doc_of
from ...concurrency import USER_FAULTS
from ...errors import EventNotDelivered, ServiceConfigurationError
from ...missing import missing_attribute
from ...protocol import decode_json
from ..envelope import Envelope
from ..handlers import Handler, Subscriber
from ..wakeups import seconds_until

__all__ = ["BaseEventTransport", "Reception"]

logger = logging.getLogger("gemstone_sync.event")

#: What `emit_event` raises of what it was given; all else may be for want of a connection.
_OF_THE_EVENT = (ServiceConfigurationError, ValueError, TypeError)
#: Seconds until a transport whose start_accepting_events raised is started again.
_PAUSE = 5.0


class Reception(abc.ABC):
    """A service that receives events through one transport."""

    @abc.abstractmethod
    def stop(self, timeout: float) -> bool:
        """Take no more events, wait so many seconds for the handlers that run, give the rest back.

        :returns: False when handlers were still running.
        """

    @abc.abstractmethod
    def why_not_ready(self) -> str | None:
        """Return None while events arrive, otherwise why they do not."""


class BaseEventTransport(abc.ABC):
    """Carries events between services.

    To write your own, implement the four abstract methods::

        class MyTransport(BaseEventTransport):
            def __init__(self):
                self.handlers = {}
            def register_event_handler(self, handler_func, handled_event_name):
                self.handlers[handled_event_name] = handler_func
            def start_accepting_events(self):
                for name, body in receive_for_ever():
                    self.on_event_received(name, body)
            def on_event_received(self, event_name, event_body):
                self.handlers[event_name](event_body)
            def emit_event(self, event_name, event_body, *, broadcast=True):
                send(event_name, event_body, broadcast)
    """

    #: What carries the events, as OpenTelemetry names it (``messaging.system``).
    system: str = "_OTHER"

    @abc.abstractmethod
    def register_event_handler(
        self, handler_func: Callable[[Any], Any], handled_event_name: str
    ) -> None:
        """Register, before the start, a function to be called with the body of each such event."""

    @abc.abstractmethod
    def start_accepting_events(self) -> None:
        """Receive events until the transport is stopped. It may block."""

    @abc.abstractmethod
    def on_event_received(self, event_name: str, event_body: Any) -> None:
        """Treat a received event with the function that was registered for it."""

    @abc.abstractmethod
    def emit_event(self, event_name: str, event_body: Any, *, broadcast: bool = True) -> Any:
        """Publish an event.

        :param event_body: what JSON can represent.
        :param broadcast: False when one subscriber is to get it, rather than all.
        """

    # What the framework calls; a subclass need not know

    def publish(self, envelopes: Sequence[Envelope], *, timeout: float) -> None:
        """Publish events; return when the broker has all of them.

        :param timeout: seconds.
        :raises EventNotDelivered: when some are not known to have got through; it tells which.
        :raises ServiceConfigurationError: for what the transport cannot do.
        """
        for envelope in envelopes:
            if envelope.key is not None or envelope.due is not None:
                what = "keys" if envelope.key is not None else "delays"
                raise ServiceConfigurationError(f"{self} knows no {what}")
        failed: dict[str, Exception] = {}
        away: list[str] = []
        end = time.monotonic() + timeout
        for number, envelope in enumerate(envelopes, 1):
            late = EventNotDelivered(f"{self}: not sent within {timeout:g} s")
            try:
                with gevent.Timeout(max(0.0, end - time.monotonic()), late):
                    body = decode_json(envelope.body)
                    self.emit_event(envelope.name, body, broadcast=envelope.broadcast)
            except Exception as error:
                if len(envelopes) == 1:
                    raise
                failed[envelope.id] = error
                if not isinstance(error, _OF_THE_EVENT):
                    away.append(envelope.id)
                if error is late:
                    away += [each.id for each in envelopes[number:]]
                    break
            else:
                # Another got through afterwards: it was for those events, not for the connection.
                away = []
        if failed:
            first = next(iter(failed.values()))
            raise EventNotDelivered(
                f"{self}: {len({*failed, *away})} of {len(envelopes)} not delivered: "
                f"{first or type(first).__name__}",
                refused={id: error for id, error in failed.items() if id not in away},
                unconfirmed=away,
            ) from first

    def receive(self, subscriber: Subscriber, run: Callable[[Handler, Any], Any]) -> Reception:
        """Handle a service's events from now on.

        :param run: calls a handler with a body, in the service's way.
        :raises ServiceConfigurationError: for what the transport cannot do.
        """
        for handler in subscriber.handlers:
            if handler.scope != "service" or not handler.idempotent:
                raise ServiceConfigurationError(
                    f"{handler.name}: {self} knows no scope='instance' and no idempotent=False"
                )
        reception = _PlainReception(self)
        for handler in subscriber.handlers:
            self.register_event_handler(reception.function_of(handler, run), handler.pattern)
        reception.start()
        return reception

    def start(self) -> None:  # noqa: B027  # nothing to do for most
        """Begin to publish: called once per process before anything is emitted; may be repeated."""

    def stop(self, timeout: float = 10.0) -> None:  # noqa: B027
        """Publish what waits, then end, within so many seconds. It may be started again."""

    def drain(self, timeout: float = 10.0) -> bool:
        """Wait until nothing waits to be published; False when the time was not enough."""
        return True

    def why_not_ready(self) -> str | None:
        """Return None while it can publish, otherwise why it cannot."""
        return None

    def backlog(self, timeout: float) -> dict[str, int]:
        """Return how many events wait, by the names of lasting queues; none where nobody knows.

        :param timeout: seconds.
        """
        return {}

    def __str__(self) -> str:
        return type(self).__name__

    if not TYPE_CHECKING:  # or checkers would believe that there is every name
        __getattr__ = missing_attribute


class _PlainReception(Reception):
    """A transport with gemstone's four methods, in a greenlet of its own."""

    def __init__(self, transport: BaseEventTransport) -> None:
        self._transport = transport
        self._error: str | None = None
        self._greenlet = gevent.Greenlet(self._accept)
        self._is_stopping = False
        self._running = 0
        #: Set when the last handler has ended, once it is stopping.
        self._ended = Event()

    def function_of(
        self, handler: Handler, run: Callable[[Handler, Any], Any]
    ) -> Callable[..., Any]:
        """Make the function to register, with the name and doc of the user's own."""

        def handle(body: Any) -> Any:
            if self._is_stopping and gevent.getcurrent() is self._greenlet:
                raise gevent.GreenletExit
            self._running += 1
            try:
                return run(handler, body)
            finally:
                self._running -= 1
                if self._is_stopping and not self._running:
                    self._ended.set()

        handle.__name__, handle.__doc__ = handler.name, doc_of(handler.function)
        return handle

    def start(self) -> None:
        """Begin to receive; returns at once."""
        self._greenlet.start()

    def _accept(self) -> None:
        while True:
            try:
                self._transport.start_accepting_events()
            except USER_FAULTS as error:
                self._error = f"{self._transport}: {error or type(error).__name__}"
                logger.exception("%s: start_accepting_events failed", self._transport)
                gevent.sleep(_PAUSE)
                self._error = None
            else:
                return

    def stop(self, timeout: float) -> bool:
        end = time.monotonic() + timeout
        self._is_stopping = True
        finished = not self._running or bool(self._ended.wait(timeout))
        self._greenlet.kill(timeout=seconds_until(end))
        return finished and bool(self._greenlet.dead)

    def why_not_ready(self) -> str | None:
        return self._error
