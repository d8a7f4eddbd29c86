"""The base of all transports over a broker: a publisher, and a consumer for each service.

A subclass says how a connection is made, and what its broker can do.
"""

from __future__ import annotations

import abc
import contextlib
import dataclasses
import math
import os
import signal
import time
import uuid
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import gevent
from gevent.hub import MAIN_THREAD_IDENT
from greenlet import getcurrent

from ...callables import name_of
from ...errors import BrokerUnavailable, EventNotDelivered, ServiceConfigurationError
from ..deduplication import ProcessedEvents
from ..emission import make_envelope, make_envelopes
from ..envelope import Envelope
from ..handlers import Handler, Subscriber
from ..link import Link, LinkLost
from ..observed import EventHooks
from ..places import Places
from ..runtime.consumer import Consumer
from ..runtime.processing import Processor
from ..runtime.publisher import Publisher
from ..topology import Queue, Topology
from ..wakeups import Receipt, thread_id
from .base import BaseEventTransport, Reception
from .urls import check_seconds, check_whole, no_option, options_of

__all__ = ["BrokerEventTransport", "check_seconds", "check_whole"]

#: Seconds that `start_accepting_events` has for its end.
_PATIENCE = 10.0


class BrokerEventTransport(BaseEventTransport):
    """Base class of the transports over a broker.

    :param application: the first part of the names of exchanges and queues: applications that share
        a broker and are to know nothing of each other have different ones.
    :param pool_size: how many events one process handles at once, over all queues and services;
        each service takes as many in advance.
    :param service: the name for what is registered by `register_event_handler`, for programs that
        are no `MicroService`.
    """

    #: True when the broker can deliver later.
    delays: bool = True
    #: How often an event is delivered that kills its process; None: what the broker says.
    crash_limit: int | None = None
    #: Seconds for which the claim of a worker that was killed, for a handler with
    #: ``idempotent=False``, keeps others from the event.
    lease: float = 60.0

    def __init__(
        self,
        *,
        application: str = "gemstone",
        pool_size: int = 100,
        service: str = "gemstone",
        shards: int = 1,
        **unknown: Any,
    ) -> None:
        for name in unknown:
            raise no_option(type(self), name, options_of(type(self)))
        check_whole(pool_size=pool_size, shards=shards)
        try:
            self.topology = Topology(application, shards=shards)
        except ValueError as error:
            raise ServiceConfigurationError(str(error)) from None
        #: Of all services of this process that receive through it.
        self._places = Places(pool_size)
        self._service = service
        self._handlers: list[Handler] = []
        self._start_over()
        _all.add(self)
        self._publisher = Publisher(
            lambda: self.make_link("publisher"), self.topology, name=str(self)
        )

    def _start_over(self) -> None:
        """Forget, in a forked child, what is the parent's and cannot be ended here."""
        self._users = 0
        self._receptions: list[BrokerReception] = []
        self._accepting: Receipt | None = None

    # For subclasses

    @abc.abstractmethod
    def make_link(self, role: str) -> Link:
        """Make a link that is not open yet.

        :param role: the use that the broker shows for it.
        """

    def _delay_queues(self) -> list[str]:
        """Return the queues that hold what is delayed, if not those that it goes to."""
        return []

    def _why_not(self, queue: Queue) -> str | None:
        """Tell why the handlers of a queue cannot be served; None when they can."""
        return None

    def _own_store(self) -> ProcessedEvents | None:
        """Make the memory of handled events that lies beside the events; None for none."""
        return None

    # Publishing

    def publish(self, envelopes: Sequence[Envelope], *, timeout: float) -> None:
        now = time.time()
        messages = []
        for envelope in envelopes:
            delay = 0.0 if envelope.due is None else max(0.0, envelope.due - now)
            if delay and not self.delays:
                raise ServiceConfigurationError(
                    f"{self} cannot deliver later: it takes no delay= and no at="
                )
            messages.append((envelope, self.topology.address_of(envelope), delay))
        self._publisher.start()
        self._publisher.publish(messages, timeout)

    def emit_event(
        self,
        event_name: str,
        event_body: Any,
        *,
        broadcast: bool = True,
        timeout: float = 10.0,
        **options: Any,
    ) -> str:
        """Publish an event; return its id when the broker has it.

        :param timeout: seconds.
        :param options: ``key``, ``delay``, ``at``, ``expires_in``: see `MicroService.emit_event`.
        :raises EventNotDelivered: when it is not confirmed in time.
        :raises ValueError, TypeError: for a name, a body or an option that makes no sense.
        """
        envelope = make_envelope(event_name, event_body, broadcast=broadcast, **options)
        self.publish([envelope], timeout=timeout)
        return envelope.id

    def emit_events(self, events: Iterable[tuple[Any, ...]], *, timeout: float = 10.0) -> list[str]:
        """Publish several events in this order; return their ids when the broker has all.

        :param events: (name, body) or (name, body, options).
        """
        envelopes = make_envelopes(events)
        self.publish(envelopes, timeout=timeout)
        return [envelope.id for envelope in envelopes]

    # Receiving

    def receive(
        self,
        subscriber: Subscriber,
        run: Callable[[Handler, Any], Any],
        *,
        processed: ProcessedEvents | None = None,
        recent: ProcessedEvents | None = None,
        hooks: EventHooks | None = None,
    ) -> Reception:
        """Handle a service's events from now on.

        :param processed: the memory for ``idempotent=False``, instead of the transport's own.
        :param recent: the memory of this process, shared with other transports.
        :param hooks: tell observers of each attempt.
        """
        for queue in self.topology.queues_of(subscriber):
            if (why := self._why_not(queue)) is not None:
                raise ServiceConfigurationError(why)
        own = self._own_store() if processed is None else None
        if processed is None and own is None:
            for handler in subscriber.handlers:
                if not handler.idempotent:
                    raise ServiceConfigurationError(
                        f"{handler.name} has idempotent=False: set event_deduplication to the "
                        "place where handled events are remembered, such as 'redis://127.0.0.1'"
                    )
        self._publisher.start()
        reception = BrokerReception(
            self, subscriber, run, processed or own, recent, owned=own, hooks=hooks
        )
        self._receptions.append(reception)
        reception.start()
        return reception

    def register_event_handler(
        self, handler_func: Callable[[Any], Any], handled_event_name: str, **options: Any
    ) -> None:
        """Register a function to be called with the body of every event of that name.

        :param options: as for `event_handler`.
        :raises ValueError, TypeError: for a name or an option that makes no sense.
        """
        name = name_of(handler_func)
        self._handlers.append(
            Handler(pattern=handled_event_name, function=handler_func, name=name, **options)
        )

    def start_accepting_events(self) -> None:
        """Handle events with what was registered, until `stop` is called.

        In a program's main thread Ctrl-C and SIGTERM end it too, unless the program handles them:
        handlers that run have ten seconds, what they do not finish is given back, and this returns.
        In a program that is not patched handlers run in another thread.

        ::

            transport = RabbitMqEventTransport()
            transport.register_event_handler(print, "orders.paid")
            transport.start_accepting_events()
        """
        if self._accepting is not None:
            raise ServiceConfigurationError(f"{self} accepts events already")
        self._accepting = Receipt()
        subscriber = Subscriber(
            service=self._service, instance=uuid.uuid4().hex, handlers=tuple(self._handlers)
        )
        reception = None
        try:
            with _ended_by_signals(self._end_accepting):
                reception = self.receive(subscriber, lambda handler, body: handler.function(body))
                while not self._accepting.wait(math.inf):  # which is some days
                    self._accepting = Receipt()
        finally:
            self._accepting = None
            if reception is not None:
                reception.stop(_PATIENCE)
            if self._users == 0:
                self._publisher.stop(_PATIENCE)

    def _end_accepting(self) -> None:
        if self._accepting is not None:
            self._accepting.settle()

    def on_event_received(self, event_name: str, event_body: Any) -> None:
        """Call what was registered for an event, as if it had been received."""
        subscriber = Subscriber(service="", instance="", handlers=tuple(self._handlers))
        for handler in subscriber.handlers_for(event_name):
            handler.function(event_body)

    # Life

    def start(self) -> None:
        """Begin to publish. Each call wants one of `stop`: services may share a transport."""
        self._users += 1
        self._publisher.start()

    def stop(self, timeout: float = 10.0) -> None:
        self._users = max(0, self._users - 1)
        self._end_accepting()
        if self._users == 0:
            self._publisher.stop(timeout)

    def drain(self, timeout: float = 10.0) -> bool:
        """Wait until everything emitted is handled by the services of this process that receive.

        Events that others are to handle do not count; retries do, delayed events too.

        :returns: False when so many seconds were not enough.
        """
        end = time.monotonic() + timeout
        if not self._publisher.drain(timeout):
            return False
        quiet = 0
        # Twice in a row: an event may be on its way between the broker and a handler.
        while quiet < 2:
            quiet = quiet + 1 if self._is_idle(max(0.1, end - time.monotonic())) else 0
            if quiet < 2:
                if time.monotonic() >= end:
                    return False
                gevent.sleep(0.02)
        return True

    def _is_idle(self, timeout: float) -> bool:
        if any(reception.in_flight for reception in self._receptions):
            return False
        names = {queue.name for reception in self._receptions for queue in reception.queues}
        if not names:
            return True
        names.update(self._delay_queues())
        with contextlib.suppress(LinkLost, EventNotDelivered):  # not known: ask again
            waiting = self._publisher.ask(lambda link: sum(map(link.size, sorted(names))), timeout)
            return waiting == 0
        return False

    def why_not_ready(self) -> str | None:
        return self._publisher.why_not_ready()

    def backlog(self, timeout: float) -> dict[str, int]:
        queues = [queue for reception in self._receptions for queue in reception.queues]
        # Those of one instance have names that nobody can foresee, and go with it.
        names = {queue.name for queue in queues if queue.expires is None} | {self.topology.dead}
        wanted = sorted(names)
        return self._publisher.ask(lambda link: {n: link.size(n) for n in wanted}, timeout)

    @contextlib.contextmanager
    def link(self) -> Iterator[Link]:
        """Open a connection of one's own, to look into queues.

        :raises BrokerUnavailable: when the broker is not there, or breaks the connection.
        """
        try:
            with contextlib.closing(self.make_link("inspector")) as link:
                link.open()
                link.declare(self.topology)
                yield link
        except LinkLost as error:
            raise BrokerUnavailable(f"{self}: {error}") from error


_all: weakref.WeakSet[BrokerEventTransport] = weakref.WeakSet()


def _in_child() -> None:
    for transport in list(_all):
        transport._start_over()


os.register_at_fork(after_in_child=_in_child)


class BrokerReception(Consumer, Reception):
    """A service's consumer on a transport."""

    def __init__(
        self,
        transport: BrokerEventTransport,
        subscriber: Subscriber,
        run: Callable[[Handler, Any], Any],
        processed: ProcessedEvents | None,
        recent: ProcessedEvents | None,
        owned: ProcessedEvents | None,
        hooks: EventHooks | None,
    ) -> None:
        self._transport = transport
        self._owned = owned
        self.queues: list[Queue] = transport.topology.queues_of(subscriber)
        hooks = dataclasses.replace(
            hooks or EventHooks(), system=transport.system, group=subscriber.service
        )
        processor = Processor(
            transport.topology,
            subscriber,
            run=run,
            processed=processed,
            recent=recent,
            delays=transport.delays,
            delivery_limit=transport.crash_limit,
            lease=transport.lease,
            hooks=hooks,
        )
        super().__init__(
            lambda: transport.make_link(f"{subscriber.service} consumer"),
            transport.topology,
            self.queues,
            processor,
            name=f"{transport} ({subscriber.service})",
            pool=transport._places,
            on_due=processor.forward,
            publisher=transport._publisher,
            on_refused=processor.on_refused,
        )

    def stop(self, timeout: float) -> bool:
        finished = super().stop(timeout)
        receptions = self._transport._receptions
        if self in receptions:
            receptions.remove(self)
        if self._owned is not None:
            self._owned.close()
        return finished


@contextlib.contextmanager
def _ended_by_signals(end: Callable[[], object]) -> Iterator[None]:
    """Call `end` at the first signal; the next one does what it always did.

    Only in the program's own main flow, and of signals that it does not handle itself. A greenlet
    may be that of a service, which stops in its own way.
    """
    before: dict[signal.Signals, Any] = {}
    if thread_id() == MAIN_THREAD_IDENT and getcurrent().parent is None:
        defaults = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
        before = {n: default for n, default in defaults.items() if signal.getsignal(n) is default}

    def restore() -> None:
        for number, default in before.items():
            signal.signal(number, default)

    def handle(*signalled: Any) -> None:
        restore()
        end()

    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        restore()
