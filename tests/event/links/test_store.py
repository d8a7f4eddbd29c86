"""The link over a store: what a publisher's and a consumer's owner see of it."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest

from gemstone_sync.event.envelope import DeadLetter, Envelope
from gemstone_sync.event.handlers import Handler, Subscriber
from gemstone_sync.event.link import Delivery, LinkLost, Outgoing
from gemstone_sync.event.links.store import StoreLink
from gemstone_sync.event.signals import Signal
from gemstone_sync.event.topology import Address, Queue, Topology
from gemstone_sync.event.virtual.sqlite_store import SqliteStore
from gemstone_sync.event.virtual.store import Entry
from tests.event.virtual.stores import STORES, StoreKind
from tests.support.programs import program
from tests.support.waiting import LIMIT, wait_until

TOPOLOGY = Topology("test")


@pytest.fixture(params=STORES, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> StoreKind:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def make_link(kind: StoreKind, tmp_path: Path) -> Iterator[Callable[..., StoreLink]]:
    made: list[StoreLink] = []
    with kind.opened(tmp_path) as make_store:

        def make(**options: Any) -> StoreLink:
            link = StoreLink(make_store(), **options)
            made.append(link)
            link.open()
            return link

        yield make
        for link in made:
            link.close()


def queues_of(*patterns: str, service: str = "shop", **options: Any) -> list[Queue]:
    handlers = tuple(Handler(pattern=p, function=print, name=p, **options) for p in patterns)
    return TOPOLOGY.queues_of(Subscriber(service=service, instance="one", handlers=handlers))


def emit(link: StoreLink, name: str, body: str = "1", delay: float = 0.0, **options: Any) -> Any:
    """Publish one event; what it was settled with."""
    envelope = Envelope(name=name, body=body.encode(), **options)
    return send(link, envelope, TOPOLOGY.address_of(envelope), delay)


def send(link: StoreLink, envelope: Envelope, address: Address, delay: float = 0.0) -> Any:
    results: list[str | None] = []
    link.publish([Outgoing(envelope, address, results.append, delay)])
    assert len(results) == 1
    return results[0]


class Received:
    """What a link has delivered.

    :ivar bodies: in the order of arrival.
    """

    def __init__(self, link: StoreLink, queues: list[Queue], prefetch: int = 10) -> None:
        self.link = link
        self.deliveries: list[Delivery] = []
        link.declare(TOPOLOGY, queues)
        for queue in queues:
            link.consume(queue.name, prefetch, self.deliveries.append)

    @property
    def bodies(self) -> list[str]:
        return [delivery.envelope.body.decode() for delivery in self.deliveries]

    def wait_for(self, count: int) -> None:
        signal_ = Signal()
        end = time.monotonic() + LIMIT
        while len(self.deliveries) < count:
            assert time.monotonic() < end, f"{count} deliveries, so far {self.bodies}"
            self.link.wait(signal_, 1.0)
            self.link.pump()


# What comes through


def test_an_event_arrives_with_all_that_is_known_of_it(make_link: Any) -> None:
    publisher, consumer = make_link(), make_link()
    received = Received(consumer, queues_of("orders.*"))
    publisher.declare(TOPOLOGY)
    envelope = Envelope(
        name="orders.paid",
        body='{"name": "Zoë ☃"}'.encode(),
        time=1_700_000_000.125,
        key="customer 7",
        emitter="shop",
        request_id="r1",
        traceparent=f"00-{'a' * 32}-{'b' * 16}-01",
        deadline=2_000_000_000.5,
        attempts=2,
        handler="mail",
    )
    assert send(publisher, envelope, TOPOLOGY.address_of(envelope)) is None
    received.wait_for(1)
    assert received.deliveries[0].envelope == envelope
    assert received.deliveries[0].deliveries == 0


def test_a_batch_arrives_in_order_and_each_is_settled(make_link: Any) -> None:
    publisher, consumer = make_link(), make_link()
    received = Received(consumer, queues_of("a"), prefetch=1000)
    results: list[str | None] = []
    messages = []
    for number in range(500):
        envelope = Envelope(name="a", body=b"%d" % number)
        messages.append(Outgoing(envelope, TOPOLOGY.address_of(envelope), results.append))
    publisher.declare(TOPOLOGY)
    publisher.publish(messages)
    assert results == [None] * 500
    received.wait_for(500)
    assert received.bodies == [str(number) for number in range(500)]


def test_work_that_nobody_handles_is_said_to_be_so(make_link: Any) -> None:
    publisher = make_link()
    publisher.declare(TOPOLOGY)
    assert emit(publisher, "mail.send", broadcast=False) == (
        "nobody handles work named 'mail.send'"
    )
    assert emit(publisher, "mail.send") is None  # a broadcast may reach nobody
    gone = send(publisher, Envelope(name="a", body=b"1"), Address("", "gone", mandatory=True))
    assert gone == "there is no queue 'gone' any more"


def test_work_goes_to_the_best_pattern_of_all_services(make_link: Any) -> None:
    publisher = make_link()
    exact, pattern, everything = (
        Received(make_link(), queues_of(name, service=name))
        for name in ("mail.send", "mail.*", "#")
    )
    publisher.declare(TOPOLOGY)
    for name in ("mail.send", "mail.read", "print"):
        assert emit(publisher, name, f'"{name}"', broadcast=False) is None
        assert emit(publisher, name, f'"{name} {name}"', broadcast=False, key="k") is None
    for received, name in ((exact, "mail.send"), (pattern, "mail.read"), (everything, "print")):
        received.wait_for(2)
        assert sorted(received.bodies) == [f'"{name} {name}"', f'"{name}"']


def test_what_cannot_be_written_is_refused_and_the_rest_goes_on(make_link: Any) -> None:
    publisher = make_link()
    received = Received(make_link(), queues_of("a"))
    publisher.declare(TOPOLOGY)
    results: dict[str, str | None] = {}
    messages = []
    for key in ("fine", "sch\udcfcssel"):
        envelope = Envelope(name="a", body=b"1", key=key)
        address = TOPOLOGY.address_of(envelope)
        messages.append(Outgoing(envelope, address, lambda r, key=key: results.update({key: r})))
    publisher.publish(messages)
    assert results["fine"] is None
    assert "cannot be written" in (results["sch\udcfcssel"] or "")
    received.wait_for(1)


def test_a_delayed_event_arrives_later(make_link: Any) -> None:
    publisher = make_link()
    received = Received(make_link(), queues_of("a"))
    publisher.declare(TOPOLOGY)
    began = time.time()
    assert emit(publisher, "a", '"later"', delay=0.3) is None
    assert emit(publisher, "a", '"now"') is None
    received.wait_for(2)
    assert received.bodies == ['"now"', '"later"']
    assert time.time() - began >= 0.298


def test_keyed_events_come_one_at_a_time(make_link: Any) -> None:
    publisher = make_link()
    received = Received(make_link(), queues_of("a"))
    publisher.declare(TOPOLOGY)
    for number in range(3):
        emit(publisher, "a", str(number), key="k")
    for number in range(3):
        received.wait_for(number + 1)
        received.link.pump()
        assert received.bodies == [str(n) for n in range(number + 1)]
        received.link.acknowledge([received.deliveries[number]])


# Prefetch, settling


def test_no_more_than_the_prefetch_is_out(make_link: Any) -> None:
    publisher = make_link()
    received = Received(make_link(), queues_of("a"), prefetch=3)
    publisher.declare(TOPOLOGY)
    for number in range(7):
        emit(publisher, "a", str(number))
    received.wait_for(3)
    received.link.pump()
    assert len(received.deliveries) == 3
    received.link.acknowledge(received.deliveries[:2])
    received.wait_for(5)
    received.link.pump()
    assert received.bodies == ["0", "1", "2", "3", "4"]
    queue = received.deliveries[0].queue
    assert publisher.size(queue) == 2
    assert publisher.purge(queue) == 2


def test_a_link_that_is_full_waits_for_the_signal_alone(make_link: Any) -> None:
    publisher = make_link()
    received = Received(make_link(), queues_of("a"), prefetch=1)
    publisher.declare(TOPOLOGY)
    emit(publisher, "a")
    received.wait_for(1)
    signal_ = Signal()
    gevent.spawn_later(0.05, signal_.set)
    received.link.wait(signal_, LIMIT)
    assert signal_.is_set()


def test_what_is_requeued_comes_again_and_is_not_counted(make_link: Any) -> None:
    publisher = make_link()
    received = Received(make_link(), queues_of("a"))
    publisher.declare(TOPOLOGY)
    emit(publisher, "a")
    received.wait_for(1)
    received.link.requeue(received.deliveries)
    received.wait_for(2)
    assert received.deliveries[1].deliveries == 0
    received.link.acknowledge(received.deliveries[1:])
    assert received.link.take(received.deliveries[0].queue) is None


def test_after_cancel_nothing_more_is_delivered(make_link: Any) -> None:
    publisher = make_link()
    received = Received(make_link(), queues_of("a"))
    publisher.declare(TOPOLOGY)
    emit(publisher, "a", "1")
    received.wait_for(1)
    queue = received.deliveries[0].queue
    received.link.cancel(queue)
    emit(publisher, "a", "2")
    received.link.wait(Signal(), 0.05)
    received.link.pump()
    assert received.bodies == ["1"]
    received.link.acknowledge(received.deliveries)
    assert publisher.size(queue) == 1


def test_close_gives_back_what_was_not_settled(make_link: Any) -> None:
    publisher = make_link()
    received = Received(make_link(), queues_of("a"))
    publisher.declare(TOPOLOGY)
    for number in range(3):
        emit(publisher, "a", str(number))
    received.wait_for(3)
    received.link.acknowledge(received.deliveries[:1])
    received.link.close()
    received.link.close()
    again = Received(make_link(), queues_of("a"))
    again.wait_for(2)
    assert again.bodies == ["1", "2"]
    with pytest.raises(LinkLost, match="not connected"):
        received.link.size("q")


def test_a_delivery_of_another_link_is_not_touched(make_link: Any) -> None:
    publisher, other = make_link(), make_link()
    received = Received(make_link(), queues_of("a"))
    publisher.declare(TOPOLOGY)
    emit(publisher, "a")
    received.wait_for(1)
    other.acknowledge(received.deliveries)
    other.requeue(received.deliveries)
    other.renew(received.deliveries)
    received.link.close()
    assert publisher.size(received.deliveries[0].queue) == 1


# Leases, dead letters


def test_a_lease_that_is_renewed_holds(make_link: Any) -> None:
    publisher, other = make_link(), make_link()
    received = Received(make_link(lease=0.3), queues_of("a"))
    publisher.declare(TOPOLOGY)
    emit(publisher, "a")
    received.wait_for(1)
    end = time.monotonic() + 0.6
    while time.monotonic() < end:
        renewed = time.monotonic()
        received.link.renew(received.deliveries)
        taken = other.take(received.deliveries[0].queue)
        # ... unless the machine stood still in between, for as long as the lease.
        assert taken is None or time.monotonic() - renewed >= 0.3
        gevent.sleep(0.02)


def test_an_event_that_ends_its_processes_is_a_dead_letter(make_link: Any) -> None:
    publisher = make_link()
    received = Received(make_link(lease=0.05, delivery_limit=2), queues_of("a"))
    publisher.declare(TOPOLOGY)
    emit(publisher, "a", '"poison"')
    received.wait_for(2)
    assert [delivery.deliveries for delivery in received.deliveries] == [0, 1]

    dead = wait_until(lambda: publisher.take(TOPOLOGY.dead) or received.link.pump(), "dead letter")
    assert dead.envelope.body == b'"poison"'
    assert dead.envelope.id == received.deliveries[0].envelope.id
    assert dead.envelope.dead.reason == "crashed"
    publisher.requeue([dead])
    assert publisher.size(TOPOLOGY.dead) == 1


def test_a_dead_letter_keeps_its_own_reason(make_link: Any) -> None:
    link = make_link()
    link.declare(TOPOLOGY)
    envelope = Envelope(name="a", body=b"1", dead=DeadLetter(reason="failed", error="E"))
    send(link, envelope, Address("", TOPOLOGY.dead))
    assert link.take(TOPOLOGY.dead).envelope.dead == envelope.dead


def test_what_is_no_message_goes_to_the_dead_letters(make_link: Any) -> None:
    publisher = make_link()
    received = Received(make_link(), queues_of("a"))
    publisher.declare(TOPOLOGY)
    (queue,) = [q.name for q in queues_of("a") if q.name.endswith("service:shop:a")]
    store = publisher._store
    garbage = [
        b"\xff\x00",
        b"{}",
        b'{"body": 1}',
        b'{"body": "%", "properties": {"body_encoding": "base64"}}',
        b"[" * 100_000,
    ]
    store.publish([Entry("", queue, payload) for payload in garbage])
    emit(publisher, "a", '"fine"')
    received.wait_for(1)
    assert received.bodies == ['"fine"']
    assert publisher.size(TOPOLOGY.dead) == len(garbage)
    dead = publisher.take(TOPOLOGY.dead).envelope
    assert (dead.dead.reason, dead.dead.queue) == ("invalid", queue)


# Expiring queues


def test_an_instance_s_queue_lives_as_long_as_its_link(make_link: Any) -> None:
    topology = Topology("test", instance_expiry=2.5)
    handler = Handler(pattern="a", function=print, name="a", scope="instance")
    subscriber = Subscriber(service="shop", instance="one", handlers=(handler,))
    queues = [queue for queue in topology.queues_of(subscriber) if queue.expires is not None]
    link, publisher = make_link(), make_link()
    link.declare(topology, queues)
    for queue in queues:
        link.consume(queue.name, 10, lambda delivery: None)
    end = time.monotonic() + 3.5
    while time.monotonic() < end:
        link.pump()
        link.wait(Signal(), 0.05)
    assert publisher._store.bindings(topology.events) == [("a", queues[0].name)]
    link.close()
    wait_until(lambda: not publisher._store.bindings(topology.events), "the queue's end")


# Faults


def test_a_store_that_is_out_of_reach_is_a_lost_link(tmp_path: Path) -> None:
    link = StoreLink(SqliteStore(tmp_path / "none" / "events.db"))
    began = time.monotonic()
    with pytest.raises(LinkLost, match="there is no folder"):
        link.open()
    assert time.monotonic() - began < LIMIT / 2
    link.close()


def test_a_file_that_is_removed_is_noticed_by_who_waits_for_events(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    link = StoreLink(SqliteStore(path))
    link.open()
    received = Received(link, queues_of("a"))
    link.pump()
    for file in tmp_path.iterdir():
        file.unlink()
    with pytest.raises(LinkLost, match="removed or replaced"):
        received.wait_for(1)
    link.close()


def test_nothing_is_settled_when_the_store_fails(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    link = StoreLink(SqliteStore(path))
    link.open()
    link.declare(TOPOLOGY)
    for file in tmp_path.iterdir():
        file.unlink()
    settled: list[Any] = []
    envelope = Envelope(name="a", body=b"1")
    with pytest.raises(LinkLost):
        link.publish([Outgoing(envelope, TOPOLOGY.address_of(envelope), settled.append)])
    assert settled == []
    link.close()


def test_a_locked_file_does_not_stop_the_other_greenlets(tmp_path: Path) -> None:
    import sqlite3

    path = tmp_path / "events.db"
    link = StoreLink(SqliteStore(path))
    link.open()
    link.declare(TOPOLOGY)
    locker = sqlite3.connect(path, isolation_level=None)
    locker.execute("BEGIN IMMEDIATE")
    emitting = gevent.spawn(emit, link, "a")
    for _ in range(100):
        gevent.sleep(0.001)
    # A hub that is held up turns when the wait for the lock is over.
    assert not emitting.ready()
    locker.execute("COMMIT")
    locker.close()
    assert emitting.get(timeout=LIMIT) is None
    link.close()


def test_what_a_killed_greenlet_was_just_taking_is_given_back(tmp_path: Path) -> None:
    import sqlite3

    path = tmp_path / "events.db"
    link, other = StoreLink(SqliteStore(path)), StoreLink(SqliteStore(path))
    for each in (link, other):
        each.open()
    received = Received(link, queues_of("a"))
    emit(other, "a")
    locker = sqlite3.connect(path, isolation_level=None)
    locker.execute("BEGIN IMMEDIATE")
    owner = gevent.spawn(link.pump)
    gevent.sleep(0.1)
    owner.kill()
    locker.execute("COMMIT")
    locker.close()
    link.close()
    queue = next(q.name for q in queues_of("a") if "service" in q.name)
    assert received.deliveries == []
    assert wait_until(lambda: other.size(queue), "the event given back") == 1
    other.close()


WORKER = """
import sys
from gemstone_sync.event.links.store import StoreLink
from gemstone_sync.event.signals import Signal
from gemstone_sync.event.virtual.sqlite_store import SqliteStore
from tests.event.links.test_store import TOPOLOGY, queues_of

path, lease, handle = sys.argv[1], float(sys.argv[2]), sys.argv[3]
link = StoreLink(SqliteStore(path), lease=lease)
link.open()
link.declare(TOPOLOGY, queues_of("a"))
taken = []

def on_delivery(delivery):
    print(delivery.envelope.body.decode(), flush=True)
    taken.append(delivery)

for queue in queues_of("a"):
    link.consume(queue.name, 10, on_delivery)
signal = Signal()
while True:
    link.pump()
    if handle == "acknowledge" and taken:
        link.acknowledge(taken)
        taken.clear()
    link.wait(signal, 1.0)
"""


def test_events_of_a_killed_process_go_to_another_in_order(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    link = StoreLink(SqliteStore(path))
    link.open()
    link.declare(TOPOLOGY, queues_of("a"))
    for number in range(20):
        emit(link, "a", str(number))
    environment = {"environment": {"PYTHONPATH": os.getcwd()}}
    with program(WORKER, tmp_path, str(path), "0.5", "hold", **environment) as first:
        first.wait_until(lambda: first.stdout.count("\n") == 10, "ten events")
        first.send_signal(signal.SIGKILL)
        first.wait()
    with program(WORKER, tmp_path, str(path), "60", "acknowledge", **environment) as second:
        second.wait_until(lambda: second.stdout.count("\n") >= 20, "all events")
        got = [int(line) for line in second.stdout.split()]
    assert first.stdout.split() == [str(number) for number in range(10)]
    assert sorted(got) == list(range(20))
    # Those that came back, and those that were never out, each in order.
    assert [n for n in got if n < 10] == list(range(10))
    assert [n for n in got if n >= 10] == list(range(10, 20))
    link.close()


def test_a_link_works_in_a_native_thread_of_its_own(tmp_path: Path) -> None:
    """As in programs that are not patched."""
    from gevent import monkey

    errors: list[BaseException] = []
    done = threading.Event()
    hub = gevent.get_hub()

    def use() -> None:
        try:
            link = StoreLink(SqliteStore(tmp_path / "events.db"))
            link.open()
            received = Received(link, queues_of("a"))
            assert emit(link, "a") is None
            received.wait_for(1)
            link.close()
        except BaseException as error:
            errors.append(error)
        finally:
            gevent.get_hub().destroy(destroy_loop=True)
            hub.loop.run_callback_threadsafe(done.set)

    monkey.get_original("_thread", "start_new_thread")(use, ())
    assert done.wait(LIMIT)
    assert errors == []
