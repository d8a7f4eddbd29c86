"""What every discovery strategy does, whatever is behind it: those of a table, and those told."""

import contextlib

import gevent
import pytest

from gemstone_sync.discovery.base import BaseDiscoveryStrategy
from gemstone_sync.discovery.memory import MemoryDiscoveryStrategy
from gemstone_sync.discovery.static import StaticDiscoveryStrategy
from gemstone_sync.registry import ServiceRegistry
from gemstone_sync.testing import running_service
from tests.support.redis import REDIS_URL, shared_redis
from tests.support.waiting import LIMIT, gather

from .support import (
    A,
    B,
    FullRegistry,
    HostRegistry,
    OddRegistry,
    UrlRegistry,
    patient_http,
    patient_redis,
)

REGISTRIES = {
    "http full": FullRegistry,
    "http registry": ServiceRegistry,
    "http url": UrlRegistry,
    "http host": HostRegistry,
    "http odd": OddRegistry,
}
#: They are told, and goodbye takes an instance out.
TOLD = ["memory", "http full", "http registry", "redis"]

SERVICES = {
    "shop.users": ["http://10.0.0.1:8000/api"],
    "shop.orders.1": ["http://10.0.0.2:8000/api", "http://10.0.0.3:8000/api"],
    "shop.orders.2": ["http://10.0.0.4:8000/api"],
    "Shop.users": ["http://10.0.0.5:8000/api"],
    "twice.1": ["http://10.0.0.6:8000/api"],
    "twice.2": ["http://10.0.0.6:8000/api", "http://10.0.0.7:8000/api"],
}


@contextlib.contextmanager
def strategy_of(kind):
    with contextlib.ExitStack() as stack:
        if kind == "memory":
            strategy = MemoryDiscoveryStrategy()
        elif kind == "redis":
            prefix = stack.enter_context(shared_redis())
            strategy = patient_redis(REDIS_URL, prefix=prefix)
        else:
            service = stack.enter_context(running_service(REGISTRIES[kind]))
            strategy = patient_http(service.url)
        stack.callback(strategy.close)
        yield strategy


@pytest.fixture(scope="module", params=["static", *TOLD, "http url", "http host", "http odd"])
def strategy(request):
    """One that knows `SERVICES`."""
    if request.param == "static":
        yield StaticDiscoveryStrategy(SERVICES)
        return
    with strategy_of(request.param) as strategy:
        for name, urls in SERVICES.items():
            for url in urls:
                strategy.ping(name, url, instance=f"{name}@{url}", interval=3600)
        yield strategy


@pytest.fixture(params=TOLD)
def told(request):
    """One that knows nobody."""
    with strategy_of(request.param) as strategy:
        yield strategy


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ("shop.users", ["shop.users"]),
        ("shop.orders.1", ["shop.orders.1"]),
        ("shop.orders", []),
        ("users", []),
        ("SHOP.USERS", []),
        ("shop.users*", ["shop.users"]),
        ("shop.*", ["shop.users", "shop.orders.1", "shop.orders.2"]),
        ("shop.orders.?", ["shop.orders.1", "shop.orders.2"]),
        ("shop.orders.??", []),
        ("shop.orders.[12]", ["shop.orders.1", "shop.orders.2"]),
        ("shop.orders.[0-1]", ["shop.orders.1"]),
        ("shop.orders.[!1]", ["shop.orders.2"]),
        ("shop.orders.[^1]", ["shop.orders.1"]),  # to fnmatch a ^ is a character like others
        ("[sS]hop.users", ["shop.users", "Shop.users"]),
        ("shop.orders.[1", []),
        (r"shop.\*", []),
        ("twice.*", ["twice.2"]),  # a URL under two names is given once
        ("*", [name for name in SERVICES if name != "twice.1"]),
    ],
)
def test_a_name_or_a_pattern(strategy, asked, names):
    found = strategy.locate(asked)

    assert sorted(found) == sorted(url for name in names for url in SERVICES[name])
    assert strategy.locate(asked) == found, "the order changes"


def test_what_is_given_is_the_callers_own(strategy):
    strategy.locate("shop.users").clear()

    assert strategy.locate("shop.users") == SERVICES["shop.users"]


def test_greenlets_and_threads_share_it(strategy):
    # Real threads: each has an event loop of its own.
    threads = gevent.get_hub().threadpool

    def ask():
        assert strategy.locate("Shop.users") == SERVICES["Shop.users"]
        return len(strategy.locate("shop.orders.?"))

    for _ in range(5):
        jobs = [threads.spawn(ask) for _ in range(10)]
        assert gather([ask] * 20) == [3] * 20
        assert [job.get(timeout=LIMIT) for job in jobs] == [3] * 10


def test_it_may_be_used_again_after_close(strategy):
    assert isinstance(strategy, BaseDiscoveryStrategy)
    strategy.close()
    strategy.close()

    assert strategy.locate("shop.users") == SERVICES["shop.users"]


def test_the_plain_form_of_ping_is_enough(told):
    assert told.locate("plain") == told.locate("*") == []
    told.ping("plain", A)
    assert told.locate("plain") == [A]

    told.goodbye("plain", A)
    assert told.locate("plain") == []


def test_goodbye_takes_one_instance_out(told):
    told.ping("users", A, instance="1", interval=30)
    told.ping("users", B, instance="2", interval=30)

    told.goodbye("users", A, instance="1")
    told.goodbye("nobody", B, instance="2")

    assert told.locate("users") == [B]
    assert told.locate("user?") == [B]


def test_instances_that_share_a_url_share_its_entry(told):
    told.ping("users", A, instance="1", interval=30)
    told.ping("users", A, instance="2", interval=30)
    assert told.locate("users") == [A]

    told.goodbye("users", A, instance="1")
    assert told.locate("users") == [A]

    told.goodbye("users", A, instance="2")
    assert told.locate("users") == []


def test_many_tell_at_once(told):
    def live(number):
        url = f"http://10.0.0.{number}:8000/api"
        told.ping(f"crowd.{number % 5}", url, instance=str(number), interval=30)
        assert url in told.locate(f"crowd.{number % 5}")
        if number % 2:
            told.goodbye(f"crowd.{number % 5}", url, instance=str(number))

    gather([lambda number=number: live(number) for number in range(40)])

    expected = sorted(f"http://10.0.0.{number}:8000/api" for number in range(0, 40, 2))
    assert sorted(told.locate("crowd.*")) == expected
