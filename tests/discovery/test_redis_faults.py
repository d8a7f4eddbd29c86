"""RedisDiscoveryStrategy: a Redis that is away, slow, full, or none at all."""

import contextlib

import gevent
import pytest
import redis

from gemstone_sync import BadResponse, ConnectionFailed, Timeout, TransportError
from gemstone_sync.discovery.redis_strategy import RedisDiscoveryStrategy
from tests.support.faulty_server import FaultyServer, close, full_backlog, hang, raw
from tests.support.machine import free_port
from tests.support.proxy import Proxy
from tests.support.waiting import LIMIT, gather, wait_until

from .support import A as URL
from .support import B as OTHER
from .support import patient_redis

ASKED = {
    "ping": lambda strategy: strategy.ping("users", URL, instance="1", interval=30),
    "locate": lambda strategy: strategy.locate("users"),
    "locate *": lambda strategy: strategy.locate("users*"),
    "goodbye": lambda strategy: strategy.goodbye("users", URL, instance="1"),
}
EACH = pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED)


@EACH
def test_a_redis_that_is_down(ask):
    port = free_port()
    strategy = patient_redis(f"redis://:hunter2@127.0.0.1:{port}/3")

    with pytest.raises(ConnectionFailed, match=f"redis://127.0.0.1:{port}/3") as caught:
        ask(strategy)

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("host", ["nobody.invalid", f"{'a' * 64}.invalid"])
def test_a_host_that_does_not_exist(host):
    strategy = patient_redis(f"redis://:hunter2@{host}:1/0")

    with pytest.raises(ConnectionFailed, match=host) as caught:
        strategy.locate("users")

    assert "hunter2" not in str(caught.value)


@EACH
@pytest.mark.parametrize(
    ("greeting", "read_timeout", "expected"),
    [
        pytest.param(hang, 0.1, Timeout, id="silent"),
        pytest.param(close, LIMIT, ConnectionFailed, id="closing"),
        pytest.param(raw("HTTP/1.1 400 Bad Request\r\n\r\n", close), 1, TransportError, id="HTTP"),
        pytest.param(raw("\0" * 100, close), 1, TransportError, id="zeros"),
        pytest.param(raw("*1000000000\r\n", hang), 0.1, TransportError, id="endless"),
        pytest.param(raw("-LOADING dataset\r\n" * 9, hang), 0.1, TransportError, id="loading"),
    ],
)
def test_what_is_no_redis(greeting, read_timeout, expected, ask):
    with FaultyServer(greeting=greeting) as server:
        url = f"redis://127.0.0.1:{server.port}/0"
        strategy = RedisDiscoveryStrategy(url, timeout=(LIMIT, read_timeout))

        with pytest.raises(expected) as caught:
            ask(strategy)

        assert url in str(caught.value)
        strategy.close()


def test_a_redis_that_is_too_far_away():
    with full_backlog() as url:
        port = url.rpartition(":")[2].partition("/")[0]
        strategy = RedisDiscoveryStrategy(f"redis://127.0.0.1:{port}/0", timeout=(0.1, LIMIT))

        with pytest.raises(Timeout):
            strategy.locate("users")


@EACH
def test_a_redis_that_hangs(one_redis, ask):
    strategy = RedisDiscoveryStrategy(one_redis.url, timeout=(LIMIT, 0.2))

    def others():
        with contextlib.suppress(TransportError):
            strategy.ping("others", OTHER, instance="2")
            return strategy.locate("others")

    wait_until(others, "a connection")
    with one_redis.frozen(), pytest.raises(Timeout, match=one_redis.url):
        ask(strategy)

    # The late answer is to nobody.
    assert wait_until(others, "a Redis that is back") == [OTHER]
    strategy.close()


def test_a_redis_that_is_killed_and_started_again(one_redis):
    strategy = patient_redis(one_redis.url)
    gather([lambda: strategy.locate("users")] * 10)
    one_redis.kill()
    for ask in ASKED.values():
        with pytest.raises(ConnectionFailed):
            ask(strategy)
    one_redis.start()
    gather([lambda: strategy.ping("users", URL, instance="1")] * 20)

    # A restart between two calls: the old connections are of no use, and cost nobody a call.
    one_redis.kill()
    one_redis.start()
    assert gather([lambda: strategy.locate("user*")] * 20) == [[]] * 20
    strategy.ping("users", URL, instance="1")
    assert strategy.locate("users") == [URL]
    strategy.close()


@EACH
def test_a_connection_that_breaks_once_costs_no_call(one_redis, ask):
    with Proxy(one_redis.port) as proxy:
        strategy = patient_redis(f"redis://127.0.0.1:{proxy.port}/0")
        ask(strategy)
        proxy.cut_next()

        ask(strategy)

        assert proxy.accepted == 2
        strategy.close()


@contextlib.contextmanager
def set_to(server, option, value):
    with redis.Redis.from_url(server.url) as client:
        before = client.config_get(option)[option]
        client.config_set(option, value)
        try:
            yield
        finally:
            client.config_set(option, before)
            client.flushall()


@pytest.mark.parametrize("credentials", ["", ":hunter3@", "hunter:hunter2@"])
def test_a_wrong_password(one_redis, credentials):
    with set_to(one_redis, "requirepass", "hunter2"):
        good = patient_redis(one_redis.url.replace("//", "//:hunter2@"))
        good.ping("users", URL)
        assert good.locate("users") == [URL]
        assert "hunter2" not in repr(good)
        good.close()

        strategy = patient_redis(one_redis.url.replace("//", f"//{credentials}"))
        with pytest.raises(TransportError, match=r"assword|uthentication") as caught:
            strategy.locate("users")
        assert "hunter" not in str(caught.value)
        strategy.close()


def test_a_redis_that_is_full(one_redis):
    strategy = patient_redis(one_redis.url)
    with set_to(one_redis, "maxmemory", "1"):
        with pytest.raises(BadResponse, match="memory"):
            strategy.ping("users", URL)

        assert strategy.locate("users") == []
    strategy.close()


def test_a_call_that_is_killed_leaves_its_answer_to_nobody(one_redis):
    strategy = patient_redis(one_redis.url)
    strategy.ping("users", URL, instance="1")
    with one_redis.frozen():
        asking = [gevent.spawn(strategy.locate, "users") for _ in range(10)]
        gevent.sleep(0)
        gevent.killall(asking)

    strategy.ping("others", OTHER, instance="2")
    assert gather([lambda: strategy.locate("others")] * 20) == [[OTHER]] * 20
    strategy.close()


def test_more_callers_than_connections(one_redis):
    strategy = patient_redis(one_redis.url)
    strategy.ping("users", URL, instance="1")
    with set_to(one_redis, "maxclients", "12"):
        assert gather([lambda: strategy.locate("users")] * 100) == [[URL]] * 100
    strategy.close()
