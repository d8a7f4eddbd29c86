"""The strategy for one process; what all strategies do is in test_contract.py."""

from gemstone_sync.discovery.directory import Directory
from gemstone_sync.discovery.memory import MemoryDiscoveryStrategy

from .support import A, B


def test_strategies_that_share_a_directory_find_each_other_until_a_ping_is_missing():
    now = 0.0
    directory = Directory(clock=lambda: now)
    users, orders = MemoryDiscoveryStrategy(directory), MemoryDiscoveryStrategy(directory)
    users.ping("users", A, interval=2)
    users.ping("users", B, interval=None)
    assert orders.locate("users") == [A, B]
    assert MemoryDiscoveryStrategy().locate("users") == []

    now = 6.1
    assert orders.locate("users") == [B]
