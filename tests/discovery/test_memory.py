"""The strategy for one process keeps the contract of all strategies."""

from gemstone_sync.discovery.base import BaseDiscoveryStrategy
from gemstone_sync.discovery.directory import Directory
from gemstone_sync.discovery.memory import MemoryDiscoveryStrategy

A, B = "http://a:1/api", "http://b:2/api"


def test_ping_locate_goodbye():
    strategy = MemoryDiscoveryStrategy()
    strategy.ping("users", A, instance="one", interval=5.0)
    strategy.ping("users", B)
    assert strategy.locate("users") == strategy.locate("us*") == [A, B]

    strategy.goodbye("users", A, instance="one")
    strategy.ping("users", A, instance="one", interval=5.0)
    assert strategy.locate("users") == [B]

    strategy.goodbye("users", B)
    assert strategy.locate("*") == []
    strategy.close()


def test_it_is_a_strategy():
    assert isinstance(MemoryDiscoveryStrategy(), BaseDiscoveryStrategy)


def test_strategies_that_share_a_directory_find_each_other():
    directory = Directory()
    users, orders = MemoryDiscoveryStrategy(directory), MemoryDiscoveryStrategy(directory)
    users.ping("users", A)

    assert orders.locate("users") == [A]
    assert MemoryDiscoveryStrategy().locate("users") == []


def test_an_interval_decides_when_an_entry_goes():
    now = 0.0
    strategy = MemoryDiscoveryStrategy(Directory(clock=lambda: now))
    strategy.ping("users", A, interval=2)
    strategy.ping("users", B, interval=None)
    now = 6.1

    assert strategy.locate("users") == [B]
