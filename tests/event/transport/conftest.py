"""Links of each kind over the machine's brokers; what breaks one takes `own_broker`."""

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import pytest

from gemstone_sync.event.topology import Topology
from gemstone_sync.event.transport.rabbitmq.link import AmqpLink
from gemstone_sync.event.transport.stores.link import StoreLink
from tests.event.transport.stores.support import STORES
from tests.support.waiting import LIMIT

from .support import Owner, amqp, opened, queues_of

Connect = Callable[..., Owner]


@pytest.fixture(params=["rabbitmq", *STORES])
def kind(request):
    return str(request.param)


@pytest.fixture
def connect(kind, request, tmp_path):
    """``connect("paid", lease=1)``: one more link of a service that handles "paid"."""
    with contextlib.ExitStack() as stack:
        make_link: Callable[..., Any]
        if kind == "rabbitmq":
            broker = request.getfixturevalue("shared_broker")
            topology = Topology(broker.new_application())
            make_link = functools.partial(AmqpLink, broker.url, connect_timeout=LIMIT)
        else:
            topology = Topology("test")
            make_store = stack.enter_context(STORES[kind](tmp_path))
            make_link = lambda **options: StoreLink(make_store(), **options)  # noqa: E731

        def connect(*patterns: str, **options: Any) -> Owner:
            queues = queues_of(topology, *patterns)
            return stack.enter_context(opened(make_link(**options), topology, queues))

        yield connect


@pytest.fixture
def topology(shared_broker):
    return Topology(shared_broker.new_application())


@pytest.fixture
def shop(shared_broker, topology):
    """A link to RabbitMQ of a service that handles "paid"."""
    with amqp(shared_broker.url, topology, queues_of(topology, "paid")) as shop:
        yield shop
