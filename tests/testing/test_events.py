"""What users' tests see of events: recorded, awaited, drained, in memory and with real JSON."""

from typing import Any

import gevent
import pytest
from gevent.event import Event

from gemstone_sync import (
    EventEmitter,
    EventNotDelivered,
    MemoryEventTransport,
    MicroService,
    Outbox,
    event_handler,
    exposed_method,
)
from gemstone_sync.testing import (
    ServiceClient,
    drain,
    event_waiter,
    record_events,
    running_service,
)


class Greeter(MicroService):
    name = "greeter"
    port = 0

    @exposed_method()
    def say_hello(self, name: str) -> str:
        self.emit_event("said_hello", {"name": name, "times": (1, 2)}, key=name)
        return f"hello {name}"

    @exposed_method()
    def order(self, count: int) -> list[str]:
        return self.emit_events([("work", number, {"broadcast": False}) for number in range(count)])


class Listener(MicroService):
    name = "listener"
    port = 0

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[Any] = []

    @event_handler("said_hello")
    def on_hello(self, body: Any) -> None:
        gevent.sleep(0.02)
        self.heard.append(body["name"])
        if len(body["name"]) < 3:
            self.emit_event("said_hello", {"name": body["name"] + "!"})

    @event_handler("flaky", retries=3, backoff=0.02)
    def on_flaky(self, body: Any) -> None:
        self.heard.append(body)
        if len(self.heard) < body:
            raise ValueError("not yet")


@pytest.fixture
def transport() -> MemoryEventTransport:
    return MemoryEventTransport()


@pytest.fixture
def greeter(transport: MemoryEventTransport) -> Greeter:
    service = Greeter()
    service.event_transports = [transport]
    return service


def test_what_a_service_emits_is_recorded_as_its_receivers_get_it(greeter):
    with ServiceClient(greeter) as client, record_events(greeter, send=False) as recorded:
        client.call("say_hello", "ada")
        ids = client.call("order", 2)
    greeter.emit_event("after", None)

    assert recorded.names == ["said_hello", "work", "work"]
    hello = recorded.events[0]
    assert hello.body == {"name": "ada", "times": [1, 2]}
    assert (hello.broadcast, hello.key, hello.emitter, hello.due) == (True, "ada", "greeter", None)
    assert [(e.body, e.broadcast, e.id) for e in recorded.named("work")] == [
        (0, False, ids[0]),
        (1, False, ids[1]),
    ]
    assert recorded.named("#") == recorded.events
    assert recorded.named("nothing") == []


def test_an_event_that_was_not_delivered_was_not_emitted(greeter, transport, monkeypatch):
    def fail(*args: Any, **kwargs: Any) -> None:
        raise EventNotDelivered("no")

    monkeypatch.setattr(transport, "publish", fail)
    with record_events(greeter) as recorded, pytest.raises(EventNotDelivered):
        greeter.emit_event("a", 1)
    assert recorded.events == []
    assert transport.publish is fail  # what was there before is there again


def test_of_several_those_that_were_delivered_were_emitted(greeter, transport):
    events = [("a", 1), ("nobodys.work", 2, {"broadcast": False}), ("b", 3)]
    with (
        record_events(greeter) as recorded,
        ServiceClient(greeter),
        pytest.raises(EventNotDelivered, match="nobody handles"),
    ):
        greeter.emit_events(events)
    assert recorded.names == ["a", "b"]


def test_two_services_that_share_a_transport_are_told_apart(greeter, transport):
    other = Listener()
    other.event_transports = [transport]
    with record_events(greeter) as of_one, record_events(transport) as of_all:
        other.emit_event("b", 1)
        greeter.emit_event("a", 1)
        EventEmitter(transport).emit_event("c", 1)
    assert of_one.names == ["a"]
    assert of_all.names == ["b", "a", "c"]

    greeter.event_transports = [MemoryEventTransport(), MemoryEventTransport()]
    with record_events(greeter) as recorded:
        greeter.emit_event("a", 1)
    assert recorded.names == ["a"]  # once, though it went through two


def test_a_waiter_gives_the_body_of_the_first_event_of_that_name(greeter):
    with ServiceClient(greeter) as client, event_waiter(greeter, "said_hello") as waiter:
        gevent.spawn_later(0.02, client.call, "say_hello", "ada")
        gevent.spawn_later(0.04, client.call, "say_hello", "grace")
        assert waiter.wait()["name"] == "ada"
        assert waiter.wait()["name"] == "ada"


def test_a_waiter_says_what_came_instead(greeter):
    with event_waiter(greeter, "said_hello") as waiter:
        with pytest.raises(
            AssertionError, match=r"'said_hello' was emitted within 0 s; .* none at"
        ):
            waiter.wait(timeout=0)
        greeter.emit_event("said_goodbye", None)
        with pytest.raises(AssertionError, match="emitted: said_goodbye"):
            waiter.wait(timeout=0.01)
    with pytest.raises(ValueError, match="invalid event name"):
        event_waiter(greeter, "said hello")


def test_draining_waits_for_handlers_for_what_they_emit_and_for_retries(greeter, transport):
    listener = Listener()
    listener.event_transports = [transport]
    with running_service(greeter), running_service(listener):
        greeter.emit_event("said_hello", {"name": "a"})
        drain(greeter)
        assert listener.heard == ["a", "a!", "a!!"]
        greeter.emit_event("flaky", 6)
        drain(transport)
        assert listener.heard[3:] == [6, 6, 6]


def test_draining_has_a_limit(greeter, transport):
    go_on = Event()

    class Held(Listener):
        @event_handler("said_hello")
        def on_hello(self, body: Any) -> None:
            assert go_on.wait(20)
            self.heard.append(body["name"])

    listener = Held()
    listener.event_transports = [transport]
    with running_service(listener):
        greeter.emit_event("said_hello", {"name": "ada"}, delay=0.1)
        with pytest.raises(AssertionError, match=r"not everything was handled within 0\.05 s"):
            drain(transport, timeout=0.05)
        go_on.set()
        drain(transport)
    assert listener.heard == ["ada"]


def test_a_service_without_transports_emits_nothing_to_wait_for():
    for use in (lambda: drain(Greeter()), lambda: record_events(Greeter()).__enter__()):
        with pytest.raises(ValueError, match="greeter has no event_transports"):
            use()


def test_the_fixtures_record_and_wait_until_the_test_ends(greeter, recorded_events, event_waiter):
    recorded, waiter = recorded_events(greeter), event_waiter(greeter, "b")
    greeter.emit_event("a", 1)
    greeter.emit_event("b", 2)
    assert waiter.wait() == 2
    assert recorded.names == ["a", "b"]


# With an outbox


@pytest.fixture
def stored(greeter: Greeter, tmp_path: Any) -> Greeter:
    greeter.outbox = Outbox(str(tmp_path / "outbox.db"))
    return greeter


def test_what_an_outbox_has_yet_to_send_is_recorded(stored, running_service, recorded_events):
    service = running_service(stored)
    of_all = recorded_events(service)
    for number in range(3):
        with record_events(service) as recorded:
            service.emit_event("said_hello", number)
        assert [event.body for event in recorded.events] == [number]
        assert of_all.named("said_hello")[-1].body == number
        assert len(of_all.names) == number + 1


def test_what_a_transport_refuses_is_not_waited_for(stored, running_service, recorded_events):
    service = running_service(stored)
    recorded = recorded_events(service)
    service.emit_events([("work", 1, {"broadcast": False}), ("said_hello", 2)])
    with gevent.Timeout(8):
        assert recorded.names == ["said_hello"]
        with pytest.raises(AssertionError, match="the outbox: not everything was sent"):
            drain(service)


def test_draining_waits_for_what_is_stored(stored, transport, running_service, tmp_path):
    listener = Listener()
    listener.event_transports = [transport]
    running_service(stored)
    running_service(listener, outbox=Outbox(str(tmp_path / "other.db")))
    for name in ("abc", "abcd"):
        stored.emit_event("said_hello", {"name": name})
        drain(stored)
        assert listener.heard[-1] == name
    listener.emit_event("said_hello", {"name": "a"})
    drain(listener)
    assert listener.heard[2:] == ["a", "a!", "a!!"]
