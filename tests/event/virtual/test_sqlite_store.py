"""What is special about SQLite: processes that meet in a file, and what can be wrong with it."""

import collections
import contextlib
import gc
import json
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from gemstone_sync.errors import ServiceConfigurationError
from gemstone_sync.event.virtual import sqlite_database
from gemstone_sync.event.virtual.sqlite_store import SqliteStore
from gemstone_sync.event.virtual.store import Entry, StoreFault
from tests.support.programs import REPOSITORY, fork
from tests.support.waiting import LIMIT, wait_until

LEASE = 60.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(path)
    store.open()
    yield store
    store.close()


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another program writes, and does not end its transaction."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")
        connection.close()


def put(store: SqliteStore, *payloads: str, queue: str = "q", **options: Any) -> None:
    entries = [Entry("", queue, payload.encode(), **options) for payload in payloads]
    assert store.publish(entries) == [1] * len(payloads)


def take(store: SqliteStore, number: int = 10, queue: str = "q") -> list[str]:
    return [message.payload.decode() for message in store.take([(queue, number)], LEASE)]


class Process:
    """A Python process that runs a piece of a program with a store named ``store``."""

    def __init__(self, path: Path, source: str, **options: Any) -> None:
        program = (
            "import os, sys, time\n"
            "from gemstone_sync.event.virtual.sqlite_store import SqliteStore\n"
            "from gemstone_sync.event.virtual.store import Entry, StoreFault\n"
            f"store = SqliteStore({str(path)!r})\n{source}"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
            **options,
        )

    def read_line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def go_on(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def kill(self) -> list[str]:
        """The whole lines that it has still said."""
        self.process.send_signal(signal.SIGKILL)
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


def at_once(sources: Sequence[tuple[Path, str]]) -> None:
    """Run each in a process of its own, all from one moment on.

    Not forked from this one: gevent ends its native threads in the child, and may hang there.
    """
    ready = "print('ready', flush=True)\nsys.stdin.readline()\n"
    processes = [Process(path, f"{ready}{source}") for path, source in sources]
    for process in processes:
        assert process.read_line() == "ready"
    for process in processes:
        process.go_on()
    for process in processes:
        process.wait()


def test_bindings_that_eight_processes_make_at_once_are_all_there(path: Path) -> None:
    bind = """
for number in range(20):
    queue = f"{os.getpid()}.{number}"
    store.declare_exchange("x", "topic")
    store.declare_queue(queue)
    store.bind("x", f"*.{number}", queue)
"""
    at_once([(path, bind)] * 8)
    store = SqliteStore(path)
    assert len(store.bindings("x")) == 160
    assert store.publish([Entry("x", f"a.{i}", b"") for i in range(20)]) == [8] * 20
    store.close()


def test_processes_that_make_the_file_at_the_same_time_share_it(path: Path) -> None:
    make = """
store.declare_queue("q")
assert store.publish([Entry("", "q", b"x")]) == [1]
"""
    files = [path.with_name(f"{attempt}.db") for attempt in range(3)]
    for file in files:
        at_once([(file, make)] * 6)
        store = SqliteStore(file)
        assert take(store) == ["x"] * 6
        store.close()


def test_what_a_killed_process_had_taken_comes_back_in_order(
    path: Path, store: SqliteStore
) -> None:
    store.declare_queue("q")
    put(store, *map(str, range(100)))
    source = """
taken = store.take([("q", 50)], 0.5)
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


@pytest.mark.slow
def test_processes_that_are_killed_at_any_moment_lose_nothing(
    path: Path, store: SqliteStore
) -> None:
    """Whatever a publisher says is published is taken; at least once, and mostly once."""
    store.declare_queue("q")
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
    end = time.monotonic() + LIMIT
    while rows(path, "SELECT count(*) FROM gemstone_messages") != [(0,)]:
        assert time.monotonic() < end
        taken = store.take([("q", 1000)], LEASE)
        seen.update(message.payload.decode() for message in taken)
        assert store.acknowledge([message.id for message in taken]) == len(taken)
    assert published
    # Each number was published by one or by both.
    assert published - seen == collections.Counter()


def rows(path: Path, statement: str) -> list[Any]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute(statement).fetchall()
    finally:
        connection.close()


def test_after_a_fork_each_process_has_its_own_connection(path: Path, store: SqliteStore) -> None:
    store.declare_queue("q")
    put(store, "1", "2")
    child = fork()
    if child == 0:  # pragma: no cover
        code = 1
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                code = 0 if store.changed() and take(store, 1) == ["1"] else 2
                store.close()
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert take(store) == ["2"]
    assert not [name for name in os.listdir(path.parent) if "journal" in name]


def test_memory_is_empty_in_a_forked_process() -> None:
    store = SqliteStore(":memory:")
    store.declare_queue("q")
    put(store, "1")
    child = fork()
    if child == 0:  # pragma: no cover
        os._exit(store.size("q"))
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert take(store) == ["1"]


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

    store.declare_queue("q")
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


# The file


def test_the_file_is_its_owner_s_alone(path: Path, store: SqliteStore) -> None:
    store.declare_queue("q")
    modes = {name.name: stat.S_IMODE(name.stat().st_mode) for name in path.parent.iterdir()}
    assert modes == {"events.db": 0o600, "events.db-wal": 0o600, "events.db-shm": 0o600}


def test_the_permissions_of_a_file_that_is_there_stay(path: Path) -> None:
    path.touch()
    path.chmod(0o640)
    SqliteStore(path).open()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_nothing_is_made_before_it_is_used(path: Path) -> None:
    store = SqliteStore(path)
    store.close()
    assert not path.exists()


def test_a_relative_path_stays_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = SqliteStore("events ü%20?#.db")
    monkeypatch.chdir("/")
    store.open()
    store.close()
    assert (tmp_path / "events ü%20?#.db").exists()


@pytest.mark.parametrize("wrong", ["", None, 7, b"x.db", "a\0b"])
def test_a_path_that_is_none_is_refused(wrong: Any) -> None:
    with pytest.raises(ServiceConfigurationError, match="path"):
        SqliteStore(wrong)


def test_an_unknown_synchronous_is_refused(path: Path) -> None:
    with pytest.raises(ServiceConfigurationError, match="'FULL' or 'NORMAL', not 'OFF'"):
        SqliteStore(path, synchronous="OFF")


def test_the_log_does_not_grow_for_ever_while_others_read(path: Path, store: SqliteStore) -> None:
    store.declare_queue("q")
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


def test_room_is_used_again(path: Path, store: SqliteStore) -> None:
    store.declare_queue("q")
    sizes = []
    for _ in range(10):
        put(store, *["x" * 1000] * 500)
        store.acknowledge([message.id for message in store.take([("q", 1000)], LEASE)])
        sizes.append(rows(path, "PRAGMA page_count")[0][0])
    assert sizes[-1] <= sizes[1] * 1.5


# What can be wrong


def refused(store: SqliteStore, match: str) -> None:
    for call in (store.open, lambda: store.publish([Entry("", "q", b"")])):
        with pytest.raises(StoreFault, match=match):
            call()
    store.close()


def test_no_folder(tmp_path: Path) -> None:
    refused(SqliteStore(tmp_path / "none" / "events.db"), "there is no folder .*none: make it")


def test_a_folder(tmp_path: Path) -> None:
    refused(SqliteStore(tmp_path), "is a folder: choose a file")


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refused(SqliteStore(tmp_path / "file" / "events.db"), "there is no folder")


def test_a_text(path: Path) -> None:
    path.write_text("These are no events. " * 100)
    refused(SqliteStore(path), "not an SQLite database: choose another file")
    assert path.read_text().startswith("These are no events.")


def test_a_database_of_another_program(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE customers (name)")
    connection.close()
    refused(SqliteStore(path), "database of another program .*'customers'")


def test_a_database_with_handled_events_is_taken(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE gemstone_processed (key)")
    connection.close()
    store = SqliteStore(path)
    store.declare_queue("q")
    put(store, "1")
    store.close()


def test_a_newer_version(path: Path, store: SqliteStore) -> None:
    store.close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 2")
    connection.close()
    refused(SqliteStore(path), "of version 2, and this gemstone_sync knows up to 1: upgrade it")


def test_a_damaged_file(path: Path, store: SqliteStore) -> None:
    store.declare_queue("q")
    put(store, *["x" * 1000] * 200)
    store.close()
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(path.stat().st_size - 4096))
    again = SqliteStore(path)
    with pytest.raises(StoreFault, match="is damaged: stop what uses it"):
        use(again)
    again.close()


def use(store: SqliteStore) -> None:
    """Reach all pages."""
    for _ in range(3):
        put(store, *["y" * 1000] * 200)
        take(store, 1000)


def test_a_file_that_is_cut_off_while_it_is_in_use(path: Path, store: SqliteStore) -> None:
    store.declare_queue("q")
    put(store, *["x" * 1000] * 200)
    rows(path, "PRAGMA wal_checkpoint(TRUNCATE)")
    os.truncate(path, 8192)
    with pytest.raises(StoreFault, match=r"events\.db"):
        use(store)


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_a_file_that_goes_away_is_noticed_and_made_anew(
    path: Path, store: SqliteStore, how: str
) -> None:
    store.declare_queue("q")
    take(store)
    other = path.parent / "other.db"
    if how == "replaced":
        SqliteStore(other).open()
        gc.collect()
    for name in ("events.db", "events.db-wal", "events.db-shm"):
        (path.parent / name).unlink()
    if how == "replaced":
        other.rename(path)
    wait_until(store.changed, "a look at the file")
    with pytest.raises(StoreFault, match="removed or replaced"):
        put(store, "lost")
    store.declare_queue("q")
    put(store, "1")
    assert take(store) == ["1"]


def test_a_full_disk_loses_nothing_that_was_there(path: Path, store: SqliteStore) -> None:
    """With a limit on the size of files, in a process of its own."""
    store.declare_queue("q")
    put(store, "first")
    size = (path.parent / "events.db-wal").stat().st_size
    source = f"""
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({size} + 200_000, {size} + 200_000))
count = 0
try:
    while True:
        store.publish([Entry("", "q", b"x" * 10_000)])
        count += 1
except StoreFault as error:
    print(error)
try:
    taken = store.take([("q", 1)], 60)
    print("taken", len(taken))
except StoreFault as error:
    print("not taken")
print(count)
"""
    error, _, count = Process(path, source).wait().splitlines()
    assert "disk" in error
    assert int(count) > 5
    assert store.size("q") >= int(count)
    put(store, "after it")
    payloads = [len(text) for text in take(store, 1000)]
    assert payloads.count(10_000) == int(count)


def test_a_database_that_may_not_grow(path: Path, store: SqliteStore) -> None:
    store.declare_queue("q")
    ((pages,),) = rows(path, "PRAGMA page_count")
    connection = store._database._connection
    assert connection is not None
    connection.execute(f"PRAGMA max_page_count = {pages + 20}").fetchall()
    count = 0

    def fill() -> None:
        nonlocal count
        while True:
            put(store, "x" * 10_000)
            count += 1

    with pytest.raises(StoreFault, match="cannot grow: make room on the disk"):
        fill()
    assert len(take(store, 1000)) == count > 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize(("mode", "said"), [(0o444, "cannot be written"), (0o000, "permissions")])
def test_a_file_that_may_not_be_written(mode: int, said: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        path = Path(folder, "events.db")
        store = SqliteStore(path)
        store.open()
        store.close()
        path.chmod(mode)
        reading, writing = os.pipe()
        child = fork()
        if child == 0:  # pragma: no cover
            try:
                os.setgid(65534)
                os.setuid(65534)
                store.declare_queue("q")
            except StoreFault as error:
                os.write(writing, str(error).encode())
            finally:
                os._exit(0)
        os.close(writing)
        os.waitpid(child, 0)
        with open(reading) as file:
            error = file.read()
    assert said in error
    assert str(path) in error


def test_a_lock_is_waited_for_but_not_for_ever(
    path: Path, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_database, "BUSY", 0.3)
    store.declare_queue("q")
    put(store, "1")
    with locked(path):
        for call in (
            lambda: put(store, "2"),
            lambda: take(store),
            lambda: store.declare_queue("r"),
        ):
            began = time.monotonic()
            with pytest.raises(StoreFault, match="is locked: another program"):
                call()
            assert 0.3 <= time.monotonic() - began < LIMIT / 2
        # What only reads does not wait.
        assert store.size("q") == 1
        assert take(store, queue="r") == []
    assert take(store) == ["1"]


def test_a_short_lock_is_waited_for(path: Path, store: SqliteStore) -> None:
    from gevent.threadpool import ThreadPool

    store.declare_queue("q")
    pool = ThreadPool(1)
    with locked(path):
        publishing = pool.spawn(put, store, "1")
        publishing.wait(0.2)
        assert not publishing.ready()
    publishing.get(timeout=LIMIT)
    pool.kill()
    assert take(store) == ["1"]


def test_a_text_that_utf8_has_not_changes_nothing(store: SqliteStore) -> None:
    store.declare_queue("q")
    with pytest.raises(UnicodeEncodeError):
        store.declare_queue("\ud800")
    with pytest.raises(UnicodeEncodeError):
        store.bind("x", "\ud800", "q")
    put(store, "1")
    assert take(store) == ["1"]


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
    store.declare_queue("q")
    put(store, json.dumps({"a": 1}))
    statement = "SELECT q.name, m.payload FROM gemstone_messages m, gemstone_queues q "
    found = rows(path, f"{statement} WHERE q.id = m.queue")
    assert found == [("q", b'{"a": 1}')]
