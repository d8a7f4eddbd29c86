"""RedisStore: what is Redis's own; a Redis that is away, slow, emptied, full or guarded.

What all stores do is in test_store_contract.py.
"""

import contextlib
import time
from collections.abc import Callable
from typing import Any

import gevent
import pytest
import redis

from gemstone_sync import ServiceConfigurationError
from gemstone_sync.errors import StoreFault
from gemstone_sync.event.transport.redis.store import RedisStore
from gemstone_sync.event.transport.stores.store import Entry, StoredQueue
from tests.support.faulty_server import FaultyServer, close, hang, raw
from tests.support.machine import free_port
from tests.support.redis import REDIS_URL, private_redis, shared_redis
from tests.support.waiting import LIMIT, wait_until

from ..stores.support import LEASE, bind, declare_exchange, declare_queue

Ask = Callable[[RedisStore], Any]
ASKED: list[Ask] = [
    lambda store: store.open(),
    lambda store: declare_exchange(store, "e", "topic"),
    lambda store: declare_queue(store, "q"),
    lambda store: store.delete_queue("other"),
    lambda store: bind(store, "e", "a.*", "q"),
    lambda store: store.touch(["q"]),
    lambda store: store.publish([Entry("", "q", b"1")]),
    lambda store: store.take([("q", 1)], LEASE),
    lambda store: store.acknowledge(["1:x:q"]),
    lambda store: store.release(["1:x:q"]),
    lambda store: store.renew(["1:x:q"], LEASE),
    lambda store: store.size("q"),
    lambda store: store.purge("q"),
]


def declare(store: RedisStore) -> None:
    store.open()
    store.declare({"e": "topic"}, [StoredQueue("q")], [("e", "a.*", "q")])


def take_all(store: RedisStore, queue: str = "q") -> list[bytes]:
    """Take and acknowledge."""
    found = []
    while taken := store.take([(queue, 1000)], LEASE):
        assert store.acknowledge([message.id for message in taken]) == len(taken)
        found += [message.payload for message in taken]
    return found


Make = Callable[..., RedisStore]


@pytest.fixture
def make():
    """Stores that wait for long; they are closed in the end."""
    made = []

    def make(url=REDIS_URL, **options):
        made.append(RedisStore(url, **{"connect_timeout": LIMIT, "timeout": LIMIT, **options}))
        return made[-1]

    yield make
    for store in made:
        store.close()


@pytest.fixture
def prefix():
    with shared_redis() as prefix:
        yield prefix


@pytest.fixture
def store(make, prefix):
    """In the machine's Redis."""
    store = make(prefix=prefix)
    declare(store)
    return store


@pytest.fixture
def server(tmp_path):
    """The test's own Redis."""
    with private_redis(tmp_path) as server:
        yield server


@pytest.fixture
def own(server, make):
    """In it."""
    own = make(server.url)
    declare(own)
    return own


@pytest.fixture
def client(server):
    with redis.Redis.from_url(server.url) as client:
        yield client


def test_names_of_any_text(store):
    binary = bytes(range(256)) * 300
    queues = ("a:b", "é 🚀", "\ud800", "{q}", "q\0", "*")
    for queue in queues:
        declare_queue(store, queue)
        bind(store, "e", "odd", queue)
    entries = [Entry("e", "odd", binary, key="k\ud800\0"), Entry("", "q", b"")]
    assert store.publish(entries) == [6, 1]
    assert take_all(store) == [b""]
    assert [take_all(store, queue) for queue in queues] == [[binary]] * 6


def test_no_key_is_mistaken_for_another(store):
    keys = ["", "1", "11", "1:", "a", "a0000000000000001", "a\0", "é"]
    store.publish([Entry("", "q", key.encode(), key=key) for key in keys])
    store.publish([Entry("", "q", b"later", key=key) for key in keys])
    first = store.take([("q", 100)], LEASE)
    assert [message.payload for message in first] == [key.encode() for key in keys]
    store.acknowledge([message.id for message in first])
    assert take_all(store) == [b"later"] * len(keys)


def test_a_big_batch_is_one_script(store):
    entries = [Entry("e", "a.b", b"%d" % number, key=str(number % 700)) for number in range(5000)]
    assert store.publish(entries) == [1] * 5000
    assert store.size("q") == 5000
    assert sorted(map(int, take_all(store))) == list(range(5000))


def test_nothing_is_left_of_what_was_done(store, prefix):
    bind(store, "e", "a.*", "q")
    declare_queue(store, "gone")
    bind(store, "e", "a.*", "gone")
    store.publish(
        [Entry("e", "a.b", b"x", key=key, due=due) for key in (None, "k") for due in (0, 1)]
    )
    declare_queue(store, "gone", expires=0.05)
    wait_until(lambda: store.publish([Entry("e", "a.b", b"x")]) == [1], "the end of the queue")
    take_all(store)
    store.delete_queue("q")

    with redis.Redis.from_url(REDIS_URL) as client:
        left = {key.decode().removeprefix(prefix) for key in client.scan_iter(match=f"{prefix}*")}
    assert left == {"epoch", "version", "sequence", "exchanges"}


def test_a_silent_subscription_delays_and_loses_nothing(store, make, prefix):
    store.take([("q", 1)], LEASE)
    store.changed()
    with redis.Redis.from_url(REDIS_URL) as client:
        ours = store._subscription._connection  # type: ignore[union-attr]
        _, port = ours._sock.getsockname()
        client.execute_command("CLIENT", "KILL", "ADDR", f"127.0.0.1:{port}")
    other = make(prefix=prefix)
    other.open()
    other.publish([Entry("", "q", b"x")])

    wait_until(store.changed, "news")
    assert take_all(store) == [b"x"]
    store.changed()
    assert not store.changed()


def refuses(store: RedisStore, url: str) -> None:
    """Whatever it is asked; the password is never shown."""
    for ask in ASKED:
        with pytest.raises(StoreFault, match=url) as caught:
            ask(store)
        assert "hunter" not in f"{caught.value} {store!r}"


def test_a_redis_that_is_down_is_told_without_the_password(make):
    port = free_port()
    refuses(make(f"redis://user:hunter2@127.0.0.1:{port}/3"), f"redis://127.0.0.1:{port}/3")


def test_a_wrong_password_is_refused_and_never_shown(tmp_path, make):
    with private_redis(tmp_path, "--requirepass", "hunter2") as server:
        good = make(server.url.replace("//", "//:hunter2@"))
        declare(good)
        assert good.take([("q", 1)], LEASE) == []
        for credentials in ("", ":hunter3@", "hunter:hunter2@"):
            refuses(make(server.url.replace("//", f"//{credentials}")), server.url)


def test_a_redis_that_was_started_again_empty(server, make):
    stores = [make(server.url) for _ in ASKED[1:]]
    for store in stores:
        declare(store)
        store.take([("q", 1)], LEASE)
    server.kill()
    server.start()

    for store, ask in zip(stores, ASKED[1:], strict=True):
        with pytest.raises(StoreFault):
            ask(store)
        # Declaring again is the owner's part, and it is needed: nothing is there.
        store.open()
        assert store.publish([Entry("", "q", b"x")]) == [0]
    wait_until(stores[0].changed, "the end of the subscription")
    declare(stores[0])
    stores[0].publish([Entry("e", "a.b", b"x")])
    assert take_all(stores[0]) == [b"x"]


def test_a_redis_that_was_emptied_under_open_connections(server, own, client, make):
    other = make(server.url)
    declare(other)
    client.flushall()
    declare(own)
    with pytest.raises(StoreFault, match="declared again"):
        other.publish([Entry("e", "a.b", b"x")])
    other.open()
    assert other.publish([Entry("e", "a.b", b"x")]) == [1]


def test_a_redis_without_memory_can_be_emptied_by_who_comes_now(own, client, make, server):
    own.publish([Entry("", "q", b"x")] * 2)
    client.config_set("maxmemory", 1)
    later = make(server.url)
    declare(later)
    later.touch(["q"], [("e", "a.*", "q")])
    assert take_all(later) == [b"x", b"x"]
    with pytest.raises(StoreFault, match="maxmemory"):
        later.publish([Entry("", "q", b"x")])
    client.config_set("maxmemory", 0)
    assert later.publish([Entry("", "q", b"x")]) == [1]


@pytest.mark.parametrize("policy", ["allkeys-lru", "noeviction"])
def test_a_redis_that_evicts_events_is_told_once(server, policy, caplog):
    with redis.Redis.from_url(server.url) as client:
        client.config_set("maxmemory", "1gb")
        client.config_set("maxmemory-policy", policy)
    for _ in range(2):
        store = RedisStore(server.url)
        store.open()
        store.close()
    told = [each for each in caplog.messages if "maxmemory-policy" in each]
    assert len(told) == (policy == "allkeys-lru")


def test_what_is_stored_is_no_failure_though_nobody_may_be_told(server, own, client, make):
    client.acl_setuser("mute", enabled=True, nopass=True, keys=["*"], categories=["+@all"])
    mute = make(server.url.replace("//", "//mute:x@"))
    declare(mute)
    assert mute.publish([Entry("", "q", b"x")]) == [1]
    assert take_all(own) == [b"x"]


def test_a_redis_that_has_forgotten_the_scripts(own, client):
    for ask in ASKED:
        client.script_flush()
        ask(own)


def test_a_redis_that_hangs_holds_up_nobody_else(server, own, make):
    hasty = make(server.url, timeout=0.5)

    def is_open():
        """It may take longer now, too, when the machine stands still."""
        with contextlib.suppress(StoreFault):
            hasty.open()
            return hasty.publish([Entry("e", "b", b"")]) == [0] and hasty.take([("q", 1)], 1) == []

    wait_until(is_open, "an open store")
    assert own.size("q") == 0
    assert own.publish([Entry("e", "a.b", b"taken")]) == [1]
    own.take([("q", 1)], LEASE)
    with server.frozen():
        waiting = gevent.spawn(own.size, "q")
        for _ in range(100):
            hasty.changed()
            gevent.sleep(0.001)
        # A hub that is held up turns when the time-out is over.
        assert not waiting.ready()
        with pytest.raises(StoreFault):
            hasty.publish([Entry("e", "a.b", b"x")])
    assert waiting.get(timeout=LIMIT) in (0, 1)  # without the late message, or with it
    assert not hasty.blocks

    # The late answer is to nobody.
    wait_until(lambda: own.size("q") == 1, "the message, which got through after all")
    assert own.publish([Entry("e", "a.b", b"y")]) == [1]
    assert take_all(own) == [b"x", b"y"]


def drip(exchange: Any) -> None:
    exchange.socket.sendall(b"$1000\r\n")
    while True:
        exchange.socket.sendall(b"x")
        gevent.sleep(0.02)


@pytest.mark.parametrize(
    "greeting",
    [
        pytest.param(hang, id="silent"),
        pytest.param(close, id="closing"),
        pytest.param(drip, id="dripping"),
        pytest.param(raw("HTTP/1.1 400 Bad Request\r\n\r\n", close), id="HTTP"),
        pytest.param(raw("\0" * 100, close), id="zeros"),
        pytest.param(raw("+PONG\r\n" * 99, hang), id="always one answer"),
        pytest.param(raw("*1000000000\r\n", hang), id="endless"),
        pytest.param(raw("-LOADING Redis is loading\r\n" * 9, hang), id="loading"),
    ],
)
def test_what_is_no_redis_is_told_in_time(greeting, make):
    with FaultyServer(greeting=greeting) as server:
        url = f"redis://127.0.0.1:{server.port}"
        store = make(url, connect_timeout=0.1, timeout=0.1)
        for ask in (ASKED[0], ASKED[6], ASKED[7]):
            started = time.monotonic()
            with pytest.raises(StoreFault, match=url):
                ask(store)
            assert time.monotonic() - started < LIMIT


def test_a_full_redis_takes_nothing_more_and_gives_what_it_has(own, client):
    own.publish([Entry("e", "a.b", b"%d" % number) for number in range(10)])
    held = own.take([("q", 1)], LEASE)
    client.config_set("maxmemory", "1")

    for entries in ([Entry("e", "a.b", b"x")], [Entry("", "q", b"x", key="k")] * 50):
        with pytest.raises(StoreFault, match="memory"):
            own.publish(entries)
    assert own.size("q") == 9
    own.renew([held[0].id], LEASE)
    own.release([held[0].id])
    own.touch(["q"])
    assert take_all(own) == [b"%d" % number for number in range(10)]

    client.config_set("maxmemory", "0")
    assert own.publish([Entry("e", "a.b", b"x")]) == [1]


def test_a_replica_says_that_it_is_one(server, own, client):
    client.replicaof("127.0.0.1", free_port())
    with pytest.raises(StoreFault, match=f"{server.url}.*replica"):
        own.publish([Entry("e", "a.b", b"x")])


def test_a_key_that_others_have_written(store, prefix):
    with redis.Redis.from_url(REDIS_URL) as client:
        client.set(f"{prefix}epoch", "their own")
    with pytest.raises(StoreFault):
        declare_queue(store, "q")
    with pytest.raises(StoreFault, match="prefix"):
        store.open()


@pytest.mark.parametrize(
    "url",
    ["", "redis:", "http://:hunter2@host", "redis://:hunter2/3@host", "redis://host:hunter2", None,
     "redis://host/0?hunter=2", "redis://host:0"],
)  # fmt: skip
def test_a_url_that_is_none_is_refused_without_its_password(url):
    with pytest.raises(ServiceConfigurationError) as caught:
        RedisStore(url)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan"), "1", None])
@pytest.mark.parametrize("option", ["timeout", "connect_timeout"])
def test_a_timeout_that_is_none_is_refused(option, seconds):
    with pytest.raises(ServiceConfigurationError, match="time-outs"):
        RedisStore("redis://127.0.0.1", **{option: seconds})
