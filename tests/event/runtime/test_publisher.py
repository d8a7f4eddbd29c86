"""Publisher: what the callers of `publish` see, whatever the broker does."""

import gc
import itertools
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
from gevent.threadpool import ThreadPool

from gemstone_sync import EventNotDelivered
from gemstone_sync.concurrency import Call, DeadlineReached, Deadlines
from gemstone_sync.event.envelope import Envelope
from gemstone_sync.event.link import LinkLost
from gemstone_sync.event.runtime import connection_loop, publisher_loop
from gemstone_sync.event.runtime.publisher import Publisher
from gemstone_sync.event.topology import Address, Topology
from tests.event.scripted_link import Broker, in_child
from tests.support.waiting import LIMIT, wait_until

TOPOLOGY = Topology("test")
Message = Any
Make = Callable[..., Publisher]

pytestmark = pytest.mark.usefixtures("quick")


def message(name: str = "a", number: int = 0) -> Message:
    envelope = Envelope(name=name, body=b"%d" % number)
    return (envelope, TOPOLOGY.address_of(envelope), 0.0)


def numbers(broker: Broker) -> list[int]:
    return [int(envelope.body) for envelope in broker.published]


@pytest.fixture
def make(broker: Broker) -> Iterator[Make]:
    made: list[Publisher] = []

    def make(*, start: bool = True, **options: Any) -> Publisher:
        publisher = Publisher(broker.link, TOPOLOGY, name="test", **options)
        made.append(publisher)
        if start:
            publisher.start()
        return publisher

    yield make
    for publisher in made:
        publisher.stop(0)
    assert not broker.links


@pytest.fixture(params=[False, True], ids=["hub", "thread"])
def publisher(make: Make, request: pytest.FixtureRequest) -> Publisher:
    return make(threaded=request.param)


@pytest.fixture
def ready(publisher: Publisher) -> Publisher:
    """A publisher that has its connection."""
    wait_until(lambda: publisher.why_not_ready() is None, "a connection")
    return publisher


@pytest.fixture
def unconfirmed(broker: Broker, ready: Publisher) -> Publisher:
    """One whose broker keeps its confirms back."""
    broker.confirms = False
    return ready


@pytest.fixture
def hanging(broker: Broker, publisher: Publisher) -> Publisher:
    """One that is connecting to a broker which says nothing."""
    broker.hangs = True
    broker.cut()
    wait_until(lambda: "hangs" in broker.log, "an attempt")
    return publisher


@pytest.fixture
def pool() -> Iterator[ThreadPool]:
    """Real threads."""
    pool = ThreadPool(8)
    yield pool
    pool.kill()


def publish(publisher: Publisher, *messages: Message) -> gevent.Greenlet:
    """Publish in a greenlet of its own."""
    return gevent.spawn(publisher.publish, list(messages), LIMIT)


def results(calls: list[Any]) -> list[Any]:
    return [call.get(timeout=LIMIT) for call in calls]


def held(publisher: Publisher) -> int:
    """How many messages and calls it still knows of."""
    loop = publisher._loop
    assert loop is not None
    waiting = [call for call in loop._waiting if not call.gone]
    return loop._queued + len(waiting) + len(loop._to_resend) + len(loop.sent)


def test_published_events_are_the_brokers_in_the_order_given(broker: Broker, publisher: Publisher):
    publisher.publish([], 0)
    publisher.publish([message(number=n) for n in range(5000)], LIMIT)
    assert numbers(broker) == list(range(5000))
    assert broker.log == ["declare"]


def test_real_threads_publish_too(broker: Broker, publisher: Publisher, pool: ThreadPool):
    def call(number: int) -> None:
        for _ in range(50):
            publisher.publish([message(number=number)], LIMIT)

    results([pool.spawn(call, n) for n in range(8)])
    assert sorted(numbers(broker)) == sorted(list(range(8)) * 50)


def test_a_real_thread_may_be_the_first_to_publish_and_all_share_a_connection(
    broker: Broker, make: Make, pool: ThreadPool
):
    publisher = make(start=False)

    def first() -> None:
        publisher.start()
        publisher.publish([message("first")], LIMIT)

    results([pool.spawn(first) for _ in range(10)])
    publisher.start()
    publisher.publish([message("second")], LIMIT)
    assert broker.names == ["first"] * 10 + ["second"]
    assert broker.opened == 1


def test_the_hub_turns_while_much_is_published(broker: Broker, make: Make):
    call = publish(make(threaded=False), *[message()] * 50_000)
    seen = [0]
    while not call.dead:
        gevent.sleep(0.001)
        seen.append(len(broker.published))
    call.get()
    assert max(after - before for before, after in itertools.pairwise(seen)) < 25_000


def test_what_the_broker_refuses(broker: Broker, publisher: Publisher):
    broker.refused = {"b": "nobody handles work named 'b'"}
    with pytest.raises(EventNotDelivered) as caught:
        publisher.publish([message("a"), message("b"), message("c")], LIMIT)

    assert str(caught.value) == "test: 1 of 3 not delivered (b): nobody handles work named 'b'"
    assert list(map(str, caught.value.refused.values())) == ["nobody handles work named 'b'"]
    assert caught.value.unconfirmed == []
    assert held(publisher) == 0


def test_of_which_nothing_is_known_is_told(broker: Broker, unconfirmed: Publisher):
    messages = [message("a"), message("b"), message("c")]
    with pytest.raises(EventNotDelivered) as caught:
        unconfirmed.publish(messages, 0.05)
    assert caught.value.refused == {}
    assert caught.value.unconfirmed == [envelope.id for envelope, _, _ in messages]
    unconfirmed.stop(0)
    with pytest.raises(EventNotDelivered) as caught:
        unconfirmed.publish(messages, LIMIT)
    assert caught.value.unconfirmed is None  # all


def test_a_broker_that_is_away(broker: Broker, publisher: Publisher):
    broker.go_away("connection refused")
    wait_until(lambda: "refused" in (publisher.why_not_ready() or ""), "the loss")
    with pytest.raises(EventNotDelivered) as caught:
        publisher.publish([message("a"), message("b"), message("c"), message("d")], 0.05)

    text = str(caught.value)
    assert "4 of 4 not delivered (a, b, c and 1 more)" in text
    assert "not confirmed within 0.05 s: no connection to the broker for" in text
    assert "connection refused; not sent" in text
    asked: list[Any] = []
    with pytest.raises(LinkLost, match=r"nothing learnt within 0\.05 s: .*connection refused"):
        publisher.ask(asked.append, 0.05)
    broker.away = None
    publisher.publish([message("later")], LIMIT)
    assert broker.names == ["later"], "what was reported as not sent was sent"
    assert not asked
    assert held(publisher) == 0


def test_what_is_confirmed_too_late_is_not_sent_again(broker: Broker, unconfirmed: Publisher):
    with pytest.raises(EventNotDelivered, match="1 sent already may still arrive"):
        unconfirmed.publish([message("gone")], 0.5)
    broker.cut()
    broker.confirms = True
    unconfirmed.publish([message("new")], LIMIT)
    assert broker.names == ["gone", "new"]
    assert held(unconfirmed) == 0


def test_a_window_that_is_full(broker: Broker, make: Make):
    broker.window, broker.confirms = 10, False
    publisher = make()
    others = [publish(publisher, *(message(number=n) for n in range(15))) for _ in range(2)]
    wait_until(lambda: len(broker.published) == 10, "a full window")
    with pytest.raises(EventNotDelivered, match="s: 20 events were waiting before it"):
        publisher.publish([message("late")], 0.05)
    assert len(broker.published) == 10
    broker.switch(confirms=True)
    results(others)
    assert numbers(broker) == [*range(15)] * 2


def test_a_slow_broker_has_so_many_bytes_to_confirm_at_once_and_not_more(
    broker: Broker, make: Make
):
    broker.confirms = False
    publisher, body = make(), b"x" * 1_000_000
    large = Envelope(name="a", body=body), Address("events", "a"), 0.0
    calls = [publish(publisher, large, large) for _ in range(40)]
    wait_until(lambda: len(broker.published) == 32, "as many as may wait for confirms")
    with pytest.raises(EventNotDelivered, match="48 events were waiting before it; not sent"):
        publisher.publish([message("late")], 0.2)
    assert len(broker.published) == 32
    broker.switch(confirms=True)
    results(calls)
    assert len(broker.published) == 80
    assert publisher._loop is not None
    assert publisher._loop.unconfirmed_size == 0


def test_a_blocked_broker(broker: Broker, ready: Publisher):
    broker.blocked = "low on memory"
    assert ready.why_not_ready() == "test: blocked by the broker: low on memory"
    with pytest.raises(EventNotDelivered, match="low on memory; not sent"):
        ready.publish([message("a")], 0.05)
    with pytest.raises(LinkLost, match="low on memory"):
        ready.ask(lambda link: link.size("q"), 0.05)
    waiting = publish(ready, message("b"))
    gevent.sleep(0.01)
    broker.switch(blocked=None)
    waiting.get(timeout=LIMIT)
    assert broker.names == ["b"]


def test_after_hundreds_of_time_outs_nothing_is_left(broker: Broker, publisher: Publisher):
    broker.go_away()

    class Messages(list[Message]):
        """A list that can be referred to weakly."""

    given: list[weakref.ref[Messages]] = []

    def fail() -> None:
        messages = Messages([message()] * 3)
        given.append(weakref.ref(messages))
        with pytest.raises(EventNotDelivered):
            publisher.publish(messages, 0.05)

    gevent.joinall([gevent.spawn(fail) for _ in range(500)], raise_error=True)
    gc.collect()
    assert held(publisher) == 0
    assert not any(ref() for ref in given)
    loop = publisher._loop
    assert loop is not None
    assert len(loop._waiting) <= 1
    assert publisher.drain(LIMIT)


@pytest.mark.parametrize("end", ["GreenletExit", "Timeout", DeadlineReached.__name__])
def test_a_caller_that_is_interrupted(broker: Broker, publisher: Publisher, end: str):
    broker.go_away()

    def call() -> str:
        try:
            if end == "DeadlineReached":
                Deadlines.of_this_hub().enter(Call(deadline=time.monotonic() + 0.02))
            with gevent.Timeout(0.02 if end == "Timeout" else None):
                publisher.publish([message("gone")], LIMIT)
        except BaseException as error:
            return type(error).__name__
        return "published"

    caller = gevent.spawn(call)
    wait_until(lambda: held(publisher) or caller.dead, "the call")
    if end == "GreenletExit":
        caller.kill()
    assert caller.get(timeout=LIMIT) == end
    broker.away = None
    publisher.publish([message("later")], LIMIT)
    assert broker.names == ["later"]
    assert held(publisher) == 0


def test_a_connection_lost_in_the_middle_of_publishing(broker: Broker, unconfirmed: Publisher):
    broker.loses_after = 130
    call = publish(unconfirmed, *(message(number=n) for n in range(500)))
    wait_until(lambda: broker.opened == 2, "a new connection")
    later = publish(unconfirmed, message(number=500))
    broker.switch(confirms=True)
    results([call, later])
    # All that had no confirm came again, in order, before what is new.
    assert numbers(broker) == [*range(130), *range(501)]
    ids = [envelope.id for envelope in broker.published]
    assert ids[:130] == ids[130:260]


def test_nothing_is_lost_through_many_lost_connections(broker: Broker, make: Make):
    publisher, running = make(threaded=False), True

    def cut() -> None:
        while running:
            broker.loses_after = 200
            gevent.sleep(0.01)
            broker.cut()

    def call(number: int) -> None:
        for step in range(20):
            if step == 10:
                wait_until(lambda: broker.opened > 3, "several lost connections")
            publisher.publish([message(number=number * 100 + step)], LIMIT)

    cutting = gevent.spawn(cut)
    gevent.joinall([gevent.spawn(call, n) for n in range(100)], raise_error=True)
    running = False
    cutting.join()
    assert set(numbers(broker)) == {n * 100 + step for n in range(100) for step in range(20)}
    for caller in range(100):
        mine = dict.fromkeys(n for n in numbers(broker) if n // 100 == caller)
        assert list(mine) == sorted(mine), "out of order"


def test_a_broker_that_lives_but_never_confirms_is_left(
    broker: Broker, unconfirmed: Publisher, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(publisher_loop, "_CONFIRM_LIMIT", 0.05)
    call = publish(unconfirmed, message("a"))
    wait_until(lambda: broker.poke() or broker.opened >= 2, "another connection")
    broker.switch(confirms=True)
    call.get(timeout=LIMIT)
    assert set(broker.names) == {"a"}


def test_stop_publishes_what_waits(broker: Broker, publisher: Publisher):
    broker.go_away()
    calls = [publish(publisher, message(number=n)) for n in range(100)]
    wait_until(lambda: held(publisher) == 200, "the calls")
    gevent.spawn_later(0.05, setattr, broker, "away", None)
    publisher.stop(LIMIT)
    results(calls)
    assert sorted(numbers(broker)) == list(range(100))


def test_stop_does_not_wait_for_ever(hanging: Publisher):
    call = publish(hanging, message())
    wait_until(lambda: held(hanging), "the call")
    hanging.stop(0.05)
    with pytest.raises(EventNotDelivered, match="the publisher was stopped; not sent"):
        call.get(timeout=LIMIT)


def test_stop_ends_early_when_the_last_caller_gives_up(hanging: Publisher):
    call = publish(hanging, message())
    wait_until(lambda: held(hanging), "the call")
    stopping = gevent.spawn(hanging.stop, 2 * LIMIT)
    gevent.sleep(0.02)
    with pytest.raises(EventNotDelivered, match="being stopped"):
        hanging.publish([message("late")], LIMIT)

    call.kill()
    stopping.get(timeout=LIMIT)


def test_before_a_start_and_after_a_stop_nothing_is_published(broker: Broker, make: Make):
    publisher = make(start=False)
    for number in (1, 2):
        assert publisher.why_not_ready() == "test: not started"
        with pytest.raises(EventNotDelivered, match="test: a: not started"):
            publisher.publish([message()], LIMIT)
        with pytest.raises(LinkLost, match="not started"):
            publisher.ask(lambda link: None, LIMIT)
        publisher.stop()
        assert publisher.drain(0)
        publisher.start()
        publisher.publish([message("b")], LIMIT)
        assert (broker.names, broker.opened) == (["b"] * number, number)
        publisher.stop(LIMIT)


def test_a_loop_that_was_killed_is_replaced(broker: Broker, make: Make):
    publisher = make(threaded=False)
    publisher.publish([message("a")], LIMIT)
    broker.confirms = False
    call = publish(publisher, message("b"))
    wait_until(lambda: len(broker.published) == 2, "the event")
    assert publisher._loop is not None
    publisher._loop._greenlet.kill()
    with pytest.raises(EventNotDelivered, match="may still arrive"):
        call.get(timeout=LIMIT)

    broker.confirms = True
    publisher.publish([message("c")], LIMIT)
    assert broker.names == ["a", "b", "c"]


def test_a_stop_that_is_interrupted_does_not_keep_it_from_being_started_again(
    broker: Broker, hanging: Publisher
):
    call = publish(hanging, message("a"))
    wait_until(lambda: held(hanging), "the call")
    with gevent.Timeout(0.05, False):
        hanging.stop(LIMIT)
    with pytest.raises(EventNotDelivered, match="the publisher was stopped"):
        call.get(timeout=LIMIT)
    broker.hangs = False
    hanging.start()
    hanging.publish([message("b")], LIMIT)
    assert broker.names == ["b"]


def test_a_start_that_fails_can_be_tried_again(
    broker: Broker, make: Make, monkeypatch: pytest.MonkeyPatch
):
    publisher = make(start=False, threaded=True)

    def fail(*args: Any) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(connection_loop, "_start_native_thread", fail)
        with pytest.raises(RuntimeError, match="new thread"):
            publisher.start()
    assert publisher.why_not_ready() == "test: not started"
    publisher.start()
    publisher.publish([message()], LIMIT)


def test_drain_waits_until_all_is_confirmed_also_what_nobody_waits_for_any_more(
    broker: Broker, unconfirmed: Publisher
):
    assert unconfirmed.drain(LIMIT)
    call = publish(unconfirmed, message())
    wait_until(lambda: broker.published, "the event")
    call.kill()
    assert not unconfirmed.drain(0.02)
    broker.switch(confirms=True)
    assert unconfirmed.drain(LIMIT)
    assert held(unconfirmed) == 0


def test_a_question_is_answered_with_the_open_link(broker: Broker, ready: Publisher):
    def break_it(link: Any) -> int:
        link.lose("reset by peer")
        return link.size("q")

    broker.put("q", message()[0])
    assert ready.ask(lambda link: link.size("q"), LIMIT) == 1
    with pytest.raises(ZeroDivisionError):
        ready.ask(lambda link: 1 // 0, LIMIT)
    ready.publish([message()], LIMIT)
    assert broker.opened == 1
    with pytest.raises(LinkLost, match="reset by peer"):
        ready.ask(break_it, LIMIT)
    assert ready.ask(lambda link: link.size("q"), LIMIT) == 1
    assert broker.opened == 2


def test_the_publishers_own_greenlet_is_told_not_to_wait_for_itself(publisher: Publisher):
    with pytest.raises(RuntimeError, match="publish was called by the publisher's own greenlet"):
        publisher.ask(lambda link: publisher.publish([message()], LIMIT), LIMIT)
    with pytest.raises(RuntimeError, match="ask was called"):
        publisher.ask(lambda link: publisher.ask(lambda link: None, LIMIT), LIMIT)


def test_the_event_loop_itself_cannot_publish(make: Make):
    publisher, raised = make(threaded=False), []

    def callback() -> None:
        try:
            publisher.publish([message()], LIMIT)
        except BaseException as error:
            raised.append(error)

    gevent.get_hub().loop.run_callback(callback)
    wait_until(lambda: raised, "the callback")
    assert isinstance(raised[0], (RuntimeError, AssertionError))
    assert held(publisher) == 0


def test_a_forked_child_publishes_over_its_own_connection(broker: Broker, publisher: Publisher):
    publisher.publish([message("before")], LIMIT)
    broker.confirms = False
    waiting = publish(publisher, message("parent's"))
    wait_until(lambda: len(broker.published) == 2, "the event")
    [link] = broker.links

    def child() -> bool:
        # The broker is a copy too: what the child publishes shows up in it.
        broker.confirms = True
        assert publisher.why_not_ready() == "test: not started"
        pool = ThreadPool(2)
        calls = [pool.spawn(publisher.publish, [message("thread")], 10) for _ in range(2)]
        publisher.publish([message("child")], 10)
        [call.get(timeout=10) for call in calls]
        assert sorted(broker.names[2:]) == ["child", "thread", "thread"], broker.names
        assert broker.opened == 2
        publisher.stop(10)
        return link.abandoned and not link.closed

    assert in_child(child)
    broker.switch(confirms=True)
    waiting.get(timeout=LIMIT)
    assert broker.names == ["before", "parent's"]
    assert broker.opened == 1
