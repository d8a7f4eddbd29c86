"""RedisDiscoveryStrategy: its keys and their expiry, and how it is made.

A Redis that is away is in test_redis_faults.py, what all strategies do in test_contract.py. Most
of these use the machine's own Redis, under a prefix of their own; what looks at the server as a
whole has one to itself.
"""

import logging
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from gemstone_sync import (
    BadResponse,
    ServiceConfigurationError,
    Timeout,
)
from gemstone_sync.discovery.redis_strategy import RedisDiscoveryStrategy
from tests.support.faulty_server import FaultyServer
from tests.support.redis import REDIS_URL, private_redis
from tests.support.waiting import LIMIT, wait_until

from .support import patient_redis

URL = "http://10.0.0.1:8000/api"
OTHER = "http://10.0.0.2:8000/api"


@pytest.fixture
def strategy(prefix: str) -> Iterator[RedisDiscoveryStrategy]:
    made = patient_redis(REDIS_URL, prefix=prefix)
    yield made
    made.close()


@pytest.fixture
def client() -> Iterator[redis.Redis]:
    with redis.Redis.from_url(REDIS_URL, socket_timeout=5) as client:
        yield client


def entries_of(client: redis.Redis, prefix: str) -> list[bytes]:
    keys = client.scan_iter(match=f"{prefix}*", count=1000)
    return [key for key in keys if client.type(key) == b"string"]


# Keys and expiry


def test_an_entry_expires(prefix: str) -> None:
    strategy = patient_redis(REDIS_URL, prefix=prefix, time_to_live=0.2)
    strategy.ping("users", URL, instance="1")
    strategy.ping("users", OTHER, instance="2", interval=30)

    wait_until(lambda: strategy.locate("users") == [OTHER], "the expiry of one")

    assert strategy.locate("user*") == [OTHER]
    strategy.close()


@pytest.mark.parametrize(
    ("time_to_live", "interval", "seconds"),
    [(180, 30, 180), (180, 60, 180), (180, 100, 300), (10, 30, 90), (10, None, 10)],
)
def test_how_long_an_entry_lives(
    prefix: str, client: redis.Redis, time_to_live: float, interval: float | None, seconds: int
) -> None:
    strategy = patient_redis(REDIS_URL, prefix=prefix, time_to_live=time_to_live)

    strategy.ping("users", URL, instance="1", interval=interval)

    [key] = entries_of(client, prefix)
    assert seconds - LIMIT / 2 < client.ttl(key) <= seconds
    strategy.close()


def test_a_ping_renews_the_entry(prefix: str, client: redis.Redis) -> None:
    patient_redis(REDIS_URL, prefix=prefix, time_to_live=5).ping("users", URL, instance="1")
    patient_redis(REDIS_URL, prefix=prefix).ping("users", OTHER, instance="1")

    [key] = entries_of(client, prefix)  # the same instance, elsewhere
    assert client.ttl(key) > 100
    assert client.get(key) == OTHER.encode()


def test_every_key_expires(
    prefix: str, client: redis.Redis, strategy: RedisDiscoveryStrategy
) -> None:
    strategy.ping("users", URL, instance="1", interval=30)

    keys = list(client.scan_iter(match=f"{prefix}*", count=1000))
    assert keys
    assert all(client.ttl(key) > 0 for key in keys)

    strategy.goodbye("users", URL, instance="1")
    assert not list(client.scan_iter(match=f"{prefix}*", count=1000))


def test_what_crashed_instances_leave_is_sorted_out(prefix: str, client: redis.Redis) -> None:
    strategy = patient_redis(REDIS_URL, prefix=prefix)
    brief = patient_redis(REDIS_URL, prefix=prefix, time_to_live=0.001)
    for number in range(20):
        brief.ping("users", URL, instance=str(number))
    strategy.ping("users", OTHER, instance="alive")
    [index] = [key for key in client.scan_iter(match=f"{prefix}*") if key.endswith(b"instances")]

    def only_one_is_left() -> bool:
        strategy.ping("users", OTHER, instance="alive")
        return client.scard(index) == 1

    wait_until(only_one_is_left, "an index without those that are gone")
    assert strategy.locate("users") == [OTHER]
    strategy.close()
    brief.close()


ODD_NAMES = [
    "a name with spaces",
    "prénom.用户",
    "a:b",
    "a:b:instances",
    "instances",
    ":",
    "back\\slash",
    "a[b",
    "a]b",
    "a^b-c",
    "a\nb",
    '"quoted"',
    "x" * 5000,
]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names(strategy: RedisDiscoveryStrategy, name: str) -> None:
    strategy.ping(name, URL, instance="1:2\n3", interval=30)
    strategy.ping(f"{name}.other", OTHER, instance="1:2\n3", interval=30)

    assert strategy.locate(name) == [URL]
    assert strategy.locate("*") == [URL, OTHER]
    assert strategy.locate(f"{name}.*") == [OTHER]
    assert strategy.locate(f"{name[:-1]}?") == [URL]
    strategy.goodbye(name, URL, instance="1:2\n3")
    assert strategy.locate(name) == []
    assert strategy.locate("*") == [OTHER]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("用?", True),
        ("??", True),
        ("?", False),
        ("???", False),
        ("[用x]户", True),
        ("[!用]户", False),
        ("用[!用]", True),
        ("[]用]户", True),
        ("[!]]户", True),
        ("用户[", False),
        ("*户*", True),
        ("**", True),
    ],
)
def test_wildcards_are_of_characters(
    strategy: RedisDiscoveryStrategy, pattern: str, found: bool
) -> None:
    strategy.ping("用户", URL, instance="1", interval=30)

    assert strategy.locate(pattern) == ([URL] if found else [])


def test_a_prefix_is_no_pattern(prefix: str) -> None:
    one, other = (patient_redis(REDIS_URL, prefix=f"{prefix}{last}") for last in ("[ab]*:", "axx:"))
    other.ping("users", OTHER)
    assert one.locate("*") == []

    one.ping("users", URL)
    assert one.locate("*") == [URL]
    assert other.locate("*") == [OTHER]


def test_many_instances_among_many_other_keys(
    prefix: str, client: redis.Redis, strategy: RedisDiscoveryStrategy
) -> None:
    urls = [f"http://10.0.{number // 250}.{number % 250}:8000/api" for number in range(2500)]
    with client.pipeline(transaction=False) as pipeline:
        for number in range(5000):
            pipeline.set(f"{prefix[:-1]}-of-others:{number}", "x", ex=60)
        pipeline.execute()
    for number, url in enumerate(urls):
        strategy.ping(f"crowd.{number % 2}", url, instance=url, interval=30)

    assert strategy.locate("crowd.?") == sorted(urls)
    assert strategy.locate("crowd.1") == sorted(urls[1::2])
    for key in client.scan_iter(match=f"{prefix[:-1]}-of-others:*", count=1000):
        client.delete(key)


def test_neither_keys_nor_a_search_for_an_exact_name(tmp_path: Path) -> None:
    with private_redis(tmp_path) as server:
        strategy = patient_redis(server.url)
        strategy.ping("users", URL, instance="1", interval=30)

        def times_used() -> dict[str, int]:
            with redis.Redis.from_url(server.url) as client:
                used = client.info("commandstats")
            return {name.partition("_")[2]: one["calls"] for name, one in used.items()}

        assert strategy.locate("users") == [URL]
        assert "scan" not in times_used()
        assert strategy.locate("user*") == [URL]
        assert times_used()["scan"] == 1
        assert "keys" not in times_used()
        strategy.close()


def test_a_search_has_the_total_time(tmp_path: Path) -> None:
    with private_redis(tmp_path) as server:
        with redis.Redis.from_url(server.url) as client:
            client.mset({f"of others {number}": "x" for number in range(5000)})
        strategy = RedisDiscoveryStrategy(server.url, timeout=LIMIT, total_timeout=1e-6)
        strategy.ping("users", URL)

        with pytest.raises(Timeout, match="database of their own"):
            strategy.locate("user*")

        assert strategy.locate("users") == [URL]
        strategy.close()


def test_what_others_wrote_is_dropped_and_told_once(
    prefix: str,
    client: redis.Redis,
    strategy: RedisDiscoveryStrategy,
    caplog: pytest.LogCaptureFixture,
) -> None:
    strategy.ping("users", "javascript:alert(1)", instance="1")
    strategy.ping("users", "http://user:hunter2@a/api", instance="2")
    strategy.ping("users", URL, instance="3")
    [index] = [key for key in client.scan_iter(match=f"{prefix}*") if key.endswith(b"instances")]
    client.sadd(index, b"\xff\xfe", b"../../x")
    client.hset(f"{prefix}users:{'0' * 32}", "a", "b")

    with caplog.at_level(logging.WARNING, "gemstone_sync.discovery"):
        assert strategy.locate("users") == [URL]
        assert strategy.locate("user*") == [URL]

    [record] = caplog.records
    assert "redis://127.0.0.1:6379/0" in record.getMessage()
    assert "hunter2" not in record.getMessage()


def test_a_key_of_another_kind_is_a_clear_error(
    prefix: str, client: redis.Redis, strategy: RedisDiscoveryStrategy
) -> None:
    client.set(f"{prefix}users:instances", "x", ex=60)

    for ask in (strategy.locate, lambda name: strategy.ping(name, URL)):
        with pytest.raises(BadResponse, match="WRONGTYPE"):
            ask("users")


# How it is made


def test_it_connects_to_nobody_when_it_is_made() -> None:
    with FaultyServer() as server:
        RedisDiscoveryStrategy(f"redis://127.0.0.1:{server.port}/0").close()

        assert server.connections == 0


@pytest.mark.parametrize(
    "url",
    [
        None,
        b"redis://127.0.0.1",
        "",
        "127.0.0.1:6379",
        "http://user:hunter2@127.0.0.1",
        "redis://user:hunter2@127.0.0.1:0",
        "redis://user:hunter2@127.0.0.1:99999",
        "redis://user:hunter2/hunter2@127.0.0.1:6379",
        "redis://user:12/hunter2@127.0.0.1:6379",
        "redis://user:hunter2@127.0.0.1/mydb",
        "redis://user:hunter2@127.0.0.1?socket_timeout=soon",
        "redis://user:hunter2@127.0.0.1?no_such_option=1",
        "redis://user:hunter2@[::1",
    ],
)
def test_a_url_that_cannot_be_used(url: Any) -> None:
    with pytest.raises(ServiceConfigurationError) as caught:
        RedisDiscoveryStrategy(url)

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"time_to_live": 0},
        {"time_to_live": None},
        {"time_to_live": float("inf")},
        {"timeout": None},
        {"timeout": (1, 0)},
        {"total_timeout": -1},
    ],
)
def test_a_number_that_cannot_be_used(options: dict[str, Any]) -> None:
    with pytest.raises(ServiceConfigurationError, match="above 0"):
        RedisDiscoveryStrategy(REDIS_URL, **options)


def test_without_redis_py(run_python: Callable[..., "subprocess.CompletedProcess[str]"]) -> None:
    ended = run_python(
        """
import sys

sys.modules["redis"] = None  # as if it were not installed
from gemstone_sync import ServiceConfigurationError
from gemstone_sync.discovery.redis_strategy import RedisDiscoveryStrategy

try:
    RedisDiscoveryStrategy("redis://127.0.0.1:6379/0")
except ServiceConfigurationError as error:
    print(error)
"""
    )

    assert "pip install 'gemstone_sync[redis]'" in ended.stdout, ended.stderr


THREADED = """
import sys, threading

from gemstone_sync.discovery.redis_strategy import RedisDiscoveryStrategy

strategy = RedisDiscoveryStrategy(
    "redis://127.0.0.1:6379/0", prefix=sys.argv[1], timeout=20, total_timeout=20
)
failures = []


def live(number):
    try:
        url = f"http://10.0.0.{number}:8000/api"
        strategy.ping(f"plain.{number}", url, instance=str(number), interval=30)
        assert strategy.locate(f"plain.{number}") == [url]
        if number % 2:
            strategy.goodbye(f"plain.{number}", url, instance=str(number))
    except BaseException as error:
        failures.append(error)


threads = [threading.Thread(target=live, args=[number]) for number in range(30)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert not failures, failures
print(len(strategy.locate("plain.*")))
strategy.close()

from gevent import monkey

assert not monkey.is_module_patched("socket")
"""


def test_a_plain_program_with_threads(
    prefix: str, run_python: Callable[..., "subprocess.CompletedProcess[str]"]
) -> None:
    ended = run_python(THREADED, prefix)

    assert (ended.returncode, ended.stdout) == (0, "15\n"), ended.stderr


def test_a_program_that_patches_after_making_it(
    prefix: str, run_python: Callable[..., "subprocess.CompletedProcess[str]"]
) -> None:
    ended = run_python(
        """
import sys

from gemstone_sync.discovery.redis_strategy import RedisDiscoveryStrategy

strategy = RedisDiscoveryStrategy("redis://127.0.0.1:6379/0", prefix=sys.argv[1])

import gevent
from gemstone_sync import MicroService  # patches
from gevent import monkey

assert monkey.is_module_patched("socket")
strategy.ping("users", "http://a/api", instance="1")
found = [gevent.spawn(strategy.locate, "users") for _ in range(30)]
assert all(greenlet.get() == ["http://a/api"] for greenlet in found)
strategy.close()
print("fine")
""",
        prefix,
    )

    assert ended.stdout == "fine\n", ended.stderr
