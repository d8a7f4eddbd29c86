"""What every transport promises, over each of them: the table in README.md."""

import datetime
import time
from typing import Any

import gevent
import pytest

from gemstone_sync import (
    EventNotDelivered,
    Reject,
    RetryLater,
    ServiceConfigurationError,
    current_event,
)
from gemstone_sync.event import deadletters
from tests.support.waiting import LIMIT, wait_until

from .services import Network, handler

# Who gets what


def test_a_broadcast_reaches_each_of_3_services_once_though_each_has_2_instances(network: Network):
    for service in ("a", "b", "c") * 2:
        network.start(service, handler("order.paid"))
    network.emitter().emit_event("order.paid", {"id": 7})
    assert sorted(network.wait_for(3)) == [(s, "on_event", {"id": 7}) for s in ("a", "b", "c")]
    network.settle()
    assert len(network.told) == 3


def test_work_reaches_exactly_one_of_6_workers(network: Network):
    for service in ("a", "b", "c") * 2:
        network.start(service, handler("resize"))
    emitter = network.emitter()
    for number in range(30):
        emitter.emit_event("resize", number, broadcast=False)
    network.wait_for(30)
    network.settle()
    assert sorted(body for _, _, body in network.told) == list(range(30))


def test_a_handler_of_every_instance_is_called_in_every_instance(network: Network):
    for _ in range(2):
        network.start("cache", handler("user.changed", scope="instance"))
    network.emitter().emit_event("user.changed", "ada")
    assert network.wait_for(2) == [("cache", "on_event", "ada")] * 2
    network.settle()
    assert len(network.told) == 2


def test_patterns_choose_what_a_handler_gets(network: Network):
    network.start("one", handler("order.*"))
    network.start("any", handler("order.#"))
    network.start("exact", handler("order.paid"))
    emitter = network.emitter()
    for name in ("order", "order.paid", "order.paid.late", "other.paid"):
        emitter.emit_event(name, name)
    network.wait_for(5)
    network.settle()
    got = {service: [] for service in ("one", "any", "exact")}
    for service, _, body in network.told:
        got[service].append(body)
    assert got["one"] == ["order.paid"]
    assert sorted(got["any"]) == ["order", "order.paid", "order.paid.late"]
    assert got["exact"] == ["order.paid"]


def test_work_goes_to_the_best_match_only(network: Network):
    network.start("any", handler("#"))
    network.start("star", handler("resize.*"))
    network.start("exact", handler("resize.photo"))
    emitter = network.emitter()
    for name in ("resize.photo", "resize.video", "print"):
        emitter.emit_event(name, name, broadcast=False)
    network.wait_for(3)
    network.settle()
    assert sorted((service, body) for service, _, body in network.told) == [
        ("any", "print"),
        ("exact", "resize.photo"),
        ("star", "resize.video"),
    ]


def test_work_of_patterns_that_overlap_goes_to_one_worker_or_on_rabbitmq_to_one_for_each(
    network: Network, kind: str
):
    network.start("left", handler("resize.*"))
    network.start("right", handler("*.photo"))
    network.emitter().emit_event("resize.photo", 1, broadcast=False)
    network.wait_for(2 if kind == "rabbitmq" else 1)
    network.settle()
    told = sorted(service for service, _, _ in network.told)
    assert told == (["left", "right"] if kind == "rabbitmq" else ["right"])


def test_two_handlers_of_one_service_for_one_event_are_both_called(network: Network):
    network.start("a", handler("x", method="first"), handler("x", method="second"))
    network.emitter().emit_event("x", 1)
    assert sorted(network.wait_for(2)) == [("a", "first", 1), ("a", "second", 1)]


def test_what_is_emitted_while_a_service_is_away_waits_for_it(network: Network):
    node = network.start("a", handler("x"))
    emitter = network.emitter()
    node.stop()
    emitter.emit_event("x", "meanwhile")
    gevent.sleep(0)
    assert network.told == []
    network.start("a", handler("x"))
    assert network.wait_for(1) == [("a", "on_event", "meanwhile")]


def test_work_that_nobody_handles_is_refused(network: Network):
    with pytest.raises(EventNotDelivered, match="nobody handles"):
        network.emitter().emit_event("unknown", 1, broadcast=False)
    network.emitter().emit_event("unknown", 1)  # a broadcast may have no subscriber


def test_a_batch_arrives_whole(network: Network):
    network.start("a", handler("x"))
    ids = network.emitter().emit_events([("x", number) for number in range(200)])
    network.wait_for(200)
    assert len(set(ids)) == 200
    assert sorted(body for _, _, body in network.told) == list(range(200))


def test_an_event_tells_where_it_comes_from(network: Network):
    seen: list[Any] = []
    network.start("a", handler("x", lambda node, body: seen.append(current_event())))
    before = time.time()
    id = network.emitter().emit_event("x", 1, key="k")
    network.wait_for(1)
    (event,) = seen
    assert (event.id, event.name, event.emitter, event.key) == (id, "x", "emitter", "k")
    assert before - 0.01 <= event.time <= time.time()


# Failures


def fails(times: int, error: Exception | None = None) -> Any:
    """Acts for a handler: fail so many times, for each body."""
    failed: dict[str, int] = {}

    def act(node: Any, body: Any) -> None:
        failed[str(body)] = failed.get(str(body), 0) + 1
        if failed[str(body)] <= times:
            raise error or OSError("not today")

    return act


def test_a_handler_that_fails_is_called_again_after_its_backoff(network: Network):
    moments: list[float] = []
    act = fails(2)

    def note(node: Any, body: Any) -> None:
        moments.append(time.monotonic())
        act(node, body)

    network.start("a", handler("x", note, backoff=[0.2, 0.5]))
    network.emitter().emit_event("x", 1)
    wait_until(lambda: len(moments) == 3, "three attempts")
    network.settle()
    assert len(moments) == 3
    assert moments[1] - moments[0] >= 0.19
    assert moments[2] - moments[1] >= 0.49


def test_only_the_handler_that_failed_is_called_again(network: Network):
    network.start(
        "a",
        handler("x", fails(1), method="first", backoff=0.1),
        handler("x", method="second"),
    )
    network.emitter().emit_event("x", 1)
    network.wait_for(3)
    network.settle()
    assert sorted(method for _, method, _ in network.told) == ["first", "first", "second"]


def test_after_its_retries_an_event_becomes_a_dead_letter_and_can_be_replayed(network: Network):
    node = network.start("a", handler("x", fails(3), retries=2, backoff=0.1))
    emitter = network.emitter()
    id = emitter.emit_event("x", {"n": 1})
    network.wait_for(3)
    network.settle()
    transport = node.event_transports[0]
    wait_until(lambda: deadletters.list(transport), "a dead letter")
    (letter,) = deadletters.list(transport, "x")
    assert (letter.id, letter.name, letter.body) == (id, "x", {"n": 1})
    assert letter.reason == "failed"
    assert "not today" in letter.error
    assert "OSError" in letter.traceback
    assert deadletters.list(transport, "y") == []
    assert deadletters.replay(transport, id) == 1
    network.wait_for(4)
    network.settle()
    assert deadletters.list(transport) == []
    assert len(network.told) == 4


def test_a_rejected_event_becomes_a_dead_letter_at_once(network: Network):
    node = network.start("a", handler("x", fails(9, Reject("no such customer"))))
    network.emitter().emit_event("x", 1)
    network.wait_for(1)
    transport = node.event_transports[0]
    (letter,) = wait_until(lambda: deadletters.list(transport), "a dead letter")
    assert letter.reason == "rejected"
    assert "no such customer" in letter.error
    assert deadletters.purge(transport) == 1
    assert deadletters.list(transport) == []
    assert len(network.told) == 1


def test_retry_later_waits_and_counts_as_no_failure(network: Network):
    network.start("a", handler("x", fails(2, RetryLater(0.2)), retries=0))
    network.emitter().emit_event("x", 1)
    network.wait_for(3)
    network.settle()
    assert len(network.told) == 3


def test_a_body_that_does_not_fit_the_hint_becomes_a_dead_letter(network: Network):
    from gemstone_sync import event_handler

    def on_event(self: Any, body: int) -> None:
        self.told.append((self.name, "on_event", body))

    node = network.start("a", {"on_event": event_handler("x")(on_event)})
    emitter = network.emitter()
    emitter.emit_event("x", "no number")
    emitter.emit_event("x", 5)
    network.wait_for(1)
    transport = node.event_transports[0]
    (letter,) = wait_until(lambda: deadletters.list(transport), "a dead letter")
    assert letter.reason == "invalid"
    assert "Expected `int`, got `str`" in letter.error
    assert network.told == [("a", "on_event", 5)]


def test_an_attempt_that_takes_too_long_is_ended_and_repeated(network: Network):
    ended: list[Any] = []

    def act(node: Any, body: Any) -> None:
        if not ended:
            try:
                gevent.sleep(20)
            finally:
                ended.append(body)

    network.start("a", handler("x", act, timeout=0.2, backoff=0.1))
    network.emitter().emit_event("x", 1)
    network.wait_for(2)
    network.settle()
    assert (len(network.told), ended) == (2, [1])


# Later, in order, once


def test_a_delayed_event_comes_when_it_is_due_and_not_before(network: Network):
    arrived: dict[Any, float] = {}
    network.start("a", handler("x", lambda node, body: arrived.update({body: time.time()})))
    emitter = network.emitter()
    now = time.time()  # before all of them: each may only be later than so
    emitter.emit_event("x", "delay", delay=1.0)
    moment = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=0.5)
    emitter.emit_event("x", "at", at=moment)
    emitter.emit_event("x", "work", delay=0.3, broadcast=False)
    emitter.emit_event("x", "now")
    emitted = time.time()
    network.wait_for(4)
    # Timers may be a few milliseconds early.
    assert arrived["work"] - now >= 0.29
    assert arrived["at"] - now >= 0.49
    assert arrived["delay"] - now >= 0.99
    # ... unless the machine stood still for so long that others were due.
    assert min(arrived, key=arrived.__getitem__) == "now" or emitted - now >= 0.3


def test_an_expired_event_is_not_handled(network: Network):
    node = network.start("a", handler("x"))
    network.emitter().emit_event("x", 1, delay=0.5, expires_in=0.2)
    transport = node.event_transports[0]
    (letter,) = wait_until(lambda: deadletters.list(transport), "a dead letter")
    assert (letter.reason, network.told) == ("expired", [])


@pytest.mark.parametrize("broadcast", [True, False], ids=["broadcast", "work"])
def test_events_with_one_key_are_handled_in_order_one_at_a_time(network: Network, broadcast: bool):
    running: dict[str, int] = {}
    overlaps: list[Any] = []

    def act(node: Any, body: Any) -> None:
        key, number = body
        running[key] = running.get(key, 0) + 1
        overlaps.append(running[key])
        gevent.sleep(0.001 * (number % 3))
        running[key] -= 1

    for _ in range(2):
        network.start("a", handler("x.*", act))
    network.emitter().emit_events(
        [
            (
                f"x.{number % 2}",
                [f"k{number % 5}", number],
                {"key": f"k{number % 5}", "broadcast": broadcast},
            )
            for number in range(100)
        ]
    )
    network.wait_for(100)
    network.settle()
    assert set(overlaps) == {1}
    for key in {body[0] for _, _, body in network.told}:
        numbers = [body[1] for _, _, body in network.told if body[0] == key]
        assert numbers == sorted(numbers)
    assert len(network.told) == 100


def test_a_failing_event_holds_back_those_behind_it_with_the_same_key(network: Network):
    act = fails(1)
    network.start("a", handler("x", lambda n, b: act(n, b) if b == 0 else None, backoff=0.3))
    network.emitter().emit_events([("x", number, {"key": "k"}) for number in range(3)])
    network.wait_for(4)
    network.settle()
    assert [body for _, _, body in network.told] == [0, 0, 1, 2]


def test_a_repeated_id_is_dropped_where_the_handler_is_not_idempotent(network: Network, kind: str):
    if kind == "rabbitmq":
        with pytest.raises(ServiceConfigurationError, match="event_deduplication"):
            network.start("a", handler("x", idempotent=False))
        return
    for _ in range(2):
        network.start("a", handler("x", idempotent=False))
    network.start("b", handler("x"))
    node = network.emitter()
    from gemstone_sync.event.emission import make_envelope

    envelope = make_envelope("x", 1)
    for _ in range(3):
        node.event_transports[0].publish([envelope], timeout=5)
    wait_until(lambda: network.counts()["b"] == 3, "all three")
    network.settle()
    assert network.counts() == {"a": 1, "b": 3}


# The end


def test_a_service_that_stops_finishes_what_it_handles_and_gives_the_rest_back(network: Network):
    go = gevent.event.Event()
    node = network.start("a", handler("x", lambda n, b: go.wait(10)), pool_size=10)
    emitter = network.emitter()
    emitter.emit_events([("x", number) for number in range(50)])
    wait_until(lambda: len(network.told) == 10, "ten at once")
    stopping = gevent.spawn(node.stop)
    gevent.sleep(0.1)
    go.set()
    stopping.join(20)
    handled = len(network.told)
    assert 10 <= handled < 50 or handled == 50
    network.start("a", handler("x"))
    network.wait_for(50)
    network.settle()
    assert sorted(body for _, _, body in network.told) == list(range(50))


def test_a_handler_is_called_no_more_often_at_once_than_it_says(network: Network):
    running, most, three = [0], [0], gevent.event.Event()

    def act(node: Any, body: Any) -> None:
        running[0] += 1
        most[0] = max(most[0], running[0])
        if running[0] == 3:
            three.set()
        three.wait(LIMIT)
        gevent.sleep(0.01)
        running[0] -= 1

    network.start("a", handler("x", act, concurrency=3))
    network.emitter().emit_events([("x", number) for number in range(30)])
    network.wait_for(30)
    network.settle()
    assert most[0] == 3
