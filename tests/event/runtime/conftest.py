"""Consumers over the scripted broker, stopped after the test."""

from collections.abc import Iterator
from typing import Any

import pytest

from gemstone_sync.event.places import Places
from gemstone_sync.event.runtime import consumer_loop
from gemstone_sync.event.runtime.consumer import Consumer
from gemstone_sync.event.topology import Queue
from tests.event.scripted_link import Broker
from tests.support.waiting import wait_until

from .consuming import TOPOLOGY, Handling, Make, events, queue


@pytest.fixture
def handling() -> Handling:
    return Handling()


@pytest.fixture
def make(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    monkeypatch.setattr(consumer_loop, "_PAUSE", 0.05)
    made: list[Consumer] = []

    def make(handle: Any, *queues: Queue, pool_size: int = 100, **options: Any) -> Consumer:
        options.setdefault("pool", Places(pool_size))
        consumer = Consumer(
            broker.link, TOPOLOGY, queues or [queue()], handle, name="test", **options
        )
        made.append(consumer)
        consumer.start()
        return consumer

    yield make
    for consumer in made:
        consumer.stop(0)
    assert not broker.links


@pytest.fixture
def busy(broker: Broker, make: Make, handling: Handling) -> Make:
    """``busy(3, "k")``: a consumer that was given so many events, and handles what it may."""

    def start(count: int, key: str | None = None) -> Consumer:
        broker.put("q", *events(count, key))
        consumer = make(handling, queue(keyed=key is not None))
        running = 1 if key is not None else count
        wait_until(lambda: handling.running == running, "the handlers")
        wait_until(lambda: consumer.in_flight == count, "the deliveries")
        return consumer

    return start
