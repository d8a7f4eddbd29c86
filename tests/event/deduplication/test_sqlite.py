"""SqliteProcessedEvents: marks in the user's own transaction, and files that cannot be used."""

import contextlib
import resource
import signal
import sqlite3
import stat
from contextlib import closing

import gevent
import pytest

from gemstone_sync import ServiceConfigurationError
from gemstone_sync.errors import StoreFault
from gemstone_sync.event.deduplication import Claim, SqliteProcessedEvents
from tests.support.programs import program
from tests.support.sqlite import execute, locked
from tests.support.waiting import LIMIT, gather, wait_until


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "handled.db")


@pytest.fixture
def store(sqlite):
    return sqlite.store()


@pytest.fixture
def hasty(path):
    hasty = SqliteProcessedEvents(path, timeout=0.2)
    yield hasty
    hasty.close()


def rows(path: str) -> int:
    return int(execute(path, "SELECT count(*) FROM gemstone_processed")[0][0])


PAYMENT = "INSERT INTO payments VALUES ('p1')"


@pytest.fixture
def connection(path):
    """The user's, in a transaction that has begun when something is written."""
    execute(path, "CREATE TABLE payments (id TEXT)")
    with closing(sqlite3.connect(path)) as connection:
        yield connection


def payments(path: str) -> list[str]:
    return [id_ for (id_,) in execute(path, "SELECT id FROM payments")]


@pytest.mark.parametrize("claimed", [True, False])
@pytest.mark.parametrize("first", ["effect", "mark"])
def test_an_effect_and_its_mark_are_committed_together(store, path, connection, claimed, first):
    if claimed:
        store.claim("e", "a", 60)
    for step in ("effect", "mark") if first == "effect" else ("mark", "effect"):
        if step == "effect":
            connection.execute(PAYMENT)
        else:
            store.record(connection, "e")
    connection.commit()
    assert store.claim("e", "b", 60) is Claim.DONE
    assert payments(path) == ["p1"]


def test_an_effect_and_its_mark_are_rolled_back_together(store, path, connection):
    store.claim("e", "a", 60)
    connection.execute(PAYMENT)
    store.record(connection, "e")
    connection.rollback()
    assert payments(path) == []
    assert store.claim("e", "b", 60) is Claim.BUSY
    store.release("e", "a")
    assert store.claim("e", "b", 60) is Claim.OURS


PAYER = """
import os, sqlite3, signal, sys
from gemstone_sync.event.deduplication import SqliteProcessedEvents
store = SqliteProcessedEvents({path!r})
store.claim("e", "payer", 0.01)
connection = sqlite3.connect({path!r})
connection.execute("{payment}")
store.record(connection, "e")
if {commits}:
    connection.commit()
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow  # a process that is killed
@pytest.mark.parametrize("commits", [False, True])
def test_a_process_that_is_killed_has_done_both_or_neither(
    store, path, connection, tmp_path, commits
):
    source = PAYER.format(path=path, payment=PAYMENT, commits=commits)
    with program(source, tmp_path) as payer:
        assert payer.wait() == -signal.SIGKILL, payer.stderr
    assert payments(path) == (["p1"] if commits else [])
    claim = Claim.DONE if commits else Claim.OURS
    wait_until(lambda: store.claim("e", "heir", 60) is claim, "the end of the lease")


def test_a_claim_waits_for_the_users_transaction(store, connection):
    connection.execute(PAYMENT)
    store.record(connection, "e")
    claim = gevent.spawn(store.claim, "e", "b", 60)
    gevent.sleep(0.05)
    assert not claim.ready()
    connection.commit()
    assert claim.get(timeout=LIMIT) is Claim.DONE


def test_a_connection_without_a_transaction_is_refused(store, connection):
    connection.isolation_level = None
    with pytest.raises(ValueError, match="BEGIN"):
        store.record(connection, "e")
    assert store.claim("e", "a", 60) is Claim.OURS
    connection.execute("BEGIN")
    store.record(connection, "e")
    connection.execute("COMMIT")
    assert store.claim("e", "a", 60) is Claim.DONE


@pytest.mark.parametrize("other", ["other.db", ":memory:"])
def test_a_connection_to_another_file_is_refused(store, tmp_path, monkeypatch, other):
    monkeypatch.chdir(tmp_path)
    store.claim("e", "a", 60)
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE payments (id TEXT)")
        with pytest.raises(ValueError, match="one file"):
            store.record(connection, "e")


def test_the_file_does_not_grow_for_ever(sqlite, path):
    store = sqlite.store(window=0.001)
    for number in range(200):
        store.claim(str(number), "a", 60)
        store.done(str(number), "a")
    assert rows(path) < 150


def test_many_greenlets_share_transactions(store, path):
    def handle(key):
        claim = store.claim(key, "a", 60)
        store.done(key, "a")
        return claim

    claims = gather([lambda n=n: handle(str(n)) for n in range(1000)])

    assert set(claims) == {Claim.OURS}
    assert rows(path) == 1000


def test_a_locked_file_holds_up_nobody_else(store, hasty, path):
    store.claim("e", "a", 60)
    with locked(path):
        claims = [gevent.spawn(store.claim, str(n), "a", 60) for n in range(3)]

        def refused():
            with pytest.raises(StoreFault, match=r"handled\.db") as caught:
                hasty.claim("3", "a", 60)
            return "another program has been writing" in str(caught.value)

        # Where the machine stood still meanwhile it is only told that it was not in time.
        wait_until(refused, "the reason")
        # A handler's time-out is not mistaken for the store's.
        with pytest.raises(gevent.Timeout), gevent.Timeout(0.1):
            store.claim("f", "a", 60)
        # A hub that is held up turns when the longer time-out is over.
        assert not any(claim.ready() for claim in claims)

    assert [claim.get(timeout=LIMIT) for claim in claims] == [Claim.OURS] * 3

    def claim():
        with contextlib.suppress(StoreFault):  # for the same reason
            return hasty.claim("4", "a", 60)
        return None

    assert wait_until(claim, "an answer") is Claim.OURS


def test_what_is_no_database_is_told_and_then_used_once_it_is_one(tmp_path):
    path = tmp_path / "nowhere" / "handled.db"
    store = SqliteProcessedEvents(path)
    with pytest.raises(OSError, match=r"there is no folder .*nowhere") as caught:
        store.claim("e", "a", 60)
    assert isinstance(caught.value, StoreFault)

    path.parent.mkdir()
    path.write_bytes(b"all sorts of things " * 1000)
    with pytest.raises(StoreFault, match="not an SQLite database"):
        store.claim("e", "a", 60)

    path.unlink()
    assert store.claim("e", "a", 60) is Claim.OURS
    store.close()


def test_a_full_disk_loses_nothing(store):
    store.done("first", "a")
    done = ["first"]

    def fill():
        while len(done) < 1000:
            store.done(f"{len(done)} {'x' * 1000}", "a")
            done.append(f"{len(done)} {'x' * 1000}")

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
    try:
        with pytest.raises(StoreFault):
            fill()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert 1 < len(done) < 1000
    assert {store.claim(key, "b", 60) for key in done} == {Claim.DONE}
    assert store.claim(f"{len(done)} {'x' * 1000}", "b", 60) is Claim.OURS


@pytest.mark.parametrize("path", ["", ":memory:", b"handled.db"])
def test_what_is_no_file_is_refused(path):
    with pytest.raises(ServiceConfigurationError):
        SqliteProcessedEvents(path)


def test_a_file_of_its_own_is_private_and_the_users_stays_as_it_is(store, path, tmp_path):
    store.claim("e", "a", 60)
    assert {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()} == {0o600}
    assert execute(path, "PRAGMA journal_mode") == [("wal",)]
    for mode, journal in ((0o640, "delete"), (0o664, "wal"), (0o600, "persist")):
        users = tmp_path / f"{journal}.db"
        with closing(sqlite3.connect(users)) as connection:
            connection.execute(f"PRAGMA journal_mode = {journal}")
            connection.execute("CREATE TABLE payments (id TEXT)")
            users.chmod(mode)
            beside = SqliteProcessedEvents(users)
            assert beside.claim("e", "a", 60) is Claim.OURS
            # With a rollback journal a power cut could damage what is written with NORMAL.
            (synchronous,) = beside._file._connection.execute("PRAGMA synchronous").fetchone()
            assert synchronous == (1 if journal == "wal" else 2)
            beside.done("e", "a")
            beside.close()
            assert connection.execute("PRAGMA journal_mode").fetchone() == (journal,)
        assert stat.S_IMODE(users.stat().st_mode) == mode


@pytest.mark.parametrize("how", ["replaced", "removed", "another folder"])
def test_once_its_file_was_replaced_nobody_claims_beside_the_others(tmp_path, how):
    folder = tmp_path / "data"
    folder.mkdir()
    path = folder / "handled.db"
    store = SqliteProcessedEvents(path)
    store.claim("before", "a", 60)
    if how == "another folder":
        folder.rename(tmp_path / "old")
        folder.mkdir()
    elif how == "removed":
        for file in folder.iterdir():
            file.unlink()
    else:
        execute(tmp_path / "backup.db", "PRAGMA user_version")
        for file in folder.glob("handled.db-*"):
            file.unlink()
        (tmp_path / "backup.db").replace(path)
    other = SqliteProcessedEvents(path)
    assert store.claim("e", "a", 60) is Claim.OURS
    assert other.claim("e", "b", 60) is Claim.BUSY
    other.done("f", "b")
    assert store.claim("f", "a", 60) is Claim.DONE
    store.close()
    other.close()


def test_a_claim_that_waited_while_its_file_was_replaced_is_made_in_the_new_one(
    store, path, tmp_path
):
    store.claim("before", "a", 60)
    with locked(path):
        claim = gevent.spawn(store.claim, "e", "a", 60)
        lock = store._file._lock
        wait_until(lambda: not lock.acquire(False) or lock.release(), "the wait")
        execute(tmp_path / "backup.db", "PRAGMA user_version")
        (tmp_path / "backup.db").replace(path)
    assert claim.get(timeout=LIMIT) is Claim.OURS
    assert execute(path, "SELECT key FROM gemstone_processed") == [("e",)]
