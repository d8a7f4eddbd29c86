"""The scripted broker of this folder's tests, and a clock that does not keep them waiting."""

import pytest

from gemstone_sync.event.runtime import connection_loop as owner

from .scripted_link import Broker


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Owners look for a broker that is away every few milliseconds."""
    monkeypatch.setattr(owner, "_LONGEST_PAUSE", 0.01)
