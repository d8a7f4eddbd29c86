"""The strategy for one process; what all strategies do is in test_contract.py."""

from gemstone_sync.discovery.directory import Directory
from gemstone_sync.discovery.memory import MemoryDiscoveryStrategy

from .support import A, B


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
