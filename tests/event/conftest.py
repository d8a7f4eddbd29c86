"""The scripted broker of this folder's tests, and a clock that does not keep them waiting."""

import pytest

from gemstone_sync.event.runtime import connection_loop

from .scripted_link import Broker


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a broker that is away looked for every few milliseconds."""
    monkeypatch.setattr(connection_loop, "_LONGEST_PAUSE", 0.01)
