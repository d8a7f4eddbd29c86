"""An outbox, and a `send` that records."""

import pytest

from gemstone_sync.event.outbox import Outbox

from .support import Broker


@pytest.fixture
def broker():
    return Broker()


@pytest.fixture
def outbox(tmp_path):
    return Outbox(str(tmp_path / "events.db"))
