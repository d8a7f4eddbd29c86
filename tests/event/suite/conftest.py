"""The transports that the one suite runs over, each with a broker of its kind."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gemstone_sync.event.transport import (
    BrokerEventTransport,
    MemoryEventTransport,
    RabbitMqEventTransport,
    RedisEventTransport,
    SqliteEventTransport,
)
from gemstone_sync.event.transport.base import Reception
from tests.support.rabbitmq import shared_rabbitmq
from tests.support.redis import REDIS_URL, shared_redis

from .services import Network

Make = Callable[..., BrokerEventTransport]


class SharedApplication(RabbitMqEventTransport):
    """One that remembers its services' queues, to be removed when they are not needed any more.

    The application stays: what belongs to no service, quorum queues too, is slow to declare.
    """

    queues: set[str]

    def receive(self, *arguments: Any, **options: Any) -> Reception:
        reception = super().receive(*arguments, **options)
        self.queues.update(queue.name for queue in reception.queues)
        return reception


@pytest.fixture(scope="session")
def rabbitmq_application() -> Iterator[tuple[str, str]]:
    """A URL, and an application of one's own."""
    with shared_rabbitmq() as broker:
        yield broker.url, broker.new_application()


@pytest.fixture(params=["rabbitmq", "redis", "sqlite", "memory"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def make_transport(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Make]:
    """Makes transports of one kind which reach each other only, as processes would have them.

    In memory there is one object, since only services that share it meet.
    """
    if kind == "rabbitmq":
        url, application = request.getfixturevalue("rabbitmq_application")
        queues: set[str] = set()

        def make(**options: Any) -> BrokerEventTransport:
            transport = SharedApplication.from_url(
                url, application=application, shards=2, **options
            )
            transport.queues = queues
            return transport

        yield make
        with (transport := make()).link() as link:
            for queue in queues:
                link.remove(queue)
            link.purge(transport.topology.dead)
    elif kind == "redis":
        with shared_redis() as prefix:
            application = prefix.rstrip(":")
            yield lambda **options: RedisEventTransport(
                REDIS_URL, application=application, **options
            )
    elif kind == "sqlite":
        yield lambda **options: SqliteEventTransport(tmp_path / "events.db", **options)
    else:
        memory = MemoryEventTransport(pool_size=10)
        yield lambda **options: memory


@pytest.fixture
def network(make_transport: Make) -> Iterator[Network]:
    """Services that run in this process, each with a transport of its own."""
    with contextlib.closing(Network(make_transport)) as network:
        yield network
