"""Services over a RabbitMQ, the machine's or one of the tests' own."""

import contextlib
import uuid
from collections.abc import Iterator

import pytest

from gemstone_sync.event.transport import RabbitMqEventTransport
from tests.event.suite.services import Network
from tests.support.rabbitmq import RabbitMq


@pytest.fixture
def application() -> str:
    return f"t{uuid.uuid4().hex}"


@pytest.fixture
def broker(own_broker: RabbitMq) -> RabbitMq:
    """A RabbitMQ that may be stopped; a module that does it no harm takes the machine's instead."""
    return own_broker


@pytest.fixture
def network(broker: RabbitMq, application: str) -> Iterator[Network]:
    """Services in this process, each with a transport of its own over `broker`."""

    def make_transport(**options: object) -> RabbitMqEventTransport:
        return RabbitMqEventTransport.from_url(
            broker.url, application=application, shards=1, **options
        )

    with contextlib.closing(Network(make_transport)) as network:
        yield network
