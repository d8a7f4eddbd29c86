"""Locked, full, missing, damaged: said in one line, within a limit, and nothing is lost."""

import contextlib
import sqlite3
import time

import gevent
import pytest

from gemstone_sync.errors import EventNotDelivered
from gemstone_sync.event.outbox import Outbox, sqlite_box
from tests.event.outbox.support import Broker, events, ids_of, shop, started, stored_in
from tests.event.outbox.test_processes import HEAD
from tests.support.programs import program
from tests.support.waiting import gather, wait_until


@pytest.fixture
def broker():
    return Broker()


@pytest.fixture
def outbox(tmp_path):
    return Outbox(str(tmp_path / "events.db"))


@contextlib.contextmanager
def locked(path):
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield other
        other.rollback()


def test_a_locked_file_is_said_within_a_limit_to_all_that_wait(outbox, tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite_box, "BUSY", 0.5)
    outbox.add(events(1))
    again = Outbox(str(tmp_path / "events.db"))

    def add():
        with pytest.raises(EventNotDelivered, match=r"the outbox .*events\.db is locked") as caught:
            again.add(events(1))
        assert "\n" not in str(caught.value)

    with locked(tmp_path / "events.db"):
        before = time.monotonic()
        gather([add] * 20)
        assert time.monotonic() - before < 8  # one after the other they take 10
    again.add(events(1))
    assert again.pending() == 2


def test_the_relay_goes_on_when_the_lock_is_gone(outbox, broker, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(sqlite_box, "BUSY", 0.2)
    sent = events(3)
    outbox.add(sent)
    outbox.stop(1)
    with locked(tmp_path / "events.db"):
        outbox.start(broker.send)
        wait_until(lambda: "is locked" in caplog.text, "a line in the log")
        assert broker.ids == []
    assert outbox.drain(10)
    outbox.stop(5)
    assert broker.ids == ids_of(sent)
    assert len(caplog.records) == 1


def test_a_database_that_stays_locked_does_not_hold_back_the_others(tmp_path, broker, monkeypatch):
    monkeypatch.setattr(sqlite_box, "BUSY", 60.0)
    outbox = Outbox(str(tmp_path / "events.db"), databases=[str(tmp_path / "shop.db")])
    with contextlib.closing(shop(tmp_path)) as connection:
        with connection, outbox.transaction(connection) as transaction:
            transaction.store(events(1))
        with started(outbox, broker):
            wait_until(lambda: broker.ids, "the first")
            connection.execute("BEGIN EXCLUSIVE")
            for number in range(2, 6):
                outbox.add(events(1))
                wait_until(lambda number=number: len(broker.ids) == number, "an event")
            connection.rollback()


def test_a_missing_folder_is_said(tmp_path, broker, caplog):
    outbox = Outbox(str(tmp_path / "nowhere" / "events.db"))
    with started(outbox, broker):
        with pytest.raises(EventNotDelivered, match=r"there is no folder .*nowhere"):
            outbox.add(events(1))
        with pytest.raises(EventNotDelivered, match="there is no folder"):
            outbox.pending()
        assert outbox.drain(0.1) is False
        wait_until(lambda: "there is no folder" in caplog.text, "a line in the log")
        (tmp_path / "nowhere").mkdir()
        outbox.add(events(1))
        assert outbox.drain(10)
    assert len(broker.ids) == 1


def test_a_folder_in_its_place_is_said(outbox, tmp_path):
    (tmp_path / "events.db").mkdir()
    with pytest.raises(EventNotDelivered, match=r"the outbox .*events\.db: unable to open"):
        outbox.add(events(1))


def test_a_file_that_is_no_database_is_said(tmp_path, broker, caplog):
    (tmp_path / "events.db").write_bytes(b"some notes of mine\n" * 1000)
    outbox = Outbox(str(tmp_path / "events.db"))
    with started(outbox, broker):
        with pytest.raises(EventNotDelivered, match="not a database"):
            outbox.add(events(1))
        wait_until(lambda: "not a database" in caplog.text, "a line in the log")
    assert (tmp_path / "events.db").read_bytes().startswith(b"some notes of mine")


def test_a_full_database_is_said_and_what_was_stored_is_sent(tmp_path, broker):
    path = tmp_path / "events.db"
    outbox = Outbox(str(path))
    sent = []
    big = events(1)[0].with_changes(body=b'"' + b"x" * 20_000 + b'"')
    outbox.add([big])
    sent.append(big.id)
    connection = outbox._process.location._connection
    connection.execute("PRAGMA max_page_count = 30")

    def fill():
        while len(sent) < 20:
            made = big.with_changes(id=events(1)[0].id)
            outbox.add([made])
            sent.append(made.id)

    with pytest.raises(EventNotDelivered, match="full"):
        fill()
    assert 1 < len(sent) < 10
    assert stored_in(path) == len(sent)
    with started(outbox, broker):
        assert outbox.drain(10)
    assert broker.ids == sent


FULL_DISK = """
import resource
# Before the limit is in force: the file and its tables.
outbox = Outbox("events.db")
outbox.add([event(0)])
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
stored = 1
try:
    while stored < 500:
        outbox.add([event("x" * 5000)])
        stored += 1
except gemstone_sync.EventNotDelivered as error:
    print(error)
assert 1 < stored < 500, stored
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
outbox.add([event(1)])
print(stored + 1, outbox.pending())
outbox.start(send)
print(outbox.drain(15), outbox.stop(5))
"""


@pytest.mark.parametrize("mode", ["--patched", "--plain"])
def test_a_full_disk(tmp_path, mode):
    with program(HEAD + FULL_DISK, tmp_path, mode) as running:
        assert running.wait() == 0, running.stderr
        error, numbers, ends = running.stdout.splitlines()
    assert error.startswith("the outbox ")
    assert "events.db" in error
    stored, pending = map(int, numbers.split())
    assert stored == pending
    assert ends == "True True"
    assert len((tmp_path / "sent.txt").read_text().split()) == stored


def test_a_timeout_of_the_caller_is_kept(outbox, tmp_path):
    outbox.add(events(1))
    with locked(tmp_path / "events.db"):
        before = time.monotonic()
        with pytest.raises(gevent.Timeout), gevent.Timeout(0.2):
            outbox.add(events(1))
        assert time.monotonic() - before < sqlite_box.BUSY
