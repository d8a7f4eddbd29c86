"""The events of one running service: its transports started and stopped, handlers, readiness."""

from __future__ import annotations

import functools
import inspect
import logging
import os
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import gevent
from gevent import monkey

from ..concurrency import USER_FAULTS
from ..errors import EventNotDelivered, GemstoneError, ServiceConfigurationError
from ..event.deduplication import MemoryProcessedEvents, ProcessedEvents, processed_events
from ..event.envelope import Envelope
from ..event.handlers import Handler, Subscriber
from ..event.outbox import Outbox
from ..event.transport import BaseEventTransport, Reception

if TYPE_CHECKING:
    from .events import Events

__all__ = ["Traffic"]

logger = logging.getLogger("gemstone_sync.event")

#: Seconds that a start waits for the broker, so that a service that says that it runs hears what is
#: emitted from then on. A broker that is away does not keep it longer.
_SUBSCRIBING = 2.0
#: Seconds for the outbox, and then for the transports, to end. Nobody waits for what they still
#: hold: who emitted has returned.
_PARTING = 2.0
#: Seconds that they may take beyond, to cut off what has not ended and to disconnect.
_CUTTING_OFF = 3.0

_thread_id = monkey.get_original("_thread", "get_ident")


class Traffic:
    """What a service has to do with its transports while it runs."""

    def __init__(self, service: Events) -> None:
        self._service = service
        self._receptions: list[Reception] = []
        self._processed: ProcessedEvents | None = None
        #: The process and the thread in which the transports were started.
        self._started_in: int | None = None
        self._thread = 0

    # Starting

    def check(self, handlers: Sequence[Handler]) -> None:
        """Find what cannot work before anything is started.

        :raises ServiceConfigurationError: with what to change.
        """
        service = self._service
        if not service.event_transports:
            if service.outbox is not None:
                raise ServiceConfigurationError("outbox is set: it needs event_transports to send")
            if handlers:
                names = ", ".join(sorted({handler.name for handler in handlers}))
                service.logger.warning("%s will never be called: set event_transports", names)
            return
        given = service.event_deduplication
        self._processed = processed_events(given) if isinstance(given, str) else given
        careful = [handler.name for handler in handlers if not handler.idempotent]
        if careful and self._processed is None and not self._has_own_store():
            raise ServiceConfigurationError(
                f"{careful[0]} has idempotent=False: set event_deduplication to where the ids of "
                "handled events are remembered, such as 'handled.db' or 'redis://127.0.0.1'"
            )

    def _has_own_store(self) -> bool:
        """Two stores would each know half of what was handled."""
        transports = self._service.event_transports
        return len(transports) == 1 and getattr(transports[0], "has_own_store", False)

    def start(self) -> None:
        """Begin to send. Called by the start, or by the first event of a service not started.

        :raises ServiceConfigurationError: for what a transport cannot do.
        """
        if self._started_in == os.getpid():
            return
        service = self._service
        service._make_outbox()
        self._started_in, self._thread = os.getpid(), _thread_id()
        started: list[BaseEventTransport] = []
        try:
            for transport in service.event_transports:
                transport.start()
                started.append(transport)
            if service.outbox is not None:
                service.outbox.start(self._routes())
        except BaseException:
            self._started_in = None
            _stop_all(started, _PARTING)
            raise

    def start_receiving(self, handlers: Sequence[Handler]) -> None:
        """Have the handlers called from now on.

        :raises ServiceConfigurationError: for what a transport cannot do.
        """
        transports = self._service.event_transports
        if not handlers or not transports:
            return
        subscriber = Subscriber(
            service=self._service.name, instance=uuid.uuid4().hex, handlers=tuple(handlers)
        )
        extras: dict[str, Any] = {"processed": self._processed}
        if len(transports) > 1:
            # What comes through several is handled once.
            extras["recent"] = MemoryProcessedEvents()
        for transport in transports:
            known = inspect.signature(transport.receive).parameters
            wanted = {name: value for name, value in extras.items() if name in known}
            self._receptions.append(transport.receive(subscriber, _run, **wanted))
        end = time.monotonic() + _SUBSCRIBING
        while any(map(_why_not_ready, self._receptions)) and time.monotonic() < end:
            gevent.sleep(0.01)

    # Stopping

    def stop_receiving(self, timeout: float) -> None:
        """Take no more events; give the handlers that run so many seconds."""
        receptions, self._receptions = self._receptions, []
        if not all(_gather(lambda reception: reception.stop(timeout), receptions, timeout)):
            self._service.logger.warning(
                "%s: event handlers were cut off after %.1f s", self._service.name, timeout
            )

    def stop(self, timeout: float = _PARTING) -> None:
        """Stop sending, after everything that may emit; in so many seconds or sooner."""
        if self._started_in != os.getpid():
            return
        self._started_in = None
        service = self._service
        parting = min(_PARTING, timeout)
        if service.outbox is not None:
            _guarded(lambda outbox: outbox.stop(parting), service.outbox)
        _stop_all(service.event_transports, parting)
        if self._processed is not None and self._processed is not service.event_deduplication:
            _guarded(lambda processed: processed.close(), self._processed)

    # Readiness

    def why_not_ready(self) -> str | None:
        """None while events come and go; otherwise why not.

        With an outbox, those that go can wait; not so what a transport refuses.
        """
        if self._started_in is None:
            return None
        outbox = self._service.outbox
        going = self._service.event_transports if outbox is None else [outbox]
        parts: list[Any] = [*going, *self._receptions]
        reasons = map(_why_not_ready, parts)
        return next((reason for reason in reasons if reason is not None), None)

    # Sending

    def _routes(self) -> dict[str, Callable[[Sequence[Envelope]], None]]:
        """What an outbox sends through, by names that are the same after a restart."""

        def send(transport: BaseEventTransport, envelopes: Sequence[Envelope]) -> None:
            error = _attempt(transport, envelopes, self._service.event_timeout)
            if error is not None:
                raise error

        routes: dict[str, Callable[[Sequence[Envelope]], None]] = {}
        for transport in self._service.event_transports:
            name = str(transport)[:200]
            while name in routes:
                name += "+"
            routes[name] = functools.partial(send, transport)
        return routes

    def publish(self, envelopes: Sequence[Envelope], timeout: float) -> None:
        """Publish through every transport.

        :param timeout: seconds for all of it.
        :raises EventNotDelivered: naming the transports that failed.
        :raises ServiceConfigurationError: for what one of them cannot do.
        """
        transports = self._service.event_transports
        if len(transports) == 1:
            errors = [_attempt(transports[0], envelopes, timeout)]
        elif _thread_id() == self._thread:
            errors = _attempt_at_once(transports, envelopes, timeout)
        else:
            errors = _attempt_in_turn(transports, envelopes, timeout)
        failed = [error for error in errors if error is not None]
        if not failed:
            return
        for error in failed:
            if isinstance(error, ServiceConfigurationError):
                raise error
        if len(failed) == 1 and isinstance(failed[0], EventNotDelivered):
            raise failed[0]
        raise EventNotDelivered("; ".join(map(str, failed))) from failed[0]


def _run(handler: Handler, body: Any) -> Any:
    return handler.function(body)


def _why_not_ready(part: BaseEventTransport | Reception | Outbox) -> str | None:
    try:
        return part.why_not_ready()
    except USER_FAULTS as error:
        return f"{part}: {error or type(error).__name__}"


def _attempt(
    transport: BaseEventTransport, envelopes: Sequence[Envelope], timeout: float
) -> GemstoneError | None:
    try:
        transport.publish(envelopes, timeout=timeout)
    except ServiceConfigurationError as error:
        return error
    except EventNotDelivered as error:
        if str(transport) in str(error):
            return error
        named: EventNotDelivered = EventNotDelivered(
            f"{transport}: {error}", refused=error.refused, unconfirmed=error.unconfirmed
        )
        named.__cause__ = error
        return named
    except Exception as error:
        # A transport of the user's own: whatever it raised, the event is not known to be sent.
        failure = EventNotDelivered(f"{transport}: {type(error).__name__}: {error}")
        failure.__cause__ = error
        return failure
    return None


def _attempt_at_once(
    transports: Sequence[BaseEventTransport], envelopes: Sequence[Envelope], timeout: float
) -> list[GemstoneError | None]:
    greenlets = [gevent.spawn(_attempt, each, envelopes, timeout) for each in transports]
    # A little more than each has, so that it can say itself what was wrong.
    gevent.joinall(greenlets, timeout=timeout + 0.5)
    errors: list[GemstoneError | None] = []
    for transport, greenlet in zip(transports, greenlets, strict=True):
        if not greenlet.ready():
            greenlet.kill(block=False)
            errors.append(EventNotDelivered(f"{transport}: not sent within {timeout:g} s"))
        else:
            errors.append(greenlet.value)
    return errors


def _attempt_in_turn(
    transports: Sequence[BaseEventTransport], envelopes: Sequence[Envelope], timeout: float
) -> list[GemstoneError | None]:
    """In a real thread, which stops while it waits: each gets its share of the time."""
    end = time.monotonic() + timeout
    errors = []
    for number, transport in enumerate(transports):
        share = max(0.0, end - time.monotonic()) / (len(transports) - number)
        errors.append(_attempt(transport, envelopes, share))
    return errors


def _stop_all(transports: Iterable[BaseEventTransport], timeout: float) -> None:
    _gather(lambda transport: transport.stop(timeout), transports, timeout)


def _gather(function: Callable[[Any], Any], parts: Iterable[Any], timeout: float) -> list[Any]:
    """Call it with each of them at once; None stands for what took too long."""
    greenlets = [gevent.spawn(_guarded, function, part) for part in parts]
    gevent.joinall(greenlets, timeout=timeout + _CUTTING_OFF)
    gevent.killall([greenlet for greenlet in greenlets if not greenlet.ready()], block=False)
    return [greenlet.value for greenlet in greenlets]


def _guarded(function: Callable[[Any], Any], part: Any) -> Any:
    try:
        return function(part)
    except USER_FAULTS:
        logger.exception("%s could not be stopped", part)
        return True
