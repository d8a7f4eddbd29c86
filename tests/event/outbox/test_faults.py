"""Locked, full, missing, damaged: said in one line, within a limit, and nothing is lost."""

import contextlib
import resource
import sqlite3
import stat
import time
from pathlib import Path

import gevent
import pytest
import sqlalchemy as sa
from gevent.event import Event

from gemstone_sync.errors import EventNotDelivered
from gemstone_sync.event.outbox import Outbox, lease
from gemstone_sync.sqlite import file as sqlite
from tests.support.sqlite import execute, locked
from tests.support.waiting import LIMIT, gather, wait_until

from .support import events, ids_of, sending, sent_from, shop, stored_in


@pytest.fixture
def engine(tmp_path):
    with shop(tmp_path):
        pass
    engine = sa.create_engine(f"sqlite:///{tmp_path}/shop.db", connect_args={"timeout": 60})
    yield engine
    engine.dispose()


def test_a_locked_file_is_said_within_a_limit_to_all_that_wait(outbox, tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite, "BUSY", 0.5)
    outbox.add(events(1))

    def add():
        with pytest.raises(EventNotDelivered, match=r"^the outbox .*events\.db is locked.*$"):
            outbox.add(events(1))

    with locked(tmp_path / "events.db"):
        gather([add] * 100, limit=LIMIT)  # one after the other they take 50 seconds
    outbox.add(events(1))
    assert outbox.pending() == 2


def test_a_locked_file_ends_no_later_than_the_callers_time(outbox, tmp_path, engine):
    """Ten times as long would be a second; SQLite's own patience is five, the outbox's twenty."""
    outbox.add(events(1))
    limit = 5.0  # what BUSY is: less than that is not SQLite's own doing

    def in_time(function, *args):
        before = time.monotonic()
        with pytest.raises(EventNotDelivered, match=r"locked|in time|no answer"):
            function(*args)
        assert time.monotonic() - before < limit

    with locked(tmp_path / "events.db"):
        gather([lambda: in_time(outbox.add, events(1), 0.2)] * 20, limit=LIMIT)
        adding = gevent.spawn(outbox.add, events(1), 60.0)  # one with more patience is in the way
        gevent.sleep(0)
        in_time(outbox.add, events(1), 0.2)
        before = time.monotonic()
        assert outbox.drain(0.2) is False
        assert time.monotonic() - before < limit
    adding.get(timeout=LIMIT)
    # The one that stood in line with it was stored with it: that it would not be, nobody said.
    assert outbox.pending() in (2, 3)
    # In the user's transaction, which waits for as long as the user likes otherwise.
    connection = sqlite3.connect(tmp_path / "shop.db", timeout=60)
    with contextlib.closing(connection), locked(tmp_path / "shop.db"):
        with outbox.transaction(connection) as transaction:
            in_time(transaction.store, events(1), 0.2)
        assert connection.execute("PRAGMA busy_timeout").fetchone() == (60_000,)
    with locked(tmp_path / "shop.db"), engine.connect() as connection:
        listed = Outbox(str(tmp_path / "events.db"), databases=[engine])
        with listed.transaction(connection) as transaction:
            in_time(transaction.store, events(1), 0.2)


def test_a_thread_that_waits_for_a_locked_file_waits_for_its_own_time(run_python, tmp_path):
    """In a program that is not patched, where the thread itself stops."""
    done = run_python(
        """
import sqlite3, threading, time
from gemstone_sync import EventNotDelivered, Outbox
from gemstone_sync.sqlite import file as sqlite
from gemstone_sync.event.emission import make_envelope
sqlite.BUSY = 60.0
outbox = Outbox("events.db")
outbox.add([make_envelope("a", 1)])
said = []
other = sqlite3.connect("events.db", isolation_level=None)
other.execute("BEGIN IMMEDIATE")
def add(timeout):
    before = time.monotonic()
    try:
        outbox.add([make_envelope("a", 2)], timeout)
    except EventNotDelivered as error:
        said.append("locked" in str(error) or "in time" in str(error))
        said.append(time.monotonic() - before < 15)
threads = [threading.Thread(target=add, args=(0.3,)) for _ in range(3)]
for thread in threads: thread.start()
for thread in threads: thread.join()
other.execute("COMMIT")
add(10)
print(*said, outbox.pending())
"""
    )
    assert done.stdout.split() == ["True"] * 6 + ["2"], done.stdout + done.stderr


def test_an_event_that_went_into_a_file_that_was_replaced_is_not_stored(
    outbox, tmp_path, monkeypatch
):
    """It waits for a lock of whoever puts another file in its place."""
    outbox.add(events(1))
    waits, sleep = [], sqlite.native_sleep
    monkeypatch.setattr(
        sqlite, "native_sleep", lambda seconds: waits.append(seconds) or sleep(seconds)
    )
    with locked(tmp_path / "events.db"):
        adding = gevent.spawn(outbox.add, events(1))
        wait_until(lambda: waits, "the wait")
        execute(tmp_path / "backup.db", "PRAGMA user_version")
        (tmp_path / "backup.db").replace(tmp_path / "events.db")
    with pytest.raises(EventNotDelivered, match="replaced"):
        adding.get(timeout=LIMIT)
    outbox.add(events(1))
    assert outbox.pending() == 1


def test_a_database_of_the_user_as_the_outbox_keeps_its_mode_and_journal(tmp_path):
    path = tmp_path / "shop.db"
    with shop(tmp_path):
        path.chmod(0o640)
    outbox = Outbox(str(path))
    sent = events(3)
    outbox.add(sent)
    assert sent_from(outbox) == ids_of(sent)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert execute(path, "PRAGMA journal_mode") == [("delete",)]
    own = Outbox(str(tmp_path / "own.db"))
    own.add(events(1))
    assert execute(tmp_path / "own.db", "PRAGMA journal_mode") == [("wal",)]


def test_waiting_for_a_locked_file_stops_nobody_and_ends_with_the_callers_timeout(outbox, tmp_path):
    outbox.add(events(1))
    with locked(tmp_path / "events.db"):
        adding = gevent.spawn(outbox.add, events(1))
        with pytest.raises(gevent.Timeout), gevent.Timeout(0.2):
            outbox.add(events(1))
        # A hub that is held up turns when the wait for the lock is over.
        assert not adding.ready()
    adding.get(timeout=LIMIT)


def test_the_relay_goes_on_when_the_lock_is_gone(outbox, broker, tmp_path, monkeypatch, caplog):
    sent = events(3)
    outbox.add(sent)
    with monkeypatch.context() as patched, locked(tmp_path / "events.db"):
        patched.setattr(sqlite, "BUSY", 0.2)
        outbox.start(broker.send)
        wait_until(lambda: "is locked" in caplog.text, "a line in the log")
        assert broker.ids == []
    assert outbox.drain(LIMIT)
    outbox.stop(5)
    assert broker.ids == ids_of(sent)
    assert len(caplog.records) == 1


def test_a_database_that_stays_locked_does_not_hold_back_the_others(tmp_path, broker, monkeypatch):
    monkeypatch.setattr(sqlite, "BUSY", 60.0)
    outbox = Outbox(str(tmp_path / "events.db"), databases=[str(tmp_path / "shop.db")])
    with shop(tmp_path) as connection:
        with connection, outbox.transaction(connection) as transaction:
            transaction.store(events(1))
        with sending(outbox, broker):
            wait_until(lambda: broker.ids, "the first")
            connection.execute("BEGIN EXCLUSIVE")
            for number in range(2, 6):
                outbox.add(events(1))
                wait_until(lambda number=number: len(broker.ids) == number, "an event")
            connection.rollback()


def test_a_missing_folder_is_said(tmp_path, broker, caplog):
    outbox = Outbox(str(tmp_path / "nowhere" / "events.db"))
    with sending(outbox, broker):
        with pytest.raises(EventNotDelivered, match=r"there is no folder .*nowhere"):
            outbox.add(events(1))
        with pytest.raises(EventNotDelivered, match="there is no folder"):
            outbox.pending()
        assert outbox.drain(0.1) is False
        wait_until(lambda: "there is no folder" in caplog.text, "a line in the log")
        (tmp_path / "nowhere").mkdir()
        outbox.add(events(1))
    assert len(broker.ids) == 1


@pytest.mark.parametrize("what", ["a folder", "some notes"])
def test_what_is_no_database_is_said_and_left_alone(outbox, broker, tmp_path, caplog, what):
    path = tmp_path / "events.db"
    said = "is a folder" if what == "a folder" else "is not an SQLite database"
    if what == "a folder":
        path.mkdir()
    else:
        path.write_bytes(b"some notes of mine\n" * 1000)
    outbox.start(broker.send)
    with pytest.raises(EventNotDelivered, match=rf"the outbox .*events\.db {said}"):
        outbox.add(events(1))
    wait_until(lambda: said in caplog.text, "a line in the log")
    outbox.stop(5)
    assert path.is_dir() or path.read_bytes().startswith(b"some notes of mine")


@pytest.mark.parametrize("what", ["database", "disk"])
def test_what_is_full_is_said_and_what_was_stored_is_sent(outbox, tmp_path, what):
    sent = []

    def fill():
        while len(sent) < 50:
            (event,) = events(1)
            outbox.add([event.with_changes(body=b'"%b"' % (b"x" * 20_000))])
            sent.append(event.id)

    outbox.add(first := events(1))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    if what == "database":
        outbox._process.location._file._connection.execute("PRAGMA max_page_count = 60")
    else:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
    try:
        with pytest.raises(EventNotDelivered, match=r"^the outbox .*events\.db.*") as caught:
            fill()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert what == "disk" or "full" in str(caught.value)
    assert 1 < len(sent) < 50
    assert stored_in(tmp_path / "events.db") == len(sent) + 1
    assert sent_from(outbox) == ids_of(first) + sent


@pytest.mark.parametrize("how", ["made anew", "an older copy"])
@pytest.mark.parametrize("where", ["the outbox's file", "sqlite3", "sqlalchemy"])
def test_what_was_sent_is_removed_from_no_other_database_than_its_own(
    tmp_path, where, how, caplog, monkeypatch
):
    """Ids come again there: those of events that nobody has sent."""
    monkeypatch.setattr(lease, "BEAT", 0.01)
    sent, asked, go = [], Event(), Event()

    def send(envelopes):
        asked.set()
        go.wait(LIMIT)
        sent.extend(envelopes)

    path = tmp_path / ("events.db" if where == "the outbox's file" else "shop.db")
    with shop(tmp_path):
        pass
    engine = sa.create_engine(f"sqlite:///{tmp_path}/shop.db", poolclass=sa.NullPool)
    database = engine if where == "sqlalchemy" else str(tmp_path / "shop.db")
    outbox = Outbox(str(tmp_path / "events.db"), databases=[database])

    def store(envelope):
        if where == "the outbox's file":
            outbox.add([envelope])
        elif where == "sqlite3":
            with (
                shop(tmp_path) as connection,
                connection,
                outbox.transaction(connection) as transaction,
            ):
                transaction.store([envelope])
        else:
            with engine.begin() as connection, outbox.transaction(connection) as transaction:
                transaction.store([envelope])

    first, second, third = events(3)
    outbox.start(send)
    try:
        store(first)
        go.set()
        assert outbox.drain(LIMIT)
        execute(path, f"VACUUM INTO '{path}.copy'")
        beat = execute(path, "SELECT beat FROM gemstone_outbox_relay")
        wait_until(
            lambda: execute(path, "SELECT beat FROM gemstone_outbox_relay") != beat, "a beat"
        )
        go.clear()
        asked.clear()
        store(second)
        assert asked.wait(LIMIT)
        with locked(path):  # or the journal of a beat may stand beside the new file
            for name in ("", "-wal", "-shm"):
                Path(f"{path}{name}").unlink(missing_ok=True)
            if how == "an older copy":
                Path(f"{path}.copy").rename(path)
        store(third)
        go.set()
        assert outbox.drain(LIMIT)
    finally:
        go.set()
        outbox.stop(5)
        engine.dispose()
    assert ids_of(sent) == ids_of([first, second, third])
    assert outbox.pending() == 0
    assert "was replaced while events from it were sent" in caplog.text
