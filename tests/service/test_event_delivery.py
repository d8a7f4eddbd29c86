"""A service over a real transport and with an outbox: everything together."""

import contextlib
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gemstone_sync import (
    EventNotDelivered,
    MemoryEventTransport,
    MicroService,
    Outbox,
    ServiceConfigurationError,
    event_handler,
    exposed_method,
)
from gemstone_sync.event import deadletters
from gemstone_sync.event.envelope import Envelope
from gemstone_sync.event.transport import BaseEventTransport
from gemstone_sync.testing import ServiceClient, drain, running_service
from tests.support.http import call, result_of
from tests.support.waiting import LIMIT, wait_until

from .transports import fail, health


def test_what_was_imported_before_the_process_was_patched_works(run_python):
    done = run_python(
        """
from gemstone_sync import MemoryEventTransport, transport_from_url  # does not patch
TRANSPORT = transport_from_url("memory://")

import gemstone_sync
from gemstone_sync.testing import running_service

class Service(gemstone_sync.MicroService):
    name = "late"
    event_transports = [TRANSPORT]

    @gemstone_sync.event_handler("said_hello")
    def on_hello(self, body):
        print(body)

with running_service(Service) as service:
    service.emit_event("said_hello", "world")
    assert TRANSPORT.drain()
print("stopped")
""",
        GEMSTONE_MONKEY_PATCH="late",
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "world\nstopped\n", "")


class Order(msgspec.Struct):
    id: int


class Shop(MicroService):
    """Handles in several ways, and remembers."""

    name = "shop"
    port = 0

    def __init__(self, *transports: BaseEventTransport) -> None:
        self.event_transports = transports
        self.done: list[Any] = []
        super().__init__()

    @event_handler("paid", retries=1, backoff=0.01)
    def on_paid(self, order: Order) -> None:
        self.done.append(order)
        if order.id < 0:
            raise ValueError("no such order")

    @event_handler("paid", idempotent=False)
    def also_on_paid(self, order: dict[str, int]) -> None:
        self.done.append(order["id"])

    @event_handler("closing")
    def on_closing(self, body: Any) -> None:
        self.stop()
        self.done.append("closed")

    @event_handler("asked")
    def on_asked(self, body: Any) -> None:
        self.emit_event("answered", body)

    @exposed_method()
    def ask(self) -> None:
        self.emit_event("asked", None)


def test_each_handler_of_an_event_has_its_own_fate():
    memory = MemoryEventTransport()
    with running_service(Shop(memory)) as shop:
        shop.emit_events([("paid", {"id": 1}), ("paid", {"id": -2}), ("paid", {"id": "three"})])
        drain(memory)
        letters = deadletters.list(memory)

    expected = [-2, 1, Order(-2), Order(-2), Order(1)]
    assert sorted(map(repr, shop.done)) == sorted(map(repr, expected))
    assert sorted((letter.handler, letter.reason) for letter in letters) == [
        ("Shop.also_on_paid", "invalid"),
        ("Shop.on_paid", "failed"),
        ("Shop.on_paid", "invalid"),
    ]


def test_an_event_that_comes_through_two_transports_is_handled_once(make_service):
    heard = []

    @event_handler("a")
    def on_a(self: Any, body: Any) -> None:
        heard.append(body)

    transports = [MemoryEventTransport(), MemoryEventTransport()]
    with running_service(make_service(on_a=on_a, event_transports=transports)) as service:
        for number in range(20):
            service.emit_event("a", number)
        drain(service)
    assert sorted(heard) == list(range(20))


def test_a_handler_may_stop_its_service():
    memory = MemoryEventTransport()
    shop = Shop(memory)
    shop.start(block=False)
    shop.emit_event("closing", None)
    assert shop._runner.stopped.wait(LIMIT)
    assert shop.done == ["closed"]


def test_the_request_id_travels_from_a_call_through_events():
    memory = MemoryEventTransport()
    sent: list[Envelope] = []
    publish = memory.publish

    def watched(envelopes: Sequence[Envelope], *, timeout: float) -> None:
        sent.extend(envelopes)
        publish(envelopes, timeout=timeout)

    memory.publish = watched
    with ServiceClient(Shop(memory), {"X-Request-Id": "r-7"}) as client:
        client.call("ask")
        drain(memory)
    assert [(e.name, e.request_id) for e in sent] == [("asked", "r-7"), ("answered", "r-7")]


# The outbox


class Ordering(MicroService):
    """Stores events before they are sent."""

    name = "ordering"
    port = 0

    def __init__(self, folder: Path, transport: BaseEventTransport) -> None:
        self.outbox = str(folder / "outbox.db")
        self.database = str(folder / "orders.db")
        self.event_transports = [transport]
        super().__init__()

    @exposed_method()
    def order(self, number: int, commit: bool) -> str:
        connection = sqlite3.connect(self.database)
        with contextlib.closing(connection), self.outbox.transaction(connection):
            connection.execute("CREATE TABLE IF NOT EXISTS orders (number)")
            connection.execute("INSERT INTO orders VALUES (?)", (number,))
            event_id = self.emit_event("ordered", number)
            if commit:
                connection.commit()
            else:
                connection.rollback()
        return event_id

    @exposed_method()
    def emit(self, body: Any) -> str:
        return self.emit_event("plain", body)


def test_events_wait_in_the_outbox_while_the_broker_is_away(line, tmp_path):
    line.before_sending = fail(EventNotDelivered("away"))
    line.reason = "connection refused"
    with running_service(Ordering(tmp_path, line)) as service:
        ids = [result_of(call(service.port, "emit", number)) for number in range(3)]
        assert service.outbox.pending() == 3
        assert health(service)[0] == 200  # it can do its work
        line.before_sending = lambda timeout: None
        wait_until(lambda: len(line.envelopes) == 3, "the events")
        assert [envelope.id for envelope in line.envelopes] == ids
        wait_until(lambda: service.outbox.pending() == 0, "an empty outbox")


def test_an_event_is_sent_if_and_only_if_the_users_transaction_commits(line, tmp_path):
    with running_service(Ordering(tmp_path, line)) as service:
        result_of(call(service.port, "order", 1, False))
        event_id = result_of(call(service.port, "order", 2, True))
        result_of(call(service.port, "order", 3, False))
        wait_until(lambda: line.envelopes, "the event")
        wait_until(lambda: service.outbox.pending() == 0, "an empty outbox")
    assert [(envelope.id, envelope.body) for envelope in line.envelopes] == [(event_id, b"2")]


def test_what_is_left_in_the_outbox_is_sent_by_the_next_start(line, tmp_path):
    """The outbox may be an object, too."""
    line.before_sending = fail(EventNotDelivered("away"))
    service = Ordering(tmp_path, line)
    service.outbox = outbox = Outbox(str(tmp_path / "other.db"))
    with running_service(service):
        service.emit_event("plain", 1)
    assert line.envelopes == []
    assert service.outbox is outbox

    line.before_sending = lambda timeout: None
    with running_service(service):
        wait_until(lambda: line.envelopes, "the event")
    assert line.log[-1] == "stop"


def test_an_outbox_needs_a_transport_to_send_through(make_service, tmp_path):
    service = make_service(port=0, outbox=str(tmp_path / "outbox.db"))
    with pytest.raises(ServiceConfigurationError, match="outbox is set: it needs event_transports"):
        service.start(block=False)
