"""Consumer: which deliveries are handled when, and what becomes of them at its end."""

import contextlib
import contextvars
import itertools
import logging
import time
from collections import deque
from typing import Any

import gevent
import pytest
from gevent.event import Event
from gevent.threadpool import ThreadPool

from gemstone_sync.concurrency import DeadlineReached
from gemstone_sync.event.handlers import Handler
from gemstone_sync.event.link import Delivery
from gemstone_sync.event.places import Places
from gemstone_sync.event.runtime import consumer_loop
from gemstone_sync.event.topology import Queue
from tests.event.scripted_link import Broker, in_child
from tests.support.waiting import LIMIT, wait_until

from .consuming import TOPOLOGY, Handling, Make, done, events, number, queue, stop, waiting

pytestmark = pytest.mark.usefixtures("quick")


@pytest.mark.parametrize("concurrency", [None, 2])
def test_deliveries_are_handled_so_many_at_once_and_acknowledged(
    broker: Broker, make: Make, handling: Handling, concurrency: int | None
):
    broker.put("q", *events(1000))
    consumer = make(handling, queue(concurrency=concurrency), on_due=lambda delivery: None)
    # Let go before, fewer might run at once: the first end while others are still on their way.
    wait_until(lambda: handling.running == (concurrency or 100), "as many as may run")
    handling.gate.set()
    done(consumer, broker)
    assert sorted(handling.ended) == list(range(1000))
    assert handling.most == (concurrency or 100)
    consumed = [line for line in broker.log if line.startswith("consume")]
    assert consumed == [f"consume q {concurrency or 100}"], "and nothing delayed: there is no queue"
    assert consumer.why_not_ready() is None
    assert consumer.stop(LIMIT) is True
    assert waiting(broker) == []


def test_each_handler_gets_the_queue_and_a_context_of_its_own(broker: Broker, make: Make):
    variable = contextvars.ContextVar[str]("variable", default="unset")
    variable.set("the starter's")
    seen = []

    def handle(delivery: Delivery, its_queue: Queue) -> None:
        seen.append((variable.get(), its_queue))
        variable.set("the last one's")

    broker.put("q", *events(3))
    done(make(handle), broker)
    assert seen == [("unset", queue())] * 3


def test_no_more_at_once_than_the_pool_has_places_and_a_full_queue_does_not_starve_another(
    broker: Broker, make: Make, handling: Handling
):
    broker.put("q", *events(50))
    consumer = make(handling, queue("q"), queue("r"), pool_size=5)
    wait_until(lambda: consumer.in_flight == 5, "the prefetch")
    broker.put("r", *events(20, first=100))
    wait_until(lambda: consumer.in_flight >= 6, "the other queue's")
    assert consumer.in_flight < 10, "no five of each"
    assert handling.running == 5
    handling.gate.set()
    done(consumer, broker)
    assert handling.most == 5
    assert len(handling.ended) == 70


def test_what_is_taken_in_advance_is_bounded_over_all_queues_and_goes_where_much_comes(
    broker: Broker, make: Make, handling: Handling, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("gemstone_sync.event.runtime.queue_state._SHIFT_PAUSE", 0)
    queues = [queue(f"q{place}") for place in range(20)]
    consumer = make(handling, *queues)
    broker.put("q7", *events(200))
    wait_until(lambda: handling.running == 100, "all places")
    for place, other in enumerate(queues):
        broker.put(other.name, *events(100, first=1000 * place))
    wait_until(lambda: consumer.in_flight >= 119, "one of each of the others")
    assert consumer.in_flight < 200
    handling.gate.set()
    done(consumer, broker)
    assert {n // 1000 for n in handling.began[:500]} >= {*range(20)} - {7}
    assert len(handling.ended) == 200 + 20 * 100
    assert handling.most == 100


def test_places_of_a_handler_and_of_the_process_are_shared_by_consumers(
    broker: Broker, make: Make, handling: Handling
):
    own = Handler(pattern="a", function=print, name="h", concurrency=3)
    pool = Places(5)
    queues = [Queue(name, (), (own,), keyed=name in "st") for name in "qrst"]
    for first, each in enumerate(queues):
        broker.put(each.name, *events(20, f"{each.name}{first}", 100 * first))
    consumers = [make(handling, *queues[:2], pool=pool), make(handling, *queues[2:], pool=pool)]
    wait_until(lambda: handling.running == 3, "three")
    broker.put("free", *events(20, first=1000))
    consumers.append(make(handling, queue("free"), pool=pool))
    wait_until(lambda: handling.running == 5, "five")
    handling.gate.set()
    for consumer in consumers:
        done(consumer, broker)
    assert len(handling.ended) == 100
    assert handling.most == 5


@pytest.mark.parametrize("keyed", [True, False], ids=["keyed", "no delays"])
def test_those_that_wait_to_be_tried_again_hold_no_place(broker: Broker, make: Make, keyed: bool):
    """However many they are, and what is behind them with the same key as well."""
    tried: list[int] = []
    go = Event()

    def handle(delivery: Delivery, queue: Queue) -> Any:
        tried.append(number(delivery))
        return None if number(delivery) >= 1000 or go.is_set() else 0.05

    waiters = [event for key in range(30) for event in events(3, f"k{key}", first=10 * key)]
    broker.put("q", *waiters, *events(5, "other", first=1000))
    broker.put("r", *events(5, first=2000))
    consumer = make(handle, queue("q", keyed=keyed), queue("r"), pool_size=2)
    wait_until(lambda: len([n for n in tried if n >= 1000]) == 10, "the others")
    if keyed:
        assert all(n % 10 == 0 for n in tried if n < 1000), "those behind keep their order"
    go.set()
    done(consumer, broker)
    if keyed:
        order = list(dict.fromkeys(n for n in tried if n < 10))
        assert order == [0, 1, 2]


def test_stop_gives_those_back_that_wait_and_those_behind_them(broker: Broker, make: Make):
    broker.put("q", *events(3, "k"))
    consumer = make(lambda delivery, queue: LIMIT, queue(keyed=True))
    wait_until(lambda: consumer.in_flight == 3, "the deliveries")
    gevent.sleep(0.02)
    assert consumer.stop(LIMIT) is True
    assert waiting(broker) == [0, 1, 2]


def test_stop_lets_an_event_come_to_the_last_of_its_handlers(broker: Broker, make: Make):
    went: list[int] = []
    first = Event()

    def handle(delivery: Delivery, queue: Queue) -> Any:
        delivery.begun = True
        went.append(len(went))
        if len(went) == 1:
            first.wait()
            return 0.0
        return None

    broker.put("q", *events(1))
    consumer = make(handle)
    wait_until(lambda: went, "the first handler")
    stopping = stop(broker, consumer)
    first.set()
    assert stopping.get(timeout=LIMIT) is True
    assert (went, waiting(broker)) == ([0, 1], [])


def test_events_of_one_key_run_one_at_a_time_and_keys_do_not_wait_for_each_other(
    broker: Broker, make: Make, handling: Handling
):
    broker.put("q", *events(3, "a"), *events(3, "b", 10), *events(2, None, 20))
    consumer = make(handling, queue(keyed=True))
    wait_until(lambda: (consumer.in_flight, handling.running) == (8, 4), "the deliveries")
    assert handling.began == [0, 10, 20, 21]
    handling.gate.set()
    done(consumer, broker)
    for first in (0, 10):
        assert [n for n in handling.ended if first <= n < first + 10] == [*range(first, first + 3)]


def test_what_is_due_has_places_of_its_own(broker: Broker, make: Make, handling: Handling):
    broker.uses_due = True
    forwarded: list[int] = []

    def on_due(delivery: Delivery) -> None:
        forwarded.append(number(delivery))

    broker.put("q", *events(5))
    broker.put(TOPOLOGY.due, *events(3, first=100))
    consumer = make(handling, pool_size=2, on_due=on_due)
    wait_until(lambda: len(forwarded) == 3, "the delayed ones")
    assert handling.running == 2
    assert consumer.in_flight
    handling.gate.set()
    done(consumer, broker)


def test_the_hub_turns_while_much_is_delivered(broker: Broker, make: Make):
    broker.put("q", *events(10_000))
    handled: list[int] = []
    consumer = make(lambda delivery, queue: handled.append(1), pool_size=1000)
    seen = [0]
    while consumer.in_flight or broker.queues["q"]:
        gevent.sleep(0.001)
        seen.append(len(handled))
    assert max(after - before for before, after in itertools.pairwise(seen)) < 5_000


def test_one_without_a_key_that_ends_lets_none_begin_that_has_an_empty_one(
    broker: Broker, make: Make
):
    """Other programs may give an empty key."""
    began: list[int] = []
    gate = Event()

    def handle(delivery: Delivery, queue: Queue) -> None:
        began.append(number(delivery))
        if delivery.envelope.key is not None:
            gate.wait()

    broker.put("q", *events(2, ""), *events(1, None, 10))
    consumer = make(handle, queue(keyed=True))
    wait_until(lambda: consumer.in_flight == 2, "the end of the one without a key")
    gevent.sleep(0.02)
    assert began == [0, 10]
    gate.set()
    done(consumer, broker)
    assert began == [0, 10, 1]


def test_one_that_may_kill_its_process_is_handled_by_all_its_handlers_before_the_next_begins(
    broker: Broker, make: Make
):
    began: list[int] = []
    gate = Event()

    def handle(delivery: Delivery, queue: Queue) -> Any:
        began.append(number(delivery))
        if began.count(number(delivery)) == 1:
            return 0.0
        gate.wait()
        return None

    broker.queues["q"] = deque((event, 2) for event in events(2))
    consumer = make(handle)
    wait_until(lambda: len(began) == 2, "the second handler")
    gevent.sleep(0.05)
    [first] = set(began)
    gate.set()
    done(consumer, broker)
    assert began == [first, first, 1 - first, 1 - first]


def test_a_fault_gives_it_back_after_a_pause_and_its_key_keeps_its_order(
    broker: Broker, make: Make
):
    began: list[int] = []
    times: list[float] = []

    def handle(delivery: Delivery, queue: Queue) -> None:
        began.append(number(delivery))
        if number(delivery) == 3:
            times.append(time.monotonic())
            if len(times) != 4:
                raise OSError("not now")

    broker.put("q", *events(10, "k"))
    done(make(handle, queue(keyed=True)), broker)
    assert began == [0, 1, 2, 3, 3, 3, *range(3, 10)]
    assert all(later - earlier > 0.04 for earlier, later in itertools.pairwise(times))


def test_a_fault_keeps_one_with_a_key_that_nobody_else_would_get(broker: Broker, make: Make):
    """Those that are on their way would overtake what is given back."""
    broker.claims_keys = True
    began: list[Delivery] = []

    def handle(delivery: Delivery, queue: Queue) -> None:
        began.append(delivery)
        if len(began) == 1:
            raise OSError("not now")

    broker.put("q", *events(3, "k"))
    done(make(handle, queue(keyed=True)), broker)
    assert [number(delivery) for delivery in began] == [0, 0, 1, 2]
    assert began[0] is began[1]


@pytest.mark.parametrize(
    "fault",
    [ValueError("odd"), gevent.Timeout(1), SystemExit(3), gevent.GreenletExit(), DeadlineReached()],
    ids=lambda fault: type(fault).__name__,
)
def test_an_exception_that_escapes_is_logged_and_tried_again(
    broker: Broker, make: Make, fault: BaseException, caplog: pytest.LogCaptureFixture
):
    faults = [fault]

    def handle(delivery: Delivery, queue: Queue) -> None:
        if faults:
            raise faults.pop()

    broker.put("q", *events(1))
    done(make(handle), broker)
    [record] = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert "event 'a'" in record.getMessage()
    assert record.exc_info


@pytest.mark.parametrize("caller", ["greenlet", "thread"])
def test_stop_lets_those_that_run_finish_and_gives_the_rest_back(
    broker: Broker, make: Make, handling: Handling, caller: str
):
    broker.put("q", *events(500))
    broker.put("r", *events(500, first=500))
    places = Places(100)
    assert all(places.take(object()) for _ in range(20))  # type: ignore[arg-type]
    consumer = make(handling, queue("q"), queue("r"), pool=places)
    wait_until(lambda: handling.running == 80, "all places but those of others")
    wait_until(lambda: consumer.in_flight >= 100, "the prefetch")
    pool = ThreadPool(1)
    stopping = stop(broker, consumer, gevent.spawn if caller == "greenlet" else pool.spawn)
    wait_until(lambda: consumer.in_flight == 80, "the rest to be given back")
    handling.gate.set()
    assert stopping.get(timeout=LIMIT) is True
    pool.kill()
    assert len(handling.ended) == 80
    assert len(handling.began) == 80
    left = waiting(broker) + waiting(broker, "r")
    assert sorted(left + handling.ended) == list(range(1000))
    assert {"cancel q", "cancel r"} <= set(broker.log)
    assert not broker.links


def test_stop_cuts_off_those_that_go_on_for_too_long(
    broker: Broker, busy: Make, handling: Handling, caplog: pytest.LogCaptureFixture
):
    consumer = busy(5)
    assert consumer.stop(0.05) is False
    assert handling.running == 0
    assert not handling.ended
    assert waiting(broker) == list(range(5)), "given back, in order"
    [record] = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert "5 handlers were still running" in record.getMessage()


def test_what_a_handler_does_once_it_is_cut_off_comes_to_its_end(broker: Broker, make: Make):
    ended: list[int] = []

    def handle(delivery: Delivery, queue: Queue) -> None:
        try:
            Event().wait()
        finally:
            gevent.sleep(0.4)  # it is looked for what is to be cut off every 0.1 s
            ended.append(number(delivery))

    broker.put("q", *events(2))
    consumer = make(handle)
    wait_until(lambda: consumer.in_flight == 2, "the handlers")
    assert consumer.stop(0.05) is False
    assert sorted(ended) == sorted(waiting(broker)) == [0, 1]


def test_stop_does_not_wait_for_a_handler_that_cannot_be_killed(broker: Broker, make: Make):
    free = Event()

    def handle(delivery: Delivery, queue: Queue) -> None:
        while not free.is_set():
            with contextlib.suppress(gevent.GreenletExit):
                free.wait()

    broker.put("q", *events(1))
    consumer = make(handle)
    wait_until(lambda: consumer.in_flight, "the handler")
    with gevent.Timeout(LIMIT):
        assert consumer.stop(0) is False
    assert waiting(broker) == [0]
    free.set()


def test_a_key_stays_in_order_through_a_stop(broker: Broker, busy: Make, handling: Handling):
    stopping = stop(broker, busy(5, "k"))
    assert waiting(broker) == [], "given back while the first of the key still runs"
    handling.gate.set()
    assert stopping.get(timeout=LIMIT) is True
    assert waiting(broker) == [1, 2, 3, 4]


def test_a_link_that_keeps_the_order_of_keys_gets_back_at_once_what_has_not_begun(
    broker: Broker, busy: Make, handling: Handling
):
    broker.claims_keys = True
    stopping = stop(broker, busy(5, "k"))
    wait_until(lambda: waiting(broker) == [1, 2, 3, 4], "those behind the one that runs")
    handling.gate.set()
    assert stopping.get(timeout=LIMIT) is True
    assert waiting(broker) == [1, 2, 3, 4]


@pytest.mark.parametrize("lost", ["before", "during"])
def test_handlers_have_their_time_though_the_connection_is_lost_and_they_stop(
    broker: Broker, busy: Make, handling: Handling, lost: str
):
    consumer = busy(3)
    if lost == "before":
        broker.hangs = True
        broker.cut()
        wait_until(lambda: "hangs" in broker.log, "an attempt")
        stopping = gevent.spawn(consumer.stop, LIMIT)
    else:
        stopping = stop(broker, consumer)
        broker.cut()
        wait_until(lambda: not broker.links, "the loss")
    gevent.sleep(0.02)
    assert handling.running == 3
    assert not stopping.dead
    handling.gate.set()
    assert stopping.get(timeout=LIMIT) is True
    assert broker.opened == 1
    assert sorted(waiting(broker)) == sorted(handling.ended) == [0, 1, 2]


def test_stop_gives_back_what_failed_and_is_kept(
    broker: Broker, make: Make, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(consumer_loop, "_PAUSE", LIMIT)
    failed = Event()

    def fail(delivery: Delivery, queue: Queue) -> None:
        failed.set()
        raise OSError("not now")

    broker.put("q", *events(1))
    consumer = make(fail)
    assert failed.wait(LIMIT)
    gevent.sleep(0.01)
    assert consumer.in_flight == 1
    assert consumer.stop(LIMIT) is True
    assert waiting(broker) == [0]


def test_it_can_be_started_again_and_twice(broker: Broker, make: Make, handling: Handling):
    handling.gate.set()
    broker.put("q", *events(1))
    consumer = make(handling)
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


def test_a_handler_that_stops_its_own_consumer(broker: Broker, make: Make):
    began: list[Any] = []

    def handle(delivery: Delivery, queue: Queue) -> None:
        began.append(delivery)
        consumer.stop(0.05)

    consumer = make(handle)
    broker.put("q", *events(1))
    wait_until(lambda: not broker.links and began, "the end")
    assert waiting(broker) == [0]


def test_a_forked_child_handles_and_acknowledges_nothing(
    broker: Broker, make: Make, handling: Handling
):
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
