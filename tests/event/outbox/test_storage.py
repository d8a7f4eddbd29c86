"""One suite over both kinds of database: what the relay asks of it, and the relay itself."""

import logging
import time
import uuid

import gevent
import pytest
import sqlalchemy as sa

from gemstone_sync.errors import StoreFault
from gemstone_sync.event.outbox import lease, relay
from gemstone_sync.event.outbox.sqlalchemy import SqlAlchemyStorage
from gemstone_sync.event.outbox.sqlite import CREATE_EVENTS, SqliteStorage
from gemstone_sync.event.outbox.storage import INSERT, Lease, Row, Waiting
from tests.support.waiting import wait_until

from .support import Broker, events, ids_of


@pytest.fixture(
    params=[
        lambda path: SqliteStorage(str(path)),
        lambda path: SqlAlchemyStorage(sa.make_url(f"sqlite:///{path}")),
    ],
    ids=["sqlite3", "SQLAlchemy"],
)
def make_storage(request, tmp_path):
    """Each call gives a storage of its own over the same database."""
    (tmp_path / "shop.db").touch()
    made = []

    def make():
        made.append(request.param(tmp_path / "shop.db"))
        return made[-1]

    yield make
    for storage in made:
        storage.close()


@pytest.fixture
def store(tmp_path):
    """Stores events past the storages, as a user's transaction does."""
    engine = sa.create_engine(f"sqlite:///{tmp_path}/shop.db")

    def store(envelopes):
        with engine.begin() as connection:
            connection.exec_driver_sql(CREATE_EVENTS)
            rows = [{"event": envelope.to_json()} for envelope in envelopes]
            connection.execute(sa.text(INSERT), rows)

    yield store
    engine.dispose()


@pytest.fixture
def relays():
    """``relays(storage, send)`` runs one; all are ended with the test."""
    running = []

    def start(storage, send):
        logger = logging.getLogger("gemstone_sync.event")
        started = relay.Relay(storage, {"send": send}, uuid.uuid4().hex, logger)
        running.append((started, gevent.spawn(started.run)))
        return running[-1]

    yield start
    for started, greenlet in running:
        started.stop()
        greenlet.join(5)
        greenlet.kill()


def test_it_gives_what_was_stored_in_order_and_bounded(make_storage, store):
    sent = events(5)
    storage = make_storage()
    # Nobody has made its tables yet.
    looks = (
        storage.has_events(),
        storage.count(),
        storage.trouble(),
        storage.refused((0, ""), 9),
        storage.waiting_lines("a"),
    )
    assert looks == (False, 0, None, [], set())
    store(sent)
    assert storage.has_events() is True
    rows = storage.read(100, 10**6)
    assert [row.event for row in rows] == [envelope.to_json() for envelope in sent]
    assert len(storage.read(2, 10**6)) == 2
    assert len(storage.read(100, 1)) == 1
    storage.delete([row.id for row in rows[:4]])
    assert storage.read(100, 10**6) == rows[4:]
    assert storage.count() == 1
    # An id is never given twice: a relay that was stopped for a while would delete another event.
    storage.delete([rows[4].id])
    store(events(1))
    assert storage.read(1, 1)[0].id > rows[4].id


def waiting(row, transport="a", line=None, due=0.0, attempts=0, reason="no good"):
    return Waiting(row.id, transport, row.event, line, due, attempts, reason, 1.0)


def test_what_was_set_aside_can_be_tried_again(make_storage, store):
    storage = make_storage()
    store(events(2))
    storage.prepare()
    first, second = storage.read(2, 10**6)
    for transport in ("a", ""):  # an empty one: no transport could be asked of it
        aside = waiting(first, transport, due=None)
        storage.move([first.id], [aside])
        storage.move([first.id], [aside])  # the answer was lost
        assert storage.read(2, 10**6)[:1] == [second]
        assert storage.refused((0, ""), 9) == [aside]
        assert storage.refused((first.id, transport), 9) == []
        assert (storage.count(), storage.trouble(), storage.waiting_lines("a")) == (1, None, set())
        assert storage.replay([(first.id, transport)]) == 1
        assert storage.refused((0, ""), 9) == []
        if transport:
            assert storage.read_waiting("a", 9, 10**6) == [Row(first.id, first.event)]
            assert storage.purge([(first.id, "a"), (first.id, "b")]) == 1
    assert [row.event for row in storage.read(2, 10**6)] == [second.event, first.event]


def test_what_waits_is_due_in_time_and_overtakes_nothing_in_its_line(make_storage, store):
    storage, later = make_storage(), time.time() + 60
    store(events(6))
    storage.prepare()
    rows = storage.read(9, 10**6)
    moved = [
        waiting(rows[0], line="k", due=later, attempts=1),
        waiting(rows[1], line="k"),  # behind the first
        waiting(rows[2], line="j"),
        waiting(rows[2], "b", line="j"),
        waiting(rows[3], due=5.0, attempts=1),
        waiting(rows[4]),
    ]
    storage.move([row.id for row in rows[:5]], moved)
    due = [rows[2], rows[4], rows[3]._replace(attempts=1)]
    assert storage.read_waiting("a", 9, 10**6) == due
    assert storage.read_waiting("a", 2, 10**6) == due[:2]
    assert storage.read_waiting("a", 9, 1) == due[:1]
    assert (storage.count(), storage.waiting_lines("a"), storage.waiting_lines("b")) == (
        6,
        {"k", "j"},
        {"j"},
    )
    assert storage.trouble() == (2, "no good")
    assert [row.id for row in storage.refused((0, ""), 9)] == [rows[0].id, rows[3].id]
    # It has some, and refuses one again.
    storage.settle("a", [rows[2].id, rows[4].id], [(rows[3].id, later, "still no good")])
    assert storage.read_waiting("a", 9, 10**6) == []
    assert [row.id for row in storage.read_waiting("b", 9, 10**6)] == [rows[2].id]
    (again,) = storage.refused((rows[0].id, "z"), 9)
    assert (again.attempts, again.reason, again.due) == (2, "still no good", later)
    # The first of its line is gone.
    assert storage.purge([(rows[0].id, "a")]) == 1
    assert [row.id for row in storage.read_waiting("a", 9, 10**6)] == [rows[1].id]
    # A transport that is no more leaves what it has not got to the others.
    storage.adopt(["a"])
    assert [row.event for row in storage.read(9, 10**6)] == [rows[5].event, rows[2].event]


def test_only_one_takes_the_lease(make_storage):
    one, two = make_storage(), make_storage()
    one.prepare()
    two.prepare()
    seen = one.lease()
    assert seen == two.lease() == Lease("", seen.beat)
    assert one.swap(seen, "one") is True
    assert two.swap(seen, "two") is False
    assert two.lease() == Lease("one", seen.beat + 1)


def test_what_was_sent_is_not_sent_again_while_it_cannot_be_deleted(make_storage, store, relays):
    """A full disk would otherwise flood the broker."""
    broker, storage = Broker(), make_storage()
    refused = []
    delete = storage.delete

    def fail_twice(ids):
        if len(refused) < 2:
            refused.append(ids)
            raise StoreFault("the disk is full")
        delete(ids)

    storage.delete = fail_twice
    sent = events(3)
    store(sent)
    relays(storage, broker.send)
    wait_until(lambda: len(refused) == 2 and storage.count() == 0, "deleted")
    assert broker.ids == ids_of(sent)


def test_one_of_two_relays_sends_and_the_other_takes_over_at_once_when_it_stops(
    make_storage, store, relays, monkeypatch
):
    monkeypatch.setattr(lease, "SILENCE", 60.0)
    monkeypatch.setattr(relay, "_IDLE", 60.0)
    brokers, sent = (Broker(), Broker()), []
    running = [relays(make_storage(), broker.send) for broker in brokers]
    for _ in range(5):
        envelopes = events(20)
        store(envelopes)
        sent += ids_of(envelopes)
        gevent.sleep(0.02)  # so that both may look in between
    wait_until(lambda: sum(len(broker.ids) for broker in brokers) >= 100, "events")
    one, two = sorted((0, 1), key=lambda number: not brokers[number].ids)
    assert (brokers[one].ids, brokers[two].ids) == (sent, [])

    stopped, greenlet = running[one]
    stopped.stop()
    greenlet.join(5)
    store(events(1))
    wait_until(lambda: brokers[two].ids, "an event")


def test_the_other_takes_over_from_one_that_says_nothing(make_storage, store, relays, monkeypatch):
    monkeypatch.setattr(lease, "SILENCE", 0.5)
    storage = make_storage()
    storage.prepare()
    assert storage.swap(storage.lease(), "one that was killed")
    broker = Broker()
    store(events(1))
    began = time.monotonic()
    relays(make_storage(), broker.send)
    wait_until(lambda: broker.ids, "an event")
    assert time.monotonic() - began >= 0.5


def test_a_relay_keeps_its_lease_while_the_broker_is_slow(make_storage, store, relays, monkeypatch):
    monkeypatch.setattr(lease, "BEAT", 0.1)
    leases, other = [], make_storage()

    def send(envelopes):
        leases.append(other.lease())
        wait_until(lambda: other.lease().beat > leases[0].beat + 3, "beats")
        leases.append(other.lease())

    store(events(1))
    relays(make_storage(), send)
    wait_until(lambda: len(leases) == 2, "the event")
    assert leases[0].owner == leases[1].owner != ""
