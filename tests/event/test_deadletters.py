"""Dead letters: looked at, put back, thrown away, and never lost."""

import contextlib
import itertools
from collections import deque
from collections.abc import Iterator
from typing import Any

import amqp
import gevent
import pytest

from gemstone_sync.errors import EventNotDelivered, ServiceConfigurationError
from gemstone_sync.event import Outbox, deadletters
from gemstone_sync.event.envelope import DeadLetter, Envelope, to_message
from gemstone_sync.event.link import LinkLost
from gemstone_sync.event.topology import Binding, Topology
from gemstone_sync.event.transport import BaseEventTransport, RabbitMqEventTransport
from tests.event.scripted_link import Broker, ScriptedLink
from tests.support.rabbitmq import connect
from tests.support.waiting import LIMIT, wait_until

TOPOLOGY = Topology("test")
QUEUE = "test:1:q"


class Transport(Broker):
    """What dead letters need of a transport, and its broker in one."""

    topology = TOPOLOGY

    @contextlib.contextmanager
    def link(self) -> Iterator[ScriptedLink]:
        link = super().link()
        link.open()
        try:
            yield link
        finally:
            link.close()

    @property
    def dead(self) -> list[Envelope]:
        return self.waiting(TOPOLOGY.dead)

    def die(
        self, *numbers: int, name: str = "x", queue: str = QUEUE, **values: Any
    ) -> list[Envelope]:
        """Lay something with the dead letters."""
        for number in numbers:
            letter = DeadLetter(
                reason="failed",
                error="OSError: no",
                traceback="...",
                queue=queue,
                time=1e3 + number,
            )
            envelope = Envelope(
                name=name,
                body=str(number).encode(),
                id=f"id{number}",
                time=500.0,
                **{"attempts": 6, "handler": "Shop.on_x", "dead": letter, **values},
            )
            self.put(TOPOLOGY.dead, envelope)
        return self.dead


@pytest.fixture
def broker() -> Transport:
    return Transport(queues={QUEUE: deque(), TOPOLOGY.dead: deque()})


def ids(letters: Any) -> list[str]:
    return [letter.id for letter in letters]


def test_a_dead_letter_tells_all_that_is_known_of_it(broker: Transport):
    broker.die(7, emitter="web", key="k")
    (letter,) = deadletters.list(broker)
    assert letter == deadletters.DeadLetterEntry(
        id="id7",
        name="x",
        body=7,
        reason="failed",
        error="OSError: no",
        traceback="...",
        attempts=6,
        handler="Shop.on_x",
        queue=QUEUE,
        emitter="web",
        key="k",
        emitted=500.0,
        died=1007.0,
    )
    assert deadletters.show(broker, "id7") == letter


def test_looking_leaves_everything_as_it_was_and_sorts_by_time(broker: Transport):
    for number in (3, 1, 2, 0, 4):
        broker.die(number, name="xy"[number % 2])
    before = list(broker.queues[TOPOLOGY.dead])
    assert ids(deadletters.list(broker)) == ["id0", "id1", "id2", "id3", "id4"]
    assert ids(deadletters.list(broker, "y")) == ["id1", "id3"]
    assert ids(deadletters.list(broker, "x", limit=2)) == ["id0", "id2"]
    assert deadletters.list(broker, "z") == []
    assert deadletters.list(broker, limit=0) == []
    assert deadletters.show(broker, "id2").body == 2
    assert list(broker.queues[TOPOLOGY.dead]) == before, "as if nobody had looked"


def test_a_pattern_chooses_as_it_does_for_handlers(broker: Transport):
    for number, name in enumerate(["orders.paid", "orders.paid.late", "users", "no name"]):
        broker.die(number, name=name)
    assert ids(deadletters.list(broker, "orders.*")) == ["id0"]
    assert ids(deadletters.list(broker, "orders.#")) == ["id0", "id1"]
    assert ids(deadletters.list(broker, "no name")) == ["id3"], "another program's, as it is"
    assert deadletters.replay(broker, event="orders.*") == 1
    assert ids(broker.waiting(QUEUE)) == ["id0"]
    assert deadletters.purge(broker, event="orders.#") == 1
    assert deadletters.purge(broker, event="#") == 2
    assert not broker.dead


@pytest.mark.parametrize("call", [deadletters.list, deadletters.replay, deadletters.purge])
@pytest.mark.parametrize("event", ["orders.x*", 5])
def test_a_pattern_that_matches_nothing_ever_is_refused(broker: Transport, call: Any, event: Any):
    before = broker.die(1)
    with pytest.raises(ValueError, match="invalid event name"):
        call(broker, event=event)
    assert broker.dead == before


@pytest.mark.parametrize("limit", [-1, 1.5, "2", True])
def test_a_limit_that_is_no_number_of_dead_letters_is_refused(
    broker: Transport, limit: Any, tmp_path: Any
):
    broker.die(1)
    for place in (broker, Outbox(str(tmp_path / "outbox.db"))):
        with pytest.raises(ValueError, match=r"limit is a whole number, 0 or more, not"):
            deadletters.list(place, limit=limit)
    assert ids(deadletters.list(broker, limit=None)) == ["id1"]


def test_where_there_are_none_the_list_is_empty(broker: Transport):
    assert deadletters.list(broker) == []
    assert deadletters.replay(broker) == 0
    assert deadletters.purge(broker) == deadletters.purge(broker, event="x") == 0


def test_what_the_broker_has_laid_there_itself_has_crashed_whatever_its_body(broker: Transport):
    broker.put(TOPOLOGY.dead, Envelope(name="x", id="id1", body=b"\xff{"))
    letter = deadletters.show(broker, "id1")
    assert (letter.reason, letter.queue, letter.died) == ("crashed", "", None)
    assert "the processes that had it ended" in letter.error
    assert letter.body == b"\xff{"


def test_what_is_looked_at_is_kept(broker: Transport):
    """However long that takes: what `Link.keep` does is shown with each link."""
    broker.die(1)
    assert len(deadletters.list(broker)) == 1
    assert broker.log == ["keep"]


@pytest.mark.parametrize("call", [deadletters.show, deadletters.replay, deadletters.purge])
def test_an_id_that_there_is_not_is_refused(broker: Transport, call: Any):
    before = broker.die(1, 2)
    with pytest.raises(ValueError, match=r"no dead letter has the id 'id9': .* tells which"):
        call(broker, "id9")
    assert broker.dead == before


def test_a_replayed_event_goes_to_its_queue_and_handler_as_if_for_the_first_time(broker: Transport):
    (letter,) = broker.die(1, deadline=1.0, key="k", emitter="web")
    broker.die(2)
    assert deadletters.replay(broker, "id1") == 1
    assert ids(broker.dead) == ["id2"]
    (again,) = broker.waiting(QUEUE)
    assert again == letter.with_changes(dead=None, attempts=0, deadline=None)
    assert again.handler == "Shop.on_x"


def test_all_dead_letters_of_an_event_are_replayed_in_order(broker: Transport):
    for number in range(250):
        broker.die(number, name="xy"[number % 2])
    assert deadletters.replay(broker, event="y") == 125
    assert ids(broker.waiting(QUEUE)) == [f"id{number}" for number in range(1, 250, 2)]
    assert ids(broker.dead) == [f"id{number}" for number in range(0, 250, 2)]
    assert deadletters.replay(broker) == 125
    assert not broker.dead


def test_what_fails_again_at_once_is_not_replayed_again_for_ever(broker: Transport):
    number = itertools.count(1000)

    def fail_again() -> None:
        while broker.queues[QUEUE]:
            broker.queues[QUEUE].popleft()
            broker.die(next(number))

    broker.die(*range(150))
    broker.on_request = fail_again
    assert deadletters.replay(broker) == 150
    fail_again()
    assert len(broker.dead) == 150


def test_one_id_is_replayed_to_each_queue_and_what_has_none_any_more_stays(broker: Transport):
    broker.queues["test:1:q2"] = deque()
    gone = broker.die(1, 3, queue="test:1:gone")
    broker.die(1)
    broker.die(1, queue="test:1:q2")
    with pytest.raises(
        EventNotDelivered,
        match=r"2 dead letters were put back.*there is no queue test:1:gone \(1\)",
    ):
        deadletters.replay(broker, "id1")
    assert ids(broker.waiting(QUEUE)) == ids(broker.waiting("test:1:q2")) == ["id1"]
    assert broker.dead == gone


@pytest.mark.parametrize("queue", ["theirs", "tested:1:q", "test:2:q"])
def test_what_names_a_queue_of_somebody_elses_stays(broker: Transport, queue: str):
    broker.queues[queue] = deque()
    forged = broker.die(1, queue=queue)
    broker.die(2)
    with pytest.raises(EventNotDelivered, match=rf"1 dead.*'{queue}' is no queue of 'test' \(1\)"):
        deadletters.replay(broker)
    assert not broker.queues[queue]
    assert broker.dead == forged


def test_what_crashed_and_came_from_nobody_knows_where_goes_the_way_it_came(broker: Transport):
    broker.bindings.add(("work", Binding(TOPOLOGY.work[0], "once.x")))
    broker.die(1, dead=None, broadcast=False)
    assert deadletters.replay(broker) == 1
    assert ids(broker.waiting("work")) == ["id1"]


@pytest.mark.parametrize(("fault", "value"), [("confirms", False), ("blocked", "full")])
def test_a_broker_that_confirms_nothing_gets_no_more_than_its_time(
    broker: Transport, fault: str, value: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(deadletters, "_CONFIRM", 0.1)
    letters = broker.die(*range(300))
    broker.switch(**{fault: value})
    with (
        gevent.Timeout(LIMIT),
        pytest.raises(EventNotDelivered, match=r"0 dead letters .* not confirmed within 0.1 s"),
    ):
        deadletters.replay(broker)
    assert broker.dead == letters


def test_wherever_the_connection_breaks_no_dead_letter_is_lost(
    broker: Transport, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(deadletters, "_BATCH", 10)
    everything = [f"id{number}" for number in range(25)]
    for breaks_after in itertools.count():
        broker.queues[QUEUE].clear()
        broker.queues[TOPOLOGY.dead] = deque()
        broker.die(*range(25))
        left = itertools.count(breaks_after, -1)

        def break_in_time(left: Iterator[int] = left) -> None:
            if next(left) <= 0:
                raise LinkLost("connection reset")

        broker.on_request = break_in_time
        with contextlib.suppress(LinkLost, EventNotDelivered):
            deadletters.replay(broker)
            break
        assert set(ids(broker.dead)) | set(ids(broker.waiting(QUEUE))) == set(everything)
    assert ids(broker.waiting(QUEUE)) == everything
    assert breaks_after > 25


def test_a_broker_that_is_silent_for_too_long_is_given_up(
    broker: Transport, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(deadletters, "_PATIENCE", 0.05)
    broker.die(1)
    broker.on_request = lambda: gevent.sleep(LIMIT)
    with pytest.raises(LinkLost, match="has not answered"):
        deadletters.list(broker)
    assert len(broker.dead) == 1


def test_two_who_look_and_replay_at_once_lose_nothing(broker: Transport):
    broker.on_request = lambda: gevent.sleep(0)
    broker.die(*range(100))
    greenlets = [
        gevent.spawn(call, broker)
        for call in (deadletters.list, deadletters.replay, deadletters.list, deadletters.replay)
    ]
    gevent.joinall(greenlets, timeout=LIMIT, raise_error=True)
    everything = ids(broker.dead) + ids(broker.waiting(QUEUE))
    assert sorted(everything) == sorted(f"id{number}" for number in range(100))


def test_dead_letters_can_be_thrown_away_by_id_by_event_and_all(broker: Transport):
    for number in range(300):
        broker.die(number, name="xyz"[number % 3])
    assert deadletters.purge(broker, "id0") == 1
    assert deadletters.purge(broker, event="y") == 100
    assert {letter.name for letter in broker.dead} == {"x", "z"}
    assert deadletters.purge(broker) == 199
    assert not broker.dead


class Own(BaseEventTransport):
    register_event_handler = start_accepting_events = on_event_received = emit_event = print


def test_a_transport_of_ones_own_has_no_dead_letters():
    for call in (deadletters.list, deadletters.replay, deadletters.purge):
        with pytest.raises(ServiceConfigurationError, match="Own has no dead letters: they need"):
            call(Own())


@pytest.fixture
def rabbitmq(shared_broker: Any) -> RabbitMqEventTransport:
    """One with 600 dead letters, every tenth of "y", of a queue that nobody consumes."""
    transport = RabbitMqEventTransport.from_url(
        shared_broker.url, application=shared_broker.new_application()
    )
    queue = f"{transport.topology.application}:1:q"
    with transport.link() as link, connect(shared_broker.url) as connection:
        connection.channel().queue_declare(queue, durable=True, auto_delete=False)
        for number in range(600):
            letter = DeadLetter(reason="failed", queue=queue, time=1000.0 + number % 7)
            envelope = Envelope(
                name="x" if number % 10 else "y", id=f"id{number}", body=b"1", dead=letter
            )
            properties, headers = to_message(envelope)
            connection.channel(2).basic_publish(
                amqp.Message(b"1", application_headers=headers, **properties),
                "",
                transport.topology.dead,
            )
        wait_until(lambda: link.size(transport.topology.dead) == 600, "all of them")
    return transport


def lying(transport: RabbitMqEventTransport) -> list[int]:
    """The numbers of the dead letters, as they lie."""
    with transport.link() as link:
        found = [int(each.envelope.id[2:]) for each in link.read(transport.topology.dead)]
        link.end_reading([])
    return found


def test_many_are_found_replayed_and_purged_and_keep_their_order(rabbitmq: RabbitMqEventTransport):
    everything = [*range(600)]
    assert deadletters.show(rabbitmq, "id599").id == "id599"
    assert ids(deadletters.list(rabbitmq, limit=3)) == ["id0", "id1", "id2"]
    assert len(deadletters.list(rabbitmq, limit=5000)) == 600
    with pytest.raises(ValueError, match="no dead letter has the id 'id600'"):
        deadletters.show(rabbitmq, "id600")
    assert lying(rabbitmq) == everything
    assert deadletters.replay(rabbitmq, "id300") == 1
    assert deadletters.purge(rabbitmq, "id400") == 1
    assert deadletters.purge(rabbitmq, event="y") == 58
    left = [n for n in everything if n % 10]
    assert lying(rabbitmq) == left
    assert ids(deadletters.list(rabbitmq, "y")) == []
    assert deadletters.replay(rabbitmq, event="x") == len(left)
    assert lying(rabbitmq) == []
    with rabbitmq.link() as link:
        assert link.size(f"{rabbitmq.topology.application}:1:q") == len(left) + 1


def test_those_who_look_at_once_all_see_all(rabbitmq: RabbitMqEventTransport):
    looking = [gevent.spawn(deadletters.list, rabbitmq, limit=5000) for _ in range(3)]
    assert {len(each.get(timeout=LIMIT)) for each in looking} == {600}
    assert lying(rabbitmq) == [*range(600)]
