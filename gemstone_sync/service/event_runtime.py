"""The event runtime of one service: transports started and stopped, handlers called, readiness."""

from __future__ import annotations

import functools
import inspect
import logging
import os
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import gevent

from .. import tracing
from ..broker_urls import without_passwords
from ..concurrency import USER_FAULTS, spawn
from ..dispatch import Nest
from ..errors import EventNotDelivered, GemstoneError, ServiceConfigurationError
from ..event import current_event, traced
from ..event.deduplication import MemoryProcessedEvents, ProcessedEvents, processed_events
from ..event.emission import make_envelope
from ..event.envelope import Envelope
from ..event.handlers import Handler, Subscriber
from ..event.observed import EventHooks
from ..event.outbox import Outbox
from ..event.transport import BaseEventTransport, Reception
from ..event.wakeups import thread_id
from ..ops.health import FAIL, PASS, WARN, Component
from .attributes import ServiceAttributes
from .settings import refuse_changes, snapshot

__all__ = ["EventRuntime"]

logger = logging.getLogger("gemstone_sync.event")

#: Seconds that a start waits for the broker, so that a service that says that it runs hears what is
#: emitted from then on. A broker that is away does not keep it longer.
_SUBSCRIBING = 2.0
#: Seconds for the outbox, and then for the transports, to end. Nobody waits for what they still
#: hold: who emitted has returned.
_PARTING = 2.0
#: Seconds that they may take beyond, to cut off what has not ended and to disconnect.
_CUTTING_OFF = 3.0


class EventRuntime:
    """Runs the event transports of a service, and publishes through all of them."""

    def __init__(self, service: ServiceAttributes) -> None:
        self._service = service
        self._receptions: list[Reception] = []
        self._processed: ProcessedEvents | None = None
        #: The process and the thread in which the transports were started.
        self._started_in: int | None = None
        self._thread = 0
        #: The settings with which the transports were started, and the outbox made.
        self._started_with: dict[str, Any] = {}
        self._outbox_made_of: dict[str, Any] = {}

    # Starting

    def refuse_late_changes(self) -> None:
        """Refuse settings that were changed since the first event, or since the outbox was made.

        :raises ServiceConfigurationError: naming the first.
        """
        refuse_changes(self._service, self._outbox_made_of, "the outbox was made")
        refuse_changes(self._service, self._started_with, "the first event was emitted")

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

    def make_outbox(self) -> None:
        """Put an `Outbox` in the place of the path of its file."""
        service = self._service
        if isinstance(service.outbox, (str, os.PathLike)):
            path = os.fspath(service.outbox)
            self._outbox_made_of = snapshot(service, ("outbox_databases",))
            service.outbox = Outbox(path, databases=service.outbox_databases, logger=service.logger)

    def _has_own_store(self) -> bool:
        """Tell of a single transport: the stores of two would each know half of it."""
        transports = self._service.event_transports
        return len(transports) == 1 and getattr(transports[0], "has_own_store", False)

    def start(self) -> None:
        """Begin to send. Called by the start, or by the first event of a service not started.

        :raises ServiceConfigurationError: for what a transport cannot do.
        """
        if self._started_in == os.getpid():
            return
        service = self._service
        self.make_outbox()
        self._started_in, self._thread = os.getpid(), thread_id()
        self._started_with = snapshot(service, ("event_transports", "outbox"))
        started: list[BaseEventTransport] = []
        try:
            for transport in service.event_transports:
                transport.start()
                started.append(transport)
            if service.outbox is not None:
                service.outbox.start(self._routes())
        except BaseException:
            self._started_in, self._started_with = None, {}
            _stop_all(started, _PARTING)
            raise

    def start_receiving(
        self, handlers: Sequence[Handler], hooks: EventHooks, around: Nest | None = None
    ) -> None:
        """Have the handlers called from now on.

        :param hooks: tell observers of each attempt.
        :param around: runs each attempt inside of all middleware.
        :raises ServiceConfigurationError: for what a transport cannot do.
        """
        transports = self._service.event_transports
        if not handlers or not transports:
            return
        subscriber = Subscriber(
            service=self._service.name, instance=uuid.uuid4().hex, handlers=tuple(handlers)
        )
        extras: dict[str, Any] = {"processed": self._processed, "hooks": hooks}
        if len(transports) > 1:
            # What comes through several is handled once.
            extras["recent"] = MemoryProcessedEvents()
        call = _run if around is None else functools.partial(_run_within, around)
        for transport in transports:
            known = inspect.signature(transport.receive).parameters
            wanted = {name: value for name, value in extras.items() if name in known}
            # A transport of the user's own, with gemstone's four methods, knows no hooks.
            told = "hooks" in known
            run = call if told else functools.partial(_run_told, hooks, call)
            self._receptions.append(transport.receive(subscriber, run, **wanted))
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
        self._started_in, self._started_with = None, {}
        service = self._service
        parting = min(_PARTING, timeout)
        if service.outbox is not None:
            _guarded(lambda outbox: outbox.stop(parting), service.outbox)
        _stop_all(service.event_transports, parting)
        if self._processed is not None and self._processed is not service.event_deduplication:
            _guarded(lambda processed: processed.close(), self._processed)

    # Health

    def components(self) -> list[Component]:
        """Tell whether events come and go.

        With an outbox, those that go can wait while a broker or a database is away; not so what a
        transport refuses.
        """
        if self._started_in is None:
            return []
        outbox = self._service.outbox
        going = self._service.event_transports
        found = [_component("broker:publishing", each, away=outbox is None) for each in going]
        found += [_component("broker:receiving", each) for each in self._receptions]
        if outbox is not None:
            waiting = outbox.why_waiting()
            sending = _component("outbox:sending", outbox)
            if sending.status == PASS and waiting is not None:
                sending = replace(sending, status=WARN, output=without_passwords(waiting))
            found.append(sending)
        return found

    # Sending

    def _routes(self) -> dict[str, Callable[[Sequence[Envelope]], None]]:
        """Return what an outbox sends through, by names that are the same after a restart."""

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
        elif thread_id() == self._thread:
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


def _run_within(around: Nest, handler: Handler, body: Any) -> Any:
    """Call a handler inside of middleware."""
    event = current_event()
    if event is None:  # of a transport of the user's own, which tells the body only
        event = make_envelope(handler.pattern, body)

    def innermost(given: Envelope) -> Any:
        if given is not event:
            raise TypeError("proceed takes nothing, or the event itself")
        return handler.function(body)

    return around(event, innermost)


def _run_told(
    hooks: EventHooks, call: Callable[[Handler, Any], Any], handler: Handler, body: Any
) -> Any:
    if not hooks and not tracing.is_on():
        return call(handler, body)
    observed = traced.begin(hooks, handler.pattern, handler.name)
    try:
        result = call(handler, body)
    except BaseException as error:
        traced.finish(hooks, observed, error)
        raise
    traced.finish(hooks, observed)
    return result


def _component(name: str, part: Any, *, away: bool = True) -> Component:
    """Look at a part.

    :param away: the service is not ready while it is.
    """
    id = None if isinstance(part, (Reception, Outbox)) else without_passwords(str(part))
    why = _why_not_ready(part)
    if why is None:
        return Component(name, id=id, kind="datastore")
    status = FAIL if away else WARN
    return Component(name, status, id=id, kind="datastore", output=without_passwords(why))


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
    greenlets = [spawn(_attempt, each, envelopes, timeout) for each in transports]
    try:
        # A little more than each has, so that it can say itself what was wrong.
        gevent.joinall(greenlets, timeout=timeout + 0.5)
    finally:  # also of those whose caller was killed: nothing more is sent
        late = [greenlet for greenlet in greenlets if not greenlet.ready()]
        gevent.killall(late, block=False)
    return [
        EventNotDelivered(f"{transport}: not sent within {timeout:g} s")
        if greenlet in late
        else greenlet.value
        for transport, greenlet in zip(transports, greenlets, strict=True)
    ]


def _attempt_in_turn(
    transports: Sequence[BaseEventTransport], envelopes: Sequence[Envelope], timeout: float
) -> list[GemstoneError | None]:
    """Publish from a real thread, which stops while it waits: each has its share of the time."""
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
    greenlets = [spawn(_guarded, function, part) for part in parts]
    gevent.joinall(greenlets, timeout=timeout + _CUTTING_OFF)
    gevent.killall([greenlet for greenlet in greenlets if not greenlet.ready()], block=False)
    return [greenlet.value for greenlet in greenlets]


def _guarded(function: Callable[[Any], Any], part: Any) -> Any:
    try:
        return function(part)
    except USER_FAULTS:
        logger.exception("%s could not be stopped", part)
        return True
