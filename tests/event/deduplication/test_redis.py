"""RedisProcessedEvents: a Redis that is away or full; more in virtual/test_redis_store.py."""

import contextlib

import pytest

from gemstone_sync.errors import StoreFault
from gemstone_sync.event.deduplication import Claim, RedisProcessedEvents
from tests.support.machine import free_port
from tests.support.redis import private_redis
from tests.support.waiting import LIMIT, gather, wait_until


def ask_all(store: RedisProcessedEvents, says: str) -> None:
    """Each function fails in the same way."""
    for ask in (
        lambda: store.claim("e", "a", 60),
        lambda: store.renew("e", "a", 60),
        lambda: store.done("e", "a"),
        lambda: store.release("e", "a"),
    ):
        with pytest.raises(StoreFault, match=says) as caught:
            ask()
        assert "hunter2" not in str(caught.value)
    store.close()


def test_a_redis_that_is_down_is_told_without_the_password():
    port = free_port()
    ask_all(RedisProcessedEvents(f"redis://:hunter2@127.0.0.1:{port}/3"), f"127.0.0.1:{port}")


def test_a_password_is_used_and_a_restart_costs_no_call(tmp_path):
    with private_redis(tmp_path, "--requirepass", "hunter2") as server:
        ask_all(RedisProcessedEvents(server.url.replace("//", "//:hunter2x@")), server.url)
        store = RedisProcessedEvents(server.url.replace("//", "//:hunter2@"), timeout=LIMIT)
        gather([lambda n=n: store.claim(str(n), "a", 60) for n in range(50)])
        server.kill()
        server.start()
        assert store.claim("e", "a", 60) is Claim.OURS
        store.close()


def test_a_redis_that_says_nothing_is_given_up_and_asked_again(tmp_path):
    with private_redis(tmp_path) as server:
        store = RedisProcessedEvents(server.url, timeout=0.3)

        def answer(owner: str) -> Claim:
            """What it says, once the machine does not stand still for longer than that."""

            def ask() -> Claim | None:
                with contextlib.suppress(StoreFault):
                    return store.claim("e", owner, 60)
                return None

            return wait_until(ask, "an answer")  # type: ignore[no-any-return]

        assert answer("a") is Claim.OURS
        with server.frozen(), pytest.raises(StoreFault):
            store.claim("e", "b", 60)
        assert answer("b") is Claim.BUSY
        store.close()


def test_a_full_redis_is_said(tmp_path):
    options = ["--maxmemory", "1", "--maxmemory-policy", "noeviction"]
    with private_redis(tmp_path, *options) as server:
        store = RedisProcessedEvents(server.url)
        for ask in (lambda: store.claim("e", "a", 60), lambda: store.done("e", "a")):
            with pytest.raises(StoreFault, match="memory"):
                ask()
        store.close()
