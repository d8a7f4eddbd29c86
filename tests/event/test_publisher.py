"""Publisher: what the callers of `publish` see, whatever the broker does."""

import gc
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
from gevent.threadpool import ThreadPool

from gemstone_sync import EventNotDelivered
from gemstone_sync.concurrency import Call, DeadlineReached, Deadlines
from gemstone_sync.event import owner as owner_module
from gemstone_sync.event import publishing
from gemstone_sync.event.envelope import Envelope
from gemstone_sync.event.link import LinkLost
from gemstone_sync.event.publisher import Publisher
from gemstone_sync.event.topology import Topology
from tests.event.scripted_link import Broker
from tests.event.test_owner import in_child
from tests.support.programs import REPOSITORY
from tests.support.waiting import LIMIT, wait_until

TOPOLOGY = Topology("test")
Message = Any


def message(name: str = "a", number: int = 0) -> Message:
    envelope = Envelope(name=name, body=b"%d" % number)
    return (envelope, TOPOLOGY.address_of(envelope), 0.0)


def numbers(broker: Broker) -> list[int]:
    return [int(envelope.body) for envelope in broker.published]


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
def make(broker: Broker) -> Iterator[Callable[..., Publisher]]:
    made: list[Publisher] = []

    def make(**options: Any) -> Publisher:
        publisher = Publisher(broker.link, TOPOLOGY, name="test", **options)
        made.append(publisher)
        publisher.start()
        return publisher

    yield make
    for publisher in made:
        publisher.stop(0)
    assert not broker.links


@pytest.fixture(params=[False, True], ids=["hub", "thread"])
def publisher(make: Callable[..., Publisher], request: pytest.FixtureRequest) -> Publisher:
    return make(threaded=request.param)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owner_module, "_LONGEST_PAUSE", 0.01)


@pytest.fixture
def no_collection() -> Iterator[None]:
    """The garbage collector takes tens of milliseconds in a process with all tests loaded."""
    gc.disable()
    yield
    gc.enable()


def held(publisher: Publisher) -> int:
    """How many messages and calls it still knows of."""
    owner = publisher._owner
    assert owner is not None
    waiting = [call for call in owner._waiting if not call.gone]
    return owner._queued + len(waiting) + len(owner._again) + owner.unconfirmed


def ready(publisher: Publisher) -> None:
    wait_until(lambda: publisher.why_not_ready() is None, "a connection")


# All is well


def test_a_published_event_is_the_brokers(broker: Broker, publisher: Publisher) -> None:
    publisher.publish([message("paid")], LIMIT)
    assert broker.names == ["paid"]
    assert broker.log == ["declare"]


def test_nothing_to_publish(publisher: Publisher) -> None:
    publisher.publish([], 0)


def test_several_arrive_in_the_order_given(broker: Broker, publisher: Publisher) -> None:
    publisher.publish([message(number=n) for n in range(5000)], LIMIT)
    assert numbers(broker) == list(range(5000))


def test_thousands_of_callers(broker: Broker, publisher: Publisher) -> None:
    def call(number: int) -> None:
        for _ in range(2):
            publisher.publish([message(number=number)], LIMIT)

    gevent.joinall([gevent.spawn(call, n) for n in range(3000)], raise_error=True)

    assert sorted(numbers(broker)) == sorted(list(range(3000)) * 2)
    assert held(publisher) == 0


def test_never_more_unconfirmed_than_the_window(make: Callable[..., Publisher]) -> None:
    broker = Broker(window=10)
    publisher = Publisher(broker.link, TOPOLOGY, name="test")
    publisher.start()
    broker.confirms = False
    call = gevent.spawn(publisher.publish, [message(number=n) for n in range(35)], LIMIT)
    wait_until(lambda: len(broker.published) == 10, "a full window")
    gevent.sleep(0.02)
    assert len(broker.published) == 10

    broker.switch(confirms=True)

    call.get(timeout=LIMIT)
    assert numbers(broker) == list(range(35))
    publisher.stop(LIMIT)


def test_real_threads_publish_too(broker: Broker, publisher: Publisher) -> None:
    pool = ThreadPool(8)
    calls = [
        pool.spawn(lambda n=n: [publisher.publish([message(number=n)], LIMIT) for _ in range(50)])
        for n in range(8)
    ]
    gevent.wait(calls, timeout=LIMIT)
    [call.get(timeout=LIMIT) for call in calls]
    pool.kill()

    assert sorted(numbers(broker)) == sorted(list(range(8)) * 50)


def test_a_real_thread_may_be_the_first_to_publish(broker: Broker) -> None:
    publisher = Publisher(broker.link, TOPOLOGY, name="test")
    pool = ThreadPool(1)

    def first() -> None:
        publisher.start()
        publisher.publish([message("first")], LIMIT)

    pool.spawn(first).get(timeout=LIMIT)
    publisher.publish([message("second")], LIMIT)
    publisher.stop(LIMIT)
    pool.kill()

    assert broker.names == ["first", "second"]


def test_the_hub_turns_while_much_is_published(
    broker: Broker, make: Any, no_collection: None
) -> None:
    publisher, done = make(threaded=False), False
    broker.records = False

    def watch() -> float:
        longest = 0.0
        while not done:
            began = time.thread_time()
            gevent.sleep(0.001)
            longest = max(longest, time.thread_time() - began)
        return longest

    watching = gevent.spawn(watch)
    gevent.sleep(0)
    publisher.publish([message()] * 50_000, LIMIT)
    done = True
    longest = watching.get(timeout=LIMIT)
    # Of CPU, as the machine may be busy with something else. A turn is 5 ms.
    assert longest < 0.03


# Not delivered


def test_what_the_broker_refuses(broker: Broker, publisher: Publisher) -> None:
    broker.refused = {"b": "nobody handles work named 'b'"}

    with pytest.raises(EventNotDelivered) as caught:
        publisher.publish([message("a"), message("b"), message("c")], LIMIT)

    assert str(caught.value) == "test: 1 of 3 not delivered (b): nobody handles work named 'b'"
    assert held(publisher) == 0


def test_a_broker_that_is_away(broker: Broker, publisher: Publisher) -> None:
    broker.go_away("connection refused")
    wait_until(lambda: "refused" in (publisher.why_not_ready() or ""), "the loss")

    with pytest.raises(EventNotDelivered) as caught:
        publisher.publish([message("a"), message("b"), message("c"), message("d")], 0.05)

    text = str(caught.value)
    assert "4 of 4 not delivered (a, b, c and 1 more)" in text
    assert "not confirmed within 0.05 s: no connection to the broker for" in text
    assert "connection refused; not sent" in text
    broker.away = None
    publisher.publish([message("later")], LIMIT)
    assert broker.names == ["later"], "what was reported as not sent was sent"
    assert held(publisher) == 0


def test_a_broker_that_confirms_too_late(broker: Broker, publisher: Publisher) -> None:
    ready(publisher)
    broker.confirms = False

    with pytest.raises(EventNotDelivered, match="1 sent already may still arrive"):
        publisher.publish([message("a")], 0.5)

    assert broker.names == ["a"]
    broker.switch(confirms=True)
    publisher.publish([message("b")], LIMIT)
    assert held(publisher) == 0


def test_a_window_that_is_full(make: Any) -> None:
    broker = Broker(window=2)
    publisher = Publisher(broker.link, TOPOLOGY, name="test", limit=1)
    publisher.start()
    ready(publisher)
    broker.confirms = False
    others = [gevent.spawn(publisher.publish, [message()] * 2, LIMIT) for _ in range(2)]
    wait_until(lambda: len(broker.published) == 2, "a full window")

    with pytest.raises(EventNotDelivered, match="the queue is full, 2 events were waiting"):
        publisher.publish([message("late")], 0.05)

    broker.switch(confirms=True)
    [other.get(timeout=LIMIT) for other in others]
    assert "late" not in broker.names
    publisher.stop(LIMIT)


def test_a_blocked_broker(broker: Broker, publisher: Publisher) -> None:
    ready(publisher)
    broker.blocked = "low on memory"
    assert publisher.why_not_ready() == "test: blocked by the broker: low on memory"

    with pytest.raises(EventNotDelivered, match="low on memory; not sent"):
        publisher.publish([message("a")], 0.05)
    with pytest.raises(LinkLost, match="low on memory"):
        publisher.ask(lambda link: link.size("q"), 0.05)

    waiting = gevent.spawn(publisher.publish, [message("b")], LIMIT)
    gevent.sleep(0.01)
    broker.switch(blocked=None)
    waiting.get(timeout=LIMIT)
    assert broker.names == ["b"]


def test_after_thousands_of_time_outs_nothing_is_left(broker: Broker, publisher: Publisher) -> None:
    broker.go_away()

    class Messages(list[Message]):
        """A list that can be referred to weakly."""

        __hash__ = object.__hash__  # type: ignore[assignment]

    given: weakref.WeakSet[Messages] = weakref.WeakSet()

    def fail(number: int) -> None:
        messages = Messages([message()] * 3)
        given.add(messages)
        with pytest.raises(EventNotDelivered):
            publisher.publish(messages, 0.2)

    gevent.joinall([gevent.spawn(fail, n) for n in range(3000)], raise_error=True)
    gc.collect()

    assert held(publisher) == 0
    assert not given
    owner = publisher._owner
    assert owner is not None
    assert len(owner._waiting) <= 1
    assert publisher.drain(LIMIT)


@pytest.mark.parametrize("end", ["kill", "gevent.Timeout", "DeadlineReached"])
def test_a_caller_that_is_interrupted(broker: Broker, publisher: Publisher, end: str) -> None:
    broker.go_away()

    def call() -> str:
        try:
            if end == "gevent.Timeout":
                with gevent.Timeout(0.02):
                    publisher.publish([message("gone")], LIMIT)
            elif end == "DeadlineReached":
                Deadlines.of_this_hub().enter(Call(deadline=time.monotonic() + 0.02))
            publisher.publish([message("gone")], LIMIT)
        except BaseException as error:
            return type(error).__name__
        return "published"

    caller = gevent.spawn(call)
    wait_until(lambda: held(publisher), "the call")
    if end == "kill":
        caller.kill()
    assert caller.get(timeout=LIMIT) in ("GreenletExit", "Timeout", DeadlineReached.__name__)

    broker.away = None
    publisher.publish([message("later")], LIMIT)
    assert broker.names == ["later"]
    assert held(publisher) == 0


def test_a_caller_that_is_killed_after_its_event_was_sent(
    broker: Broker, publisher: Publisher
) -> None:
    ready(publisher)
    broker.confirms = False
    caller = gevent.spawn(publisher.publish, [message("a")], LIMIT)
    wait_until(lambda: broker.published, "the event")
    caller.kill()

    broker.switch(confirms=True)
    assert publisher.drain(LIMIT)
    assert held(publisher) == 0


# Lost connections


def test_a_connection_lost_in_the_middle_of_publishing(
    broker: Broker, publisher: Publisher
) -> None:
    ready(publisher)
    broker.confirms, broker.loses_after = False, 130
    call = gevent.spawn(publisher.publish, [message(number=n) for n in range(500)], LIMIT)
    wait_until(lambda: broker.opened == 2, "a new connection")
    broker.switch(confirms=True)
    call.get(timeout=LIMIT)

    # All that had no confirm came again, in order, before what is new.
    assert numbers(broker) == [*range(130), *range(500)]


def test_what_was_unconfirmed_comes_first(broker: Broker, publisher: Publisher) -> None:
    ready(publisher)
    broker.confirms = False
    first = gevent.spawn(publisher.publish, [message("old", n) for n in range(3)], LIMIT)
    wait_until(lambda: len(broker.published) == 3, "the old ones")
    ids = [envelope.id for envelope in broker.published]
    broker.go_away()
    wait_until(lambda: publisher.why_not_ready(), "the loss")
    second = gevent.spawn(publisher.publish, [message("new")], LIMIT)
    gevent.sleep(0.02)
    broker.away, broker.confirms = None, True
    first.get(timeout=LIMIT)
    second.get(timeout=LIMIT)

    assert broker.names == ["old"] * 6 + ["new"]
    assert [envelope.id for envelope in broker.published[3:6]] == ids


def test_nothing_is_lost_through_many_lost_connections(broker: Broker, make: Any) -> None:
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


def test_what_nobody_waits_for_is_not_sent_again(broker: Broker, publisher: Publisher) -> None:
    ready(publisher)
    broker.confirms = False
    with pytest.raises(EventNotDelivered):
        publisher.publish([message("gone")], 0.5)
    broker.cut()
    broker.confirms = True
    publisher.publish([message("new")], LIMIT)

    assert broker.names == ["gone", "new"]
    assert held(publisher) == 0


def test_a_broker_that_lives_but_never_confirms_is_left(
    broker: Broker, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "_CONFIRM_LIMIT", 0.05)
    ready(publisher)
    broker.confirms = False
    call = gevent.spawn(publisher.publish, [message("a")], LIMIT)
    while broker.opened < 2:
        broker.poke()
        gevent.sleep(0.01)
    broker.switch(confirms=True)
    call.get(timeout=LIMIT)

    assert set(broker.names) == {"a"}


# Start, stop, drain


def test_before_the_start_nothing_is_published(broker: Broker) -> None:
    publisher = Publisher(broker.link, TOPOLOGY, name="test")
    assert publisher.why_not_ready() == "test: not started"
    with pytest.raises(EventNotDelivered, match="test: a: not started"):
        publisher.publish([message()], LIMIT)
    with pytest.raises(LinkLost, match="not started"):
        publisher.ask(lambda link: None, LIMIT)
    publisher.stop()
    assert publisher.drain(0)


def test_starting_twice_makes_one_connection(broker: Broker, publisher: Publisher) -> None:
    pool = ThreadPool(4)
    [call.get(timeout=LIMIT) for call in [pool.spawn(publisher.start) for _ in range(10)]]
    pool.kill()
    publisher.start()
    publisher.publish([message()], LIMIT)
    assert broker.opened == 1


def test_stop_publishes_what_waits(broker: Broker, publisher: Publisher) -> None:
    broker.go_away()
    calls = [gevent.spawn(publisher.publish, [message(number=n)], LIMIT) for n in range(100)]
    wait_until(lambda: held(publisher) == 200, "the calls")
    gevent.spawn_later(0.05, setattr, broker, "away", None)

    publisher.stop(LIMIT)

    [call.get(timeout=LIMIT) for call in calls]
    assert sorted(numbers(broker)) == list(range(100))
    assert not broker.links


def test_stop_does_not_wait_for_ever(broker: Broker, publisher: Publisher) -> None:
    broker.hangs = True
    broker.cut()
    wait_until(lambda: "hangs" in broker.log, "an attempt")
    call = gevent.spawn(publisher.publish, [message()], LIMIT)
    wait_until(lambda: held(publisher), "the call")

    publisher.stop(0.05)

    with pytest.raises(EventNotDelivered, match="the publisher was stopped; not sent"):
        call.get(timeout=LIMIT)


def test_stop_with_nothing_to_do_is_quick_though_the_broker_hangs(
    broker: Broker, publisher: Publisher
) -> None:
    broker.hangs = True
    broker.cut()
    wait_until(lambda: "hangs" in broker.log, "an attempt")
    began = time.monotonic()
    publisher.stop(LIMIT)
    assert time.monotonic() - began < LIMIT / 2


def test_stop_ends_early_when_the_last_caller_gives_up(
    broker: Broker, publisher: Publisher
) -> None:
    broker.hangs = True
    broker.cut()
    wait_until(lambda: "hangs" in broker.log, "an attempt")
    call = gevent.spawn(publisher.publish, [message()], LIMIT)
    wait_until(lambda: held(publisher), "the call")
    stopping = gevent.spawn(publisher.stop, LIMIT)
    gevent.sleep(0.02)
    with pytest.raises(EventNotDelivered, match="being stopped"):
        publisher.publish([message("late")], LIMIT)

    call.kill()

    stopping.get(timeout=LIMIT / 2)


def test_it_can_be_started_again(broker: Broker, publisher: Publisher) -> None:
    publisher.publish([message("a")], LIMIT)
    publisher.stop(LIMIT)
    with pytest.raises(EventNotDelivered, match="not started"):
        publisher.publish([message("lost")], LIMIT)
    publisher.start()
    publisher.publish([message("b")], LIMIT)
    assert broker.names == ["a", "b"]
    assert broker.opened == 2


def test_an_owner_that_was_killed_is_replaced(broker: Broker, make: Any) -> None:
    publisher = make(threaded=False)
    publisher.publish([message("a")], LIMIT)
    broker.confirms = False
    call = gevent.spawn(publisher.publish, [message("b")], LIMIT)
    wait_until(lambda: len(broker.published) == 2, "the event")
    publisher._owner._greenlet.kill()
    with pytest.raises(EventNotDelivered, match="may still arrive"):
        call.get(timeout=LIMIT)

    broker.confirms = True
    publisher.publish([message("c")], LIMIT)
    assert broker.names == ["a", "b", "c"]


def test_drain(broker: Broker, publisher: Publisher) -> None:
    assert publisher.drain(LIMIT)
    ready(publisher)
    broker.confirms = False
    call = gevent.spawn(publisher.publish, [message()], LIMIT)
    wait_until(lambda: broker.published, "the event")
    assert not publisher.drain(0.02)

    broker.switch(confirms=True)

    assert publisher.drain(LIMIT)
    call.get(timeout=LIMIT)


# Asking


def test_a_question_is_answered_with_the_open_link(broker: Broker, publisher: Publisher) -> None:
    broker.put("q", message()[0])
    assert publisher.ask(lambda link: link.size("q"), LIMIT) == 1


def test_what_a_question_raises_comes_back(broker: Broker, publisher: Publisher) -> None:
    with pytest.raises(ZeroDivisionError):
        publisher.ask(lambda link: 1 // 0, LIMIT)
    publisher.publish([message()], LIMIT)
    assert broker.opened == 1


def test_a_question_whose_connection_breaks(broker: Broker, publisher: Publisher) -> None:
    ready(publisher)

    def break_it(link: Any) -> int:
        link.lose("reset by peer")
        return link.size("q")

    with pytest.raises(LinkLost, match="reset by peer"):
        publisher.ask(break_it, LIMIT)
    assert publisher.ask(lambda link: link.size("q"), LIMIT) == 0
    assert broker.opened == 2


def test_a_question_that_nobody_answers(broker: Broker, publisher: Publisher) -> None:
    broker.go_away("connection refused")
    asked: list[Any] = []
    with pytest.raises(LinkLost, match=r"nothing learnt within 0\.05 s: .*connection refused"):
        publisher.ask(asked.append, 0.05)
    broker.away = None
    publisher.publish([message()], LIMIT)
    assert not asked


def test_the_publishers_own_greenlet_is_told_not_to_wait_for_itself(
    broker: Broker, publisher: Publisher
) -> None:
    with pytest.raises(RuntimeError, match="publish was called by the publisher's own greenlet"):
        publisher.ask(lambda link: publisher.publish([message()], LIMIT), LIMIT)
    with pytest.raises(RuntimeError, match="ask was called"):
        publisher.ask(lambda link: publisher.ask(lambda link: None, LIMIT), LIMIT)


# Other processes


@pytest.mark.parametrize("threaded", [False, True], ids=["hub", "thread"])
def test_a_forked_child_publishes_over_its_own_connection(
    broker: Broker, make: Any, threaded: bool
) -> None:
    publisher = make(threaded=threaded)
    publisher.publish([message("before")], LIMIT)
    broker.confirms = False
    waiting = gevent.spawn(publisher.publish, [message("parent's")], LIMIT)
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


PROGRAM = """
import os, sys, threading, time
sys.path.insert(0, {repository!r})
from gemstone_sync.concurrency import is_patched
from gemstone_sync.event.envelope import Envelope
from gemstone_sync.event.publisher import Publisher
from gemstone_sync.event.topology import Topology
from gemstone_sync import EventNotDelivered
from tests.event.scripted_link import Broker

assert not is_patched()
topology, broker = Topology("test"), Broker()
def message(name):
    envelope = Envelope(name=name, body=b"1")
    return (envelope, topology.address_of(envelope), 0.0)

publisher = Publisher(broker.link, topology, name="test")
before = threading.active_count()
publisher.start()
def work():
    for _ in range(100):
        publisher.publish([message("a")], 10)
threads = [threading.Thread(target=work) for _ in range(20)]
[thread.start() for thread in threads]
time.sleep(0.001)
[thread.join() for thread in threads]
assert len(broker.published) == 2000, len(broker.published)
broker.go_away()
try:
    publisher.publish([message("b")], 0.1)
except EventNotDelivered as error:
    assert "not sent" in str(error)
else:
    raise AssertionError
broker.away = None
publisher.publish([message("c")], 10)
assert publisher.ask(lambda link: link.size("q"), 10) == 0
pid = os.fork()
if pid == 0:
    publisher.publish([message("child")], 10)
    assert broker.names[-1] == "child"
    publisher.stop(10)
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
publisher.publish([message("d")], 10)
{end}
print("done")
"""


@pytest.mark.parametrize("end", ["publisher.stop(10)", ""], ids=["stopped", "left running"])
def test_a_program_that_is_not_patched(run_python: Any, end: str) -> None:
    program = PROGRAM.format(repository=str(REPOSITORY), end=end)

    result = run_python(program, PYTHONWARNINGS="error")

    assert (result.stdout, result.returncode) == ("done\n", 0), result.stderr
    # Nothing but the one warning that the connection went.
    assert len(result.stderr.splitlines()) == 1, result.stderr


def test_the_event_loop_itself_cannot_publish(broker: Broker, make: Any) -> None:
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
