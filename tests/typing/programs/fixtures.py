"""Tests as users write them, with the fixtures of the pytest plugin."""

from __future__ import annotations

from typing import Any

import gemstone_sync as gemstone
from gemstone_sync.testing import (
    EventWaiterFixture,
    FakeRemoteService,
    RecordedEventsFixture,
    RunningServiceFixture,
    ServiceClient,
    ServiceClientFixture,
    running_service,
)


class Adder(gemstone.MicroService):
    name = "adder"
    added = 0

    @gemstone.exposed_method()
    def add(self, first: int, second: int) -> int:
        return first + second


def test_add(service_client: ServiceClientFixture) -> None:
    client = service_client(Adder, headers={"Authorization": "Bearer t"}, added=1)
    assert client.call("add", 1, 2) == 3
    assert service_client(Adder()).request("GET", "/").status == 404
    service_client(Adder, headers="Bearer t")  # error: no mapping
    service_client(7)  # error: no service


def test_over_http(running_service: RunningServiceFixture) -> None:
    service = running_service(Adder, endpoint="/rpc")
    assert service.added == 0
    assert service.aded == 0  # error: a typo
    assert gemstone.RemoteService(service.url).methods.add(1, 2) == 3


def test_events(recorded_events: RecordedEventsFixture, event_waiter: EventWaiterFixture) -> None:
    service = Adder()
    assert recorded_events(service, send=False).names == []
    event_waiter(service, "a.b").wait()


def test_with_any_type(service_client: Any) -> None:
    assert service_client(Adder).call("add", 1, 2) == 3


def test_without_fixtures() -> None:
    with running_service(Adder()) as service, ServiceClient(service, {"A": "b"}) as client:
        assert client.call("add", 1, 2) == service.added
    FakeRemoteService({"find": lambda name: {"name": name}}).methods.find("ada")
