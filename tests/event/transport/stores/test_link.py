"""StoreLink: leases, dead letters and faults. What all links do is in test_contract.py."""

import contextlib
import gc
import itertools
import time
from pathlib import Path

import gevent
import pytest

from gemstone_sync.errors import StoreFault
from gemstone_sync.event.link import LinkLost
from gemstone_sync.event.topology import Topology
from gemstone_sync.event.transport.redis.store import RedisStore
from gemstone_sync.event.transport.sqlite.store import SqliteStore
from gemstone_sync.event.transport.stores.link import StoreLink
from gemstone_sync.event.transport.stores.store import Entry
from tests.event.transport.stores.support import STORES
from tests.support.redis import private_redis
from tests.support.sqlite import locked
from tests.support.waiting import LIMIT, compute, wait_until

from ..support import Owner, named, opened, queues_of


@pytest.fixture(params=STORES)
def kind(request):
    return str(request.param)


def test_what_cannot_be_written_is_refused_and_the_rest_goes_on(connect):
    shop = connect("paid")
    shop.publish(shop.outgoing("odd", key="sch\udcfcssel"), shop.outgoing("paid"))
    errors = dict(shop.settled)
    assert errors["paid"] is None
    assert "cannot be written" in (errors["odd"] or "")


def test_a_link_that_is_full_waits_for_the_signal_alone(connect):
    shop = connect("paid")
    shop.consume(shop.fill(1), prefetch=1)
    shop.receive(1)
    gevent.spawn_later(0.05, shop.signal.set)
    shop.link.wait(shop.signal, LIMIT)
    assert shop.signal.is_set()


def test_a_link_with_nothing_to_do_costs_next_to_nothing(connect):
    """It does not look again and again, which took 15 ms."""
    shop = connect("paid")
    shop.consume(shop.queue("paid"))
    gevent.spawn(shop.link.pump).get()
    gc.collect()
    began = time.thread_time()
    end = time.monotonic() + 0.5
    while (left := end - time.monotonic()) > 0:
        shop.signal.clear()
        shop.link.pump()
        shop.link.wait(shop.signal, left)
    assert time.thread_time() - began < 0.01


def test_what_is_kept_is_renewed_though_this_thread_computes(connect):
    shop, other = connect("paid", lease=0.5), connect()
    queue = shop.fill(2)
    shop.consume(queue)
    shop.link.keep_alive()
    received = shop.receive(2)
    compute(1.5)
    assert other.link.take(queue) is None
    shop.link.acknowledge(received)
    assert other.link.size(queue) == 0


@pytest.mark.parametrize("is_away", [False, True])
def test_the_next_link_goes_on_with_what_is_handled_and_tells_of_the_rest(
    connect, is_away, monkeypatch
):
    shop, later, other = connect("paid"), connect("paid"), connect("paid")
    shop.consume(shop.fill(5))
    begun, handled, failed, *others = shop.receive(5)
    shop.link.detach([begun, handled, failed])
    begun.gone = True
    if is_away:
        monkeypatch.setattr(shop.link._store, "release", raise_fault)
    shop.link.close()
    queue = shop.queue("paid")
    assert other.link.size(queue) == (0 if is_away else 2)
    later.link.adopt([begun], [handled], [failed, *others])
    assert (begun.gone, begun.link) == (False, later.link)
    other.consume(queue)
    assert [delivery.deliveries for delivery in other.receive(3)] == [0, 0, 0]
    other.link.acknowledge(other.received)
    later.link.acknowledge([begun])
    assert sorted(other.bodies) == [2, 3, 4]
    assert other.link.size(queue) == 0


def raise_fault(*_: object) -> None:
    raise StoreFault("away")


def test_an_event_that_ends_its_processes_is_a_dead_letter(connect):
    shop = connect("paid", lease=0.05, delivery_limit=2)
    shop.consume(shop.fill(1))
    assert [delivery.deliveries for delivery in shop.receive(2)] == [0, 1]
    dead = shop.take(shop.topology.dead).envelope
    assert (dead.id, dead.body) == (shop.received[0].envelope.id, b"0")
    assert dead.dead is not None
    assert dead.dead.reason == "crashed"


def test_what_is_no_message_goes_to_the_dead_letters(connect):
    shop = connect("paid")
    queue = shop.queue("paid")
    garbage = [
        b"\xff\x00",
        b"{}",
        b'{"body": 1}',
        b'{"body": "%", "properties": {"body_encoding": "base64"}}',
        b"[" * 100_000,
    ]
    shop.link._store.publish([Entry("", queue, payload) for payload in garbage])
    shop.consume(shop.fill(1))
    shop.receive(1)
    assert shop.bodies == [0]
    assert shop.link.size(shop.topology.dead) == len(garbage)
    dead = shop.take(shop.topology.dead).envelope.dead
    assert dead is not None
    assert (dead.reason, dead.queue) == ("invalid", queue)


def test_an_instance_s_queue_lives_as_long_as_its_link(connect):
    shop, other = connect(), connect()
    shop.topology.instance_expiry = 0.5
    queues = queues_of(shop.topology, "paid", scope="instance")
    queue = named(queues, ":instance:")
    moments = [time.monotonic()]
    shop.link.declare(shop.topology, queues)
    shop.consume(queue)

    def is_there():
        return other.link._store.publish([Entry(shop.topology.events, "paid", b"")]) == [1]

    end = time.monotonic() + 0.8
    with contextlib.suppress(LinkLost):
        while time.monotonic() < end:
            shop.link.pump()
            moments.append(time.monotonic())
            shop.link.wait(shop.signal, 0.05)
    there = is_there()
    moments.append(time.monotonic())
    # ... unless the machine stood still in between.
    assert there or max(later - now for now, later in itertools.pairwise(moments)) > 0.3
    shop.link.close()
    wait_until(lambda: not is_there(), "the queue's end")


def over_file(folder: Path) -> contextlib.AbstractContextManager[Owner]:
    topology = Topology("test")
    link = StoreLink(SqliteStore(folder / "events.db"))
    return opened(link, topology, queues_of(topology, "paid"))


@pytest.fixture
def shop(tmp_path):
    with over_file(tmp_path) as shop:
        yield shop


def test_a_store_that_is_out_of_reach_is_a_lost_link(tmp_path):
    link = StoreLink(SqliteStore(tmp_path / "none" / "events.db"))
    with pytest.raises(LinkLost, match="there is no folder"):
        link.open()
    link.close()


def test_a_file_that_is_removed_is_noticed_and_nothing_settled(shop, tmp_path):
    with over_file(tmp_path) as other:
        other.consume(other.queue("paid"))
        other.link.pump()
        for file in tmp_path.iterdir():
            file.unlink()
        with pytest.raises(LinkLost, match="removed or replaced"):
            other.receive(1)
    with pytest.raises(LinkLost):
        shop.fill(1)
    assert shop.settled == []


def test_a_locked_file_does_not_stop_the_other_greenlets(shop, tmp_path):
    with locked(tmp_path / "events.db"):
        emitting = gevent.spawn(shop.fill, 1)
        for _ in range(100):
            gevent.sleep(0.001)
        # A hub that is held up turns when the wait for the lock is over.
        assert not emitting.ready()
    emitting.get(timeout=LIMIT)


def test_what_a_killed_greenlet_was_just_taking_is_given_back(shop, tmp_path):
    queue = shop.fill(1)
    with over_file(tmp_path) as killed:
        killed.consume(queue)
        with locked(tmp_path / "events.db"):
            owner = gevent.spawn(killed.link.pump)
            gevent.sleep(0.1)
            owner.kill()
    assert killed.received == []
    assert wait_until(lambda: shop.link.size(queue), "the event given back") == 1


def test_a_redis_that_hangs_does_not_hold_up_the_end(tmp_path):
    topology = Topology("test")
    with private_redis(tmp_path) as server:
        link = StoreLink(RedisStore(server.url))
        with opened(link, topology, queues_of(topology, "paid")) as shop:
            shop.consume(shop.fill(1))
            shop.receive(1)
            with server.frozen():
                began = time.monotonic()
                link.close()
                # Its time-out is ten seconds.
                assert time.monotonic() - began < 8
            assert link.owes
