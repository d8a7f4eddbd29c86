"""Fixtures for what a client does on the network."""

import gc
from collections.abc import Iterator
from typing import Any

import pytest

from gemstone_sync import RemoteService
from gemstone_sync.testing import running_service

from .faults import client_of


@pytest.fixture(params=[False, True], ids=["plain", "TLS"])
def tls(request: pytest.FixtureRequest) -> bool:
    """The test runs once without TLS and once with it."""
    return request.param


@pytest.fixture
def no_sockets_left() -> Iterator[None]:
    """Warnings are errors: what a test leaves open fails it, once it is collected."""
    yield
    gc.collect()


@pytest.fixture
def service(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The module's `SERVICE`, running. Calls that wait for its event `go_on` end with the test."""
    with running_service(request.module.SERVICE) as running:
        yield running
        running.go_on.set()  # type: ignore[attr-defined]


@pytest.fixture
def client(service: Any) -> Iterator[RemoteService]:
    with client_of(service) as remote:
        yield remote
