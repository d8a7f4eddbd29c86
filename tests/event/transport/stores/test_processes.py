"""Stores that several processes use: at the same time, forked, not patched, killed."""

import collections
import contextlib
import functools
import uuid
from collections.abc import Callable

import gevent
import pytest

from gemstone_sync.event.transport.sqlite.store import SqliteStore
from gemstone_sync.event.transport.stores.store import Entry
from tests.support.programs import Program, program
from tests.support.waiting import LIMIT, gather, wait_until

from .support import LEASE, STORES, declare_queue, put, take, texts

HEAD = """
import os, sys, threading, time
from gemstone_sync.event.transport.redis.store import RedisStore
from gemstone_sync.event.transport.sqlite.store import SqliteStore
from gemstone_sync.event.transport.stores.store import Entry, StoredQueue
"""

Run = Callable[..., Program]


@pytest.fixture(params=["sqlite", "redis"])
def make(request, tmp_path):
    with STORES[request.param](tmp_path) as make_store:
        yield make_store


@pytest.fixture
def store(make):
    """There is a queue "q"."""
    store = make()
    store.open()
    declare_queue(store, "q")
    yield store
    store.close()


@pytest.fixture
def run(make, tmp_path):
    """Runs a program, with a `store` over the same messages, that is killed with the test."""
    store = f"store = {make.func.__name__}(*{make.args!r}, **{make.keywords!r})\n"
    with contextlib.ExitStack() as stack:

        def run(source):
            path = tmp_path / f"program-{uuid.uuid4().hex}.py"
            path.write_text(HEAD + store + source)
            return stack.enter_context(program(path, tmp_path))

        yield run


def test_greenlets_and_real_threads_share_a_store(store):
    pool = gevent.get_hub().threadpool

    def publish(name):
        for number in range(5):
            put(store, f"{name} {number}", f"{name} {number}")

    in_threads = [pool.spawn(publish, f"thread {number}") for number in range(5)]
    gather([functools.partial(publish, f"greenlet {number}") for number in range(10)])
    for thread in in_threads:
        thread.get(timeout=LIMIT)
    assert set(collections.Counter(take(store, 1000)).values()) == {2}
    assert store.size("q") == 0


PLAIN = """
assert store.blocks is True
store.open()
def publish():
    for number in range(20):
        store.publish([Entry("", "q", b"x")] * 5)
threads = [threading.Thread(target=publish) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert len(store.take([("q", 300)], 60)) == 300
assert store.changed() and store.changed() in (True, False)

import warnings
# Python 3.12 counts threads that have been joined, until the system has let go of them.
warnings.filterwarnings("ignore", "This process .* is multi-threaded")
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
assert not getattr(sys.modules.get("gevent.monkey"), "saved", None)
"""


def test_a_plain_program_with_threads_and_a_fork(store, run):
    plain = run(PLAIN)
    assert (plain.wait(), plain.stderr) == (0, "")


def test_processes_that_make_files_and_bindings_at_the_same_time_share_them(tmp_path):
    # Not forked from this one: gevent ends its native threads in the child, and may hang there.
    source = """
print("ready")
for attempt in range(3):
    while not os.path.exists(f"go {attempt}"):
        time.sleep(0.0005)
    store = SqliteStore(f"{attempt}.db")
    own = [f"{os.getpid()}.{number}" for number in range(5)]
    bindings = [("x", f"*.{name.partition('.')[2]}", name) for name in own]
    store.declare({"x": "topic"}, [StoredQueue(name) for name in ("q", *own)], bindings)
    assert store.publish([Entry("", "q", b"x")]) == [1]
    print("made")
"""
    with contextlib.ExitStack() as stack:
        start = functools.partial(program, HEAD + source, tmp_path)
        programs = [stack.enter_context(start()) for _ in range(3)]
        for each in programs:
            each.wait_until(lambda each=each: "ready" in each.stdout, "its start")
        for attempt in range(3):
            (tmp_path / f"go {attempt}").touch()
        assert [each.wait() for each in programs] == [0, 0, 0], [each.stderr for each in programs]
    for attempt in range(3):
        store = SqliteStore(tmp_path / f"{attempt}.db")
        assert take(store) == ["x"] * 3
        assert store.publish([Entry("x", f"a.{i}", b"") for i in range(5)]) == [3] * 5
        store.close()


def test_what_a_killed_process_had_taken_comes_back_in_order(store, run, tmp_path):
    put(store, *map(str, range(100)))
    killed = run("""
taken = store.take([("q", 50)], 60.0)
store.acknowledge([message.id for message in taken[:10]])
print(len(taken), flush=True)
while not os.path.exists("looked"):
    time.sleep(0.01)
store.renew([message.id for message in taken[10:]], 0.5)
print("renewed", flush=True)
time.sleep(60)
""")
    killed.wait_until(lambda: killed.stdout == "50\n", "what it takes")
    assert take(store, 1) == ["50"]
    (tmp_path / "looked").touch()
    killed.wait_until(lambda: "renewed" in killed.stdout, "leases that end soon")
    killed.kill()
    wait_until(lambda: store.size("q") == 89, "the end of 40 leases")
    taken = store.take([("q", 1000)], LEASE)
    assert [int(message.payload) for message in taken] == [*range(10, 50), *range(51, 100)]
    assert [message.deliveries for message in taken] == [1] * 40 + [0] * 49


PUBLISHER = """
for number in range(1000):
    store.publish([Entry("", "q", b"%d" % number, {key!r})])
    print(number, flush=True)
"""
WORKER = """
while True:
    for message in store.take([("q", 7)], 5.0):  # a lease that outlives a stall of the machine
        print(message.payload.decode(), flush=True)
        store.acknowledge([message.id])
    time.sleep(0.005)
"""


def lines(running: Program) -> list[str]:
    """The whole lines that it has said."""
    return running.stdout.split("\n")[:-1]


@pytest.mark.slow  # processes that are killed
def test_processes_that_are_killed_at_any_moment_lose_nothing(store, run):
    """Whatever a publisher says is published is taken; at least once, and mostly once."""
    publishers = [run(PUBLISHER.format(key=key)) for key in (None, "k")]
    killed = []
    for _ in range(2):
        workers = [run(WORKER) for _ in range(2)]
        for worker in workers:
            worker.wait_until(lambda w=worker: len(lines(w)) > 30, "some of its work")
        for worker in workers:
            worker.kill()
        killed += workers
    for publisher in publishers:
        publisher.kill()
    # Each number was published by one or by both.
    published = collections.Counter(line for each in publishers for line in lines(each))
    seen = collections.Counter(line for each in killed for line in lines(each))

    def all_are_seen():
        while taken := store.take([("q", 1000)], LEASE):
            seen.update(texts(taken))
            assert store.acknowledge([message.id for message in taken]) == len(taken)
        return not published - seen

    assert published
    wait_until(all_are_seen, "the rest")
    # At most one for each worker, which it had told and not acknowledged yet, and one that a
    # publisher had published and not told yet.
    assert sum((seen - published).values()) <= len(killed) + len(publishers)


@pytest.mark.slow  # much is written beside a reader
@pytest.mark.parametrize("make", ["sqlite"], indirect=True)
def test_the_log_does_not_grow_for_ever_while_others_read(store, run, tmp_path):
    reader = run("""
print("reads", flush=True)
while True:
    store.take([("none", 1)], 1)
    store.changed()
    store.size("q")
""")
    reader.wait_until(lambda: reader.stdout, "its start")
    written = largest = 0
    busy = SqliteStore(tmp_path / "events.db")
    # It grows for as long as the reader is in the middle of reading: on a busy machine that may
    # be for much of what is written.
    while written < max(32_000_000, 3 * largest) and written < 300_000_000:
        put(busy, *["x" * 20_000] * 20)
        written += 20 * 20_000
        largest = max(largest, (tmp_path / "events.db-wal").stat().st_size)
        busy.acknowledge([message.id for message in busy.take([("q", 1000)], LEASE)])
    busy.close()
    # SQLite empties it from 4 MB on, when it can.
    assert largest <= written / 3
