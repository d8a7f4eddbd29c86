"""Fixtures for the tests of discovery."""

from collections.abc import Iterator

import pytest

from .support import shared_redis


@pytest.fixture
def prefix() -> Iterator[str]:
    """A prefix of the test's own in the machine's Redis."""
    with shared_redis() as prefix:
        yield prefix
