"""RedisDiscoveryStrategy: its keys and their expiry, and how it is made."""

import logging
import sys

import pytest
import redis

from gemstone_sync import BadResponse, ServiceConfigurationError, Timeout
from gemstone_sync.discovery import redis_strategy
from gemstone_sync.discovery.redis_strategy import RedisDiscoveryStrategy
from tests.support.faulty_server import FaultyServer
from tests.support.redis import REDIS_URL
from tests.support.waiting import LIMIT, wait_until

from .support import LOGGER, THREADED, patient_redis
from .support import A as URL
from .support import B as OTHER


@pytest.fixture
def strategy(prefix):
    made = patient_redis(REDIS_URL, prefix=prefix)
    yield made
    made.close()


@pytest.fixture
def client():
    with redis.Redis.from_url(REDIS_URL, socket_timeout=5) as client:
        yield client


def keys_of(client, prefix):
    """The keys of entries, and the one of the index."""
    keys = list(client.scan_iter(match=f"{prefix}*", count=1000))
    assert all(client.ttl(key) != -1 for key in keys), "a key that never expires"
    index = [key for key in keys if key.endswith(b":instances")]
    return [key for key in keys if key not in index], index


@pytest.mark.parametrize(
    ("time_to_live", "interval", "seconds"),
    [(180, 30, 180), (180, 60, 180), (180, 100, 300), (10, 30, 90), (10, None, 10)],
)
def test_how_long_an_entry_lives(prefix, client, time_to_live, interval, seconds):
    strategy = patient_redis(REDIS_URL, prefix=prefix, time_to_live=time_to_live)

    strategy.ping("users", URL, instance="1", interval=interval)

    [key], _ = keys_of(client, prefix)
    assert seconds - LIMIT / 2 < client.ttl(key) <= seconds
    strategy.close()


def test_a_ping_renews_the_entry_and_goodbye_leaves_no_key(prefix, client, strategy):
    patient_redis(REDIS_URL, prefix=prefix, time_to_live=5).ping("users", URL, instance="1")
    strategy.ping("users", OTHER, instance="1")

    [key], _ = keys_of(client, prefix)  # the same instance, elsewhere
    assert client.ttl(key) > 100
    assert client.get(key) == OTHER.encode()
    strategy.goodbye("users", OTHER, instance="1")
    assert keys_of(client, prefix) == ([], [])


def test_what_crashed_instances_leave_is_sorted_out(prefix, client, strategy):
    brief = patient_redis(REDIS_URL, prefix=prefix, time_to_live=0.001)
    for number in range(20):
        brief.ping("users", URL, instance=str(number))

    def only_one_is_left():
        strategy.ping("users", OTHER, instance="alive")
        _, [index] = keys_of(client, prefix)
        return client.scard(index) == 1

    wait_until(only_one_is_left, "an index without those that are gone")
    assert strategy.locate("users") == [OTHER]
    brief.close()


@pytest.mark.parametrize(
    "name",
    [
        *("a name with spaces", "prénom.用户", "a:b", "a:b:instances", "instances", ":"),
        *("back\\slash", "a[b", "a]b", "a^b-c", "a\nb", '"quoted"', "x" * 5000),
    ],
)
def test_odd_names(strategy, name):
    strategy.ping(name, URL, instance="1:2\n3", interval=30)
    strategy.ping(f"{name}.other", OTHER, instance="1:2\n3", interval=30)

    assert strategy.locate(name) == [URL]
    assert strategy.locate("*") == [URL, OTHER]
    assert strategy.locate(f"{name}.*") == [OTHER]
    assert strategy.locate(f"{name[:-1]}?") == [URL]
    strategy.goodbye(name, URL, instance="1:2\n3")
    assert strategy.locate(name) == []
    assert strategy.locate("*") == [OTHER]


def test_wildcards_are_of_characters(strategy):
    strategy.ping("用户", URL, instance="1", interval=30)

    for pattern in ("用?", "??", "[用x]户", "用[!用]", "[]用]户", "[!]]户", "*户*", "**"):
        assert strategy.locate(pattern) == [URL], pattern
    for pattern in ("?", "???", "[!用]户", "用户["):
        assert strategy.locate(pattern) == [], pattern


def test_a_prefix_is_no_pattern(prefix):
    one, other = (patient_redis(REDIS_URL, prefix=f"{prefix}{last}") for last in ("[ab]*:", "axx:"))
    other.ping("users", OTHER)
    assert one.locate("*") == []

    one.ping("users", URL)
    assert one.locate("*") == [URL]
    assert other.locate("*") == [OTHER]


def test_many_instances_among_many_other_keys(prefix, client, strategy, monkeypatch):
    """More than Redis looks at, and sends, at a time."""
    monkeypatch.setattr(redis_strategy, "_PAGE", 100)
    urls = [f"http://10.0.0.{number}:8000/api" for number in range(250)]
    client.mset({f"{prefix}of-others:{number}": "x" for number in range(500)})
    for number, url in enumerate(urls):
        strategy.ping(f"crowd.{number % 2}", url, instance=url, interval=30)

    assert strategy.locate("crowd.?") == sorted(urls)
    assert strategy.locate("crowd.1") == sorted(urls[1::2])


def test_neither_keys_nor_a_search_for_an_exact_name(one_redis):
    strategy = patient_redis(one_redis.url)
    strategy.ping("users", URL, instance="1", interval=30)

    with redis.Redis.from_url(one_redis.url) as client:

        def times_used():
            used = client.info("commandstats")
            return {name.partition("_")[2]: one["calls"] for name, one in used.items()}

        client.config_resetstat()
        assert strategy.locate("users") == [URL]
        assert "scan" not in times_used()
        assert strategy.locate("user*") == [URL]
        assert times_used()["scan"] == 1
        assert "keys" not in times_used()
        client.flushall()
    strategy.close()


def test_a_search_has_the_total_time(prefix, client, monkeypatch):
    monkeypatch.setattr(redis_strategy, "_PAGE", 10)
    client.mset({f"{prefix}of-others:{number}": "x" for number in range(500)})
    strategy = RedisDiscoveryStrategy(REDIS_URL, prefix=prefix, timeout=LIMIT, total_timeout=1e-6)
    strategy.ping("users", URL)

    with pytest.raises(Timeout, match="database of their own"):
        strategy.locate("user*")

    assert strategy.locate("users") == [URL]
    strategy.close()


def test_what_others_wrote_is_dropped_and_told_once(prefix, client, strategy, caplog):
    strategy.ping("users", "javascript:alert(1)", instance="1")
    strategy.ping("users", "http://user:hunter2@a/api", instance="2")
    strategy.ping("users", URL, instance="3")
    _, [index] = keys_of(client, prefix)
    client.sadd(index, b"\xff\xfe", b"../../x")
    client.hset(f"{prefix}users:{'0' * 32}", "a", "b")

    with caplog.at_level(logging.WARNING, LOGGER):
        assert strategy.locate("users") == [URL]
        assert strategy.locate("user*") == [URL]

    [record] = caplog.records
    assert "redis://127.0.0.1:6379/0" in record.getMessage()
    assert "hunter2" not in record.getMessage()


def test_a_key_of_another_kind_is_a_clear_error(prefix, client, strategy):
    client.set(f"{prefix}users:instances", "x", ex=60)

    for ask in (strategy.locate, lambda name: strategy.ping(name, URL)):
        with pytest.raises(BadResponse, match="WRONGTYPE"):
            ask("users")


def test_it_connects_to_nobody_when_it_is_made():
    with FaultyServer() as server:
        RedisDiscoveryStrategy(f"redis://127.0.0.1:{server.port}/0").close()

        assert server.connections == 0


@pytest.mark.parametrize(
    "url",
    [
        *(None, b"redis://127.0.0.1", "", "127.0.0.1:6379", "http://user:hunter2@127.0.0.1"),
        *(f"redis://user:hunter2@127.0.0.1:{port}" for port in (0, 99999)),
        *(f"redis://user:{password}/hunter2@127.0.0.1:6379" for password in ("hunter2", 12)),
        "redis://user:hunter2@127.0.0.1/mydb",
        "redis://user:hunter2@127.0.0.1?socket_timeout=soon",
        "redis://user:hunter2@127.0.0.1?no_such_option=1",
        "redis://user:hunter2@[::1",
    ],
)
def test_a_url_that_cannot_be_used(url):
    with pytest.raises(ServiceConfigurationError) as caught:
        RedisDiscoveryStrategy(url)

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("value", [0, -1, None, float("inf"), (1, 0)], ids=str)
@pytest.mark.parametrize("option", ["time_to_live", "timeout", "total_timeout"])
def test_a_number_that_cannot_be_used(option, value):
    with pytest.raises(ServiceConfigurationError, match="above 0"):
        RedisDiscoveryStrategy(REDIS_URL, **{option: value})


def test_without_redis_py(monkeypatch):
    monkeypatch.setitem(sys.modules, "redis", None)  # as if it were not installed

    with pytest.raises(ServiceConfigurationError, match=r"pip install 'gemstone_sync\[redis\]'"):
        RedisDiscoveryStrategy(REDIS_URL)


def test_a_plain_program_with_threads_that_patches_later(prefix, run_python):
    made = "redis_strategy.RedisDiscoveryStrategy('redis://127.0.0.1:6379/0', prefix=sys.argv[1]"
    ended = run_python(THREADED.replace("MADE", made), prefix, GEMSTONE_MONKEY_PATCH="late")

    assert (ended.returncode, ended.stdout) == (0, "5\n5\n"), ended.stderr
