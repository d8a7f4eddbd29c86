"""Who goes first of those that may kill: the innocent are done before they are given up."""

from collections.abc import Sequence

import pytest

from gemstone_sync.event.envelope import Envelope
from gemstone_sync.event.link import Delivery
from gemstone_sync.event.places import Places
from gemstone_sync.event.runtime.isolation import SUSPICIOUS, PoisonIsolation
from gemstone_sync.event.runtime.queue_state import QueueState
from gemstone_sync.event.topology import Queue
from tests.event.scripted_link import Broker, ScriptedLink

#: Deliveries after which a broker lays an event with the dead letters.
LIMIT = 9


def envelopes(count: int, attempt: int) -> list[Envelope]:
    """Other ones for each attempt, the same in each run."""
    return [Envelope(name="job", body=b"1", id=f"{attempt} {n}") for n in range(count)]


def queue_state(keyed: bool = False) -> QueueState:
    queue = Queue("queue", (), (), keyed=keyed)
    return QueueState("queue", queue, Places(1), prefetch=1, most=1)


class Suspects:
    """Events that a process holds, each delivered so many times before.

    :ivar noted: those of which it is noted that this process may die of them.
    """

    def __init__(self, left: list[Envelope], deliveries: int, *, keyed: bool = False) -> None:
        self.noted: list[Delivery] = []
        self.link = Link(self)
        self.isolation = PoisonIsolation()
        self.deliveries = [Delivery(self.link, "queue", 1, each, deliveries) for each in left]
        for delivery in self.deliveries:
            assert self.isolation.holds_back(queue_state(keyed), delivery)

    def next(self) -> list[Envelope]:
        """What may begin now."""
        return [delivery.envelope for delivery in self.isolation.cleared(self.link)]

    def finished(self, envelope: Envelope) -> None:
        [delivery] = [each for each in self.deliveries if each.envelope is envelope]
        self.isolation.finished(delivery)


class Link(ScriptedLink):
    def __init__(self, suspects: Suspects) -> None:
        super().__init__(Broker())
        self.suspects = suspects

    def mark(self, delivery: Delivery) -> None:
        super().mark(delivery)
        self.suspects.noted.append(delivery)

    def unmark(self, deliveries: Sequence[Delivery], *, done: bool) -> None:
        for delivery in deliveries:
            self.suspects.noted.remove(delivery)


def life(left: list[Envelope], killers: set[str], deliveries: int) -> list[Envelope]:
    """What a process that is given all of these leaves behind: it ends with the first killer."""
    suspects = Suspects(left, deliveries)
    remaining = {envelope.id: envelope for envelope in left}
    while chosen := suspects.next():
        [envelope] = chosen
        if envelope.id in killers:
            break
        assert not suspects.next()  # one at a time
        suspects.finished(envelope)
        del remaining[envelope.id]
    return list(remaining.values())


@pytest.mark.parametrize("count", [1, 2, 100])
@pytest.mark.parametrize("first", range(SUSPICIOUS, LIMIT - 1))
def test_two_deaths_leave_the_one_that_kills(count: int, first: int):
    """For whichever it is, unless an order is broken in the middle: then it takes three."""
    for attempt in range(min(20, 4 * count)):
        left = envelopes(count, attempt)
        killer = left[attempt % count]
        for deliveries in range(first, first + (2 if first % 2 == 0 else 3)):
            left = life(left, {killer.id}, deliveries)
        assert left == [killer]


def test_of_two_that_kill_the_neighbours_come_through():
    innocent = 0
    for attempt in range(30):
        left = envelopes(100, attempt)
        killers = {left[3].id, left[50].id}
        for deliveries in range(SUSPICIOUS, LIMIT):
            left = life(left, killers, deliveries)
        assert killers <= {envelope.id for envelope in left}
        innocent += len(left) - 2
    # 2.8 of 98 on average; by chance alone it were 5.7.
    assert innocent / 30 < 4


def test_the_order_is_another_for_other_events():
    """Nobody can be first by name."""
    places = set()
    for attempt in range(20):
        left = envelopes(3, attempt)
        [chosen] = Suspects(left, SUSPICIOUS).next()
        places.add(left.index(chosen))
    assert places == {0, 1, 2}


@pytest.mark.parametrize(("deliveries", "keyed"), [(SUSPICIOUS - 1, False), (SUSPICIOUS, True)])
def test_those_that_are_no_suspects_or_have_keys_begin_together(deliveries: int, keyed: bool):
    left = envelopes(3, 0)
    suspects = Suspects(left, deliveries, keyed=keyed)
    assert suspects.next() == left
    assert len(suspects.noted) == 3
    [first, *_] = suspects.deliveries
    assert not suspects.isolation.holds_back(queue_state(keyed), first), "asked once"


def test_the_next_one_begins_when_the_link_of_one_that_had_not_begun_is_lost():
    suspects = Suspects(envelopes(2, 0), SUSPICIOUS)
    [chosen] = suspects.next()
    suspects.isolation.forget_link(())
    assert suspects.next() == []
    [left] = [each for each in suspects.deliveries if each.envelope is not chosen]
    again = Delivery(suspects.link, "queue", 2, left.envelope, SUSPICIOUS + 1)
    assert suspects.isolation.holds_back(queue_state(), again)
    assert suspects.next() == [left.envelope]
