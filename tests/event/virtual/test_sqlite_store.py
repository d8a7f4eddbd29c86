"""SqliteStore: processes that meet in a file, and how it is done.

What all stores do is in test_store_contract.py, what can be wrong in test_sqlite_database.py.
"""

import collections
import gc
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gemstone_sync.event.virtual.sqlite_store import SqliteStore
from gemstone_sync.event.virtual.store import Entry
from tests.support.programs import REPOSITORY, fork
from tests.support.sqlite import execute
from tests.support.waiting import LIMIT, wait_until

from .stores import LEASE, put, take, texts


class Process:
    """A Python process that runs a piece of a program with a store named ``store``."""

    def __init__(self, path: Path, source: str) -> None:
        program = (
            "import os, sys, time\n"
            "from gemstone_sync.event.virtual.sqlite_store import SqliteStore\n"
            "from gemstone_sync.event.virtual.store import Entry\n"
            f"store = SqliteStore({str(path)!r})\n{source}"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
        )

    def write_line(self, text: object) -> None:
        assert self.process.stdin is not None
        print(text, file=self.process.stdin, flush=True)

    def read_line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def kill(self) -> list[str]:
        """The whole lines that it has still said."""
        self.process.kill()
        output, _ = self.process.communicate()
        return [line[:-1] for line in output.splitlines(keepends=True) if line.endswith("\n")]

    def wait(self) -> str:
        """What it still says; it must end well."""
        try:
            output, _ = self.process.communicate(timeout=LIMIT)
        finally:
            self.process.kill()
        assert self.process.returncode == 0
        return output


# Processes


def test_processes_that_make_files_and_bindings_at_the_same_time_share_them(path: Path) -> None:
    # Not forked from this one: gevent ends its native threads in the child, and may hang there.
    make = """
print("ready", flush=True)
for line in sys.stdin:
    store = SqliteStore(line.strip())
    store.declare_exchange("x", "topic")
    store.declare_queue("q")
    for number in range(5):
        store.declare_queue(f"{os.getpid()}.{number}")
        store.bind("x", f"*.{number}", f"{os.getpid()}.{number}")
    assert store.publish([Entry("", "q", b"x")]) == [1]
    print("made", flush=True)
"""
    processes = [Process(path, make) for _ in range(3)]
    assert [process.read_line() for process in processes] == ["ready"] * 3
    for attempt in range(3):
        file = path.with_name(f"{attempt}.db")
        for process in processes:
            process.write_line(file)
        assert [process.read_line() for process in processes] == ["made"] * 3
        store = SqliteStore(file)
        assert take(store) == ["x"] * 3
        assert len(store.bindings("x")) == 15
        assert store.publish([Entry("x", f"a.{i}", b"") for i in range(5)]) == [3] * 5
        store.close()
    for process in processes:
        process.wait()


def test_what_a_killed_process_had_taken_comes_back_in_order(
    path: Path, store: SqliteStore
) -> None:
    put(store, *map(str, range(100)))
    source = """
taken = store.take([("q", 50)], 1.0)
store.acknowledge([message.id for message in taken[:10]])
print(len(taken), flush=True)
sys.stdin.readline()
"""
    process = Process(path, source)
    assert process.read_line() == "50"
    assert take(store, 1) == ["50"]
    process.kill()
    wait_until(lambda: store.size("q") == 89, "the end of 40 leases")
    taken = store.take([("q", 1000)], LEASE)
    assert [int(message.payload) for message in taken] == [*range(10, 50), *range(51, 100)]
    assert [message.deliveries for message in taken] == [1] * 40 + [0] * 49


@pytest.mark.slow  # many processes
def test_processes_that_are_killed_at_any_moment_lose_nothing(
    path: Path, store: SqliteStore
) -> None:
    """Whatever a publisher says is published is taken; at least once, and mostly once."""
    publisher = """
for number in range(300):
    store.publish([Entry("", "q", b"%d" % number, key)])
    print(number, flush=True)
"""
    worker = """
while True:
    for message in store.take([("q", 7)], 0.3):
        print(message.payload.decode(), flush=True)
        store.acknowledge([message.id])
    print("idle", flush=True)
    time.sleep(0.005)
"""
    plain, keyed = (Process(path, f"key = {key!r}\n{publisher}") for key in (None, "k"))
    seen: collections.Counter[str] = collections.Counter()
    for _ in range(3):
        workers = [Process(path, worker) for _ in range(2)]
        for each in workers:
            seen.update(each.read_line() for _ in range(30))
        for each in workers:
            seen.update(each.kill())
    published = collections.Counter(plain.kill())
    published.update(keyed.wait().splitlines())

    def is_empty() -> bool:
        taken = store.take([("q", 1000)], LEASE)
        seen.update(texts(taken))
        assert store.acknowledge([message.id for message in taken]) == len(taken)
        return execute(path, "SELECT count(*) FROM gemstone_messages") == [(0,)]

    wait_until(is_empty, "the rest")
    assert published
    # Each number was published by one or by both.
    assert published - seen == collections.Counter()


def test_after_a_fork_each_process_has_its_own_connection(path: Path, store: SqliteStore) -> None:
    memory = SqliteStore(":memory:")
    for each in (store, memory):
        each.declare_queue("q")
        put(each, "1", "2")
    child = fork()
    if child == 0:  # pragma: no cover
        code = 1
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                assert memory.size("q") == 0
                code = 0 if store.changed() and take(store, 1) == ["1"] else 2
                store.close()
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert take(store) == ["2"]
    assert take(memory) == ["1", "2"]
    assert not [name for name in os.listdir(path.parent) if "journal" in name]


def test_memory_ends_with_its_last_user() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store: SqliteStore | None = SqliteStore(":memory:")
        assert store is not None
        store.declare_queue("q")
        other: SqliteStore | None = store.another()
        store = None
        gc.collect()
        assert other is not None
        put(other, "1")
        other = None
        gc.collect()


def test_memories_know_nothing_of_each_other() -> None:
    one, two = SqliteStore(":memory:"), SqliteStore(":memory:")
    one.declare_queue("q")
    assert two.publish([Entry("", "q", b"")]) == [0]
    assert not one.blocks


def test_threads_share_a_store(store: SqliteStore) -> None:
    from gevent.threadpool import ThreadPool

    pool = ThreadPool(8)

    def work(number: int) -> list[str]:
        for i in range(20):
            put(store, f"{number}.{i}")
        return take(store, 10)

    results = [pool.spawn(work, number) for number in range(8)]
    taken = [payload for result in results for payload in result.get(timeout=LIMIT)]
    taken += take(store, 1000)
    pool.kill()
    assert sorted(taken) == sorted(f"{number}.{i}" for number in range(8) for i in range(20))


@pytest.mark.slow  # much is written beside a reader
def test_the_log_does_not_grow_for_ever_while_others_read(path: Path, store: SqliteStore) -> None:
    reader = Process(
        path,
        """
print("reads", flush=True)
while True:
    store.take([("none", 1)], 1)
    store.changed()
    store.size("q")
""",
    )
    reader.read_line()
    written = largest = 0
    fast = SqliteStore(path, synchronous="NORMAL")
    try:
        # It grows for as long as the reader is in the middle of reading: on a busy machine that may
        # be for much of what is written.
        while written < max(32_000_000, 3 * largest) and written < 300_000_000:
            put(fast, *["x" * 20_000] * 20)
            written += 20 * 20_000
            largest = max(largest, (path.parent / "events.db-wal").stat().st_size)
            fast.acknowledge([message.id for message in fast.take([("q", 1000)], LEASE)])
    finally:
        reader.kill()
        fast.close()
    # SQLite empties it from 4 MB on, when it can.
    assert largest <= written / 3


# How it is done


def plans(store: SqliteStore, act: Callable[[], Any]) -> list[str]:
    """How SQLite does what is executed meanwhile."""
    connection = store._database._connection
    assert connection is not None
    statements: list[str] = []
    connection.set_trace_callback(statements.append)
    act()
    connection.set_trace_callback(None)
    found = []
    for statement in dict.fromkeys(statements):
        if statement.lstrip().startswith(("SELECT", "UPDATE", "DELETE", "INSERT")):
            plan = connection.execute(f"EXPLAIN QUERY PLAN {statement}").fetchall()
            found += [row[3] for row in plan]
    return found


def test_no_statement_goes_through_all_messages(store: SqliteStore) -> None:
    store.declare_queue("dead")
    store.declare_queue("q", delivery_limit=1, dead_letter_queue="dead")

    def act() -> None:
        put(store, "1", "2", key="k")
        put(store, "3", due=time.time() + 60)
        for lease in (0.001, LEASE, LEASE):
            taken = wait_until(lambda lease=lease: store.take([("q", 1)], lease), "a message")
            store.renew([taken[0].id], lease)
            if lease == LEASE:
                store.release([taken[0].id])
                break
        store.acknowledge([message.id for message in store.take([("q", 10)], LEASE)])
        store.size("q")
        store.touch(["q"])

    found = plans(store, act)
    assert found
    scans = [plan for plan in found if plan.startswith("SCAN") and "gemstone_messages" in plan]
    # The earliest moment is the first entry of an index.
    assert [plan for plan in scans if "USING COVERING INDEX" not in plan] == []
    assert [plan for plan in found if "TEMP B-TREE" in plan and "LAST" not in plan] == []


def test_looking_for_news_costs_next_to_nothing(store: SqliteStore) -> None:
    """Less than half of what the simplest question costs, which is 12 µs on an idle machine."""

    def cost(ask: Callable[[], object]) -> float:
        began = time.thread_time()
        for _ in range(500):
            ask()
        return time.thread_time() - began

    store.take([("q", 1)], LEASE)
    store.changed()
    # The least of several: the garbage collector may have its turn.
    least = [min(cost(ask) for _ in range(5)) for ask in (store.changed, lambda: store.size("q"))]
    assert least[0] < least[1] / 2


def test_what_lies_in_the_file_can_be_read_by_people(path: Path, store: SqliteStore) -> None:
    put(store, json.dumps({"a": 1}))
    statement = "SELECT q.name, m.payload FROM gemstone_messages m, gemstone_queues q "
    found = execute(path, f"{statement} WHERE q.id = m.queue")
    assert found == [("q", b'{"a": 1}')]
