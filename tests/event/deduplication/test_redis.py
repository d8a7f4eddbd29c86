"""RedisProcessedEvents: a Redis that is away, slow, full or guarded."""

import time
from pathlib import Path

import gevent
import pytest

from gemstone_sync.event.deduplication import Claim, ProcessedEventsFault, RedisProcessedEvents
from tests.support.faulty_server import FaultyServer, close, hang, raw
from tests.support.machine import free_port
from tests.support.redis import private_redis
from tests.support.waiting import LIMIT, gather


def ask_all(store: RedisProcessedEvents) -> None:
    """Each function fails in the same way."""
    for ask in (
        lambda: store.claim("e", "a", 60),
        lambda: store.renew("e", "a", 60),
        lambda: store.done("e", "a"),
        lambda: store.release("e", "a"),
    ):
        with pytest.raises(ProcessedEventsFault) as caught:
            ask()
        assert "hunter2" not in str(caught.value)
        assert "127.0.0.1" in str(caught.value)


def test_a_redis_that_is_down() -> None:
    ask_all(RedisProcessedEvents(f"redis://:hunter2@127.0.0.1:{free_port()}/3"))


def test_a_wrong_password(tmp_path: Path) -> None:
    with private_redis(tmp_path, "--requirepass", "hunter2") as server:
        store = RedisProcessedEvents(server.url.replace("//", "//:hunter2@"))
        assert store.claim("e", "a", 60) is Claim.OURS
        store.close()

        ask_all(RedisProcessedEvents(server.url.replace("//", "//:hunter2x@")))
        ask_all(RedisProcessedEvents(server.url))


def test_a_restart_costs_no_call(tmp_path: Path) -> None:
    with private_redis(tmp_path) as server:
        store = RedisProcessedEvents(server.url)
        gather([lambda n=n: store.claim(str(n), "a", 60) for n in range(10)])
        server.kill()
        server.start()

        assert store.claim("e", "a", 60) is Claim.OURS
        store.close()


def test_a_frozen_redis_holds_up_nobody_else(tmp_path: Path) -> None:
    with private_redis(tmp_path) as server:
        store = RedisProcessedEvents(server.url, timeout=LIMIT)
        hasty = RedisProcessedEvents(server.url, timeout=0.5)
        store.claim("e", "a", 60)
        with server.frozen():
            claims = [gevent.spawn(store.claim, str(n), "a", 60) for n in range(50)]
            for _ in range(100):
                gevent.sleep(0.001)
            # A hub that is held up turns when the time-out is over.
            assert not any(claim.ready() for claim in claims)
            with pytest.raises(ProcessedEventsFault):
                hasty.claim("e", "b", 60)

        assert [claim.get(timeout=LIMIT) for claim in claims] == [Claim.OURS] * 50
        assert hasty.claim("e", "b", 60) is Claim.BUSY
        store.close()
        hasty.close()


def test_a_full_redis(tmp_path: Path) -> None:
    options = ["--maxmemory", "1", "--maxmemory-policy", "noeviction"]
    with private_redis(tmp_path, *options) as server:
        store = RedisProcessedEvents(server.url)
        with pytest.raises(ProcessedEventsFault, match="memory"):
            store.claim("e", "a", 60)
        with pytest.raises(ProcessedEventsFault, match="memory"):
            store.done("e", "a")
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
def test_what_is_no_redis(greeting: object) -> None:
    with FaultyServer(greeting=greeting) as server:
        store = RedisProcessedEvents(f"redis://127.0.0.1:{server.port}", timeout=0.3)
        started = time.monotonic()
        with pytest.raises(ProcessedEventsFault):
            store.claim("e", "a", 60)
        assert time.monotonic() - started < LIMIT
        store.close()
