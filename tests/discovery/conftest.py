"""Fixtures for the tests of discovery."""

import pytest

from gemstone_sync.discovery import locator
from gemstone_sync.discovery.locator import Locator
from tests.support.redis import private_redis, shared_redis


@pytest.fixture
def prefix():
    """A prefix of the test's own in the machine's Redis."""
    with shared_redis() as prefix:
        yield prefix


@pytest.fixture(scope="module")
def one_redis(tmp_path_factory):
    with private_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def locating():
    """``locating(strategy, …, time_to_live=…)``: a locator that is closed in the end."""
    made = []

    def make(*strategies, time_to_live=1000.0):
        made.append(Locator(strategies, time_to_live=time_to_live))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def eager(monkeypatch):
    """No time need pass between two questions."""
    monkeypatch.setattr(locator, "_LEAST_INTERVAL", 0.0)
