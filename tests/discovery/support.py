"""What the tests of discovery stand on: registries of each kind, and Redis servers.

Only what is asked and told belongs here; what a strategy makes of it is in the test files.
"""

import fnmatch
import json
from typing import Any

from gemstone_sync import MicroService, exposed_method
from gemstone_sync.discovery.http import HttpDiscoveryStrategy
from gemstone_sync.discovery.redis_strategy import RedisDiscoveryStrategy
from tests.support.faulty_server import Behaviour, FaultyServer, body
from tests.support.waiting import LIMIT

LOGGER = "gemstone_sync.discovery"

# Registries


class Registry(MicroService):
    """A registry that records how it was told.

    :ivar entries: (name, place) -> the instances there; a place is what `locate_service` gives.
    :ivar told: the method and the parameters of each call that it took.
    """

    name = "test.registry"

    def __init__(self) -> None:
        super().__init__()
        self.entries: dict[tuple[str, Any], set[Any]] = {}
        self.told: list[tuple[Any, ...]] = []

    def enter(self, name: str, place: Any, instance: Any = None) -> None:
        self.entries.setdefault((name, place), set()).add(instance)

    @exposed_method()
    def locate_service(self, name: str) -> list[Any]:
        return [place for known, place in self.entries if fnmatch.fnmatchcase(known, name)]


class FullRegistry(Registry):
    """Tells instances apart, and knows goodbye."""

    @exposed_method()
    def ping(self, name: str, url: str, instance: str = "", interval: float = 30) -> None:
        self.told.append(("ping", name, url, instance, interval))
        self.enter(name, url, instance)

    @exposed_method()
    def goodbye(self, name: str, url: str, instance: str = "") -> None:
        self.told.append(("goodbye", name, url, instance))
        instances = self.entries.get((name, url), set())
        instances.discard(instance)
        if not instances:
            self.entries.pop((name, url), None)


class UrlRegistry(Registry):
    """The document's: ``ping(name, url)`` and no goodbye."""

    @exposed_method()
    def ping(self, name: str, url: str) -> None:
        self.told.append(("ping", name, url))
        self.enter(name, url)


class HostRegistry(Registry):
    """The document's other form; with a default that would let a URL pass for a host."""

    @exposed_method()
    def ping(self, name: str, host: str, port: int = 80) -> None:
        self.told.append(("ping", name, host, port))
        self.enter(name, (host, port))


class OddRegistry(Registry):
    """One whose parameters have other names."""

    @exposed_method()
    def ping(self, service_name: str, service_url: str) -> None:
        self.told.append(("ping", service_name, service_url))
        self.enter(service_name, service_url)


def refusal(code: int, message: str = "no", **members: Any) -> Behaviour:
    error = json.dumps({"code": code, "message": message, **members})
    return body(f'{{"jsonrpc": "2.0", "error": {error}, "id": ID}}')


def params_sent(server: FaultyServer) -> list[Any]:
    return [request.json["params"] for request in server.requests]


def patient_http(url: str, **options: Any) -> HttpDiscoveryStrategy:
    """One whose time-outs do not strike on a machine that is busy."""
    return HttpDiscoveryStrategy(url, **{"timeout": LIMIT, "total_timeout": LIMIT, **options})


def patient_redis(url: str, **options: Any) -> RedisDiscoveryStrategy:
    """One whose time-outs do not strike on a machine that is busy."""
    return RedisDiscoveryStrategy(url, **{"timeout": LIMIT, "total_timeout": LIMIT, **options})
