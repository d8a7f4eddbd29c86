"""Events that are kept while the broker is away, and sent in order when it is back."""

import logging
import stat
import time

import gevent
import pytest

from gemstone_sync.errors import EventNotDelivered, ServiceConfigurationError
from gemstone_sync.event.outbox import Outbox
from gemstone_sync.event.outbox.sqlite import SqliteStorage
from tests.support.sqlite import execute
from tests.support.waiting import LIMIT, gather, wait_until

from .support import events, ids_of, sending, sent_from, stored_in


def test_what_is_stored_is_sent_at_once_and_then_forgotten(outbox, broker, monkeypatch):
    monkeypatch.setattr(SqliteStorage, "poll_interval", 60.0)  # nothing is found by looking
    sent = events(3)
    with sending(outbox, broker):
        outbox.add(sent)
        wait_until(lambda: len(broker.ids) == 3, "events")
    assert broker.ids == ids_of(sent)
    assert outbox.pending() == 0


def test_it_is_stored_before_anything_is_started_and_a_url_names_the_same_file(tmp_path):
    path = tmp_path / "events.db"
    one = Outbox(f"sqlite:///{path}", databases=[str(tmp_path / "shop.db")])
    assert repr(one) == f"Outbox({path})"  # so do `gemstone config` and the status page
    assert list(tmp_path.iterdir()) == []  # nothing is made before it is used
    sent = events(1700)  # more than one statement takes
    one.add(sent)
    assert stored_in(path) == one.pending() == Outbox(path).pending() == 1700
    files = list(tmp_path.iterdir())
    assert len(files) >= 2
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert sent_from(Outbox(str(path))) == ids_of(sent)


def test_a_thousand_events_wait_for_the_broker_and_come_in_order(outbox, broker, caplog):
    broker.away = True
    caplog.set_level(logging.INFO, "gemstone_sync.event")
    sent = events(1000)
    with sending(outbox, broker):
        for start in range(0, 1000, 10):
            outbox.add(sent[start : start + 10])
        wait_until(lambda: broker.calls >= 3, "attempts")
        assert broker.calls < 50  # not one for each: they get rarer
        assert broker.ids == []
        assert outbox.pending() == 1000
        broker.away = False
    assert broker.ids == ids_of(sent)
    # One line when it goes, one when it comes back.
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "the broker is away" in caplog.text


def test_what_greenlets_and_threads_store_at_once_is_all_there(outbox, broker):
    sent = [events(5) for _ in range(40)]
    pool = gevent.get_hub().threadpool
    with sending(outbox, broker):
        in_threads = [pool.spawn(outbox.add, envelopes) for envelopes in sent[:5]]
        gather([lambda envelopes=envelopes: outbox.add(envelopes) for envelopes in sent[5:]])
        for thread in in_threads:
            thread.get(timeout=LIMIT)
    assert sorted(broker.ids) == sorted(id for envelopes in sent for id in ids_of(envelopes))
    for envelopes in sent:  # each caller's own order is kept
        places = [broker.ids.index(id) for id in ids_of(envelopes)]
        assert places == sorted(places)


def test_what_can_never_be_sent_does_not_hold_back_the_others(outbox, broker, tmp_path, caplog):
    broker.refused = {"bad.one"}
    sent = events(20)
    bad = events(1, "bad.one")
    outbox.add(sent[:10] + bad)
    execute(tmp_path / "events.db", "INSERT INTO gemstone_outbox (event) VALUES ('nonsense'), (17)")
    outbox.add(sent[10:])
    with sending(outbox, broker):
        assert outbox.drain(LIMIT)
        assert broker.ids == ids_of(sent)
        failed, *no_events = [each.row for each in outbox.refused()]
        assert len(no_events) == 2
        assert bad[0].id.encode() in failed.event
        assert failed.reason == "ServiceConfigurationError: bad.one cannot be sent"
        assert "'bad.one' in" in caplog.text
        assert "set aside" in caplog.text
        # and when what it lacked is there, it can be tried again
        broker.refused.clear()
        assert outbox.replay(outbox.refused()) == 3
        assert outbox.drain(LIMIT)
        assert len(outbox.refused()) == 2
    assert broker.ids == ids_of(sent + bad)


def test_an_unexpected_exception_is_logged_once_and_tried_again(outbox, broker, caplog):
    attempts = []

    def send(envelopes):
        attempts.append(1)
        if len(attempts) < 4:
            raise KeyError("a bug")

    outbox.add(events(1))
    outbox.start(send)
    with pytest.raises(ServiceConfigurationError, match="already"):
        outbox.start(send)
    assert outbox.drain(LIMIT)
    outbox.stop(5)
    assert len(attempts) == 4
    assert [r.levelname for r in caplog.records if r.exc_info] == ["ERROR"]


def test_stop_sends_what_it_can_and_keeps_the_rest(outbox, broker):
    broker.away = True
    sent = events(5)
    outbox.start(broker.send)
    outbox.add(sent)
    wait_until(lambda: broker.calls, "an attempt")
    assert outbox.stop(5) is False
    assert outbox.pending() == 5
    broker.away = False
    outbox.start(broker.send)
    before = time.monotonic()
    assert outbox.stop(60) is True
    assert time.monotonic() - before < LIMIT
    assert broker.ids == ids_of(sent)


def test_stop_ends_in_time_when_the_broker_says_nothing(outbox):
    hanging = []

    def send(envelopes):
        hanging.append(1)
        gevent.sleep(60)

    outbox.start(send)
    outbox.add(events(1))
    wait_until(lambda: hanging, "an attempt")
    before = time.monotonic()
    assert outbox.stop(0.5) is False
    assert time.monotonic() - before < LIMIT
    assert outbox.pending() == 1


def test_large_events_are_not_read_all_at_once(outbox):
    sizes = []
    outbox.add([envelope.with_changes(body=b'"%b"' % (b"x" * 10**6)) for envelope in events(6)])
    outbox.start(lambda envelopes: sizes.append(len(envelopes)))
    assert outbox.drain(LIMIT)
    outbox.stop(5)
    assert sum(sizes) == 6
    assert max(sizes) <= 4


@pytest.mark.parametrize(
    "location",
    [
        "",
        ":memory:",
        "file:x?mode=memory",
        "sqlite://",
        None,
        3,
        "postgresql://user:secret@host/db",
    ],
)
def test_a_place_that_is_no_file_is_refused_without_its_password(location):
    with pytest.raises(ServiceConfigurationError, match="path of a file") as caught:
        Outbox(location)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "databases",
    [[":memory:"], ["sqlite://"], [3], "shop.db", ["x://"], ["://"], ["x://user:secret@host/db"],
     ["postgresql+x://user:secret@host/db?password=secret"]],
)  # fmt: skip
def test_what_is_no_database_is_refused_without_its_password(tmp_path, databases):
    with pytest.raises(ServiceConfigurationError) as caught:
        Outbox(str(tmp_path / "events.db"), databases=databases)
    assert "secret" not in str(caught.value)


def test_sqlalchemy_is_not_needed(run_python):
    done = run_python(
        """
import sqlite3, sys
from gemstone_sync.event.emission import make_envelope
from gemstone_sync.event.outbox import Outbox
sys.modules["sqlalchemy"] = None  # as if it were not installed
outbox = Outbox("events.db", databases=["shop.db"])
connection = sqlite3.connect("other.db")
with connection, outbox.transaction(connection) as transaction:
    transaction.store([make_envelope("a.b", 1)])
outbox.start(lambda envelopes: print(envelopes[0].name))
assert outbox.drain(60)
outbox.stop(5)
try:
    Outbox("events.db", databases=["postgresql://host/db"])
except Exception as error:
    print(error)
"""
    )
    assert done.stdout.splitlines() == [
        "a.b",
        "a database is given by a URL, and SQLAlchemy is not installed: pip install sqlalchemy",
    ], done.stderr


def test_a_file_that_is_removed_under_it_is_made_again(outbox, broker, tmp_path):
    with sending(outbox, broker):
        outbox.add(events(1))
        assert outbox.drain(LIMIT)
        # All at once: between two of them the relay may look into it, and make it anew beside the
        # log of the old one.
        with outbox._process_state().location._file._lock:
            for file in tmp_path.glob("events.db*"):
                file.unlink()
        sent = events(2)
        outbox.add(sent)
    assert broker.ids[1:] == ids_of(sent)


def test_tables_of_a_later_version_are_left_alone(outbox, tmp_path):
    path = tmp_path / "events.db"
    outbox.add(events(1))
    execute(path, "UPDATE gemstone_outbox_relay SET version = 99")
    with pytest.raises(EventNotDelivered, match=r"version 99.*upgrade"):
        Outbox(path).add(events(1))
    assert stored_in(path) == 1
