"""Dead letters: looked at, put back, thrown away, and never lost."""

import contextlib
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gevent
import pytest

from gemstone_sync.errors import EventNotDelivered, ServiceConfigurationError
from gemstone_sync.event import deadletters
from gemstone_sync.event.envelope import DeadLetter, Envelope
from gemstone_sync.event.link import Delivery, Link, LinkLost, Outgoing
from gemstone_sync.event.signals import Signal
from gemstone_sync.event.topology import Queue, Topology
from gemstone_sync.event.transport import BaseEventTransport
from tests.support.waiting import LIMIT


class Broker:
    """Queues in memory, and what it does wrong.

    :ivar lost_after: the connection breaks after so many more requests.
    :ivar confirms: False keeps confirms back.
    :ivar blocked: it takes nothing.
    :ivar on_take: called with each message that is taken.
    """

    def __init__(self) -> None:
        self.topology = Topology("test")
        self.queues: dict[str, deque[Envelope]] = {self.topology.dead: deque()}
        self.lost_after: int | None = None
        self.confirms = True
        self.blocked = False
        self.lease: float | None = None
        self.renewed = 0
        self.on_take: Callable[[], None] = lambda: None

    def __str__(self) -> str:
        return "Broker()"

    @property
    def dead(self) -> deque[Envelope]:
        return self.queues[self.topology.dead]

    @contextlib.contextmanager
    def link(self) -> Iterator["MemoryLink"]:
        link = MemoryLink(self)
        try:
            yield link
        finally:
            link.close()

    def die(self, number: int, name: str = "x", queue: str = "q", **values: Any) -> Envelope:
        """Lay something with the dead letters."""
        letter = DeadLetter(
            reason="failed", error="OSError: no", traceback="...", queue=queue, time=1000.0 + number
        )
        envelope = Envelope(
            name=name,
            body=str(number).encode(),
            id=f"id{number}",
            time=500.0,
            **{"attempts": 6, "handler": "Shop.on_x", "dead": letter, **values},
        )
        self.dead.append(envelope)
        return envelope


class MemoryLink(Link):
    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.lease = broker.lease
        self._held: dict[int, Envelope] = {}
        self._tags = itertools.count(1)
        self._unconfirmed: list[tuple[Outgoing, str | None]] = []

    @property
    def blocked(self) -> bool:  # type: ignore[override]
        return self.broker.blocked

    def _check(self) -> None:
        if self.broker.lost_after is not None:
            self.broker.lost_after -= 1
            if self.broker.lost_after < 0:
                raise LinkLost("connection reset")

    def open(self) -> None: ...

    def close(self) -> None:
        self.broker.dead.extendleft(reversed(self._held.values()))
        self._held.clear()

    def wait(self, signal: Signal, timeout: float) -> None:
        signal.wait(min(timeout, 0.01))

    def pump(self) -> None:
        self._check()
        while self._unconfirmed and self.broker.confirms:
            message, reason = self._unconfirmed.pop(0)
            message.settle(reason)

    def declare(self, topology: Topology, queues: Sequence[Queue] = ()) -> None: ...

    def publish(self, messages: Sequence[Outgoing]) -> None:
        self._check()
        for message in messages:
            queue = message.address.routing_key
            reason = None if queue in self.broker.queues else f"there is no queue {queue}"
            if reason is None:
                self.broker.queues[queue].append(message.envelope)
            self._unconfirmed.append((message, reason))

    def consume(self, queue: str, prefetch: int, on_delivery: Any) -> None: ...

    def cancel(self, queue: str) -> None: ...

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        self._check()
        for delivery in deliveries:
            del self._held[delivery.tag]

    def requeue(self, deliveries: Sequence[Delivery]) -> None:
        self._check()
        self.broker.dead.extendleft(self._held.pop(delivery.tag) for delivery in deliveries[::-1])

    def renew(self, deliveries: Sequence[Delivery]) -> None:
        assert {delivery.tag for delivery in deliveries} == set(self._held)
        self.broker.renewed += 1

    def size(self, queue: str) -> int:
        self._check()
        return len(self.broker.queues.get(queue, ()))

    def remove(self, queue: str) -> None:
        self._check()
        self.broker.queues.pop(queue, None)

    def purge(self, queue: str) -> int:
        size = self.size(queue)
        self.broker.queues[queue].clear()
        return size

    def take(self, queue: str) -> Delivery | None:
        self._check()
        self.broker.on_take()
        if not self.broker.queues[queue]:
            return None
        envelope = self.broker.queues[queue].popleft()
        tag = next(self._tags)
        self._held[tag] = envelope
        return Delivery(self, queue, tag, envelope)


@pytest.fixture
def broker() -> Broker:
    return Broker()


def ids(letters: Any) -> list[str]:
    return [letter.id for letter in letters]


# Looking


def test_a_dead_letter_tells_all_that_is_known_of_it(broker: Broker):
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
        queue="q",
        emitter="web",
        key="k",
        emitted=500.0,
        died=1007.0,
    )
    assert deadletters.show(broker, "id7") == letter


def test_a_body_that_is_no_json_is_shown_as_it_is(broker: Broker):
    broker.die(1)
    broker.dead[0] = broker.dead[0].with_changes(body=b"\xff{")
    assert deadletters.show(broker, "id1").body == b"\xff{"


def test_looking_leaves_everything_as_it_was(broker: Broker):
    before = [broker.die(number, name="xy"[number % 2]) for number in range(10)]
    assert ids(deadletters.list(broker)) == [f"id{number}" for number in range(10)]
    assert ids(deadletters.list(broker, "y")) == ["id1", "id3", "id5", "id7", "id9"]
    assert ids(deadletters.list(broker, "y", limit=2)) == ["id1", "id3"]
    assert deadletters.list(broker, "z") == []
    assert deadletters.list(broker, limit=0) == []
    assert deadletters.show(broker, "id5").body == 5
    assert list(broker.dead) == before


def test_the_list_is_in_order_where_the_broker_is_not(broker: Broker):
    for number in (3, 1, 2):
        broker.die(number)
    assert ids(deadletters.list(broker)) == ["id1", "id2", "id3"]


def test_where_there_are_none_the_list_is_empty(broker: Broker):
    assert deadletters.list(broker) == []
    assert deadletters.replay(broker) == 0
    assert deadletters.purge(broker) == 0
    assert deadletters.purge(broker, event="x") == 0


def test_what_the_broker_has_laid_there_itself_has_crashed(broker: Broker):
    broker.die(1, dead=None, queue=None, attempts=0, handler=None)
    letter = deadletters.show(broker, "id1")
    assert (letter.reason, letter.queue, letter.died) == ("crashed", "", None)
    assert "the processes that had it ended" in letter.error


def test_what_is_looked_at_for_long_is_kept_by_renewing_it(broker: Broker):
    broker.lease = 0.03
    broker.on_take = lambda: gevent.sleep(0.004)
    for number in range(10):
        broker.die(number)
    assert len(deadletters.list(broker)) == 10
    assert broker.renewed >= 2


@pytest.mark.parametrize("call", [deadletters.show, deadletters.replay, deadletters.purge])
def test_an_id_that_there_is_not_is_refused(broker: Broker, call: Any):
    before = [broker.die(1), broker.die(2)]
    with pytest.raises(ValueError, match=r"no dead letter has the id 'id9': .* tells which"):
        call(broker, "id9")
    assert list(broker.dead) == before


# Putting back


def test_a_replayed_event_goes_to_its_queue_and_handler_as_if_for_the_first_time(broker: Broker):
    broker.queues["q"] = deque()
    letter = broker.die(1, deadline=1.0, key="k", emitter="web")
    broker.die(2)
    assert deadletters.replay(broker, "id1") == 1
    assert ids(broker.dead) == ["id2"]
    (again,) = broker.queues["q"]
    assert again == letter.with_changes(dead=None, attempts=0, deadline=None)
    assert again.handler == "Shop.on_x"


def test_all_dead_letters_of_an_event_are_replayed_in_order(broker: Broker):
    broker.queues["q"] = deque()
    for number in range(250):
        broker.die(number, name="xy"[number % 2])
    assert deadletters.replay(broker, event="y") == 125
    assert ids(broker.queues["q"]) == [f"id{number}" for number in range(1, 250, 2)]
    assert ids(broker.dead) == [f"id{number}" for number in range(0, 250, 2)]
    assert deadletters.replay(broker) == 125
    assert not broker.dead


def test_one_id_with_several_dead_letters_is_replayed_to_each_queue(broker: Broker):
    broker.queues.update(q1=deque(), q2=deque())
    broker.die(1, queue="q1")
    broker.die(1, queue="q2")
    assert deadletters.replay(broker, "id1") == 2
    assert len(broker.queues["q1"]) == len(broker.queues["q2"]) == 1


def test_what_fails_again_at_once_is_not_replayed_again_for_ever(broker: Broker):
    broker.queues["q"] = deque()
    number = itertools.count(100)

    def fail_again() -> None:
        while broker.queues["q"]:
            broker.queues["q"].popleft()
            broker.die(next(number))

    broker.on_take = fail_again
    for count in range(150):
        broker.die(count)
    assert deadletters.replay(broker) == 150
    fail_again()
    assert len(broker.dead) == 150


def test_what_cannot_be_put_back_stays_a_dead_letter(broker: Broker):
    broker.queues["q"] = deque()
    gone = [broker.die(1, queue="gone"), broker.die(3, queue="gone")]
    broker.die(2)
    with pytest.raises(
        EventNotDelivered, match=r"1 dead letters were put back.*there is no queue gone \(2\)"
    ):
        deadletters.replay(broker)
    assert ids(broker.queues["q"]) == ["id2"]
    assert list(broker.dead) == gone


def test_what_crashed_and_came_from_nobody_knows_where_goes_the_way_it_came(broker: Broker):
    routing_key = "once.x"  # work
    broker.queues[routing_key] = deque()
    broker.die(1, dead=None, broadcast=False)
    assert deadletters.replay(broker) == 1
    assert len(broker.queues[routing_key]) == 1


@pytest.mark.parametrize("fault", ["confirms", "blocked"])
def test_a_broker_that_confirms_nothing_gets_no_more_than_its_time(
    broker: Broker, fault: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(deadletters, "_CONFIRM", 0.1)
    broker.queues["q"] = deque()
    letters = [broker.die(number) for number in range(300)]
    setattr(broker, fault, fault == "blocked")
    began = time.monotonic()
    with pytest.raises(EventNotDelivered, match=r"0 dead letters .* not confirmed within 0.1 s"):
        deadletters.replay(broker)
    assert time.monotonic() - began < LIMIT / 2
    assert list(broker.dead) == letters


def test_wherever_the_connection_breaks_no_dead_letter_is_lost(broker: Broker):
    for breaks_after in itertools.count():
        broker.queues["q"] = deque()
        broker.dead.clear()
        for number in range(205):
            broker.die(number)
        broker.lost_after = breaks_after
        with contextlib.suppress(LinkLost, EventNotDelivered):
            deadletters.replay(broker)
            if broker.lost_after >= 0:
                break
        broker.lost_after = None
        there = set(ids(broker.dead)) | set(ids(broker.queues["q"]))
        assert there == {f"id{number}" for number in range(205)}
    assert ids(broker.queues["q"]) == [f"id{number}" for number in range(205)]
    assert breaks_after > 205


def test_a_broker_that_is_silent_for_too_long_is_given_up(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(deadletters, "_PATIENCE", 0.05)
    broker.die(1)
    broker.on_take = lambda: gevent.sleep(LIMIT)
    with pytest.raises(LinkLost, match="has not answered"):
        deadletters.list(broker)
    assert len(broker.dead) == 1


def test_two_who_look_and_replay_at_once_lose_nothing(broker: Broker):
    broker.queues["q"] = deque()
    broker.on_take = lambda: gevent.sleep(0)
    for number in range(100):
        broker.die(number)
    greenlets = [
        gevent.spawn(call, broker)
        for call in (deadletters.list, deadletters.replay, deadletters.list, deadletters.replay)
    ]
    gevent.joinall(greenlets, timeout=LIMIT, raise_error=True)
    everything = ids(broker.dead) + ids(broker.queues["q"])
    assert sorted(everything) == sorted(f"id{number}" for number in range(100))


# Throwing away


def test_dead_letters_can_be_thrown_away_by_id_by_event_and_all(broker: Broker):
    for number in range(300):
        broker.die(number, name="xyz"[number % 3])
    assert deadletters.purge(broker, "id0") == 1
    assert deadletters.purge(broker, event="y") == 100
    assert {letter.name for letter in broker.dead} == {"x", "z"}
    assert deadletters.purge(broker) == 199
    assert not broker.dead


# Transports


class Own(BaseEventTransport):
    def register_event_handler(self, handler_func: Any, handled_event_name: str) -> None: ...
    def start_accepting_events(self) -> None: ...
    def on_event_received(self, event_name: str, event_body: Any) -> None: ...
    def emit_event(self, event_name: str, event_body: Any, *, broadcast: bool = True) -> None: ...


def test_a_transport_of_ones_own_has_no_dead_letters():
    for call in (deadletters.list, deadletters.replay, deadletters.purge):
        with pytest.raises(ServiceConfigurationError, match="Own has no dead letters: they need"):
            call(Own())
