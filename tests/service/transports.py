"""A user's own transports, and a service, for the tests of events.

`Radio` has gemstone's four methods, `Line` shows what the framework asks of a transport.
"""

import json
import logging
from collections.abc import Callable, Sequence
from typing import Any

import gevent
import pytest
from gevent.event import Event

from gemstone_sync import MicroService, ServiceConfigurationError, event_handler, exposed_method
from gemstone_sync.event.envelope import Envelope
from gemstone_sync.event.handlers import Subscriber
from gemstone_sync.event.transport import BaseEventTransport, Reception
from tests.support.http import exchange, message


class Radio(BaseEventTransport):
    """A user's own transport, with the document's four methods and no more."""

    def __init__(self) -> None:
        self.handlers: dict[str, list[Callable[[Any], Any]]] = {}
        self.sent: list[tuple[str, Any, bool]] = []
        self.closed = Event()
        self.fault: BaseException | None = None

    def register_event_handler(
        self, handler_func: Callable[[Any], Any], handled_event_name: str
    ) -> None:
        self.handlers.setdefault(handled_event_name, []).append(handler_func)

    def start_accepting_events(self) -> None:
        self.closed.wait()

    def on_event_received(self, event_name: str, event_body: Any) -> None:
        for function in self.handlers.get(event_name, []):
            function(event_body)

    def emit_event(self, event_name: str, event_body: Any, *, broadcast: bool = True) -> None:
        if self.fault is not None:
            raise self.fault
        self.sent.append((event_name, event_body, broadcast))
        gevent.spawn(self.on_event_received, event_name, event_body)


class Line(BaseEventTransport):
    """A transport that shows what the framework asks of it.

    :ivar log: what it was told, in order.
    :ivar before_sending: called by `publish`.
    :ivar reception_reason: of new receptions, why they are not ready.
    """

    has_own_store = True

    def __init__(self, name: str = "line") -> None:
        self.name = name
        self.log: list[str] = []
        self.envelopes: list[Envelope] = []
        self.receptions: list[LineReception] = []
        self.extras: dict[str, Any] = {}
        self.before_sending: Callable[[float], Any] = lambda timeout: None
        self.reason: str | None = None
        self.refuses: str | None = None
        self.reception_reason: str | None = None

    def __str__(self) -> str:
        return self.name

    def register_event_handler(self, *args: Any) -> None: ...
    def start_accepting_events(self) -> None: ...
    def on_event_received(self, event_name: str, event_body: Any) -> None: ...
    def emit_event(self, *args: Any, **kwargs: Any) -> None: ...

    def publish(self, envelopes: Sequence[Envelope], *, timeout: float) -> None:
        self.before_sending(timeout)
        self.log.append("publish")
        self.envelopes += envelopes
        for reception in self.receptions:
            reception.deliver(envelopes)

    def receive(
        self, subscriber: Subscriber, run: Any, *, processed: Any = None, recent: Any = None
    ) -> Reception:
        if self.refuses is not None:
            raise ServiceConfigurationError(self.refuses)
        self.log.append("receive")
        self.extras = {"processed": processed, "recent": recent}
        self.receptions.append(LineReception(self, subscriber, run))
        return self.receptions[-1]

    def start(self) -> None:
        self.log.append("start")

    def stop(self, timeout: float = 10.0) -> None:
        self.log.append("stop")

    def why_not_ready(self) -> str | None:
        return self.reason


class LineReception(Reception):
    def __init__(self, line: Line, subscriber: Subscriber, run: Any) -> None:
        self.line = line
        self.subscriber = subscriber
        self.reason = line.reception_reason
        self._run = run
        self._running: list[Any] = []

    def deliver(self, envelopes: Sequence[Envelope]) -> None:
        for envelope in envelopes:
            for handler in self.subscriber.handlers_for(envelope.name):
                body = json.loads(envelope.body)
                value = body if handler.convert is None else handler.convert(body)
                self._running.append(gevent.spawn(self._run, handler, value))

    def stop(self, timeout: float) -> bool:
        self.line.log.append("stop receiving")
        self.line.receptions.remove(self)
        gevent.joinall(self._running, timeout=timeout)
        finished = all(greenlet.ready() for greenlet in self._running)
        gevent.killall(self._running, block=False)
        return finished

    def why_not_ready(self) -> str | None:
        return self.reason


class Heard(MicroService):
    """Remembers what it hears."""

    name = "heard"
    port = 0

    def __init__(self, *transports: BaseEventTransport) -> None:
        self.event_transports = transports
        self.heard: list[Any] = []
        super().__init__()

    @event_handler("said_hello")
    def on_hello(self, body: Any) -> None:
        """Remembers a greeting."""
        self.heard.append(body)

    @exposed_method()
    def emit(self, name: str, body: Any) -> str:
        return self.emit_event(name, body)


def warnings_in(caplog: pytest.LogCaptureFixture, about: str = "") -> list[str]:
    found = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    return [text for text in found if about in text]


def fail(error: BaseException) -> Callable[[float], None]:
    def before_sending(timeout: float) -> None:
        raise error

    return before_sending


def health(service: MicroService, path: str = "/health/ready") -> tuple[int, Any]:
    reply = exchange(service.port, message("GET", path))
    return reply.status, reply.json


def refusal(service: MicroService) -> tuple[int, str, str]:
    """What ``/health/ready`` says of what is missing: HTTP's status, the word, and why."""
    status, told = health(service)
    return status, told["status"], told["output"]
