"""Fixtures of the tests of events."""

import pytest

from .transports import Line


@pytest.fixture
def line() -> Line:
    return Line()
