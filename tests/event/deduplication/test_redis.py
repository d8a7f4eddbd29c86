"""RedisProcessedEvents: a Redis that is away, slow, full or guarded."""

import time
from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest

from gemstone_sync.event.deduplication import Claim, ProcessedEventsFault, RedisProcessedEvents
from tests.support.faulty_server import FaultyServer, close, hang, raw
from tests.support.machine import free_port
from tests.support.redis import RedisServer, private_redis
from tests.support.waiting import LIMIT, gather


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with private_redis(tmp_path, "--requirepass", "hunter2") as server:
        server.url = server.url.replace("//", "//:hunter2@")
        yield server


@pytest.fixture
def store(server: RedisServer) -> Iterator[RedisProcessedEvents]:
    store = RedisProcessedEvents(server.url, timeout=LIMIT)
    yield store
    store.close()


def ask_all(url: str, says: str = "127.0.0.1", **options: float) -> None:
    """Each function fails in the same way."""
    store = RedisProcessedEvents(url, **options)
    for ask in (
        lambda: store.claim("e", "a", 60),
        lambda: store.renew("e", "a", 60),
        lambda: store.done("e", "a"),
        lambda: store.release("e", "a"),
    ):
        began = time.monotonic()
        with pytest.raises(ProcessedEventsFault, match=says) as caught:
            ask()
        assert "hunter2" not in str(caught.value)
        assert time.monotonic() - began < LIMIT
    store.close()


def test_a_redis_that_is_down_is_told_without_the_password() -> None:
    ask_all(f"redis://:hunter2@127.0.0.1:{free_port()}/3")


def test_a_wrong_password_is_refused_and_never_shown(server: RedisServer) -> None:
    ask_all(server.url.replace("hunter2", "hunter2x"))
    ask_all(server.url.replace(":hunter2@", ""))


def test_a_restart_costs_no_call(server: RedisServer, store: RedisProcessedEvents) -> None:
    gather([lambda n=n: store.claim(str(n), "a", 60) for n in range(10)])
    server.kill()
    server.start()

    assert store.claim("e", "a", 60) is Claim.OURS


def test_a_frozen_redis_holds_up_nobody_else(
    server: RedisServer, store: RedisProcessedEvents
) -> None:
    hasty = RedisProcessedEvents(server.url, timeout=0.5)
    store.claim("e", "a", 60)
    with server.frozen():
        claims = [gevent.spawn(store.claim, str(n), "a", 60) for n in range(50)]
        with pytest.raises(ProcessedEventsFault):
            hasty.claim("e", "b", 60)
        # A hub that is held up turns when the longer time-out is over.
        assert not any(claim.ready() for claim in claims)

    assert [claim.get(timeout=LIMIT) for claim in claims] == [Claim.OURS] * 50
    assert hasty.claim("e", "b", 60) is Claim.BUSY
    hasty.close()


def test_a_full_redis_is_said(tmp_path: Path) -> None:
    options = ["--maxmemory", "1", "--maxmemory-policy", "noeviction"]
    with private_redis(tmp_path, *options) as server:
        store = RedisProcessedEvents(server.url)
        for ask in (lambda: store.claim("e", "a", 60), lambda: store.done("e", "a")):
            with pytest.raises(ProcessedEventsFault, match="memory"):
                ask()
        store.close()


@pytest.mark.parametrize(
    "greeting",
    [
        pytest.param(hang, id="silent"),
        pytest.param(close, id="closing"),
        pytest.param(raw("HTTP/1.1 400 Bad Request\r\n\r\n", close), id="HTTP"),
        pytest.param(raw("+PONG\r\n" * 9, hang), id="always one answer"),
        pytest.param(raw("*1000000000\r\n", hang), id="endless"),
    ],
)
def test_what_is_no_redis_is_told_in_time(greeting: object) -> None:
    with FaultyServer(greeting=greeting) as server:
        ask_all(f"redis://:hunter2@127.0.0.1:{server.port}", timeout=0.1)
