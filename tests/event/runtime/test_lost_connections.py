"""Consumer: what runs, waits or has ended when its connection is lost is not handled once more."""

import time
from collections import Counter, deque
from collections.abc import Sequence
from typing import Any

import gevent
import pytest
from gevent.event import Event

from gemstone_sync.event.envelope import Envelope
from gemstone_sync.event.handlers import Handler
from gemstone_sync.event.link import Delivery, LinkLost
from gemstone_sync.event.places import Places
from gemstone_sync.event.runtime import connection_loop, consumer_loop
from gemstone_sync.event.topology import Queue
from tests.event.scripted_link import Broker, ScriptedLink
from tests.support.waiting import LIMIT, wait_until

from .consuming import Handling, Make, done, events, number, queue, stop, waiting

pytestmark = pytest.mark.usefixtures("quick")


@pytest.mark.parametrize(("key", "running", "held"), [(None, 2, 2), ("k", 1, 3)])
def test_handlers_of_a_lost_connection_keep_their_places_and_what_they_had_is_not_handled_again(
    broker: Broker, make: Make, handling: Handling, key: Any, running: int, held: int
):
    broker.put("q", *events(3, key))
    consumer = make(handling, queue(keyed=key is not None), pool_size=2)
    wait_until(lambda: (handling.running, consumer.in_flight) == (running, held), "the handlers")
    for lost in range(1, 4):
        broker.cut()
        again = running + held
        wait_until(lambda: broker.opened == 1 + lost and consumer.in_flight == again, "new ones")  # noqa: B023
    assert handling.running == running
    handling.gate.set()
    done(consumer, broker)
    assert sorted(handling.ended) == [0, 1, 2]
    assert handling.most == running


@pytest.mark.parametrize("adopts", [False, True])
def test_what_ended_just_before_or_after_its_connection_was_lost_is_not_handled_again(
    broker: Broker, make: Make, handling: Handling, adopts: bool
):
    broker.adopts = adopts
    broker.put("q", *events(5))
    consumer = make(handling)
    wait_until(lambda: handling.running == 5, "the handlers")
    broker.deaf = True
    handling.gate.set()
    wait_until(lambda: not consumer.in_flight, "acknowledgements")
    handling.gate.clear()
    broker.put("q", *events(5, first=5))
    wait_until(lambda: handling.running == 5, "the next ones")
    broker.switch(deaf=False, away="for a while")
    broker.cut()
    wait_until(lambda: not broker.links, "the loss")
    handling.gate.set()
    wait_until(lambda: len(handling.ended) == 10, "the ends")
    broker.switch(away=None)
    wait_until(lambda: not broker.queues["q"], "the rest")
    done(consumer, broker)
    assert sorted(handling.ended) == list(range(10))
    # Begun, handled, given back: what a link that keeps nothing would deliver to anybody.
    assert broker.log.count("adopt 0 5 0") == 1
    assert not broker.left


@pytest.mark.parametrize("adopts", [False, True])
def test_what_could_not_be_handled_while_its_connection_was_lost_is_handled_over_the_next(
    broker: Broker, make: Make, adopts: bool
):
    broker.adopts = adopts
    gate, went = Event(), list[int]()

    def handle(delivery: Delivery, queue: Queue) -> None:
        went.append(number(delivery))
        if len(went) == 1:
            gate.wait()
            raise OSError("not now")

    broker.put("q", *events(1))
    consumer = make(handle)
    wait_until(lambda: went, "the handler")
    broker.go_away()
    wait_until(lambda: not broker.links, "the loss")
    gate.set()
    wait_until(lambda: not consumer.in_flight, "its end")
    broker.switch(away=None)
    wait_until(lambda: len(went) == 2, "the next attempt")
    done(consumer, broker)
    assert not broker.left


@pytest.mark.parametrize("may_repeat", [True, False])
def test_another_event_of_the_same_id_is_handled(broker: Broker, make: Make, may_repeat: bool):
    """One that was put off and looks the same, and one with a body of its own."""
    handled: list[int] = []

    def handle(delivery: Delivery, queue: Queue) -> None:
        delivery.may_repeat = may_repeat
        handled.append(number(delivery))

    first = Envelope(name="a", body=b"1", id="one")
    second = first if may_repeat else first.with_changes(body=b"2")
    consumer = make(handle)
    for envelope in (first, second):
        broker.put("q", envelope)
        broker.queues["q"] = type(broker.queues["q"])([(envelope, 1)])
        done(consumer, broker)
    assert handled == [1, 1 if may_repeat else 2]


def test_a_key_that_waits_goes_on_where_it_was_over_a_new_connection(broker: Broker, make: Make):
    seen: list[Any] = []

    def handle(delivery: Delivery, queue: Queue) -> Any:
        tried = delivery.tried or delivery.envelope
        seen.append((number(delivery), tried.attempts))
        delivery.tried = tried.with_changes(attempts=tried.attempts + 1)
        return None if tried.attempts == 3 else 0.1

    broker.put("q", *events(2, "k"))
    consumer = make(handle, queue(keyed=True))
    for tries in (1, 2):
        wait_until(lambda: len(seen) >= tries, "an attempt")  # noqa: B023
        broker.cut()
    done(consumer, broker)
    assert seen == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1), (1, 2), (1, 3)]


def test_a_connection_that_is_cut_all_the_time(broker: Broker, make: Make):
    ended: set[int] = set()

    def handle(delivery: Delivery, queue: Queue) -> None:
        gevent.sleep(0.001)
        ended.add(number(delivery))

    broker.put("q", *events(500))
    consumer = make(handle, pool_size=20)
    for _ in range(15):
        wait_until(lambda: consumer.why_not_ready() is None, "a connection")
        gevent.sleep(0.005)
        broker.cut()
    done(consumer, broker)
    assert ended == set(range(500))


class Other:
    """Another consumer that waits for a place."""

    def wake(self) -> None:
        pass


@pytest.mark.parametrize("adopts", [False, True])
@pytest.mark.parametrize("keyed", [False, True])
@pytest.mark.parametrize("seconds", [0.0, 0.01], ids=["next handler", "next attempt"])
def test_one_that_has_begun_and_waits_for_a_place_goes_on_over_a_new_connection(
    broker: Broker,
    make: Make,
    seconds: float,
    keyed: bool,
    adopts: bool,
    caplog: pytest.LogCaptureFixture,
):
    broker.adopts = adopts
    pool, other, went = Places(1), Other(), list[int]()

    def handle(delivery: Delivery, queue: Queue) -> Any:
        went.append(number(delivery))
        if len(went) == 1:
            pool.take(other)  # which stands in line from now on
            return seconds
        return None

    broker.put("q", *events(2, "k"))
    consumer = make(handle, queue(keyed=keyed), pool=pool)
    wait_until(lambda: went, "the first handler")
    gevent.sleep(0.05)
    broker.cut()
    wait_until(lambda: broker.opened == 2 and not broker.queues["q"], "the new connection")
    pool.leave(other)
    done(consumer, broker)
    assert went == [0, 0, 1] or (not keyed and went == [0, 1, 0])
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("adopts", [False, True])
@pytest.mark.parametrize("key", [None, "k"])
def test_an_acknowledgement_that_the_broker_did_not_get_has_nothing_handled_again(
    broker: Broker, make: Make, key: str | None, adopts: bool, monkeypatch: pytest.MonkeyPatch
):
    """It holds where the broker does not tell how often it has delivered an event, too."""
    broker.adopts = adopts
    handled: list[int] = []
    delivered: list[int] = []
    acknowledged: list[Any] = []
    deliver, settle = ScriptedLink._deliver, ScriptedLink.acknowledge

    def deliver_untold(link: ScriptedLink, queue: str) -> Delivery:
        delivery = deliver(link, queue)
        delivery.deliveries = None
        delivered.append(number(delivery))
        return delivery

    def acknowledge(link: ScriptedLink, deliveries: Sequence[Delivery]) -> None:
        acknowledged.append(deliveries)
        if len(acknowledged) == 1:
            raise LinkLost("cut")
        settle(link, deliveries)

    monkeypatch.setattr(ScriptedLink, "_deliver", deliver_untold)
    monkeypatch.setattr(ScriptedLink, "acknowledge", acknowledge)
    broker.put("q", *events(5, key))
    consumer = make(
        lambda delivery, queue: handled.append(number(delivery)), queue(keyed=key is not None)
    )
    wait_until(lambda: broker.opened == 2, "the loss")
    done(consumer, broker)
    assert handled == [0, 1, 2, 3, 4]
    # Nor is it delivered again, which may be to another instance, where the next link can tell.
    assert delivered.count(0) == (1 if adopts else 2)


def test_a_link_that_is_lost_while_it_adopts_leaves_what_was_handled_to_the_next(
    broker: Broker, make: Make, handling: Handling, monkeypatch: pytest.MonkeyPatch
):
    broker.adopts = True
    adopt, deliver = ScriptedLink.adopt, ScriptedLink._deliver
    lost, delivered = list[int](), list[Delivery]()

    def lose_first(link: ScriptedLink, begun: Any, handled: Any, others: Any) -> None:
        if handled and not lost:
            lost.append(len(handled))
            # As kombu's does: it holds them itself before it acknowledges them.
            adopt(link, [*begun, *handled], [], others)
            raise LinkLost("cut")
        adopt(link, begun, handled, others)

    def count(link: ScriptedLink, queue: str) -> Delivery:
        delivered.append(deliver(link, queue))
        return delivered[-1]

    monkeypatch.setattr(ScriptedLink, "adopt", lose_first)
    monkeypatch.setattr(ScriptedLink, "_deliver", count)
    broker.put("q", *events(3))
    consumer = make(handling)
    wait_until(lambda: handling.running == 3, "the handlers")
    broker.go_away()
    wait_until(lambda: not broker.links, "the loss")
    handling.gate.set()
    wait_until(lambda: len(handling.ended) == 3, "the ends")
    broker.switch(away=None)
    wait_until(lambda: broker.opened == 3, "the second connection")
    done(consumer, broker)
    assert (lost, len(delivered)) == ([3], 3)


@pytest.mark.parametrize("ends", ["before the next connection", "after it"])
@pytest.mark.parametrize("lost", ["before", "during"])
def test_what_is_handled_when_a_connection_is_lost_at_a_stop_is_not_delivered_to_others(
    broker: Broker, busy: Make, handling: Handling, lost: str, ends: str
):
    broker.adopts = True
    consumer = busy(3)
    if lost == "before":
        broker.go_away()
        wait_until(lambda: not broker.links, "the loss")
        (loop, stopping) = consumer._loop, gevent.spawn(consumer.stop, LIMIT)
        wait_until(lambda: loop is not None and loop.stopping, "the stop")
    else:
        stopping = stop(broker, consumer)
        broker.go_away()
        wait_until(lambda: not broker.links, "the loss")
    broker.put("q", *events(1, first=3))
    if ends == "after it":
        broker.switch(away=None)
        wait_until(lambda: broker.opened == 2, "the next connection")
        assert not stopping.dead
    handling.gate.set()
    wait_until(lambda: len(handling.ended) == 3, "the ends")
    broker.switch(away=None)
    assert stopping.get(timeout=LIMIT) is True
    assert sorted(handling.ended) == [0, 1, 2]
    # Nothing is left to be handled again, and nothing new was taken.
    assert (waiting(broker), broker.left) == ([3], {})
    assert broker.log.count("consume q 100") == 1


@pytest.mark.parametrize("away", [{"away": "for good"}, {"hangs": True}])
def test_a_stop_does_not_wait_for_long_for_a_broker_that_is_to_hear_of_what_was_handled(
    broker: Broker,
    busy: Make,
    handling: Handling,
    monkeypatch: pytest.MonkeyPatch,
    caplog: Any,
    away: Any,
):
    monkeypatch.setattr(consumer_loop, "_GRACE", 0.2)
    broker.adopts = True
    consumer = busy(3)
    broker.switch(**away)
    broker.cut()
    wait_until(lambda: not broker.links, "the loss")
    stopping = gevent.spawn(consumer.stop, LIMIT)
    gevent.sleep(0.3)
    assert not stopping.dead  # the handlers have their time
    handling.gate.set()
    before = time.monotonic()
    assert stopping.get(timeout=LIMIT) is True
    assert time.monotonic() - before < LIMIT / 2
    assert "3 events were handled, and the broker does not know" in caplog.text
    broker.switch(away=None, hangs=False)


@pytest.mark.parametrize("how", ["ends", "fails"])
def test_what_ends_while_a_link_adopts_it_is_settled_over_that_link(
    broker: Broker, make: Make, handling: Handling, monkeypatch: pytest.MonkeyPatch, how: str
):
    broker.adopts = True
    adopt = ScriptedLink.adopt
    failed: list[int] = []

    def handle(delivery: Delivery, queue: Queue) -> None:
        handling(delivery, queue)
        if how == "fails" and not failed:
            failed.append(number(delivery))
            raise OSError("not now")

    def adopt_slowly(link: ScriptedLink, begun: Any, handled: Any, others: Any) -> None:
        if begun:
            handling.gate.set()
            wait_until(lambda: len(handling.ended) == 3, "the ends")
        adopt(link, begun, handled, others)

    monkeypatch.setattr(ScriptedLink, "adopt", adopt_slowly)
    broker.put("q", *events(3))
    consumer = make(handle)
    wait_until(lambda: handling.running == 3, "the handlers")
    broker.cut()
    wait_until(lambda: len(handling.ended) == 3 + (how == "fails"), "all of them")
    wait_until(lambda: not broker.left, "what is told to the broker")
    done(consumer, broker)
    assert consumer.stop(LIMIT) is True
    assert sorted(handling.ended) == sorted([0, 1, 2, *failed])
    assert (broker.opened, waiting(broker)) == (2, [])


@pytest.mark.parametrize("adopts", [False, True])
def test_handlers_have_their_time_though_a_stop_ends_the_wait_for_the_next_attempt(
    broker: Broker,
    busy: Make,
    handling: Handling,
    monkeypatch: pytest.MonkeyPatch,
    adopts: bool,
):
    monkeypatch.setattr(connection_loop, "_LONGEST_PAUSE", LIMIT)
    monkeypatch.setattr(connection_loop, "_FIRST_PAUSE", LIMIT)
    monkeypatch.setattr(consumer_loop, "_GRACE", 0.2)
    broker.adopts = adopts
    consumer = busy(3)
    broker.go_away()
    wait_until(lambda: not broker.links, "the loss")
    stopping = gevent.spawn(consumer.stop, LIMIT)
    gevent.sleep(0.5)  # it is looked for an end every 0.1 s
    assert (handling.running, stopping.dead) == (3, False)
    handling.gate.set()
    stopping.get(timeout=LIMIT)
    assert sorted(handling.ended) == [0, 1, 2]


@pytest.mark.parametrize("ends", ["while it is away", "while it is back"])
def test_an_event_comes_to_its_next_handler_though_its_connection_is_lost_at_a_stop(
    broker: Broker, make: Make, ends: str
):
    broker.adopts = True
    gate, ran = Event(), list[str]()

    def handle(delivery: Delivery, queue: Queue) -> float | None:
        delivery.begun = True
        ran.append(delivery.handlers.pop(0).name)
        gate.wait()
        gate.clear()
        return 0.0 if delivery.handlers else None

    handlers = tuple(Handler(pattern="a", function=print, name=name) for name in ("h1", "h2"))
    consumer = make(handle, Queue("q", (), handlers))
    broker.put("q", *events(1))
    wait_until(lambda: ran == ["h1"], "the first handler")
    stopping = stop(broker, consumer)
    broker.go_away()
    wait_until(lambda: not broker.links, "the loss")
    if ends == "while it is away":
        gate.set()
        gevent.sleep(0.2)
        broker.switch(away=None)
    else:
        broker.switch(away=None)
        wait_until(lambda: broker.opened == 2, "the next connection")
        gate.set()
    wait_until(lambda: ran == ["h1", "h2"], "the next handler")
    gate.set()
    assert stopping.get(timeout=LIMIT) is True
    assert (ran, waiting(broker), broker.left) == (["h1", "h2"], [], {})


def test_handlers_are_cut_off_in_time_though_the_broker_does_not_answer(
    broker: Broker, make: Make, monkeypatch: pytest.MonkeyPatch, caplog: Any
):
    broker.adopts = True
    go, hung, ended = Event(), list[Any](), list[int]()

    def handle(delivery: Delivery, queue: Queue) -> None:
        try:
            (go if number(delivery) == 0 else Event()).wait()
        finally:
            ended.append(number(delivery))

    def hang(link: ScriptedLink) -> None:
        hung.append(link)
        Event().wait()

    broker.put("q", *events(3))
    consumer = make(handle)
    wait_until(lambda: consumer.in_flight == 3, "the handlers")
    for function in ("pump", "close"):
        monkeypatch.setattr(ScriptedLink, function, hang)
    broker.poke()
    wait_until(lambda: hung, "a broker that does not answer")
    go.set()
    stopping = gevent.spawn(consumer.stop, 0.3)
    wait_until(lambda: sorted(ended) == [0, 1, 2], "the end of the handlers")
    assert not stopping.dead
    assert stopping.get(timeout=LIMIT) is False
    assert caplog.text.count("2 handlers were still running and are cut off") == 1
    assert caplog.text.count("1 events were handled, and the broker does not know") == 1
    broker.links.clear()


class NotingLink(ScriptedLink):
    """Counts who is about to handle an event, and has not said that it lives."""

    notes: Counter[str]

    def mark(self, delivery: Delivery) -> None:
        delivery.crashes = self.notes[delivery.envelope.id]
        self.notes[delivery.envelope.id] += 1

    def unmark(self, deliveries: Sequence[Delivery], *, done: bool) -> None:
        for delivery in deliveries:
            self.notes[delivery.envelope.id] -= 1


@pytest.fixture
def noting(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> Broker:
    """A broker that has delivered its one event twice before."""
    monkeypatch.setattr(NotingLink, "notes", Counter(), raising=False)
    monkeypatch.setattr(broker, "link", lambda: NotingLink(broker))
    broker.queues["q"] = deque([(Envelope(name="a", body=b"0"), 2)])
    return broker


@pytest.mark.parametrize("outcome", [True, False, "killed", "killed, and delivered elsewhere"])
def test_a_connection_that_is_lost_meanwhile_does_not_count_as_a_death(
    noting: Broker, make: Make, outcome: Any
):
    gate, crashes = Event(), list[int]()

    def handle(delivery: Delivery, queue: Queue) -> None:
        crashes.append(delivery.crashes)
        gate.wait()
        if not outcome and len(crashes) == 1:
            raise OSError("not now")

    consumer = make(handle)
    wait_until(lambda: crashes, "the handler")
    assert NotingLink.notes.total() == 1
    noting.go_away()
    wait_until(lambda: not noting.links, "the loss")
    if isinstance(outcome, bool):
        gate.set()
        gevent.sleep(0.02)
    elif outcome != "killed":
        noting.queues["q"].clear()
    noting.switch(away=None)
    wait_until(lambda: noting.opened == 2 and not noting.queues["q"], "the new connection")
    if not isinstance(outcome, bool):
        assert consumer.stop(0) is False
    else:
        done(consumer, noting)
    assert set(crashes) == {0}
    assert NotingLink.notes.total() == 0
