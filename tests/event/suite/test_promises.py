"""What every transport promises, over each of them: the table in examples/08_events/README.md."""

import contextlib
import datetime
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import gevent
import pytest
from gevent.event import Event

from gemstone_sync import (
    EventNotDelivered,
    MicroService,
    Reject,
    RetryLater,
    ServiceConfigurationError,
    current_event,
)
from gemstone_sync.event import deadletters
from gemstone_sync.event.deduplication import RedisProcessedEvents, SqliteProcessedEvents
from gemstone_sync.event.emission import make_envelope
from gemstone_sync.event.link import LinkLost
from gemstone_sync.event.runtime import queue_state
from tests.support.waiting import LIMIT, compute, wait_until

from .services import Network, handler


def fails(times: int, error: Exception | None = None) -> Callable[[Any], None]:
    """Acts for a handler: fail so many times."""
    left = [error or OSError("not today")] * times

    def act(body: Any) -> None:
        if left:
            raise left.pop()

    return act


def test_each_handler_is_called_once_in_each_service_or_each_instance_and_work_is_done_once(
    network: Network,
):
    seen: list[Any] = []
    for _ in range(2):
        network.start("one", handler("x", lambda body: seen.append(current_event())))
        network.start("two", handler("x", method="first"), handler("x", method="second"))
        network.start("each", handler("x", scope="instance"))
    before = time.time()
    id = network.emit("x", {"id": 7}, key="k")
    assert network.wait_for(5) == [
        *[("each", "on_event", {"id": 7})] * 2,
        ("one", "on_event", {"id": 7}),
        ("two", "first", {"id": 7}),
        ("two", "second", {"id": 7}),
    ]
    (event,) = seen
    assert (event.id, event.name, event.emitter, event.key) == (id, "x", "emitter", "k")
    assert before - 0.01 <= event.time <= time.time()
    network.told.clear()
    network.emit_all([("x", number, {"broadcast": False}) for number in range(30)])
    network.wait_for(30)
    assert sorted(body for _, _, body in network.told) == list(range(30))
    with pytest.raises(EventNotDelivered, match="nobody handles"):
        network.emit("unknown", 1, broadcast=False)
    network.emit("unknown", 1)  # a broadcast may have no subscriber


def test_patterns_choose_what_a_handler_gets_and_work_goes_to_the_best_match_only(
    network: Network, kind: str
):
    network.start("any", handler("pay.#"))
    network.start("exact", handler("pay.card"))
    network.start("star", handler("pay.*"))
    for name in ("pay", "pay.card", "pay.card.late", "other.card"):
        network.emit(name, name)
    assert [(service, body) for service, _, body in network.wait_for(5)] == [
        ("any", "pay"),
        ("any", "pay.card"),
        ("any", "pay.card.late"),
        ("exact", "pay.card"),
        ("star", "pay.card"),
    ]
    network.told.clear()
    for name in ("pay", "pay.card", "pay.bill"):
        network.emit(name, name, broadcast=False)
    assert [(service, body) for service, _, body in network.wait_for(3)] == [
        ("any", "pay"),
        ("exact", "pay.card"),
        ("star", "pay.bill"),
    ]
    network.told.clear()
    network.start("left", handler("resize.*"))
    network.start("right", handler("*.photo"))
    network.emit("resize.photo", 1, broadcast=False)
    # Of patterns that overlap RabbitMQ does not know the best.
    best = ["left", "right"] if kind == "rabbitmq" else ["right"]
    assert [service for service, _, _ in network.wait_for(len(best))] == best


def test_only_the_handler_that_failed_is_called_again_after_its_backoff(network: Network):
    moments: list[float] = []
    act = fails(2)

    def note(body: Any) -> None:
        moments.append(time.monotonic())
        act(body)

    failing = handler("x", note, method="first", backoff=[0.2, 0.5])
    network.start("a", failing, handler("x", method="second"))
    network.emit("x", 1)
    network.wait_for(4)
    assert len(moments) == 3
    assert moments[1] - moments[0] >= 0.19
    assert moments[2] - moments[1] >= 0.49


def test_after_its_retries_an_event_becomes_a_dead_letter_and_can_be_replayed(network: Network):
    node = network.start("a", handler("x", fails(3), retries=2, backoff=0.1))
    id = network.emit("x", {"n": 1})
    network.wait_for(3)
    (letter,) = network.letters()
    assert (letter.id, letter.name, letter.body) == (id, "x", {"n": 1})
    assert letter.reason == "failed"
    assert "not today" in letter.error
    assert "OSError" in letter.traceback
    transport = node.event_transports[0]
    assert deadletters.replay(transport, id) == 1
    network.wait_for(4)
    assert deadletters.list(transport) == []


def test_dead_letters_of_one_key_are_all_seen_replayed_and_thrown_away(network: Network):
    """There they have no order to keep: none is held back by another that is looked at."""
    node = network.start("a", handler("x", fails(9, Reject("no"))))
    for number in range(4):
        network.emit("x", number, key="k")
    network.letters(4)
    transport = node.event_transports[0]
    assert deadletters.replay(transport, event="x") == 4
    network.letters(4)
    assert deadletters.purge(transport, event="x") == 4
    assert deadletters.list(transport) == []


def test_what_is_rejected_does_not_fit_or_comes_too_late_becomes_a_dead_letter_at_once(
    network: Network,
):
    node = network.start(
        "a",
        handler("rejects", fails(9, Reject("no such customer"))),
        handler("typed", method="typed", hint=int),
    )
    network.emit("rejects", 1)
    network.emit("rejects", 2, delay=0.5, expires_in=0.2)
    network.emit("typed", "no number")
    network.emit("typed", 5)
    letters = {letter.reason: letter for letter in network.letters(3)}
    assert set(letters) == {"rejected", "expired", "invalid"}
    assert "no such customer" in letters["rejected"].error
    assert "Expected `int`, got `str`" in letters["invalid"].error
    assert network.wait_for(2) == [("a", "on_event", 1), ("a", "typed", 5)]
    transport = node.event_transports[0]
    assert {letter.body for letter in deadletters.list(transport, "rejects")} == {1, 2}
    assert deadletters.list(transport, "other") == []
    assert deadletters.purge(transport) == 3
    assert deadletters.list(transport) == []


def test_an_attempt_that_takes_too_long_is_ended_and_repeated_and_retry_later_is_no_failure(
    network: Network,
):
    ended: list[Any] = []

    def take_long(body: Any) -> None:
        if not ended:
            try:
                gevent.sleep(LIMIT)
            finally:
                ended.append(body)

    network.start(
        "a",
        handler("x", take_long, method="long", timeout=0.2, backoff=0.1),
        handler("x", fails(2, RetryLater(0.2)), method="later", retries=0),
    )
    network.emit("x", 1)
    told = network.wait_for(5)
    assert [method for _, method, _ in told] == ["later"] * 3 + ["long"] * 2
    assert ended == [1]


def test_a_delayed_event_comes_when_it_is_due_and_not_before(network: Network):
    arrived: dict[Any, float] = {}
    network.start("a", handler("x", lambda body: arrived.update({body: time.time()})))
    now = time.time()  # before all of them: each may only be later than so
    network.emit("x", "delay", delay=1.0)
    moment = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=0.5)
    network.emit("x", "at", at=moment)
    network.emit("x", "work", delay=0.3, broadcast=False)
    network.emit("x", "now")
    emitted = time.time()
    network.wait_for(4)
    # Timers may be a few milliseconds early.
    assert arrived["work"] - now >= 0.29
    assert arrived["at"] - now >= 0.49
    assert arrived["delay"] - now >= 0.99
    # ... unless the machine stood still for so long that others were due.
    assert min(arrived, key=arrived.__getitem__) == "now" or emitted - now >= 0.3


def test_events_with_one_key_are_handled_in_order_one_at_a_time(network: Network):
    running: Counter[str] = Counter()
    overlaps: set[int] = set()

    def act(body: Any) -> None:
        line, number = body
        running[line] += 1
        overlaps.add(running[line])
        gevent.sleep(0.001 * (number % 3))
        running[line] -= 1

    for _ in range(2):
        network.start("a", handler("x.*", act))
    lines = [(f"k{number % 5}", number % 2 == 0) for number in range(100)]
    network.emit_all(
        (f"x.{number % 3}", [f"{key} {broadcast}", number], {"key": key, "broadcast": broadcast})
        for number, (key, broadcast) in enumerate(lines)
    )
    network.wait_for(100)
    assert overlaps == {1}
    for line in running:
        numbers = [body[1] for _, _, body in network.told if body[0] == line]
        assert numbers == sorted(numbers)
    assert len(running) == 10


def test_a_failing_event_holds_back_those_behind_it_with_the_same_key(network: Network):
    network.start("a", handler("x", fails(1), backoff=0.3))
    network.emit_all([("x", number, {"key": "k"}) for number in range(3)])
    network.wait_for(4)
    assert [body for _, _, body in network.told] == [0, 0, 1, 2]


def test_a_repeated_id_is_dropped_where_the_handler_is_not_idempotent(network: Network, kind: str):
    if kind == "rabbitmq":
        with pytest.raises(ServiceConfigurationError, match="event_deduplication"):
            network.start("a", handler("x", idempotent=False))
        return
    for _ in range(2):
        network.start("a", handler("x", idempotent=False))
    network.start("b", handler("x"))
    envelope = make_envelope("x", 1)
    for _ in range(3):
        network.emitter.event_transports[0].publish([envelope], timeout=LIMIT)
    told = network.wait_for(4)
    assert [service for service, _, _ in told] == ["a", "b", "b", "b"]


@pytest.mark.parametrize("kind", ["redis", "sqlite"], indirect=True)  # which have one
def test_the_claim_of_a_handler_that_is_not_idempotent_counts_as_long_as_the_transport_s_lease(
    network: Network, monkeypatch: pytest.MonkeyPatch
):
    """Or what a killed worker had would come to another one, and wait there for the claim's end."""
    leases: list[float] = []
    for cls in (RedisProcessedEvents, SqliteProcessedEvents):
        claim = cls.claim

        def note(self: Any, key: str, owner: str, lease: float, claim: Any = claim) -> Any:
            leases.append(lease)
            return claim(self, key, owner, lease)

        monkeypatch.setattr(cls, "claim", note)
    network.start("a", handler("x", idempotent=False), lease=7)
    network.emit("x", 1)
    network.wait_for(1)
    assert 7 in leases


def test_a_service_that_stops_finishes_what_it_handles_and_its_next_start_gets_the_rest(
    network: Network,
):
    go = Event()
    node = network.start("a", handler("x", lambda body: go.wait(LIMIT)), pool_size=10)
    ids = network.emit_all([("x", number) for number in range(50)])
    assert len(set(ids)) == 50
    wait_until(lambda: len(network.told) == 10, "ten at once")
    stopping = gevent.spawn(node.stop)
    gevent.sleep(0.1)
    go.set()
    stopping.get(timeout=LIMIT)
    network.emit("x", 50)  # meanwhile
    network.start("a", handler("x"))
    told = network.wait_for(51)
    assert sorted(body for _, _, body in told) == list(range(51))


def test_a_handler_is_called_no_more_often_at_once_than_it_says(network: Network):
    running, most, three = [0], [0], Event()

    def act(body: Any) -> None:
        running[0] += 1
        most[0] = max(most[0], running[0])
        if running[0] == 3:
            three.set()
        three.wait(LIMIT)
        gevent.sleep(0.01)
        running[0] -= 1

    network.start("a", handler("x", act, concurrency=3))
    network.emit_all([("x", number) for number in range(30)])
    network.wait_for(30)
    assert most[0] == 3


def at_once(seconds: float = 0.05) -> tuple[list[int], Callable[[Any], None]]:
    """Acts for a handler: take so long; the number is how many ran at once at most."""
    running, most = [0], [0]

    def act(body: Any) -> None:
        running[0] += 1
        most[0] = max(most[0], running[0])
        gevent.sleep(seconds)
        running[0] -= 1

    return most, act


@pytest.mark.parametrize("scope", ["service", "instance"])
def test_concurrency_is_of_the_handler_whatever_queues_feed_it(network: Network, scope: str):
    most, act = at_once()
    other, act_other = at_once()
    network.start(
        "a",
        handler("x", act, concurrency=1, scope=scope),
        handler("x.*", act_other, method="other", concurrency=2),
    )
    network.emit_all(
        (name, number, {"key": key, "broadcast": broadcast})
        for number, (name, key, broadcast) in enumerate(
            (name, key, broadcast)
            for name in ("x", "x.y", "x.z")
            for key in (None, "k1", "k2", "k3")
            for broadcast in (True, False)
        )
    )
    network.wait_for(24)
    assert (most, other) == ([1], [2])


def test_pool_size_is_of_the_process_whatever_handlers_and_services_share_it(
    network: Network, kind: str
):
    most, act = at_once()
    transport = network.make_transport(pool_size=10)
    network.make_transport = lambda **options: transport
    for service in ("a", "b", "c"):
        network.start(service, handler("x", act), handler("y", act, method="second"))
    network.emit_all((name, number) for number in range(10) for name in ("x", "y"))
    network.wait_for(60)
    assert most[0] <= 10


def test_one_instance_does_not_hoard_what_another_could_handle(network: Network, kind: str):
    """It takes as many as it handles at once over all its queues, not as many for each."""
    go, others = Event(), Event()
    names = [f"x{number}" for number in range(10)]
    held: list[str] = []

    def hold(body: Any) -> None:
        held.append(body)
        go.wait(LIMIT)

    first = [handler(name, hold, method=name) for name in names]
    network.start("a", *first, pool_size=10)
    network.emit_all((name, f"{name} {number}") for number in range(20) for name in names)
    wait_until(lambda: len(held) == 10, "a full pool")
    second: list[str] = []
    if kind != "memory":  # where both would share one pool
        network.start(
            "a", *[handler(name, second.append, method=name) for name in names], pool_size=10
        )
        # Of 200 the first one handles 10, and has one of each queue in advance.
        wait_until(lambda: len(second) >= 200 - 2 * 10 - 10, "the rest to be handled")
    others.set()
    go.set()
    network.wait_for(200)


@pytest.mark.parametrize("how", ["retries", "later"])
@pytest.mark.parametrize("broadcast", [True, False])
def test_keys_that_wait_hold_up_nobody_else_and_keep_their_order(
    network: Network, how: str, broadcast: bool
):
    failing, went = [True], list[Any]()

    def act(body: Any) -> None:
        if failing[0] and body[0] != "well":
            raise RetryLater(0.5) if how == "later" else OSError("not today")
        went.append(body)

    network.start(
        "a",
        handler("x", act, retries=1000, backoff=0.5),
        handler("y", lambda body: went.append(body), method="other"),
        pool_size=10,
    )
    keyed = [(f"k{number % 30}", number) for number in range(60)]
    network.emit_all(("x", [key, n], {"key": key, "broadcast": broadcast}) for key, n in keyed)
    wait_until(lambda: len({body[0] for _, _, body in network.told}) == 30, "all keys tried")
    network.emit("y", ["other", 0])
    network.emit("y", ["other", 1], key="k1")
    network.emit("y", ["other", 2], broadcast=False)
    network.emit("x", ["well", 3], key="well", broadcast=broadcast)
    wait_until(lambda: len(went) >= (4 if not broadcast else 3), "the others")
    failing[0] = False
    wait_until(lambda: len(went) == 64, "all")
    for key in {key for key, _ in keyed}:
        numbers = [body[1] for body in went if body[0] == key]
        assert numbers == sorted(numbers)


def loops_of(nodes: list[MicroService]) -> list[Any]:
    return [
        reception._loop
        for node in nodes
        for reception in node.event_transports[0]._receptions  # type: ignore[attr-defined]
    ]


@contextlib.contextmanager
def no_connection(loops: list[Any]) -> Iterator[None]:
    """Have consumers lose their connections, and get no others meanwhile."""
    before = [loop.link for loop in loops]

    def lost() -> None:
        raise LinkLost("cut")

    with contextlib.ExitStack() as stack:
        for loop, link in zip(loops, before, strict=True):
            stack.enter_context(mock.patch.object(loop, "_make_link", lost))
            link.pump = lost
            loop.wake()
        wait_until(
            lambda: all(loop.link is not link for loop, link in zip(loops, before, strict=True)),
            "no connection",
        )
        yield


def lose_connections(network: Network, meanwhile: Callable[[], object] = lambda: None) -> None:
    """Of all consumers, as when a broker is restarted."""
    loops = loops_of(network.nodes)
    before = [loop.link for loop in loops]
    with no_connection(loops):
        meanwhile()
    wait_until(
        lambda: all(
            loop.link not in (None, link) and loop.why_not_ready() is None
            for loop, link in zip(loops, before, strict=True)
        ),
        "new connections",
    )


@pytest.mark.parametrize("key", [None, "k"])
def test_connections_that_are_lost_are_no_crashes_and_nothing_runs_beside_its_redelivery(
    network: Network, key: str | None
):
    go, began = Event(), list[Any]()

    def act(body: Any) -> None:
        began.append(body)
        go.wait(LIMIT)

    network.start("a", handler("x", act))
    network.emit_all(("x", n, {"key": key and f"{key}{n}"}) for n in range(30))
    wait_until(lambda: len(began) >= 10, "what runs at once")  # in memory there are ten places
    for _ in range(4):
        lose_connections(network)
    before = len(began)
    go.set()
    wait_until(lambda: len(began) >= 30, "the rest")
    network.wait_for(30)
    assert before >= 10
    assert sorted(began) == list(range(30))
    assert deadletters.list(network.emitter.event_transports[0]) == []


def test_what_ends_while_there_is_no_connection_holds_up_nobody(network: Network):
    """Settle it over the next connection: a store keeps it, and those of its key, for a minute."""
    go, began, ended = Event(), list[Any](), list[Any]()

    def act(body: Any) -> None:
        began.append(body)
        go.wait(LIMIT)
        ended.append(body)

    def end() -> None:
        go.set()
        wait_until(lambda: ended, "the end")

    network.start("a", handler("x", act))
    network.emit_all(("x", number, {"key": "k"}) for number in range(3))
    wait_until(lambda: began, "the first")
    lose_connections(network, end)
    network.wait_for(3)
    assert began == [0, 1, 2]


@pytest.mark.parametrize("error", [OSError("not today"), RetryLater(1.5)])
def test_a_key_waits_for_its_next_attempt_though_its_service_stops(
    network: Network, kind: str, error: Exception
):
    """Stores keep it in its place, with its attempts; RabbitMQ knows no such place."""
    seen: list[Any] = []

    def act(body: Any) -> None:
        seen.append((body, current_event().attempts, time.monotonic()))
        if len(seen) == 1:
            raise error

    handling = {"retries": 1, "backoff": 1.5}
    node = network.start("a", handler("x", act, **handling))
    network.emit_all([("x", number, {"key": "k"}) for number in range(2)])
    network.emit("x", 2, key="other")
    wait_until(lambda: len(seen) == 2, "the first attempts")
    node.stop()
    network.nodes.remove(node)
    network.start("a", handler("x", act, **handling))
    network.wait_for(4)
    assert [body for body, _, _ in seen if body != 2] == [0, 0, 1]
    if kind != "rabbitmq":
        (_, _, first), (_, attempts, second), _ = [each for each in seen if each[0] != 2]
        assert attempts == (0 if isinstance(error, RetryLater) else 1)
        assert second - first >= 1.4


@pytest.mark.parametrize("ends", ["away", "back"])
def test_what_runs_in_a_service_that_stops_without_a_connection_is_not_handled_again(
    network: Network, kind: str, ends: str
):
    """Stores keep it for the process until it has told them; AMQP gives it to others at once."""
    go, began = Event(), list[Any]()

    def act(body: Any) -> None:
        began.append(body)
        go.wait(LIMIT)

    old = network.start("a", handler("x", act))
    network.emit_all(("x", number, {"key": "k"}) for number in range(2))
    wait_until(lambda: began, "the first")
    (loop,) = loops_of([old])
    stopping = gevent.spawn(old.stop)
    wait_until(lambda: loop.stopping, "the stop")
    with no_connection([loop]):
        network.start("a", handler("x", act))
        if ends == "away":
            go.set()
            wait_until(lambda: network.told, "the end")
    if ends == "back" and kind != "rabbitmq":
        wait_until(lambda: loop.why_not_ready() is None, "the next connection")
    go.set()
    stopping.get(timeout=LIMIT)
    network.nodes.remove(old)
    wait_until(lambda: 1 in began, "the next of the key")
    assert began == ([0, 0, 1] if kind == "rabbitmq" else [0, 1])


def test_events_that_are_given_back_again_and_again_at_clean_stops_are_no_crashes(
    network: Network,
):
    """Twelve stops: each time the first of a key is handled, and those behind it go back."""
    go, seen = Event(), list[Any]()

    def act(body: Any) -> None:
        seen.append(body)
        go.wait(LIMIT)

    node = network.start("a", handler("x", act))
    network.emit_all(("x", n, {"key": "k"}) for n in range(15))
    for stops in range(1, 13):
        wait_until(lambda: len(seen) >= stops, "the first")  # noqa: B023
        stopping = gevent.spawn(node.stop)
        gevent.sleep(0.05)
        go.set()
        stopping.get(timeout=LIMIT)
        network.nodes.remove(node)
        go.clear()
        seen[:] = range(len(seen))
        node = network.start("a", handler("x", act))
    go.set()
    wait_until(lambda: len(network.told) >= 15, "all")
    assert sorted({body for _, _, body in network.told}) == list(range(15))
    assert deadletters.list(node.event_transports[0]) == []


def test_a_stop_keeps_the_order_of_keys_whoever_takes_over(
    network: Network, monkeypatch: pytest.MonkeyPatch
):
    """What runs ends, what is behind it goes back, and the next instance waits for both."""
    monkeypatch.setattr(queue_state, "_WAITING", 5)  # what an instance holds in advance
    begun, ended, stopping = list[Any](), list[Any](), Event()

    def act(body: Any) -> None:
        begun.append(body)
        if body == 0:
            stopping.wait(LIMIT)
            # One that takes over too early has some of them soon.
            with contextlib.suppress(AssertionError):
                wait_until(lambda: len(begun) > 1, "another one", 0.5)
        ended.append(body)

    old = network.start("films", handler("film", act))
    network.emit_all(("film", number, {"key": "k"}) for number in range(200))
    wait_until(lambda: begun, "the first")
    network.start("films", handler("film", act), pool_size=200)
    gevent.spawn_later(0.1, stopping.set)
    old.stop()
    network.nodes.remove(old)
    wait_until(lambda: len(ended) == 200, "all")
    assert ended == sorted(ended)


@pytest.mark.parametrize("how", ["later", "retries"])
def test_what_waits_to_be_tried_again_keeps_its_order_and_attempts_over_lost_connections(
    network: Network, how: str
):
    act = fails(3, RetryLater(0.4) if how == "later" else OSError("not today"))
    network.start("a", handler("x", act, retries=3, backoff=0.4))
    network.emit_all([("x", number, {"key": "k"}) for number in range(3)])
    for tries in (1, 2):
        wait_until(lambda: len(network.told) >= tries, "an attempt")  # noqa: B023
        lose_connections(network)
    network.wait_for(6)
    assert [body for _, _, body in network.told] == [0, 0, 0, 0, 1, 2]
    assert deadletters.list(network.emitter.event_transports[0]) == []


def test_a_handler_that_computes_longer_than_the_lease_keeps_its_events(
    network: Network, kind: str
):
    if kind == "rabbitmq":
        pytest.skip("it knows no lease")
    began: list[Any] = []

    def act(body: Any) -> None:
        began.append(body)
        compute(2.5 if body == 0 else 0)

    options = {} if kind == "memory" else {"lease": 1}
    for _ in range(2):
        network.start("a", handler("x", act), **options)
    network.emit_all([("x", number) for number in range(5)])
    network.wait_for(5)
    assert sorted(began) == list(range(5))
