"""RedisStore: a Redis that is away, slow, emptied, full or guarded; and what it costs to wait.

What all stores do is in test_store_contract.py.
"""

import signal
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
import redis

from gemstone_sync import ServiceConfigurationError
from gemstone_sync.event.virtual.redis_store import RedisStore
from gemstone_sync.event.virtual.store import Entry, StoreFault
from tests.support.faulty_server import FaultyServer, close, hang, raw
from tests.support.machine import free_port
from tests.support.programs import program
from tests.support.redis import REDIS_URL, private_redis, shared_redis
from tests.support.waiting import LIMIT, gather, wait_until

LEASE = 60.0

Ask = Callable[[RedisStore], Any]
ASKED: list[Ask] = [
    lambda store: store.open(),
    lambda store: store.declare_exchange("e", "topic"),
    lambda store: store.declare_queue("q"),
    lambda store: store.delete_queue("other"),
    lambda store: store.bind("e", "a.*", "q"),
    lambda store: store.unbind("e", "b.*", "q"),
    lambda store: store.bindings("e"),
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
    store.declare_exchange("e", "topic")
    store.declare_queue("q")
    store.bind("e", "a.*", "q")


def payloads(store: RedisStore, number: int = 100, queue: str = "q") -> list[bytes]:
    """Take and acknowledge."""
    taken = store.take([(queue, number)], LEASE)
    assert store.acknowledge([message.id for message in taken]) == len(taken)
    return [message.payload for message in taken]


def patient(url: str, **options: Any) -> RedisStore:
    return RedisStore(url, **{"connect_timeout": LIMIT, "timeout": LIMIT, **options})


@pytest.fixture
def prefix() -> Iterator[str]:
    with shared_redis() as prefix:
        yield prefix


@pytest.fixture
def make(prefix: str) -> Iterator[Callable[[], RedisStore]]:
    """A store, and more over the same queues."""
    made = []

    def make() -> RedisStore:
        made.append(patient(REDIS_URL, prefix=prefix))
        made[-1].open()
        return made[-1]

    yield make
    for store in made:
        store.close()


@pytest.fixture
def store(make: Callable[[], RedisStore]) -> RedisStore:
    store = make()
    declare(store)
    return store


# What is Redis's own


def test_any_bytes_and_any_names(store: RedisStore) -> None:
    binary = bytes(range(256)) * 300
    for queue in ("a:b", "é 🚀", "\ud800", "{q}", "q\0", "*"):
        store.declare_queue(queue)
        store.bind("e", "odd", queue)
    assert ("odd", "\ud800") in store.bindings("e")

    assert store.publish([Entry("e", "odd", binary, key="k\ud800\0"), Entry("", "q", b"")]) == [
        6,
        1,
    ]

    assert payloads(store) == [b""]
    for queue in ("a:b", "é 🚀", "\ud800", "{q}", "q\0", "*"):
        assert payloads(store, queue=queue) == [binary]


def test_no_key_is_mistaken_for_another(store: RedisStore) -> None:
    keys = ["", "1", "11", "1:", "a", "a0000000000000001", "a\0", "é"]
    store.publish([Entry("", "q", key.encode(), key=key) for key in keys])
    store.publish([Entry("", "q", b"later", key=key) for key in keys])

    first = store.take([("q", 100)], LEASE)
    assert [message.payload for message in first] == [key.encode() for key in keys]
    store.acknowledge([message.id for message in first])
    assert payloads(store) == [b"later"] * len(keys)


def test_a_big_batch_is_one_script(store: RedisStore) -> None:
    entries = [Entry("e", "a.b", b"%d" % number, key=str(number % 7)) for number in range(5000)]
    assert store.publish(entries) == [1] * 5000
    assert store.size("q") == 5000

    found = []
    while batch := payloads(store, 1000):
        found += batch
    assert sorted(map(int, found)) == list(range(5000))
    for shard in range(7):
        mine = [number for number in map(int, found) if number % 7 == shard]
        assert mine == sorted(mine)


def test_nothing_is_left_of_what_was_done(store: RedisStore, prefix: str) -> None:
    store.declare_queue("gone", expires=0.05)
    store.bind("e", "a.*", "gone")
    store.publish(
        [Entry("e", "a.b", b"x", key=key, due=due) for key in (None, "k") for due in (0, 1)]
    )
    wait_until(lambda: store.bindings("e") == [("a.*", "q")], "the end of the queue")
    while payloads(store):
        pass
    store.delete_queue("q")

    with redis.Redis.from_url(REDIS_URL) as client:
        left = {key.decode().removeprefix(prefix) for key in client.scan_iter(match=f"{prefix}*")}
    assert left == {"epoch", "version", "sequence", "exchanges"}


def test_a_binding_of_another_process_counts_from_its_return_on(
    store: RedisStore, make: Callable[[], RedisStore]
) -> None:
    other = make()
    for number in range(20):
        assert store.publish([Entry("e", f"n.{number}", b"x")]) == [0]
        other.declare_queue(f"q{number}")
        other.bind("e", f"n.{number}", f"q{number}")
        assert store.publish([Entry("e", f"n.{number}", b"x")]) == [1]
        other.unbind("e", f"n.{number}", f"q{number}")
        assert store.publish([Entry("e", f"n.{number}", b"x")]) == [0]


def test_a_queue_that_is_gone_is_noticed_by_its_consumer(store: RedisStore) -> None:
    store.declare_queue("mine", expires=0.05)
    store.touch(["q", "mine"])
    wait_until(lambda: store.publish([Entry("", "mine", b"x")]) == [0], "its end")

    with pytest.raises(StoreFault, match="mine"):
        store.touch(["q", "mine"])
    with pytest.raises(StoreFault, match="mine"):
        store.bind("e", "a.*", "mine")


# Waiting


def test_nobody_is_woken_for_nothing(store: RedisStore) -> None:
    store.take([("q", 1)], LEASE)
    store.changed()

    assert [store.changed() for _ in range(10)] == [False] * 10


@pytest.mark.parametrize(
    "act",
    [
        pytest.param(lambda o, ids: o.publish([Entry("e", "a.b", b"x")]), id="publish"),
        pytest.param(lambda o, ids: o.acknowledge(ids), id="acknowledge, with more of its key"),
        pytest.param(lambda o, ids: o.release(ids), id="release"),
    ],
)
def test_another_process_wakes_a_waiting_one(
    store: RedisStore, make: Callable[[], RedisStore], act: Callable[[RedisStore, Any], Any]
) -> None:
    store.publish([Entry("", "q", b"1", key="k"), Entry("", "q", b"2", key="k")])
    taken = store.take([("q", 1)], LEASE)
    store.take([("q", 1)], LEASE)
    wait_until(lambda: not store.changed(), "silence")
    act(make(), [message.id for message in taken])

    wait_until(store.changed, "news")
    assert store.take([("q", 1)], LEASE)


def test_what_becomes_due_is_noticed_in_time(
    store: RedisStore, make: Callable[[], RedisStore]
) -> None:
    store.take([("q", 1)], LEASE)

    def seconds_late() -> float:
        due = time.time() + 0.2
        make().publish([Entry("", "q", b"later", due=due)])
        wait_until(lambda: store.changed() and payloads(store), "the moment")
        return time.time() - due

    late = [seconds_late() for _ in range(3)]
    assert min(late) >= 0
    assert sorted(late)[1] < 0.5  # once the machine may stand still


def test_the_lease_of_another_is_noticed_when_it_ends(
    store: RedisStore, make: Callable[[], RedisStore]
) -> None:
    store.publish([Entry("", "q", b"x")])
    assert make().take([("q", 1)], 0.2)
    assert store.take([("q", 1)], LEASE) == []
    taken: list[Any] = []

    def look() -> bool:
        if store.changed():
            taken.extend(store.take([("q", 1)], LEASE))
        return bool(taken)

    wait_until(look, "the end of the lease")
    assert taken[0].deliveries == 1


def test_a_silent_subscription_delays_and_loses_nothing(
    store: RedisStore, make: Callable[[], RedisStore]
) -> None:
    store.take([("q", 1)], LEASE)
    store.changed()
    with redis.Redis.from_url(REDIS_URL) as client:
        ours = store._subscription._connection  # type: ignore[union-attr]
        _, port = ours._sock.getsockname()
        client.execute_command("CLIENT", "KILL", "ADDR", f"127.0.0.1:{port}")
    make().publish([Entry("", "q", b"x")])

    wait_until(store.changed, "news")
    assert payloads(store) == [b"x"]
    store.changed()
    assert not store.changed()


# Redis away, slow, emptied, full


@pytest.mark.parametrize("ask", ASKED)
def test_a_redis_that_is_down(ask: Ask) -> None:
    port = free_port()
    store = RedisStore(f"redis://user:hunter2@127.0.0.1:{port}/3")

    with pytest.raises(StoreFault) as caught:
        ask(store)

    assert f"redis://127.0.0.1:{port}/3" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in repr(store)
    store.close()


@pytest.mark.parametrize("credentials", ["", ":hunter3@", "hunter:hunter2@"])
def test_a_wrong_password(tmp_path: Path, credentials: str) -> None:
    with private_redis(tmp_path, "--requirepass", "hunter2") as server:
        good = patient(server.url.replace("//", "//:hunter2@"))
        declare(good)
        assert good.take([("q", 1)], LEASE) == []
        assert "hunter2" not in repr(good)
        good.close()

        bad = patient(server.url.replace("//", f"//{credentials}"))
        for ask in ASKED:
            with pytest.raises(StoreFault) as caught:
                ask(bad)
            assert "hunter" not in str(caught.value)
            assert server.url in str(caught.value)
        bad.close()


def test_a_redis_that_was_started_again_empty(tmp_path: Path) -> None:
    with private_redis(tmp_path) as server:
        stores = [patient(server.url) for _ in ASKED[1:]]
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
        assert payloads(stores[0]) == [b"x"]
        for store in stores:
            store.close()


def test_a_redis_that_was_emptied_under_open_connections(tmp_path: Path) -> None:
    with private_redis(tmp_path) as server:
        one, other = patient(server.url), patient(server.url)
        declare(one)
        declare(other)
        with redis.Redis.from_url(server.url) as client:
            client.flushall()
        declare(one)

        with pytest.raises(StoreFault, match="declared again"):
            other.publish([Entry("e", "a.b", b"x")])
        other.open()
        assert other.publish([Entry("e", "a.b", b"x")]) == [1]
        one.close()
        other.close()


def test_a_redis_that_has_forgotten_the_scripts(tmp_path: Path) -> None:
    with private_redis(tmp_path) as server, redis.Redis.from_url(server.url) as client:
        store = patient(server.url)
        declare(store)
        for ask in ASKED:
            client.script_flush()
            ask(store)
        store.close()


def test_a_redis_that_hangs_holds_up_nobody_else(tmp_path: Path) -> None:
    with private_redis(tmp_path) as server:
        store, other = patient(server.url, timeout=0.5), patient(server.url)
        declare(store)
        assert other.size("q") == 0
        assert store.publish([Entry("e", "a.b", b"w")]) == [1]
        store.take([("q", 1)], LEASE)
        with server.frozen():
            waiting = gevent.spawn(other.size, "q")
            for _ in range(100):
                store.changed()
                gevent.sleep(0.001)
            # A hub that is held up turns when the time-out is over.
            assert not waiting.ready()
            with pytest.raises(StoreFault):
                store.publish([Entry("e", "a.b", b"x")])
        assert waiting.get(timeout=LIMIT) in (0, 1)  # without the late message, or with it
        other.close()
        assert not store.blocks

        # The late answer is to nobody.
        wait_until(lambda: store.size("q") == 1, "the message, which got through after all")
        assert store.publish([Entry("e", "a.b", b"y")]) == [1]
        assert payloads(store) == [b"x", b"y"]
        store.close()


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
def test_what_is_no_redis(greeting: Any) -> None:
    with FaultyServer(greeting=greeting) as server:
        url = f"redis://127.0.0.1:{server.port}"
        store = RedisStore(url, connect_timeout=0.3, timeout=0.3)
        for ask in (ASKED[0], ASKED[8], ASKED[9]):
            started = time.monotonic()
            with pytest.raises(StoreFault, match=url):
                ask(store)
            assert time.monotonic() - started < LIMIT
        store.close()


def test_a_full_redis_takes_nothing_more_and_gives_what_it_has(tmp_path: Path) -> None:
    with private_redis(tmp_path) as server, redis.Redis.from_url(server.url) as client:
        store = patient(server.url)
        declare(store)
        store.publish([Entry("e", "a.b", b"%d" % number) for number in range(10)])
        held = store.take([("q", 1)], LEASE)
        client.config_set("maxmemory", "1")

        for entries in ([Entry("e", "a.b", b"x")], [Entry("", "q", b"x", key="k")] * 50):
            with pytest.raises(StoreFault, match="memory"):
                store.publish(entries)
        assert store.size("q") == 9
        store.renew([held[0].id], LEASE)
        store.release([held[0].id])
        store.touch(["q"])
        assert payloads(store) == [b"%d" % number for number in range(10)]

        client.config_set("maxmemory", "0")
        assert store.publish([Entry("e", "a.b", b"x")]) == [1]
        store.close()


def test_a_replica_says_that_it_is_one(tmp_path: Path) -> None:
    with private_redis(tmp_path) as server, redis.Redis.from_url(server.url) as client:
        store = patient(server.url)
        declare(store)
        client.replicaof("127.0.0.1", free_port())  # type: ignore[no-untyped-call]

        with pytest.raises(StoreFault, match=f"{server.url}.*replica"):
            store.publish([Entry("e", "a.b", b"x")])
        store.close()


def test_a_key_that_others_have_written(make: Callable[[], RedisStore], prefix: str) -> None:
    store = make()
    with redis.Redis.from_url(REDIS_URL) as client:
        client.set(f"{prefix}epoch", "their own")

    with pytest.raises(StoreFault):
        store.declare_queue("q")
    with pytest.raises(StoreFault, match="prefix"):
        store.open()


@pytest.mark.parametrize(
    "url",
    ["", "redis:", "http://:hunter2@host", "redis://:hunter2/3@host", "redis://host:hunter2", None,
     "redis://host/0?hunter=2", "redis://host:0"],
)  # fmt: skip
def test_a_url_that_is_none(url: Any) -> None:
    with pytest.raises(ServiceConfigurationError) as caught:
        RedisStore(url)

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan"), "1", None])
@pytest.mark.parametrize("option", ["timeout", "connect_timeout"])
def test_a_timeout_that_is_none(option: str, seconds: Any) -> None:
    with pytest.raises(ServiceConfigurationError, match="time-outs"):
        RedisStore("redis://127.0.0.1", **{option: seconds})


# Greenlets, threads, processes


def test_greenlets_and_real_threads_at_once(store: RedisStore) -> None:
    pool = gevent.get_hub().threadpool

    def publish(number: int) -> int:
        return sum(sum(store.publish([Entry("e", "a.b", b"%d" % number)] * 5)) for _ in range(10))

    in_threads = [pool.spawn(publish, number) for number in range(5)]
    in_greenlets = gather([lambda n=n: publish(n) for n in range(5, 55)])

    assert in_greenlets + [result.get(timeout=LIMIT) for result in in_threads] == [50] * 55
    found: list[bytes] = []
    while batch := payloads(store, 1000):
        found += batch
    assert len(found) == 55 * 50


PLAIN = """
import os, sys, threading
from gemstone_sync.event.virtual.redis_store import RedisStore
from gemstone_sync.event.virtual.store import Entry

store = RedisStore({url!r}, prefix={prefix!r})
assert store.blocks is True
store.open()
store.declare_queue("q")
def publish():
    for number in range(20):
        store.publish([Entry("", "q", b"x")] * 5)
threads = [threading.Thread(target=publish) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert len(store.take([("q", 300)], 60)) == 300
assert store.changed() and store.changed() in (True, False)

child = os.fork()
if child == 0:
    assert len(store.take([("q", 50)], 60)) == 50
    store.changed()
    store.close()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert len(store.take([("q", 300)], 60)) == 50
store.changed()
store.close()
assert "gevent.monkey" not in sys.modules or not sys.modules["gevent.monkey"].saved
"""


def test_a_plain_program_with_threads_and_a_fork(prefix: str, run_python: Any) -> None:
    ended = run_python(PLAIN.format(url=REDIS_URL, prefix=prefix))

    assert (ended.returncode, ended.stderr) == (0, "")


WORKER = """
import os, sys
from gemstone_sync.event.virtual.redis_store import RedisStore
store = RedisStore({url!r}, prefix={prefix!r})
store.open()
while True:
    for message in store.take([("q", 7)], 3.0):
        os.write(1, message.payload + b"\\n")
        store.acknowledge([message.id])
"""


def test_workers_that_are_killed_lose_nothing(
    store: RedisStore, prefix: str, tmp_path: Path
) -> None:
    sent = [f"{number}-{uuid.uuid4().hex}" for number in range(3000)]
    store.publish([Entry("e", "a.b", text.encode()) for text in sent])
    source = WORKER.format(url=REDIS_URL, prefix=prefix)
    told: list[str] = []
    for number in range(4):
        folder = tmp_path / str(number)
        folder.mkdir()
        with program(source, folder) as worker:
            worker.wait_until(lambda w=worker: w.stdout.count("\n") > 200, "some of its work")
            worker.send_signal(signal.SIGKILL)
            worker.wait()
            told += worker.stdout.split()

    def rest() -> bool:
        told.extend(payload.decode() for payload in payloads(store, 1000))
        return len(set(told)) == len(sent)

    wait_until(rest, "everything else")
    assert set(told) == set(sent)
    assert store.size("q") == 0
    # At most what a worker had told and not acknowledged yet.
    assert len(told) - len(sent) <= 4
