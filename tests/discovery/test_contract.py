"""What every discovery strategy does, whatever is behind it.

A case makes a strategy to which the services of a table are known: a static one is made of it,
the others are pinged.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping

import gevent
import pytest

from gemstone_sync.discovery.base import BaseDiscoveryStrategy
from gemstone_sync.discovery.http import HttpDiscoveryStrategy
from gemstone_sync.discovery.memory import MemoryDiscoveryStrategy
from gemstone_sync.discovery.redis_strategy import RedisDiscoveryStrategy
from gemstone_sync.discovery.static import StaticDiscoveryStrategy
from gemstone_sync.registry import ServiceRegistry
from gemstone_sync.testing import running_service
from tests.support.redis import REDIS_URL, shared_redis
from tests.support.waiting import LIMIT, gather

from .support import (
    FullRegistry,
    HostRegistry,
    OddRegistry,
    Registry,
    UrlRegistry,
)

Table = Mapping[str, list[str]]
Make = Callable[[Table], BaseDiscoveryStrategy]

REGISTRIES = {
    "http full": FullRegistry,
    "http url": UrlRegistry,
    "http host": HostRegistry,
    "http odd": OddRegistry,
}
#: They are told, and goodbye takes an instance out.
TOLD = ["memory", "http full", "http registry", "redis"]
CASES = ["static", *TOLD, "http url", "http host", "http odd"]

SERVICES = {
    "shop.users": ["http://10.0.0.1:8000/api"],
    "shop.orders.1": ["http://10.0.0.2:8000/api", "http://10.0.0.3:8000/api"],
    "shop.orders.2": ["http://10.0.0.4:8000/api"],
    "Shop.users": ["http://10.0.0.5:8000/api"],
}


@contextlib.contextmanager
def strategy_of(kind: str) -> Iterator[BaseDiscoveryStrategy]:
    with contextlib.ExitStack() as stack:
        strategy: BaseDiscoveryStrategy
        if kind == "memory":
            strategy = MemoryDiscoveryStrategy()
        elif kind == "redis":
            prefix = stack.enter_context(shared_redis())
            strategy = RedisDiscoveryStrategy(REDIS_URL, prefix=prefix)
        else:
            service = stack.enter_context(running_service(registry_of(kind)))
            strategy = HttpDiscoveryStrategy(service.url, total_timeout=LIMIT)
        stack.callback(strategy.close)
        yield strategy


def registry_of(kind: str) -> type[Registry]:
    return ServiceRegistry if kind == "http registry" else REGISTRIES[kind]


@pytest.fixture(params=CASES)
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    if request.param == "static":
        yield StaticDiscoveryStrategy
        return
    with strategy_of(request.param) as strategy:

        def told(table: Table) -> BaseDiscoveryStrategy:
            for name, urls in table.items():
                for url in urls:
                    strategy.ping(name, url, instance=f"{name}@{url}", interval=30)
            return strategy

        yield told


@pytest.fixture(params=TOLD)
def told(request: pytest.FixtureRequest) -> Iterator[BaseDiscoveryStrategy]:
    with strategy_of(request.param) as strategy:
        yield strategy


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ("shop.users", ["shop.users"]),
        ("shop.orders.1", ["shop.orders.1"]),
        ("shop.orders", []),
        ("users", []),
        ("shop", []),
        ("SHOP.USERS", []),
        ("shop.users*", ["shop.users"]),
        ("shop.*", ["shop.users", "shop.orders.1", "shop.orders.2"]),
        ("shop.orders.*", ["shop.orders.1", "shop.orders.2"]),
        ("shop.orders.?", ["shop.orders.1", "shop.orders.2"]),
        ("shop.orders.??", []),
        ("shop.orders.[12]", ["shop.orders.1", "shop.orders.2"]),
        ("shop.orders.[0-1]", ["shop.orders.1"]),
        ("shop.orders.[!1]", ["shop.orders.2"]),
        ("shop.orders.[^1]", ["shop.orders.1"]),  # to fnmatch a ^ is a character like others
        ("[sS]hop.users", ["shop.users", "Shop.users"]),
        ("shop.orders.[1", []),
        (r"shop.\*", []),
        ("*", list(SERVICES)),
    ],
)
def test_a_name_or_a_pattern(make: Make, asked: str, names: list[str]) -> None:
    strategy = make(SERVICES)

    found = strategy.locate(asked)

    assert sorted(found) == sorted(url for name in names for url in SERVICES[name])
    assert strategy.locate(asked) == found, "the order changes"


def test_a_strategy_that_knows_nobody(make: Make) -> None:
    strategy = make({})

    assert strategy.locate("shop.users") == []
    assert strategy.locate("*") == []


def test_a_url_under_two_names_is_given_once(make: Make) -> None:
    url = "http://10.0.0.1:8000/api"
    strategy = make({"a.1": [url], "a.2": [url, "http://10.0.0.2:8000/api"]})

    assert sorted(strategy.locate("a.*")) == [url, "http://10.0.0.2:8000/api"]


def test_what_is_given_is_the_callers_own(make: Make) -> None:
    strategy = make(SERVICES)

    strategy.locate("shop.users").clear()

    assert strategy.locate("shop.users") == SERVICES["shop.users"]


def test_many_greenlets_share_it(make: Make) -> None:
    strategy = make(SERVICES)

    def ask(name: str) -> None:
        for _ in range(5):
            assert sorted(strategy.locate(name)) == SERVICES[name]

    gather([lambda name=name: ask(name) for name in list(SERVICES) * 10])


def test_greenlets_and_threads_share_it(make: Make) -> None:
    strategy = make(SERVICES)
    # Real threads: each has an event loop of its own.
    threads = gevent.get_hub().threadpool

    def ask() -> int:
        return len(strategy.locate("shop.orders.?"))

    for _ in range(5):
        jobs = [threads.spawn(ask) for _ in range(10)]
        assert gather([ask] * 10) == [3] * 10
        assert [job.get(timeout=LIMIT) for job in jobs] == [3] * 10


def test_it_may_be_used_again_after_close(make: Make) -> None:
    strategy = make(SERVICES)

    strategy.close()
    strategy.close()

    assert strategy.locate("shop.users") == SERVICES["shop.users"]


def test_the_plain_form_of_ping_is_enough(told: BaseDiscoveryStrategy) -> None:
    told.ping("plain", "http://10.0.0.1:8000/api")
    assert told.locate("plain") == ["http://10.0.0.1:8000/api"]

    told.goodbye("plain", "http://10.0.0.1:8000/api")
    assert told.locate("plain") == []


def test_goodbye_takes_one_instance_out(told: BaseDiscoveryStrategy) -> None:
    one, two = "http://10.0.0.1:8000/api", "http://10.0.0.2:8000/api"
    told.ping("users", one, instance="1", interval=30)
    told.ping("users", two, instance="2", interval=30)

    told.goodbye("users", one, instance="1")

    assert told.locate("users") == [two]
    assert told.locate("user?") == [two]


def test_instances_that_share_a_url_share_its_entry(told: BaseDiscoveryStrategy) -> None:
    url = "http://balancer:8000/api"
    told.ping("users", url, instance="1", interval=30)
    told.ping("users", url, instance="2", interval=30)
    assert told.locate("users") == [url]

    told.goodbye("users", url, instance="1")
    assert told.locate("users") == [url]

    told.goodbye("users", url, instance="2")
    assert told.locate("users") == []


def test_goodbye_of_one_that_is_not_known(told: BaseDiscoveryStrategy) -> None:
    told.goodbye("nobody", "http://10.0.0.1:8000/api", instance="1")

    assert told.locate("*") == []


def test_many_tell_at_once(told: BaseDiscoveryStrategy) -> None:
    def live(number: int) -> None:
        url = f"http://10.0.0.{number}:8000/api"
        told.ping(f"crowd.{number % 5}", url, instance=str(number), interval=30)
        assert url in told.locate(f"crowd.{number % 5}")
        if number % 2:
            told.goodbye(f"crowd.{number % 5}", url, instance=str(number))

    gather([lambda number=number: live(number) for number in range(40)])

    expected = sorted(f"http://10.0.0.{number}:8000/api" for number in range(0, 40, 2))
    assert sorted(told.locate("crowd.*")) == expected
