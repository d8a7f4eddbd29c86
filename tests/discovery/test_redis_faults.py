"""RedisDiscoveryStrategy: a Redis that is away, slow, full, or none at all.

Its keys are in test_redis.py, what all strategies do is in test_contract.py.
"""

import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import pytest

from gemstone_sync import BadResponse, ConnectionFailed, Timeout, TransportError
from gemstone_sync.discovery.redis_strategy import RedisDiscoveryStrategy
from tests.support.faulty_server import (
    Exchange,
    FaultyServer,
    both,
    close,
    full_backlog,
    hang,
    in_turn,
    raw,
)
from tests.support.machine import free_port
from tests.support.redis import private_redis
from tests.support.waiting import LIMIT, gather, wait_until

from .support import patient_redis

URL = "http://10.0.0.1:8000/api"
OTHER = "http://10.0.0.2:8000/api"

ASKED: list[Callable[[RedisDiscoveryStrategy], Any]] = [
    lambda strategy: strategy.ping("users", URL, instance="1", interval=30),
    lambda strategy: strategy.locate("users"),
    lambda strategy: strategy.locate("users*"),
    lambda strategy: strategy.goodbye("users", URL, instance="1"),
]
EACH = pytest.mark.parametrize("ask", ASKED, ids=["ping", "locate", "locate *", "goodbye"])


@EACH
def test_a_redis_that_is_down(ask: Callable[[RedisDiscoveryStrategy], Any]) -> None:
    port = free_port()
    strategy = patient_redis(f"redis://:hunter2@127.0.0.1:{port}/3")

    with pytest.raises(ConnectionFailed) as caught:
        ask(strategy)

    assert f"redis://127.0.0.1:{port}/3" in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("host", ["nobody.invalid", f"{'a' * 64}.invalid"])
def test_a_host_that_does_not_exist(host: str) -> None:
    strategy = patient_redis(f"redis://:hunter2@{host}:1/0")

    with pytest.raises(ConnectionFailed, match=host) as caught:
        strategy.locate("users")

    assert "hunter2" not in str(caught.value)


@EACH
@pytest.mark.parametrize(
    ("greeting", "expected"),
    [
        pytest.param(hang, Timeout, id="silent"),
        pytest.param(close, ConnectionFailed, id="closing"),
        pytest.param(raw("HTTP/1.1 400 Bad Request\r\n\r\n", close), TransportError, id="HTTP"),
        pytest.param(raw("\0" * 100, close), TransportError, id="zeros"),
        pytest.param(raw("*1000000000\r\n", hang), TransportError, id="endless"),
        pytest.param(raw("-LOADING Redis is loading\r\n" * 9, hang), TransportError, id="loading"),
    ],
)
def test_what_is_no_redis(
    greeting: Any, expected: type[Exception], ask: Callable[[RedisDiscoveryStrategy], Any]
) -> None:
    with FaultyServer(greeting=greeting) as server:
        url = f"redis://127.0.0.1:{server.port}/0"
        strategy = RedisDiscoveryStrategy(url, timeout=(LIMIT, 0.3))
        started = time.monotonic()

        with pytest.raises(expected) as caught:
            ask(strategy)

        assert url in str(caught.value)
        assert time.monotonic() - started < LIMIT / 2
        strategy.close()


def test_a_redis_that_is_too_far_away() -> None:
    with full_backlog() as url:
        port = url.rpartition(":")[2].partition("/")[0]
        strategy = RedisDiscoveryStrategy(f"redis://127.0.0.1:{port}/0", timeout=(0.3, LIMIT))

        with pytest.raises(Timeout):
            strategy.locate("users")


@EACH
def test_a_redis_that_hangs(tmp_path: Path, ask: Callable[[RedisDiscoveryStrategy], Any]) -> None:
    with private_redis(tmp_path) as server:
        strategy = RedisDiscoveryStrategy(server.url, timeout=(LIMIT, 1.0))
        strategy.ping("users", URL, instance="0")
        with server.frozen(), pytest.raises(Timeout) as caught:
            ask(strategy)
        assert server.url in str(caught.value)

        # The late answer is to nobody.
        wait_until(lambda: works(strategy), "a Redis that is back")
        assert OTHER in strategy.locate("others")
        strategy.close()


def works(strategy: RedisDiscoveryStrategy) -> bool:
    try:
        strategy.ping("others", OTHER, instance="2")
    except TransportError:
        return False
    return True


def test_a_redis_that_is_killed_and_started_again(tmp_path: Path) -> None:
    with private_redis(tmp_path) as server:
        strategy = patient_redis(server.url)
        strategy.ping("users", URL, instance="1")
        server.kill()
        for ask in ASKED:
            with pytest.raises(ConnectionFailed):
                ask(strategy)

        server.start()
        # Its old connections are of no use, and cost nobody a call.
        assert strategy.locate("users") == []
        strategy.ping("users", URL, instance="1")
        assert strategy.locate("users") == [URL]
        strategy.close()


def test_a_restart_between_two_calls_is_not_noticed(tmp_path: Path) -> None:
    with private_redis(tmp_path) as server:
        strategy = patient_redis(server.url)
        gather([lambda: strategy.locate("users")] * 10)
        server.kill()
        server.start()

        gather([lambda: strategy.ping("users", URL, instance="1")] * 20)

        assert strategy.locate("user*") == [URL]
        strategy.close()


def relay(exchange: Exchange) -> None:
    """Pass everything on to the machine's Redis and back."""

    def pump(source: socket.socket, target: socket.socket) -> None:
        while data := source.recv(1 << 16):
            target.sendall(data)

    with socket.create_connection(("127.0.0.1", 6379), timeout=LIMIT) as server:
        pumps = [
            gevent.spawn(pump, exchange.socket, server),
            gevent.spawn(pump, server, exchange.socket),
        ]
        try:
            gevent.wait(pumps, count=1)
        finally:
            gevent.killall(pumps)


def break_off(exchange: Exchange) -> None:
    """Take a command, and end the connection."""
    exchange.socket.recv(1 << 16)


@EACH
def test_a_connection_that_breaks_once_costs_no_call(
    prefix: str, ask: Callable[[RedisDiscoveryStrategy], Any]
) -> None:
    with FaultyServer(greeting=in_turn(both(break_off, close), both(relay, close))) as server:
        strategy = patient_redis(f"redis://127.0.0.1:{server.port}/0", prefix=prefix)

        ask(strategy)

        assert server.connections == 2
        strategy.close()


@pytest.mark.parametrize("credentials", ["", ":hunter3@", "hunter:hunter2@"])
def test_a_wrong_password(tmp_path: Path, credentials: str) -> None:
    with private_redis(tmp_path, "--requirepass", "hunter2") as server:
        good = patient_redis(server.url.replace("//", "//:hunter2@"))
        good.ping("users", URL)
        assert good.locate("users") == [URL]
        assert "hunter2" not in repr(good)

        strategy = patient_redis(server.url.replace("//", f"//{credentials}"))
        with pytest.raises(TransportError) as caught:
            strategy.locate("users")
        assert "hunter" not in str(caught.value)
        assert "assword" in str(caught.value) or "uthentication" in str(caught.value)
        good.close()
        strategy.close()


def test_a_redis_that_is_full(tmp_path: Path) -> None:
    with private_redis(tmp_path, "--maxmemory", "1mb") as server:
        strategy = patient_redis(server.url)

        def fill() -> None:
            for number in range(100_000):
                strategy.ping("users", URL, instance=str(number))

        with pytest.raises(BadResponse, match="memory"):
            fill()

        strategy.locate("users")
        strategy.close()


def test_a_call_that_is_killed_leaves_its_answer_to_nobody(tmp_path: Path) -> None:
    with private_redis(tmp_path) as server:
        strategy = patient_redis(server.url)
        strategy.ping("users", URL, instance="1")
        with server.frozen():
            asking = [gevent.spawn(strategy.locate, "users") for _ in range(10)]
            gevent.sleep(0)
            gevent.killall(asking)

        strategy.ping("others", OTHER, instance="2")
        assert gather([lambda: strategy.locate("others")] * 20) == [[OTHER]] * 20
        strategy.close()


def test_more_callers_than_connections(tmp_path: Path) -> None:
    with private_redis(tmp_path, "--maxclients", "12") as server:
        strategy = patient_redis(server.url)
        strategy.ping("users", URL, instance="1")

        assert gather([lambda: strategy.locate("users")] * 100) == [[URL]] * 100
        strategy.close()
