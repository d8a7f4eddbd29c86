"""What the tests of discovery stand on: registries and strategies that are told and asked."""

import contextlib
import fnmatch
import json
from typing import Any

from gevent.event import Event

from gemstone_sync import MicroService, exposed_method
from gemstone_sync.concurrency import current_call
from gemstone_sync.discovery.http import HttpDiscoveryStrategy
from gemstone_sync.discovery.redis_strategy import RedisDiscoveryStrategy
from gemstone_sync.testing import running_service
from tests.support.faulty_server import Behaviour, FaultyServer, body
from tests.support.waiting import LIMIT

LOGGER = "gemstone_sync.discovery"
A, B = "http://10.0.0.1:8000/api", "http://10.0.0.2:8000/api"


class Registry(MicroService):
    """A registry that records how it was told.

    :ivar entries: (name, place) -> the instances there; a place is what `locate_service` gives.
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
    return RedisDiscoveryStrategy(url, **{"timeout": LIMIT, "total_timeout": LIMIT, **options})


@contextlib.contextmanager
def asking(*script, **options):
    """A registry that answers like that, and a strategy that asks it."""
    with FaultyServer(*script) as server:
        strategy = patient_http(server.url, **options)
        yield server, strategy
        strategy.close()


@contextlib.contextmanager
def telling(registry, **options):
    """A registry of that kind, and a strategy that tells it."""
    with running_service(registry) as service:
        strategy = patient_http(service.url, **options)
        yield service, strategy
        strategy.close()


class Strategy:
    """Records what it is asked and told, and answers as a test tells it to.

    :ivar found: URLs, or an exception: what it answers with.
    :ivar fault: raised by pings from now on; `farewell_fault` by goodbyes.
    :ivar asked: the names that it was asked for.
    :ivar told: ``ping`` and ``goodbye``, when they end; `given`, with what, when they begin.
    :ivar calls: the calls in which it was asked or pinged.
    :ivar may_answer: cleared, it hangs.
    :ivar delayed: questions that came while it hung.
    """

    def __init__(self, found=(), fault=None):
        self.found, self.fault, self.farewell_fault = found, fault, None
        self.asked, self.calls, self.told, self.given = [], [], [], []
        self.begun = self.closed = self.delayed = 0
        self.may_answer = Event()
        self.may_answer.set()

    def locate(self, name: str) -> Any:
        self.asked.append(name)
        self.calls.append(current_call.get())
        self.delayed += not self.may_answer.is_set()
        assert self.may_answer.wait(LIMIT), "a test did not set its event"
        if isinstance(self.found, BaseException):
            raise self.found
        return self.found

    def ping(self, name: str, location: str, **kwargs: Any) -> None:
        self.begun += 1
        self.calls.append(current_call.get())
        self.given.append((name, location, kwargs))
        assert self.may_answer.wait(LIMIT), "a test did not set its event"
        if self.fault is not None:
            raise self.fault
        self.told.append("ping")

    def goodbye(self, name: str, location: str, **kwargs: Any) -> None:
        self.given.append((name, location, kwargs))
        if self.farewell_fault is not None:
            raise self.farewell_fault
        self.told.append("goodbye")

    def close(self) -> None:
        self.closed += 1

    def __str__(self) -> str:
        return "the strategy"


class OtherStrategy(Strategy):
    """Of another class: asked after or before, never beside."""

    def __str__(self) -> str:
        return "the other one"


class Stuck(Strategy):
    def close(self) -> None:
        raise OSError("it is stuck")


#: MADE is a call that makes a strategy, up to its time-outs.
THREADED = """
import sys, threading

from gevent import monkey
from gemstone_sync.discovery import http, redis_strategy

strategy = MADE, timeout=20, total_timeout=20)
failures = []


def live(number):
    try:
        url = f"http://10.0.0.{number}:8000/api"
        instance = f"{number}-{monkey.is_module_patched('socket')}"
        strategy.ping(f"plain.{number}", url, instance=instance, interval=30)
        assert strategy.locate(f"plain.{number}") == [url]
        if number % 2:
            strategy.goodbye(f"plain.{number}", url, instance=instance)
    except BaseException as error:
        failures.append(error)


def ten_at_once():
    threads = [threading.Thread(target=live, args=[number]) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures
    print(len(strategy.locate("plain.*")))


ten_at_once()
assert not monkey.is_module_patched("socket")
from gemstone_sync import MicroService  # patches

assert monkey.is_module_patched("socket")
ten_at_once()
strategy.close()
"""
