"""The transports that the one suite runs over, each with a broker of its kind.

``make_transport()`` gives a new transport object on the same broker and application each time: as
another process would have. In memory there is one object, since only services that share it meet.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest

from gemstone_sync.event.transport import (
    BrokerEventTransport,
    MemoryEventTransport,
    RabbitMqEventTransport,
    RedisEventTransport,
    SqliteEventTransport,
)
from tests.support.rabbitmq import SharedRabbitMq, shared_rabbitmq
from tests.support.redis import REDIS_URL, shared_redis

from .services import Network

TRANSPORTS = ("rabbitmq", "redis", "sqlite", "memory")


@pytest.fixture(scope="session")
def machines_rabbitmq() -> Iterator[SharedRabbitMq]:
    with shared_rabbitmq() as broker:
        yield broker


@pytest.fixture(params=TRANSPORTS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def make_transport(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Callable[..., BrokerEventTransport]]:
    """A function that makes transports of one kind which reach each other and nobody else."""
    if kind == "rabbitmq":
        broker = request.getfixturevalue("machines_rabbitmq")
        common = {"application": broker.new_application(), "shards": 2}
        yield lambda **options: RabbitMqEventTransport.from_url(broker.url, **{**common, **options})
    elif kind == "redis":
        with shared_redis() as prefix:
            application = prefix.rstrip(":")
            yield lambda **options: RedisEventTransport(
                REDIS_URL, application=application, **options
            )
    elif kind == "sqlite":
        yield lambda **options: SqliteEventTransport(tmp_path / "events.db", **options)
    else:
        made: list[MemoryEventTransport] = []

        def make(**options: Any) -> MemoryEventTransport:
            if not made:
                made.append(MemoryEventTransport(**options))
            return made[0]

        yield make


@pytest.fixture
def network(make_transport: Callable[..., BrokerEventTransport]) -> Iterator[Network]:
    """Services that run in this process, each with a transport of its own."""
    network = Network(make_transport)
    try:
        yield network
    finally:
        with gevent.Timeout(30):
            network.stop()
