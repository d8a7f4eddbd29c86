"""Consumer: which deliveries are handled when, and what becomes of them when something breaks."""

import contextvars
import gc
import itertools
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
from gevent.event import Event
from gevent.threadpool import ThreadPool

from gemstone_sync.concurrency import DeadlineReached
from gemstone_sync.event import consumer as consumer_module
from gemstone_sync.event import owner as owner_module
from gemstone_sync.event.consumer import Consumer
from gemstone_sync.event.envelope import Envelope
from gemstone_sync.event.handlers import Handler
from gemstone_sync.event.link import Delivery
from gemstone_sync.event.topology import Queue, Topology
from tests.event.scripted_link import Broker
from tests.event.test_owner import in_child
from tests.support.programs import REPOSITORY
from tests.support.waiting import LIMIT, wait_until

TOPOLOGY = Topology("test")
LOGGER = "gemstone_sync.event"
Make = Callable[..., Consumer]


def queue(name: str = "q", *, concurrency: int | None = None, keyed: bool = False) -> Queue:
    handler = Handler(pattern="a", function=print, name="h", concurrency=concurrency)
    return Queue(name, (), (handler,), keyed=keyed)


def events(count: int, key: str | None = None, first: int = 0) -> list[Envelope]:
    return [Envelope(name="a", body=b"%d" % n, key=key) for n in range(first, first + count)]


def number(delivery: Delivery) -> int:
    return int(delivery.envelope.body)


def waiting(broker: Broker, name: str = "q") -> list[int]:
    return [int(envelope.body) for envelope, _ in broker.queues.get(name, ())]


class Handling:
    """A handler that holds what it gets until it is let go.

    :ivar began, ended: numbers, in order.
    :ivar most: how many ran at once at most.
    """

    def __init__(self, *, open: bool = True) -> None:
        self.gate = Event()
        if open:
            self.gate.set()
        self.began: list[int] = []
        self.ended: list[int] = []
        self.running = self.most = 0

    def __call__(self, delivery: Delivery, queue: Queue | None = None) -> bool:
        self.began.append(number(delivery))
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            self.gate.wait()
            gevent.sleep(0)
        finally:
            self.running -= 1
        self.ended.append(number(delivery))
        return True


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
def make(broker: Broker) -> Iterator[Make]:
    made: list[Consumer] = []

    def make(handle: Any, *queues: Queue, **options: Any) -> Consumer:
        consumer = Consumer(
            broker.link, TOPOLOGY, queues or [queue()], handle, name="test", **options
        )
        made.append(consumer)
        consumer.start()
        return consumer

    yield make
    for consumer in made:
        consumer.stop(0)
    assert not broker.links


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owner_module, "_LONGEST_PAUSE", 0.01)
    monkeypatch.setattr(consumer_module, "_PAUSE", 0.05)


@pytest.fixture
def no_collection() -> Iterator[None]:
    """The garbage collector takes tens of milliseconds in a process with all tests loaded."""
    gc.disable()
    yield
    gc.enable()


def done(consumer: Consumer, broker: Broker, *names: str) -> None:
    wait_until(
        lambda: not consumer.in_flight and not any(waiting(broker, n) for n in names or ("q",)),
        "everything to be handled",
    )


# All is well


def test_deliveries_are_handled_and_acknowledged(broker: Broker, make: Make) -> None:
    broker.put("q", *events(1000))
    handling = Handling()
    consumer = make(handling)
    done(consumer, broker)

    assert sorted(handling.ended) == list(range(1000))
    assert consumer.why_not_ready() is None
    assert consumer.stop(LIMIT) is True
    assert waiting(broker) == []


def test_each_handler_gets_the_queue_and_a_context_of_its_own(broker: Broker, make: Make) -> None:
    variable = contextvars.ContextVar[str]("variable", default="unset")
    variable.set("the starter's")
    seen = []

    def handle(delivery: Delivery, its_queue: Queue) -> bool:
        seen.append((variable.get(), its_queue))
        variable.set("the last one's")
        return True

    broker.put("q", *events(3))
    consumer = make(handle)
    done(consumer, broker)

    assert seen == [("unset", queue())] * 3


def test_no_more_at_once_than_the_pool_has_places(broker: Broker, make: Make) -> None:
    handling = Handling(open=False)
    broker.put("q", *events(20))
    broker.put("r", *events(20, first=100))
    consumer = make(handling, queue("q"), queue("r"), pool_size=5)
    wait_until(lambda: consumer.in_flight == 10, "the prefetch")
    assert handling.running == 5

    handling.gate.set()
    done(consumer, broker, "q", "r")

    assert handling.most == 5
    assert len(handling.ended) == 40
    assert {"consume q 5", "consume r 5"} <= set(broker.log)


def test_a_queues_own_concurrency(broker: Broker, make: Make) -> None:
    broker.put("q", *events(20))
    handling = Handling()
    consumer = make(handling, queue(concurrency=2))
    done(consumer, broker)

    assert handling.most == 2
    assert "consume q 2" in broker.log


def test_a_full_queue_does_not_starve_another(broker: Broker, make: Make) -> None:
    handling = Handling(open=False)
    broker.put("q", *events(100))
    consumer = make(handling, queue("q"), queue("r"), pool_size=2)
    wait_until(lambda: handling.running == 2, "a full pool")
    broker.put("r", *events(1, first=1000))
    wait_until(lambda: consumer.in_flight == 3, "the other queue's")
    handling.gate.set()
    done(consumer, broker, "q", "r")

    assert handling.began.index(1000) < 10


def test_the_order_of_a_key(broker: Broker, make: Make) -> None:
    mixed = [
        envelope
        for several in zip(*(events(20, key, 100 * n) for n, key in enumerate("abc")), strict=True)
        for envelope in several
    ]
    broker.put("q", *mixed, *events(3, None, 900))
    began: list[int] = []
    busy: set[str | None] = set()

    def handle(delivery: Delivery, queue: Queue) -> bool:
        key = delivery.envelope.key
        assert key is None or key not in busy, "two of one key at once"
        busy.add(key)
        began.append(number(delivery))
        gevent.sleep(0.001 * (number(delivery) % 3))
        busy.discard(key)
        return True

    consumer = make(handle, queue(keyed=True))
    done(consumer, broker)

    for n in range(3):
        assert [b for b in began if b // 100 == n] == list(range(100 * n, 100 * n + 20))
    # The keys did not wait for each other.
    assert {b // 100 for b in began[:4]} == {0, 1, 2, 9} or len({b // 100 for b in began[:6]}) > 2


def test_what_is_due_has_places_of_its_own(broker: Broker, make: Make) -> None:
    broker.relays = True
    handling = Handling(open=False)
    relayed: list[int] = []

    def relay(delivery: Delivery) -> bool:
        relayed.append(number(delivery))
        return True

    broker.put("q", *events(5))
    broker.put(TOPOLOGY.due, *events(3, first=100))
    consumer = make(handling, pool_size=2, relay=relay)
    wait_until(lambda: len(relayed) == 3, "the delayed ones")
    assert handling.running == 2
    assert consumer.in_flight

    handling.gate.set()
    done(consumer, broker, "q", TOPOLOGY.due)


def test_links_without_a_queue_of_what_is_due(broker: Broker, make: Make) -> None:
    consumer = make(Handling(), relay=lambda delivery: True)
    wait_until(lambda: consumer.why_not_ready() is None, "a connection")
    assert broker.log == ["declare", "consume q 100"]


def test_what_is_handled_for_long_is_renewed(broker: Broker, make: Make) -> None:
    broker.lease = 0.06
    handling = Handling(open=False)
    broker.put("q", *events(3))
    make(handling)
    wait_until(lambda: handling.running == 3, "the handlers")

    def renewed() -> bool:
        broker.poke()
        return broker.log.count("renew 3") >= 3

    wait_until(renewed, "renewals")
    handling.gate.set()


def test_the_hub_turns_while_much_is_delivered(
    broker: Broker, make: Make, no_collection: None
) -> None:
    broker.put("q", *events(20_000))
    consumer = make(lambda delivery, queue: True, pool_size=1000)
    longest = 0.0
    while consumer.in_flight or broker.queues["q"]:
        began = time.thread_time()
        gevent.sleep(0.001)
        longest = max(longest, time.thread_time() - began)
    # Of CPU, as the machine may be busy with something else. A turn is 5 ms, and as much again for
    # the greenlets that were spawned in it.
    assert longest < 0.05


# Handlers that fail


def test_false_gives_it_back_after_a_pause(broker: Broker, make: Make) -> None:
    times: list[float] = []

    def handle(delivery: Delivery, queue: Queue) -> bool:
        times.append(time.monotonic())
        return len(times) == 4

    broker.put("q", *events(1))
    consumer = make(handle)
    done(consumer, broker)

    assert len(times) == 4
    assert all(later - earlier > 0.04 for earlier, later in itertools.pairwise(times))


@pytest.mark.parametrize(
    "fault",
    [
        ValueError("odd"),
        gevent.Timeout(1),
        SystemExit(3),
        gevent.GreenletExit(),
        DeadlineReached(),
    ],
    ids=lambda fault: type(fault).__name__,
)
def test_an_exception_that_escapes_is_logged_and_tried_again(
    broker: Broker, make: Make, fault: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    attempts = 0

    def handle(delivery: Delivery, queue: Queue) -> bool:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise fault
        return True

    broker.put("q", *events(1))
    consumer = make(handle)
    done(consumer, broker)

    assert attempts == 2
    [record] = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert "event 'a'" in record.getMessage()
    assert record.exc_info


def test_a_key_keeps_its_order_through_a_failure(broker: Broker, make: Make) -> None:
    began: list[int] = []

    def handle(delivery: Delivery, queue: Queue) -> bool:
        began.append(number(delivery))
        return began.count(3) != 1 or number(delivery) != 3

    broker.put("q", *events(10, "k"))
    consumer = make(handle, queue(keyed=True))
    done(consumer, broker)

    assert began == [0, 1, 2, 3, *range(3, 10)]


# Lost connections


def test_a_connection_lost_while_handling(broker: Broker, make: Make) -> None:
    handling = Handling(open=False)
    broker.put("q", *events(3))
    consumer = make(handling, pool_size=2)
    wait_until(lambda: handling.running == 2, "the handlers")
    broker.cut()
    wait_until(lambda: broker.opened == 2 and consumer.why_not_ready() is None, "a connection")
    wait_until(lambda: consumer.in_flight == 4, "the deliveries of the new one")
    assert handling.running == 2, "the old handlers keep their places"

    handling.gate.set()
    done(consumer, broker)

    # The acknowledgements of the old connection's are worth nothing: they were handled again.
    assert sorted(handling.ended) == [0, 0, 1, 1, 2]


def test_a_key_waits_for_the_handler_of_a_lost_connection(broker: Broker, make: Make) -> None:
    handling = Handling(open=False)
    broker.put("q", *events(3, "k"))
    consumer = make(handling, queue(keyed=True))
    wait_until(lambda: handling.running == 1, "the handler")
    broker.cut()
    wait_until(lambda: broker.opened == 2 and consumer.in_flight == 4, "the new deliveries")
    assert handling.running == 1

    handling.gate.set()
    done(consumer, broker)

    assert handling.ended == [0, 0, 1, 2]
    assert handling.most == 1


def test_a_connection_that_is_cut_all_the_time(broker: Broker, make: Make) -> None:
    ended: list[int] = []

    def handle(delivery: Delivery, queue: Queue) -> bool:
        gevent.sleep(0.001)
        ended.append(number(delivery))
        return True

    broker.put("q", *events(500))
    consumer = make(handle, pool_size=20)
    end = time.monotonic() + LIMIT
    for _ in range(15):
        wait_until(lambda: consumer.why_not_ready() is None, "a connection")
        gevent.sleep(0.005)
        broker.cut()
        assert time.monotonic() < end
    done(consumer, broker)

    assert set(ended) == set(range(500))


def test_a_broker_that_is_away_at_the_start(broker: Broker, make: Make) -> None:
    broker.away = "connection refused"
    consumer = make(Handling())
    wait_until(lambda: "refused" in (consumer.why_not_ready() or ""), "an attempt")
    broker.put("q", *events(1))
    broker.away = None
    done(consumer, broker)


# Stop


def test_stop_lets_those_that_run_finish_and_gives_the_rest_back(
    broker: Broker, make: Make
) -> None:
    handling = Handling(open=False)
    broker.put("q", *events(500))
    broker.put("r", *events(500, first=500))
    consumer = make(handling, queue("q"), queue("r"))
    wait_until(lambda: handling.running == 100, "a full pool")
    wait_until(lambda: consumer.in_flight == 200, "the prefetch")

    stopping = gevent.spawn(consumer.stop, LIMIT)
    wait_until(lambda: consumer.in_flight == 100, "the rest to be given back")
    handling.gate.set()

    assert stopping.get(timeout=LIMIT) is True
    assert len(handling.ended) == 100
    assert len(handling.began) == 100
    left = waiting(broker) + waiting(broker, "r")
    assert sorted(left + handling.ended) == list(range(1000))
    assert {"cancel q", "cancel r"} <= set(broker.log)
    assert not broker.links


def test_stop_pumps_and_renews_while_it_waits(broker: Broker, make: Make) -> None:
    broker.lease = 0.03
    handling = Handling(open=False)
    broker.put("q", *events(1))
    consumer = make(handling)
    wait_until(lambda: handling.running == 1, "the handler")
    stopping = gevent.spawn(consumer.stop, LIMIT)
    wait_until(lambda: "cancel q" in broker.log, "the end")
    before = len(broker.log)
    wait_until(lambda: broker.poke() or "renew 1" in broker.log[before:], "a renewal")
    handling.gate.set()

    assert stopping.get(timeout=LIMIT) is True
    assert waiting(broker) == []


def test_stop_cuts_off_those_that_go_on_for_too_long(
    broker: Broker, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    handling = Handling(open=False)
    broker.put("q", *events(5))
    consumer = make(handling)
    wait_until(lambda: handling.running == 5, "the handlers")

    assert consumer.stop(0.05) is False

    assert handling.running == 0
    assert not handling.ended
    assert waiting(broker) == list(range(5)), "given back, in order"
    [record] = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert "5 handlers were still running" in record.getMessage()


def test_stop_does_not_wait_for_a_handler_that_cannot_be_killed(broker: Broker, make: Make) -> None:
    free = Event()

    def handle(delivery: Delivery, queue: Queue) -> bool:
        while not free.is_set():
            try:
                free.wait()
            except gevent.GreenletExit:
                continue
        return True

    broker.put("q", *events(1))
    consumer = make(handle)
    wait_until(lambda: consumer.in_flight, "the handler")
    began = time.monotonic()

    assert consumer.stop(0) is False

    assert time.monotonic() - began < LIMIT / 2
    assert waiting(broker) == [0]
    free.set()


def test_a_key_stays_in_order_through_a_stop(broker: Broker, make: Make) -> None:
    handling = Handling(open=False)
    broker.put("q", *events(5, "k"))
    consumer = make(handling, queue(keyed=True))
    wait_until(lambda: consumer.in_flight == 5, "the deliveries")
    stopping = gevent.spawn(consumer.stop, LIMIT)
    wait_until(lambda: "cancel q" in broker.log, "the end")
    assert waiting(broker) == [], "given back while the first of the key still runs"
    handling.gate.set()

    assert stopping.get(timeout=LIMIT) is True
    assert waiting(broker) == [1, 2, 3, 4]


def test_handlers_have_their_time_though_the_broker_is_away(broker: Broker, make: Make) -> None:
    handling = Handling(open=False)
    broker.put("q", *events(3))
    consumer = make(handling)
    wait_until(lambda: handling.running == 3, "the handlers")
    broker.hangs = True
    broker.cut()
    wait_until(lambda: "hangs" in broker.log, "an attempt")
    stopping = gevent.spawn(consumer.stop, LIMIT)
    gevent.sleep(0.02)
    assert handling.running == 3
    assert not stopping.dead
    handling.gate.set()

    assert stopping.get(timeout=LIMIT) is True
    assert sorted(waiting(broker)) == [0, 1, 2]


def test_a_connection_lost_during_a_stop(broker: Broker, make: Make) -> None:
    handling = Handling(open=False)
    broker.put("q", *events(3))
    consumer = make(handling)
    wait_until(lambda: handling.running == 3, "the handlers")
    stopping = gevent.spawn(consumer.stop, LIMIT)
    wait_until(lambda: "cancel q" in broker.log, "the end")
    broker.cut()
    wait_until(lambda: not broker.links, "the loss")
    handling.gate.set()

    assert stopping.get(timeout=LIMIT) is True
    assert broker.opened == 1
    assert len(handling.ended) == 3


def test_stop_while_opening_hangs(broker: Broker, make: Make) -> None:
    broker.hangs = True
    consumer = make(Handling())
    wait_until(lambda: "hangs" in broker.log, "an attempt")
    began = time.monotonic()

    assert consumer.stop(LIMIT) is True
    assert time.monotonic() - began < LIMIT / 2


def test_stop_gives_back_what_failed_and_is_kept(
    broker: Broker, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer_module, "_PAUSE", LIMIT)
    failed = Event()
    broker.put("q", *events(1))
    consumer = make(lambda delivery, queue: bool(failed.set()))
    assert failed.wait(LIMIT)
    gevent.sleep(0.01)
    assert consumer.in_flight == 1

    assert consumer.stop(LIMIT) is True
    assert waiting(broker) == [0]


def test_it_can_be_started_again_and_twice(broker: Broker, make: Make) -> None:
    broker.put("q", *events(1))
    consumer = make(Handling())
    consumer.start()
    done(consumer, broker)
    assert consumer.stop(LIMIT)
    assert consumer.stop(LIMIT)
    assert consumer.why_not_ready() == "test: not started"
    assert consumer.in_flight == 0
    broker.put("q", *events(1))
    consumer.start()
    done(consumer, broker)
    assert broker.opened == 2


def test_stop_from_a_real_thread(broker: Broker, make: Make) -> None:
    handling = Handling(open=False)
    broker.put("q", *events(3))
    consumer = make(handling)
    wait_until(lambda: handling.running == 3, "the handlers")
    pool = ThreadPool(1)
    stopping = pool.spawn(consumer.stop, LIMIT)
    wait_until(lambda: "cancel q" in broker.log, "the end")
    handling.gate.set()

    assert stopping.get(timeout=LIMIT) is True
    pool.kill()


def test_a_handler_that_stops_its_own_consumer(broker: Broker, make: Make) -> None:
    results: list[Any] = []

    def handle(delivery: Delivery, queue: Queue) -> bool:
        results.append("began")
        results.append(consumer.stop(0.05))
        return True

    consumer = make(handle)
    broker.put("q", *events(1))
    wait_until(lambda: not broker.links and results, "the end")
    assert waiting(broker) == [0]


# Other processes


def test_a_forked_child_handles_and_acknowledges_nothing(broker: Broker, make: Make) -> None:
    handling = Handling(open=False)
    broker.put("q", *events(3))
    consumer = make(handling, pool_size=2)
    wait_until(lambda: handling.running == 2, "the handlers")
    [link] = broker.links

    def child() -> bool:
        handling.gate.set()
        wait_until(lambda: len(handling.ended) == 2, "the copies of the handlers")
        gevent.sleep(0.02)
        assert handling.began == [0, 1]
        assert consumer.in_flight == 0
        assert consumer.stop(1) is True
        return link.abandoned and not link.closed

    assert in_child(child)
    handling.gate.set()
    done(consumer, broker)
    assert sorted(handling.ended) == [0, 1, 2]


PROGRAM = f"""
import sys, threading, time
sys.path.insert(0, {str(REPOSITORY)!r})
from gemstone_sync.concurrency import is_patched
from gemstone_sync.event.consumer import Consumer
from tests.event.scripted_link import Broker
from tests.event.test_consumer import TOPOLOGY, events, queue
import gevent

assert not is_patched()
broker, threads = Broker(), set()
broker.put("q", *events(100))
def handle(delivery, its_queue):
    threads.add(threading.get_ident())
    gevent.sleep(0.001)
    return True
consumer = Consumer(broker.link, TOPOLOGY, [queue()], handle, name="test")
consumer.start()
end = time.monotonic() + 10
while (not threads or consumer.in_flight or broker.queues["q"]) and time.monotonic() < end:
    time.sleep(0.01)
assert consumer.stop(10) is True
assert not broker.queues["q"] and not broker.links
assert len(threads) == 1 and threading.get_ident() not in threads
print("done")
"""


def test_a_program_that_is_not_patched(run_python: Any) -> None:
    result = run_python(PROGRAM, PYTHONWARNINGS="error")
    assert (result.stdout, result.returncode) == ("done\n", 0), result.stderr
