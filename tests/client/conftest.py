"""Fixtures for what a client does on the network."""

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(params=[False, True], ids=["plain", "TLS"])
def tls(request: pytest.FixtureRequest) -> bool:
    """The test runs once without TLS and once with it."""
    return request.param


@pytest.fixture
def no_sockets_left() -> Iterator[None]:
    """Warnings are errors: what a test leaves open fails it, once it is collected."""
    yield
    gc.collect()
