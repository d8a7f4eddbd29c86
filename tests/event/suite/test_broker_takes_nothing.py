"""A handler fails while its broker takes nothing: the event is held, and not handled again."""

import contextlib
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
import redis

from gemstone_sync import RabbitMqEventTransport, RedisEventTransport, SqliteEventTransport
from gemstone_sync.event.transport import BrokerEventTransport
from tests.support.rabbitmq import RabbitMq
from tests.support.redis import private_redis
from tests.support.sqlite import locked
from tests.support.waiting import wait_until, why_not_ready

from .services import Network, handler

#: A transport, and what has its broker take nothing.
Case = tuple[Callable[..., BrokerEventTransport], Callable[[], Any]]


@pytest.fixture
def rabbitmq(own_broker: RabbitMq) -> Case:
    @contextlib.contextmanager
    def alarm() -> Iterator[None]:
        own_broker.set_memory_alarm(True)
        try:
            yield
        finally:
            own_broker.set_memory_alarm(False)

    application = f"takes-nothing-{uuid.uuid4().hex[:8]}"
    return lambda: RabbitMqEventTransport.from_url(own_broker.url, application=application), alarm


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[Case]:
    @contextlib.contextmanager
    def full() -> Iterator[None]:
        client.config_set("maxmemory", "1mb")
        yield
        client.config_set("maxmemory", "0")

    with private_redis(tmp_path) as server, redis.Redis.from_url(server.url) as client:
        yield lambda: RedisEventTransport(server.url), full


@pytest.fixture
def sqlite(tmp_path: Path) -> Case:
    path = tmp_path / "events.db"
    return lambda: SqliteEventTransport(path), lambda: locked(path)


@pytest.mark.slow  # a RabbitMQ of its own, and a broker that takes nothing for seconds
@pytest.mark.parametrize("kind", ["rabbitmq", "redis_server", "sqlite"])
def test_what_fails_is_held_and_its_retries_and_order_are_kept(
    kind: str, request: pytest.FixtureRequest
):
    make, takes_nothing = request.getfixturevalue(kind)
    gate = gevent.event.Event()
    runs: list[str] = []

    def act(body: str) -> None:
        runs.append(body)
        gate.wait()
        if body != "behind":
            raise OSError("not today")

    options: dict[str, Any] = {"retries": 1, "backoff": 0.1}
    with contextlib.closing(Network(make)) as network:
        node = network.start("shop", handler("fails", act, **options))
        network.emit("fails", "one")
        for body in ("first", "behind"):
            network.emit("fails", body, key="k")
        wait_until(lambda: sorted(runs) == ["first", "one"], "the first runs")
        with takes_nothing():
            gate.set()
            wait_until(lambda: runs.count("first") == 2, "its last attempt, in its place")
            gevent.sleep(11)  # longer than a publisher waited once
            assert sorted(runs) == ["first", "first", "one"]
        letters = network.letters(2)
        assert [letter.attempts for letter in letters] == [2, 2]
        wait_until(lambda: "behind" in runs, "the one behind it")
        wait_until(lambda: why_not_ready(node) is None, "it is ready")
        assert sorted(runs) == ["behind", "first", "first", "one", "one"]


@pytest.mark.slow  # a RabbitMQ of its own, and several stops
def test_stops_during_an_alarm_take_their_time_and_are_no_crashes(
    rabbitmq: Case, caplog: pytest.LogCaptureFixture
):
    make, alarm = rabbitmq
    runs: list[str] = []

    def act(body: str) -> None:
        runs.append(body)
        raise OSError("not today")

    shop = handler("fails", act, backoff=60)
    with contextlib.closing(Network(make)) as network:
        network.start("shop", shop).stop()
        network.emit("fails", "one")
        with alarm():
            for count in range(1, 5):
                # Ready until the broker blocks what has become of the event, which is soon.
                node = network.start("shop", shop, ready=False)
                wait_until(lambda: len(runs) == count, "a run")  # noqa: B023
                with gevent.Timeout(8):
                    node.stop()
        assert "without an answer" not in caplog.text
