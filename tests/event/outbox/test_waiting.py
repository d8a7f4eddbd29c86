"""What one of several transports has not got, or refuses, waits for that one; nothing else does."""

import logging
import sqlite3

import pytest
from gevent.event import Event

from gemstone_sync.errors import EventNotDelivered
from gemstone_sync.event import deadletters
from gemstone_sync.event.emission import make_envelope
from gemstone_sync.event.outbox import Outbox, delivery, relay
from tests.support.sqlite import execute
from tests.support.waiting import LIMIT, wait_until

from .support import Broker, events, ids_of


class Choosy(Broker):
    """A broker that tells which events it has not taken.

    :ivar refused: names of events that it does not take now.
    :ivar after: how many it takes before its connection breaks; None for all.
    """

    def __init__(self, away=False):
        super().__init__()
        self.away = away
        self.after = None
        self.proceed = Event()
        self.proceed.set()

    def send(self, envelopes):
        self.calls += 1
        self.proceed.wait()
        if self.away:
            raise EventNotDelivered("away")
        taken, refused, unconfirmed = [], {}, []
        for envelope in envelopes:
            if self.after is not None and len(self.ids) + len(taken) >= self.after:
                unconfirmed.append(envelope.id)
            elif envelope.name in self.refused:
                refused[envelope.id] = EventNotDelivered(f"nobody wants {envelope.name}")
            else:
                taken.append(envelope)
        self.ids += ids_of(taken)
        if refused or unconfirmed:
            raise EventNotDelivered("some", refused=refused, unconfirmed=unconfirmed)


@pytest.fixture
def sending_through():
    """``sending_through(outbox, a=…, b=…)``: started, and stopped with the test."""
    started = []

    def start(outbox, **brokers):
        outbox.start({name: broker.send for name, broker in brokers.items()})
        started.append(outbox)

    yield start
    for outbox in started:
        outbox.stop(5)


def waiting_in(path):
    return execute(path, "SELECT id, transport FROM gemstone_outbox_waiting ORDER BY id, transport")


@pytest.fixture
def by_hand(monkeypatch):
    """What is refused is not tried again by itself, as it were after half a second."""
    monkeypatch.setattr(delivery, "_REFUSED", (60.0, 60.0))


def test_what_is_refused_waits_by_itself_and_the_others_are_sent_once(
    outbox, sending_through, by_hand, caplog
):
    broker = Choosy()
    broker.refused = {"bad"}
    good, bad = events(20), events(3, "bad")
    outbox.add(good[:10] + bad + good[10:])
    sending_through(outbox, a=broker)
    wait_until(lambda: len(broker.ids) == 20, "the good ones")
    wait_until(outbox.why_not_ready, "what is refused")
    later = events(5)
    outbox.add(later)
    wait_until(lambda: len(broker.ids) == 25, "the later ones")
    assert broker.ids == ids_of(good + later)
    wait_until(lambda: outbox.pending() == 3, "what was sent is forgotten")
    assert outbox.why_not_ready() == "outbox: 3 events wait: nobody wants bad"
    # One line for all three.
    assert [r.levelno for r in caplog.records] == [logging.WARNING]

    letters = deadletters.list(outbox)
    assert [(one.id, one.reason, one.error) for one in letters] == [
        (id, "refused", "nobody wants bad") for id in ids_of(bad)
    ]
    assert deadletters.list(outbox, "good") == []
    assert deadletters.show(outbox, bad[1].id).body == {"id": 1}
    assert deadletters.purge(outbox, bad[1].id) == 1
    with pytest.raises(ValueError, match="no dead letter has the id"):
        deadletters.show(outbox, bad[1].id)
    assert [one.id for one in deadletters.list(outbox, limit=1)] == [bad[0].id]
    broker.refused.clear()
    assert deadletters.replay(outbox, event="bad") == 2
    assert outbox.drain(LIMIT)
    assert broker.ids[25:] == ids_of([bad[0], bad[2]])
    wait_until(lambda: outbox.why_not_ready() is None, "nothing is refused")
    with pytest.raises(ValueError, match="no dead letter"):
        deadletters.replay(outbox, bad[0].id)


def test_it_is_tried_again_by_itself_less_and_less_often(outbox, sending_through, monkeypatch):
    monkeypatch.setattr(delivery, "_REFUSED", (0.01, 0.02))
    monkeypatch.setattr(delivery, "_LOOK", 0.01)
    broker = Choosy()
    broker.refused = {"bad"}
    bad = events(1, "bad")
    outbox.add(bad)
    sending_through(outbox, a=broker)
    wait_until(lambda: [one.attempts for one in deadletters.list(outbox)] > [3], "attempts")
    broker.refused.clear()
    assert outbox.drain(LIMIT)
    assert broker.ids == ids_of(bad)
    assert [0.5 * 2**n for n in range(4)] <= [delivery.back_off(n + 1, 1.0, 15.0) for n in range(4)]
    assert delivery.back_off(1000, 1.0, 15.0) <= 15.0


def test_a_transport_that_is_away_gets_each_in_order_later_and_the_other_each_once(
    outbox, sending_through, monkeypatch, tmp_path
):
    monkeypatch.setattr(delivery, "_AWAY", (0.01, 0.02))
    here, there = Choosy(), Choosy(away=True)
    sent = []
    sending_through(outbox, here=here, there=there)
    for number in range(7, 77, 7):
        sent += events(7)
        outbox.add(sent[-7:])
        wait_until(lambda number=number: len(here.ids) == number, "the ones that go")
    wait_until(lambda: there.calls > 5, "attempts")
    assert (here.ids, there.ids, outbox.pending()) == (ids_of(sent), [], 70)
    wait_until(lambda: len(waiting_in(tmp_path / "events.db")) == 70, "what waits for it")
    left = waiting_in(tmp_path / "events.db")
    assert left == [(left[0][0] + n, "there") for n in range(70)]
    # It waits for a transport, as always with an outbox: nothing is refused.
    assert (outbox.why_not_ready(), deadletters.list(outbox)) == (None, [])
    there.after = 30  # it comes back, breaks again after some, and comes back
    there.away = False
    wait_until(lambda: len(there.ids) == 30, "some")
    sent += events(7)
    outbox.add(sent[-7:])
    wait_until(lambda: len(here.ids) == 77, "new ones")
    there.after = None
    assert outbox.drain(LIMIT)
    assert here.ids == there.ids == ids_of(sent)


def test_the_outcomes_outlive_the_process_and_a_transport_that_is_no_more(
    outbox, sending_through, tmp_path
):
    here, there = Choosy(), Choosy(away=True)
    here.refused = {"bad"}
    first, bad = events(3), events(1, "bad")
    outbox.add(first + bad)
    sending_through(outbox, here=here, there=there)
    wait_until(lambda: outbox.refused(), "what is refused")
    outbox.stop(5)
    assert here.ids == ids_of(first)
    there.away = False
    again = Outbox(str(tmp_path / "events.db"))
    sending_through(again, there=there, here=here)
    wait_until(lambda: len(there.ids) == 4, "what it had not got")
    assert (here.ids, there.ids) == (ids_of(first), ids_of(first + bad))
    again.stop(5)
    # What waits for one that was taken away goes to those that there are now.
    new = Choosy()
    last = Outbox(str(tmp_path / "events.db"))
    sending_through(last, new=new)
    assert last.drain(LIMIT)
    assert new.ids == ids_of(bad)


def test_one_that_refuses_for_good_sends_nothing_again_to_the_others(outbox, sending_through):
    """Neither the batch nor the event that it was."""
    here, other = Choosy(), Broker()
    other.refused = {"bad"}  # raises ServiceConfigurationError for all of the batch
    sent = events(30)
    sent[17:17] = events(1, "bad")
    outbox.add(sent)
    sending_through(outbox, here=here, other=other)
    assert outbox.drain(LIMIT)
    assert here.ids == ids_of(sent)
    assert sorted(other.ids) == sorted(ids_of(sent[:17] + sent[18:]))
    (letter,) = deadletters.list(outbox)
    assert (letter.reason, letter.name) == ("unsendable", "bad")
    assert outbox.why_not_ready() is None  # nothing goes on with it
    other.refused.clear()
    assert deadletters.replay(outbox, letter.id) == 1
    assert outbox.drain(LIMIT)
    assert (len(here.ids), other.ids[-1]) == (31, letter.id)


def test_what_broke_in_the_middle_of_a_batch_sends_the_rest_only(
    outbox, sending_through, monkeypatch
):
    monkeypatch.setattr(delivery, "_AWAY", (0.01, 0.02))
    broker = Choosy()
    broker.after = 4
    broker.refused = {"bad"}
    sent, bad = events(9), events(1, "bad")
    outbox.add(sent[:2] + bad + sent[2:])
    sending_through(outbox, a=broker)
    wait_until(lambda: broker.calls > 3, "attempts")
    assert broker.ids == ids_of(sent[:4])
    broker.after = None
    wait_until(lambda: outbox.pending() == 1, "the rest")
    assert broker.ids == ids_of(sent)


def test_one_that_hangs_holds_up_nobody_else(outbox, sending_through, monkeypatch):
    monkeypatch.setattr(relay, "_PATIENCE", 0.05)
    here, slow = Choosy(), Choosy()
    slow.proceed.clear()
    sent = events(3)
    outbox.add(sent)
    sending_through(outbox, here=here, slow=slow)
    for number in range(3, 18, 3):
        wait_until(lambda number=number: len(here.ids) == number, "the ones that go")
        sent += events(3)
        outbox.add(sent[-3:])
    wait_until(lambda: len(here.ids) == len(sent), "the ones that go")
    assert slow.ids == []
    slow.proceed.set()
    assert outbox.drain(LIMIT)
    # What it was given when it began to hang it has: it does not get that again.
    assert here.ids == slow.ids == ids_of(sent)


def test_what_is_refused_keeps_the_order_of_its_key_and_nobody_elses(
    outbox, sending_through, by_hand
):
    broker = Choosy()
    broker.refused = {"paid"}

    def make(name, key):
        return make_envelope(name, 1, key=key)

    held = [make("paid", "7"), make("paid", "7")]
    free = [make("sent", "7"), *events(2)]
    outbox.add([held[0], *free])
    sending_through(outbox, a=broker)
    wait_until(lambda: len(broker.ids) == 3, "the free ones")
    broker.refused.clear()
    other = make("paid", "8")
    outbox.add([held[1], other])
    wait_until(lambda: len(broker.ids) == 4, "another key")
    assert broker.ids == ids_of([*free, other])
    assert deadletters.replay(outbox) == 1  # the second one was not refused
    assert outbox.drain(LIMIT)
    assert broker.ids[4:] == ids_of(held)


def test_what_is_refused_in_the_users_own_database_is_found_there(
    outbox, sending_through, tmp_path
):
    broker = Choosy()
    broker.refused = {"bad"}
    connection = sqlite3.connect(tmp_path / "shop.db")
    with connection, outbox.transaction(connection) as transaction:
        transaction.store(events(1) + events(1, "bad"))
    outbox.add(events(1, "bad"))
    sending_through(outbox, a=broker)
    wait_until(lambda: len(outbox.refused()) == 2, "both")
    told = "outbox: 2 events wait: nobody wants bad"
    wait_until(lambda: outbox.why_not_ready() == told, told)
    # From another program.
    assert deadletters.purge(Outbox(str(tmp_path / "events.db")), event="bad") == 2
    assert outbox.drain(LIMIT)
    # The user's file stays as the user made it.
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    (storage,) = [
        each for each in outbox._process_state().storages.values() if each.name.endswith("shop.db")
    ]
    storage.count()
    assert storage._file._connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    connection.close()


def test_a_thousand_that_are_refused_are_paged_through(outbox, sending_through):
    broker = Choosy()
    broker.refused = {"bad"}
    bad = events(1000, "bad")
    outbox.add(bad)
    sending_through(outbox, a=broker)
    wait_until(lambda: len(outbox.refused()) == 1000, "all of them")
    sent = events(1)
    outbox.add(sent)
    wait_until(lambda: broker.ids, "a good one")
    assert [one.id for one in deadletters.list(outbox)] == ids_of(bad)
    assert deadletters.show(outbox, bad[-1].id).id == bad[-1].id
    assert deadletters.purge(outbox) == 1000
    wait_until(lambda: outbox.pending() == 0, "the good one is forgotten")
