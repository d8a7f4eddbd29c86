"""SqliteStore: forks, memory, its file and what can be wrong with it, and how it is done.

What all stores do is in test_store_contract.py and test_store_processes.py.
"""

import contextlib
import gc
import itertools
import json
import os
import resource
import sqlite3
import stat
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gevent.event import Event

from gemstone_sync.errors import StoreFault
from gemstone_sync.event.transport.sqlite import database as sqlite_database
from gemstone_sync.event.transport.sqlite.store import SqliteStore
from gemstone_sync.event.transport.stores.store import Entry
from tests.support.programs import fork
from tests.support.sqlite import execute, locked
from tests.support.waiting import LIMIT, wait_until

from ..stores.support import LEASE, bind, declare_queue, put, take


@pytest.fixture
def path(tmp_path):
    return tmp_path / "events.db"


@pytest.fixture
def store(path):
    """There is a queue "q"."""
    store = SqliteStore(path)
    declare_queue(store, "q")
    yield store
    store.close()


def test_after_a_fork_each_process_has_its_own_connection(path, store):
    memory = SqliteStore(":memory:")
    for each in (store, memory):
        declare_queue(each, "q")
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


def test_memory_ends_with_its_last_user():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store = SqliteStore(":memory:")
        declare_queue(store, "q")
        other = store.another()
        del store
        gc.collect()
        put(other, "1")
        # Another memory knows nothing of it.
        assert SqliteStore(":memory:").publish([Entry("", "q", b"")]) == [0]
        assert not other.blocks
        del other
        gc.collect()


def test_the_file_is_made_when_it_is_used_for_its_owner_alone_and_permissions_stay(path):
    store = SqliteStore(path)
    store.close()
    assert not path.exists()
    store.open()
    modes = {name.name: stat.S_IMODE(name.stat().st_mode) for name in path.parent.iterdir()}
    assert modes == {"events.db": 0o600, "events.db-wal": 0o600, "events.db-shm": 0o600}
    store.close()
    path.chmod(0o640)
    store.open()
    store.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_relative_path_stays_where_it_was(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = SqliteStore("events ü%20?#.db")
    monkeypatch.chdir("/")
    store.open()
    store.close()
    assert (tmp_path / "events ü%20?#.db").exists()


def test_room_is_used_again(path, store):
    sizes = []
    for _ in range(5):
        put(store, *["x" * 1000] * 500)
        store.acknowledge([message.id for message in store.take([("q", 1000)], LEASE)])
        sizes.append(execute(path, "PRAGMA page_count")[0][0])
    assert sizes[-1] <= sizes[1] * 1.5


@pytest.mark.parametrize(
    ("prepare", "match"),
    [
        (lambda path: path.parent.rmdir(), "there is no folder .*place: make it"),
        (lambda path: path.mkdir(), "is a folder: choose a file"),
        (lambda path: (path.parent.rmdir(), path.parent.touch()), "there is no folder"),
        (
            lambda path: path.write_text("These are no events. " * 100),
            "not an SQLite database: choose another file",
        ),
        (
            lambda path: execute(path, "CREATE TABLE customers (name)"),
            "database of another program .*'customers'",
        ),
        (
            lambda path: execute(path, "PRAGMA user_version = 2"),
            "of version 2, and this gemstone_sync knows up to 1: upgrade it",
        ),
    ],
    ids=["no folder", "a folder", "in a file", "a text", "another program's", "a newer version"],
)
def test_what_cannot_be_the_file_is_told_and_left_alone(tmp_path, prepare, match):
    path = tmp_path / "place" / "events.db"
    path.parent.mkdir()
    prepare(path)
    before = path.read_bytes() if path.is_file() else None
    store = SqliteStore(path)
    for call in (store.open, lambda: store.publish([Entry("", "q", b"")])):
        with pytest.raises(StoreFault, match=match):
            call()
    store.close()
    # (SQLite's header may tell of another journal.)
    assert before is None or path.read_bytes()[100:] == before[100:]


def test_a_damaged_file(path, store):
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


def test_a_file_that_is_cut_off_while_it_is_in_use(path, store):
    put(store, *["x" * 1000] * 200)
    execute(path, "PRAGMA wal_checkpoint(TRUNCATE)")
    os.truncate(path, 8192)
    with pytest.raises(StoreFault, match=r"events\.db"):
        use(store)


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_a_file_that_goes_away_is_noticed_and_made_anew(path, store, how):
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
    declare_queue(store, "q")
    put(store, "1")
    assert take(store) == ["1"]


def restore_in_place(path: Path) -> None:
    """Write over the database what is in its copy, as SQLite's own tools do."""
    with (
        contextlib.closing(sqlite3.connect(f"{path}.copy")) as copy,
        contextlib.closing(sqlite3.connect(path)) as ours,
    ):
        copy.backup(ours)


@pytest.mark.parametrize("settle", ["acknowledge", "release"])
@pytest.mark.parametrize("what", ["a new file", "an older copy", "an older copy in place"])
def test_what_came_from_a_file_is_nothing_in_the_one_that_takes_its_place(
    path, store, what, settle
):
    """Or what another process handles would be taken from it."""
    put(store, "1")
    execute(path, f"VACUUM INTO '{path}.copy'")
    (held,) = store.take([("q", 9)], LEASE)
    if what == "an older copy in place":
        restore_in_place(path)
    else:
        for name in ("events.db", "events.db-wal", "events.db-shm"):
            (path.parent / name).unlink()
        if what == "an older copy":
            Path(f"{path}.copy").rename(path)
    with contextlib.closing(SqliteStore(path)) as other:
        if what == "a new file":
            declare_queue(other, "q")
            put(other, "1")
        (its,) = other.take([("q", 9)], LEASE)
        with contextlib.suppress(StoreFault):
            store.size("q")
        assert not getattr(store, settle)([held.id])
        assert take(other) == []
        assert other.acknowledge([its.id]) == 1


def test_an_older_copy_in_place_of_a_file_has_its_own_routes(path, store):
    declare_queue(store, "r")
    execute(path, f"VACUUM INTO '{path}.copy'")
    publisher = SqliteStore(path)
    with contextlib.closing(publisher), contextlib.closing(SqliteStore(path)) as other:
        bind(store, "x", "a", "q")
        assert publisher.publish([Entry("x", "a", b"1")]) == [1]
        restore_in_place(path)
        bind(other, "x", "b", "r")
        assert publisher.publish([Entry("x", "a", b"2")]) == [0]
        assert other.size("q") == 0


def remove_log(path):
    execute(path, "PRAGMA wal_checkpoint")
    for name in ("events.db-wal", "events.db-shm"):
        (path.parent / name).unlink()


def test_a_log_that_is_removed_takes_nothing_more_and_is_made_anew(path, store):
    with contextlib.closing(SqliteStore(path)) as idle:
        put(store, "0")
        assert idle.size("q") == 1
        remove_log(path)
        with pytest.raises(StoreFault, match="removed or replaced"):
            put(store, "lost")
        put(store, "1")
        assert execute(path, "SELECT payload FROM gemstone_messages") == [(b"0",), (b"1",)]
        assert take(idle) == ["0", "1"]


def test_behind_a_symbolic_link_is_the_same_file_with_the_same_log(path, store):
    (link := path.parent / "folder" / "link.db").parent.mkdir()
    link.symlink_to(path)
    with contextlib.closing(SqliteStore(link)) as linked:
        woken = Event()
        with store.waking(woken.set):
            put(linked, "0")
            assert woken.wait(LIMIT)
        remove_log(path)
        with pytest.raises(StoreFault, match="removed or replaced"):
            put(linked, "lost")
        put(linked, "1")
        assert take(store) == ["0", "1"]


@pytest.mark.parametrize("what", ["disk", "cannot grow: make room on the disk"])
def test_what_is_full_is_said_and_loses_nothing(path, store, what):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    if what == "disk":
        size = (path.parent / "events.db-wal").stat().st_size + 200_000
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    else:
        ((pages,),) = execute(path, "PRAGMA page_count")
        store._database._connection.execute(f"PRAGMA max_page_count = {pages + 100}")
    puts: list[None] = []
    try:
        with pytest.raises(StoreFault, match=what):
            puts.extend(put(store, "x" * 10_000) for _ in itertools.count())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    put(store, "after it")
    assert len(take(store, 1000)) == len(puts) + 1 > 5


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize(("mode", "said"), [(0o444, "cannot be written"), (0o000, "permissions")])
def test_a_file_that_may_not_be_written(mode, said):
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        path = Path(folder, "events.db")
        store = SqliteStore(path)
        store.open()
        store.close()
        path.chmod(mode)
        os.seteuid(65534)
        try:
            with pytest.raises(StoreFault, match=f"{path}.*{said}"):
                declare_queue(store, "q")
        finally:
            os.seteuid(0)


def test_a_lock_is_waited_for_but_not_for_ever(path, store, monkeypatch):
    monkeypatch.setattr("gemstone_sync.sqlite.file.BUSY", 0.3)
    put(store, "1")
    with locked(path):
        for call in (
            lambda: put(store, "2"),
            lambda: take(store),
            lambda: declare_queue(store, "r"),
        ):
            began = time.monotonic()
            with pytest.raises(StoreFault, match="is locked: another program"):
                call()
            assert time.monotonic() - began >= 0.3
        # What only reads does not wait.
        assert store.size("q") == 1
        assert take(store, queue="r") == []
    assert take(store) == ["1"]


def test_a_text_that_utf8_has_not_changes_nothing(store):
    with pytest.raises(UnicodeEncodeError):
        declare_queue(store, "\ud800")
    with pytest.raises(UnicodeEncodeError):
        bind(store, "x", "\ud800", "q")
    put(store, "1")
    assert take(store) == ["1"]


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


def test_no_statement_goes_through_all_messages(store):
    declare_queue(store, "dead")
    declare_queue(store, "q", delivery_limit=1, dead_letter_queue="dead")

    def act():
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


def test_looking_for_news_costs_next_to_nothing(store):
    """Less than half of what the simplest question costs, which is 12 µs on an idle machine."""

    def cost(ask):
        began = time.thread_time()
        for _ in range(500):
            ask()
        return time.thread_time() - began

    store.take([("q", 1)], LEASE)
    store.changed()
    # The least of several: the garbage collector may have its turn.
    least = [min(cost(ask) for _ in range(5)) for ask in (store.changed, lambda: store.size("q"))]
    assert least[0] < least[1] / 2


@pytest.mark.parametrize("act", [os.unlink, lambda path: os.replace(path, f"{path}.old")])
def test_whoever_waits_is_told_that_the_file_is_gone(store, path, act):
    store.take([("q", 1)], LEASE)
    woken = Event()
    with store.waking(woken.set):
        act(path)
        assert woken.wait(LIMIT)


def test_where_the_system_tells_nothing_the_store_looks(store, path, monkeypatch):
    monkeypatch.setattr(sqlite_database, "_open_watch", lambda *_paths: None)
    store.take([("q", 1)], LEASE)
    woken, other = Event(), SqliteStore(path)
    with store.waking(woken.set):
        put(other, "1")
        assert woken.wait(LIMIT)
    other.close()


def test_a_closed_store_watches_nothing(store):
    def watches():
        links = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
        return [link for link in links if os.path.exists(link) and "inotify" in os.readlink(link)]

    before = len(watches())
    store.open()
    with store.waking(print):
        assert len(watches()) == before + 1
    store.close()
    assert len(watches()) == before


def test_what_lies_in_the_file_can_be_read_by_people(path):
    execute(path, "CREATE TABLE gemstone_processed (key)")  # handled events may lie there too
    store = SqliteStore(path)
    declare_queue(store, "q")
    put(store, json.dumps({"a": 1}))
    statement = "SELECT q.name, m.payload FROM gemstone_messages m, gemstone_queues q "
    found = execute(path, f"{statement} WHERE q.id = m.queue")
    assert found == [("q", b'{"a": 1}')]
    store.close()
