"""What became of events, while the broker does not take it: held, not handled again, and told."""

from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
from gevent.event import Event

from gemstone_sync.errors import Reject
from gemstone_sync.event.envelope import Envelope
from gemstone_sync.event.handlers import Handler, Subscriber
from gemstone_sync.event.places import Places
from gemstone_sync.event.runtime import outcomes
from gemstone_sync.event.runtime.consumer import Consumer
from gemstone_sync.event.runtime.processing import Processor
from gemstone_sync.event.runtime.publisher import Publisher
from gemstone_sync.event.topology import Topology
from tests.event.scripted_link import Broker
from tests.support.waiting import LIMIT, wait_until

TOPOLOGY = Topology("test")
Start = Callable[..., Consumer]

pytestmark = pytest.mark.usefixtures("quick")


def event(number: int, key: str | None = None, name: str = "x") -> Envelope:
    return Envelope(name=name, body=b"%d" % number, key=key)


def fails(number: int) -> None:
    if number < 100:
        raise OSError("not today")


class Handling:
    """A handler, and what it was called with."""

    def __init__(self, act: Callable[[int], Any] = fails) -> None:
        self.act = act
        self.runs: list[int] = []

    def __call__(self, number: int) -> None:
        self.runs.append(number)
        self.act(number)


@pytest.fixture
def start(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """``start(function, ...)``: a service whose handlers those are, with a publisher."""
    monkeypatch.setattr(outcomes, "_FIRST_PAUSE", 0.02)
    monkeypatch.setattr(outcomes, "_SLOW", 0.02)
    publisher = Publisher(broker.link, TOPOLOGY, name="publisher")
    publisher.start()
    wait_until(lambda: publisher.why_not_ready() is None, "the publisher")
    broker.put(TOPOLOGY.dead)
    consumers: list[Consumer] = []

    def start(*functions: Any, pool_size: int = 100, **options: Any) -> Consumer:
        handlers = tuple(
            Handler(pattern="x", function=each, name=f"h{number}", **options)
            for number, each in enumerate(functions)
        )
        subscriber = Subscriber(service="s", instance="i", handlers=handlers)
        processor = Processor(TOPOLOGY, subscriber)
        consumer = Consumer(
            broker.link,
            TOPOLOGY,
            TOPOLOGY.queues_of(subscriber),
            processor,
            name="test",
            pool=Places(pool_size),
            on_due=processor.forward,
            publisher=publisher,
            on_refused=processor.on_refused,
        )
        consumers.append(consumer)
        consumer.start()
        wait_until(lambda: consumer.why_not_ready() is None, "the consumer")
        return consumer

    yield start
    broker.switch(blocked=None)
    for consumer in consumers:
        consumer.stop(0)
    publisher.stop(LIMIT)


def queue_of(kind: str) -> str:
    subscriber = Subscriber(
        service="s", instance="i", handlers=(Handler(pattern="x", function=fails, name="h0"),)
    )
    return next(q.name for q in TOPOLOGY.queues_of(subscriber) if q.name.split(":")[2] == kind)


SERVICE, KEYED = queue_of("service"), queue_of("keyed")


def test_a_failed_event_waits_until_the_broker_takes_its_retry_and_holds_no_place(
    broker: Broker, start: Start
):
    broker.switch(blocked="low on memory")
    handling = Handling()
    consumer = start(handling, pool_size=2, backoff=0)
    broker.put(SERVICE, *(event(n) for n in range(10)))
    wait_until(lambda: len(handling.runs) == 10, "all, though there are two places")
    gevent.sleep(0.05)
    broker.put(SERVICE, event(100))
    wait_until(lambda: 100 in handling.runs, "one that comes later")
    assert sorted(handling.runs) == [*range(10), 100]
    wait_until(lambda: consumer.in_flight == 10, "the one that went well")
    assert broker.published == []
    handling.act = lambda number: None
    broker.switch(blocked=None)
    wait_until(lambda: not consumer.in_flight and not broker.queues[SERVICE], "the rest")
    assert sorted(handling.runs) == sorted([*range(10), *range(10), 100])
    assert [each.attempts for each in broker.published] == [1] * 10


def test_those_behind_it_with_its_key_wait_too(broker: Broker, start: Start):
    broker.switch(blocked="low on memory")
    handling = Handling()
    consumer = start(handling, retries=0)
    broker.put(KEYED, event(1, "a"), event(101, "a"), event(102, "b"))
    wait_until(lambda: handling.runs == [1, 102], "the first ones")
    gevent.sleep(0.05)
    assert handling.runs == [1, 102]
    broker.cut()
    wait_until(lambda: consumer.why_not_ready() is None, "a new connection")
    gevent.sleep(0.05)
    assert handling.runs == [1, 102]
    broker.switch(blocked=None)
    wait_until(lambda: not consumer.in_flight, "the rest")
    assert handling.runs == [1, 102, 101]
    assert [each.body for each in broker.waiting(TOPOLOGY.dead)] == [b"1"]


def test_the_next_handler_of_the_event_has_its_turn_meanwhile(broker: Broker, start: Start):
    broker.switch(blocked="low on memory")
    first, second = Handling(), Handling(lambda number: None)
    consumer = start(first, second, retries=0)
    broker.put(SERVICE, event(1))
    wait_until(lambda: second.runs == [1], "the second handler")
    gevent.sleep(0.02)
    assert (consumer.in_flight, first.runs, second.runs) == (1, [1], [1])
    broker.switch(blocked=None)
    wait_until(lambda: not consumer.in_flight, "the end")
    [letter] = broker.waiting(TOPOLOGY.dead)
    assert (letter.handler, first.runs, second.runs) == ("h0", [1], [1])


def test_a_refused_dead_letter_is_tried_again_and_readiness_tells(
    broker: Broker, start: Start, caplog: pytest.LogCaptureFixture
):
    def act(number: int) -> None:
        raise Reject("no")

    handling = Handling(act)
    consumer = start(handling)
    broker.switch(refused={"x": "its queue is full"})
    broker.put(SERVICE, event(1))
    wait_until(consumer.why_not_ready, "the first refusal")
    told = set()
    while len(broker.published) <= 3:  # the attempts in between are no readiness
        told.add(consumer.why_not_ready())
        gevent.sleep(0)
    [why] = told
    assert "1 events wait until the broker takes what became of them: its queue is full" in why
    assert (consumer.in_flight, handling.runs) == (1, [1])
    warnings = [r.getMessage() for r in caplog.records if "its queue is full" in r.getMessage()]
    assert len(warnings) == 1
    broker.switch(refused={})
    wait_until(lambda: not consumer.in_flight, "the dead letter")
    assert (consumer.why_not_ready(), handling.runs) == (None, [1])


@pytest.mark.parametrize("when", ["before", "with", "after"])
def test_a_connection_that_is_lost_around_the_failure_has_nothing_handled_again(
    broker: Broker, start: Start, when: str
):
    gate = Event()

    def act(number: int) -> None:
        gate.wait()
        raise Reject("no")

    handling = Handling(act)
    consumer = start(handling)
    broker.put(SERVICE, event(1))
    wait_until(lambda: handling.runs, "the handler")
    if when == "after":
        broker.switch(confirms=False)
        gate.set()
        wait_until(lambda: broker.published, "the dead letter, without a confirm")
    broker.go_away()
    wait_until(lambda: not broker.links, "the loss")
    if when == "with":
        gate.set()
        gevent.sleep(0.02)
    broker.switch(away=None, confirms=True)
    wait_until(lambda: consumer.why_not_ready() is None, "a new connection")
    gate.set()
    wait_until(lambda: not consumer.in_flight and not broker.queues[SERVICE], "the end")
    assert handling.runs == [1]
    assert len(broker.waiting(TOPOLOGY.dead)) == (2 if when == "after" else 1)


@pytest.mark.parametrize("why", ["blocked", "refused"])
def test_stop_gives_it_back_without_waiting_for_a_broker_that_takes_nothing(
    broker: Broker, start: Start, why: str
):
    handling = Handling()
    consumer = start(handling)
    if why == "blocked":
        broker.switch(blocked="low on memory")
    else:
        broker.switch(refused={"x": "too large"})
    broker.put(SERVICE, event(1))
    wait_until(lambda: handling.runs and consumer.in_flight == 1, "the handler")
    if why == "refused":
        wait_until(lambda: "too large" in (consumer.why_not_ready() or ""), "the refusal")
        broker.switch(refused={})
    with gevent.Timeout(LIMIT / 2):
        assert consumer.stop(LIMIT) is True
    sent = len(broker.published)
    [(_, deliveries)] = broker.queues[SERVICE]
    assert deliveries == 0
    broker.switch(blocked=None)
    gevent.sleep(0.05)
    assert (len(broker.published), handling.runs) == (sent, [1])


def test_stop_waits_for_a_broker_that_is_about_to_take_it(broker: Broker, start: Start):
    handling = Handling()
    consumer = start(handling, retries=0)
    broker.switch(confirms=False)
    broker.put(SERVICE, event(1))
    wait_until(lambda: broker.published, "the dead letter")
    stopping = gevent.spawn(consumer.stop, LIMIT)
    gevent.sleep(0.05)
    assert not stopping.dead
    broker.switch(confirms=True)
    assert stopping.get(timeout=LIMIT) is True
    assert (broker.waiting(SERVICE), len(broker.waiting(TOPOLOGY.dead))) == ([], 1)


def test_what_a_delay_has_ended_for_dies_when_nobody_takes_it(
    broker: Broker, start: Start, caplog: pytest.LogCaptureFixture
):
    broker.uses_due = True
    consumer = start(Handling())
    gone = f"{TOPOLOGY.application}:1:gone"
    broker.put(TOPOLOGY.due, event(1).with_changes(due=1.0, queue=gone, id="a\n\x1b"))
    wait_until(lambda: broker.waiting(TOPOLOGY.dead), "the dead letter")
    wait_until(lambda: not consumer.in_flight, "the end")
    [letter] = broker.waiting(TOPOLOGY.dead)
    assert letter.dead is not None
    assert (letter.dead.reason, letter.dead.error) == ("unhandled", f"there is no queue {gone}")
    assert caplog.messages
    assert all(message.isprintable() for message in caplog.messages)
