"""How a service is found by others and finds them: its attributes, its start and its end.

How pings are repeated is in tests/discovery/test_announcer.py, what a client of a found service
does in tests/discovery/test_located.py; several processes are in
tests/integration/test_neighbours.py.
"""

import gc
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from werkzeug.test import Client

import gemstone_sync
from gemstone_sync import MicroService, RemoteService, ServiceConfigurationError, ServiceNotFound
from gemstone_sync.discovery import MemoryDiscoveryStrategy, StaticDiscoveryStrategy
from gemstone_sync.registry import ServiceRegistry
from gemstone_sync.testing import ServiceClient, running_service
from tests.support.faulty_server import FaultyServer, hang
from tests.support.http import JSON, call, call_body, result_of
from tests.support.machine import free_port
from tests.support.waiting import wait_until

from .transports import warnings_in


class Strategy(MemoryDiscoveryStrategy):
    """Finds what it is told, and records it.

    :ivar told: what, with the name, the location and the instance.
    :ivar at_goodbye: called when it is told goodbye.
    """

    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[str, str, str, str]] = []
        self.at_goodbye: Callable[[], Any] = lambda: None
        self.closed = 0

    def ping(self, name: str, location: str, **kwargs: Any) -> None:
        self.told.append(("ping", name, location, kwargs["instance"]))
        super().ping(name, location, **kwargs)

    def goodbye(self, name: str, location: str, **kwargs: Any) -> None:
        self.told.append(("goodbye", name, location, kwargs["instance"]))
        self.at_goodbye()
        super().goodbye(name, location, **kwargs)

    def close(self) -> None:
        self.closed += 1

    @property
    def what(self) -> list[str]:
        return [one[0] for one in self.told]

    @property
    def instances(self) -> set[str]:
        return {one[3] for one in self.told}


def double(self: MicroService, n: int) -> int:
    return 2 * n


@pytest.fixture
def strategy() -> Strategy:
    return Strategy()


@pytest.fixture
def make(make_service: Callable[..., MicroService]) -> Callable[..., MicroService]:
    """``make(strategy, port=1)``: a service with the method `double`."""
    return lambda *strategies, **attributes: make_service(
        double, **{"discovery_strategies": list(strategies), **attributes}
    )


@pytest.fixture
def registry() -> Iterator[ServiceRegistry]:
    with running_service(ServiceRegistry, token="t") as started:
        yield started


def to(registry: ServiceRegistry, token: str = "t") -> dict[str, Any]:
    return {"service_registry_urls": [registry.url], "service_registry_token": token}


def known_to(registry: ServiceRegistry) -> list[str]:
    return registry.directory.locate("test.service")


# Being found


def test_it_registers_at_the_start_and_leaves_at_the_end(make, registry):
    """The service tells the registry how often it pings, which goes by it."""
    with running_service(make(service_registry_ping_interval=7), **to(registry)) as service:
        wait_until(lambda: known_to(registry), "the registration")
        assert known_to(registry) == [f"http://127.0.0.1:{service.port}/api"]
        assert [entry.interval for entry in registry.directory.registrations()] == [7]
        with RemoteService.get_service_by_name(registry.url, "test.*") as found:
            assert found.methods.double(4) == 8
    assert known_to(registry) == []


def test_every_registry_is_told_whatever_becomes_of_the_others(make):
    dead = f"http://127.0.0.1:{free_port()}/api"
    with (
        FaultyServer(hang) as hanging,
        running_service(ServiceRegistry) as first,
        running_service(ServiceRegistry) as second,
    ):
        urls = [dead, hanging.url, first.url, second.url]
        with running_service(make(), service_registry_urls=urls):
            wait_until(lambda: known_to(first) and known_to(second), "both registrations")
            hanging.stop()
        assert known_to(first) == known_to(second) == []


def test_a_wrong_token(make, registry, caplog):
    """The service runs, and the log says why nobody finds it."""
    with running_service(make(), **to(registry, "other")) as service:
        [told] = wait_until(lambda: warnings_in(caplog, "cannot be told"), "a warning")
        assert result_of(call(service.port, "double", 2)) == 4
    assert registry.url in told
    assert "Access denied" in told
    assert known_to(registry) == []


def test_where_it_is_reached(make, strategy):
    """Told as it is given; without that, the address that it has bound."""
    given = "https://shop.example/users/api"
    service = make(strategy)
    with running_service(service, accessible_at=given):
        wait_until(lambda: strategy.told, "a ping")
    with running_service(service, accessible_at=None, host="0.0.0.0"):
        wait_until(lambda: len(strategy.told) == 3, "another ping")
        here = f"http://{socket.gethostname()}:{service.port}/api"

    assert [location for _, _, location, _ in strategy.told] == [given, given, here, here]


@pytest.mark.parametrize("what", ["hangs", "is down"])
def test_the_start_is_not_held_up(make, caplog, what):
    with FaultyServer(hang) as registry:
        if what == "is down":
            registry.stop()
        with running_service(make(service_registry_urls=[registry.url])) as service:
            assert result_of(call(service.port, "double", 2)) == 4
            if what == "is down":
                wait_until(lambda: warnings_in(caplog, "cannot be told"), "a warning")
            else:
                wait_until(lambda: registry.received["ping"], "a ping")
                registry.stop()

    assert len(warnings_in(caplog, registry.url)) == 1


def test_it_pings_at_its_interval_and_says_goodbye_while_calls_are_answered(make, strategy):
    """Who has asked a moment before must get an answer."""
    answers: list[Any] = []
    service = make(strategy)
    strategy.at_goodbye = lambda: answers.append(result_of(call(service.port, "double", 2)))
    with running_service(service):
        wait_until(lambda: strategy.told, "a ping")
    assert answers == [4]
    assert strategy.what == ["ping", "goodbye"]


def test_it_is_another_instance_after_each_start(make, strategy, registry):
    """Else a registry, to which it has said goodbye, would take its pings for late ones."""
    service, port = make(strategy, **to(registry)), free_port()
    for _ in range(3):
        with running_service(service, port=port):
            wait_until(lambda: known_to(registry) == [service.url], "the registration")
        assert known_to(registry) == []
    assert strategy.what == ["ping", "goodbye"] * 3
    assert len(strategy.instances) == 3


def test_a_service_in_process_is_never_registered(make, strategy):
    """Nobody could reach it."""
    with FaultyServer() as registry:
        with ServiceClient(make(strategy, service_registry_urls=[registry.url])) as client:
            assert client.call("double", 2) == 4
        assert strategy.told == []
        assert registry.connections == 0


@pytest.mark.parametrize("given", ["http://10.0.0.1/api", None])
def test_under_another_server_it_registers_with_its_first_request(make, strategy, caplog, given):
    """If its URL is given."""
    service = make(strategy, accessible_at=given)
    for _ in range(2):
        reply = Client(service).post("/api", data=call_body("double", 2), headers=JSON)
        assert reply.json["result"] == 4
    if given is not None:
        wait_until(lambda: strategy.told, "a ping")
    service.stop()

    told = "test.service is not registered: set accessible_at to the URL where others reach it"
    assert strategy.what == ([] if given is None else ["ping", "goodbye"])
    assert {one[2] for one in strategy.told} <= {given}
    assert warnings_in(caplog, "is not registered") == ([told] if given is None else [])


class Heard(StaticDiscoveryStrategy):
    def ping(self, name: str, location: str, **kwargs: Any) -> None:
        pass


@pytest.mark.parametrize("kind", [StaticDiscoveryStrategy, Heard])
def test_where_nothing_is_told_no_url_is_missed(make, caplog, kind):
    """Under another server, where the URL is not known."""
    service = make(kind({"users": "http://10.0.0.5:8000/api"}))
    reply = Client(service).post("/api", data=call_body("double", 2), headers=JSON)
    assert reply.json["result"] == 4
    service.stop()
    assert len(warnings_in(caplog, "is not registered")) == (kind is Heard)


# Finding others


class Caller(MicroService):
    """Asks another service on its callers' behalf."""

    name = "caller"

    @gemstone_sync.exposed_method()
    def ask(self, name: str, n: int) -> int | None:
        try:
            return int(self.get_service(name).methods.double(n))
        except ValueError:
            return None


def test_a_method_calls_another_service(make, registry):
    """Nothing stays open after the end, to registries or to services (warnings fail)."""
    with (
        running_service(make(), **to(registry)) as service,
        running_service(Caller, service_registry_urls=[registry.url]) as caller,
    ):
        wait_until(lambda: known_to(registry), "the registration")

        assert result_of(call(caller.port, "ask", "test.*", 4)) == 8
        assert result_of(call(caller.port, "ask", "nobody", 4)) is None
    del service, caller
    gc.collect()


def test_a_service_is_found_in_strategies_before_registries(make, strategy):
    strategy.ping("users", "http://10.0.0.1/api", instance="i")
    with FaultyServer() as registry:
        service = make(strategy, service_registry_urls=[registry.url])
        found = service.get_service("users", timeout=3)
        assert found.urls == ["http://10.0.0.1/api"]
        assert service.get_service("users", timeout=3) is found
        assert registry.connections == 0


def test_how_long_an_answer_is_used(make, strategy):
    strategy.ping("users", "http://10.0.0.1/api", instance="i")
    found = make(strategy, discovery_cache_seconds=0.01).get_service("users")
    strategy.ping("users", "http://10.0.0.2/api", instance="i")
    wait_until(lambda: len(found.urls) == 2, "the other instance")


def test_a_service_that_nobody_knows_and_nobody_to_ask(make, strategy):
    with pytest.raises(ServiceNotFound, match="no service 'users' is known"):
        make(strategy).get_service("users")
    with pytest.raises(ServiceConfigurationError, match="no discovery strategy is configured"):
        make().get_service("users")


def test_services_of_one_process_find_each_other(make, strategy):
    """Each with the same strategy; the end of one does not end it for the other."""
    with running_service(Caller, discovery_strategies=[strategy]) as caller:
        for _ in range(2):
            with running_service(make(strategy)):
                wait_until(lambda: strategy.locate("test.service"), "the registration")
                assert result_of(call(caller.port, "ask", "test.service", 4)) == 8


def test_the_strategies_are_closed_at_the_end(make, strategy):
    """This holds for a service that was not registered, too; it can be started again."""
    strategy.ping("users", "http://10.0.0.1/api", instance="i")
    service = make(strategy)
    for times in (1, 2):
        with ServiceClient(service):
            assert service.get_service("users").urls == ["http://10.0.0.1/api"]
        assert strategy.closed == times


def test_a_service_whose_start_fails_was_never_there_and_gives_up_what_it_found(make, strategy):
    class Failing(Caller):
        port = 0
        skip_configuration = True

        def on_service_start(self) -> None:
            assert self.ask("test.service", 2) == 4
            raise RuntimeError("the database is away")

    with running_service(make(strategy)):
        wait_until(lambda: strategy.told, "a ping")
        failing = Failing()
        failing.discovery_strategies = [strategy]
        with pytest.raises(RuntimeError, match="the database is away"):
            failing.start(block=False)

        assert {one[1] for one in strategy.told} == {"test.service"}
        assert strategy.closed == 1


# What is refused


class WithoutPing:
    def locate(self, name: str) -> list[str]:
        return []


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no list of URLs": ({"service_registry_urls": 7}, "service_registry_urls must be a list"),
    "no text": ({"service_registry_urls": [7]}, "service_registry_urls must be a list of URLs"),
    "no URL": ({"service_registry_urls": ["registry:8090"]}, "not a service's endpoint"),
    "another scheme": ({"service_registry_urls": ["ftp://a/api"]}, "not a service's endpoint"),
    "no interval": ({"service_registry_ping_interval": 0}, "service_registry_ping_interval must"),
    "no number": (
        {"service_registry_ping_interval": "soon"},
        "service_registry_ping_interval: must",
    ),
    "no token": ({"service_registry_token": ""}, "service_registry_token must be"),
    "no strategy": ({"discovery_strategies": [WithoutPing()]}, "discovery_strategies must be"),
    "a class": ({"discovery_strategies": [Strategy]}, "discovery_strategies must be"),
    "no list": ({"discovery_strategies": Strategy()}, "discovery_strategies must be"),
    "no cache": ({"discovery_cache_seconds": 0}, "discovery_cache_seconds must be"),
    "no place": (
        {"discovery_strategies": [Strategy()], "accessible_at": "10.0.0.1:8000"},
        "accessible_at: not a service's endpoint: '10.0.0.1:8000'",
    ),
    "every address": (
        {"discovery_strategies": [Strategy()], "accessible_at": "http://0.0.0.0:8000/api"},
        "accessible_at: 0.0.0.0 is no address where others reach this machine",
    ),
    "every address, in short": (
        {"discovery_strategies": [Strategy()], "accessible_at": "http://0:8000/api"},
        "accessible_at: 0 is no address",
    ),
    "every address of IPv6": (
        {"discovery_strategies": [Strategy()], "accessible_at": "http://[::]:8000/api"},
        "accessible_at: :: is no address",
    ),
    "no host": (
        {"service_registry_urls": ["http://a/api"], "accessible_at": "http:///api"},
        "accessible_at: not a service's endpoint",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_service_with_a_wrong_attribute_does_not_start(make, what):
    """The message says which one, and what it should be; nothing is left open."""
    attributes, told = REFUSED[what]
    with pytest.raises(ServiceConfigurationError, match=told):
        make(port=0, skip_configuration=True, **attributes).start(block=False)
    gc.collect()
