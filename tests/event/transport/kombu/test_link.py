"""Links over kombu's own transports: what each of them can do is done, and no more is said."""

import contextlib
import fcntl
import functools
import json
import os
import shutil
import subprocess
import sys
import time

import gevent
import pytest

from gemstone_sync.event.link import LinkLost, LinkRefused
from gemstone_sync.event.topology import Topology
from gemstone_sync.event.transport.kombu import channels
from gemstone_sync.event.transport.kombu.link import KombuLink
from tests.support import kombu
from tests.support.machine import free_port
from tests.support.redis import private_redis
from tests.support.waiting import LIMIT

from ..support import opened, queues_of

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")


@pytest.fixture(params=kombu.PLACES)
def kind(request):
    return str(request.param)


@pytest.fixture
def connect(kind, tmp_path):
    """``connect("paid", service="shop")``: one more link of a service that handles "paid"."""
    topology = Topology(kombu.new_application())
    with contextlib.ExitStack() as stack:
        url, options = stack.enter_context(kombu.PLACES[kind](tmp_path))

        def connect(*patterns, service="shop"):
            link = KombuLink(url, transport_options=options)
            queues = queues_of(topology, *patterns, service=service)
            return stack.enter_context(opened(link, topology, queues))

        yield connect


def test_events_arrive_unless_they_are_work_that_nobody_handles(connect, kind):
    shop, till = connect("paid", "order.*"), connect()
    shop.consume(shop.queue("paid"))
    shop.consume(shop.topology.work_queue("order.*"))
    names = ("paid", "order.1", "unknown")
    bodies = [b'"%b"' % (b"x" * size) for size in (0, 100_000)]
    errors = till.publish(*(till.outgoing(n, broadcast=n == "paid", body=bodies[1]) for n in names))
    # Where other processes do not tell what they handle, they may handle it.
    unknown = "nobody handles work named 'unknown'"
    assert errors == [None, None, None if kind == "sqlalchemy" else unknown]
    got = {delivery.envelope.name: delivery.envelope for delivery in shop.receive(2)}
    assert [got[name].body for name in names[:2]] == bodies[1:] * 2
    shop.link.acknowledge(shop.received)
    assert shop.link.size(shop.queue("paid")) == 0


def test_each_queue_has_a_prefetch_of_its_own_and_a_full_one_holds_up_no_other(connect):
    shop = connect("a", "b", "c")
    full, other, _ = shop.fill(9, "a"), shop.fill(30, "b"), shop.fill(1, "c")
    shop.consume(full, prefetch=3)
    shop.consume(other, prefetch=1)
    # Kombu's own prefetch is over all queues of a channel.
    for count in range(1, 31):
        b = [d for d in shop.receive(3 + count) if d.envelope.name == "b"]
        shop.link.acknowledge(b[-1:])
    assert (shop.link.size(full), shop.link.size(other)) == (6, 0)
    shop.consume(full, prefetch=5)
    shop.receive(35)
    assert shop.link.size(full) == 4
    shop.consume(full, prefetch=1)
    shop.link.acknowledge([d for d in shop.received if d.envelope.name == "a"])
    shop.receive(36)
    shop.link.cancel(full)
    shop.link.cancel(full)
    shop.link.acknowledge(shop.received[-1:])
    shop.link.pump()
    assert shop.link.size(full) == 3


def test_nothing_is_looked_for_while_all_queues_are_full(connect):
    shop = connect("paid")
    shop.consume(shop.fill(9), prefetch=2)
    shop.receive(2)
    used, began = time.process_time(), time.monotonic()
    while time.monotonic() - began < 0.5:
        shop.link.wait(shop.signal, 0.1)
        shop.link.pump()
    assert time.process_time() - used < 0.25  # it was all of it, and for ever


def test_what_is_given_back_goes_to_its_own_queue_only(connect):
    shop, bank = connect("paid", service="shop"), connect("paid", service="bank")
    queues = shop.queue("paid"), shop.queue("paid").replace(":shop:", ":bank:")
    shop.fill(2)
    for link, queue in zip((shop, bank), queues, strict=True):
        link.consume(queue)
        link.receive(2)
    bank.link.acknowledge(bank.received)
    first, second = shop.received
    shop.link.requeue([first])
    assert shop.receive(3)[2].envelope == first.envelope
    shop.link.acknowledge([second])
    shop.link.close()
    shop.link.close()
    with pytest.raises(LinkLost, match="not connected"):
        shop.link.size(queues[0])
    assert [bank.link.size(queue) for queue in queues] == [1, 0]
    bank.link.acknowledge([bank.take(queues[0])])
    assert bank.link.size(queues[0]) == 0


def test_so_does_what_another_program_has_published_to_the_exchange(connect, kind, tmp_path):
    shop, bank = connect("paid", service="shop"), connect("paid", service="bank")
    queues = shop.queue("paid"), shop.queue("paid").replace(":shop:", ":bank:")
    channel = shop.link._channel
    other = channel.prepare_message("7", content_type="application/json")
    channel.basic_publish(other, exchange=shop.topology.events, routing_key="paid")
    shop.consume(queues[0])
    for count in (1, 2, 3):
        shop.link.requeue(shop.receive(count)[-1:])
    assert [d.envelope.name for d in shop.receive(4)] == ["paid"] * 4
    assert bank.link.size(queues[1]) == 1


def test_the_next_link_goes_on_with_what_is_handled(connect):
    shop, again = connect("paid"), connect("paid")
    queue = shop.fill(4)
    shop.consume(queue)
    begun, handled, *others = shop.receive(4)
    shop.link.detach([begun, handled, others[0]])
    shop.link.close()
    again.consume(queue)
    for delivery in (begun, handled, *others):
        delivery.gone = True
    again.link.adopt([begun], [handled], others)
    received = {delivery.envelope.id for delivery in again.receive(2)}
    assert received == {other.envelope.id for other in others}
    again.link.acknowledge([begun, *again.received])
    again.link.close()
    assert connect().link.size(queue) == 0


def test_what_a_broker_that_was_away_has_not_got_back_it_gets_by_the_next_link(tmp_path):
    topology = Topology(kombu.new_application())
    queues = queues_of(topology, "paid")
    with private_redis(tmp_path) as server:
        make = functools.partial(KombuLink, server.url, connect_timeout=0.5)
        patient = functools.partial(KombuLink, server.url, connect_timeout=LIMIT)
        with opened(make(), topology, queues) as shop:
            shop.consume(shop.fill(3))
            begun, *others = shop.receive(3)
            connection = shop.link._connection
            with server.frozen():
                with pytest.raises(LinkLost):
                    shop.link.acknowledge([begun])
                with pytest.raises(LinkLost):
                    make().open()
                shop.link.detach([begun])
                shop.link.close()
                assert not connection.connected
        with opened(patient(), topology, queues) as again:
            again.consume(again.queue("paid"))
            again.link.adopt([begun], [], others)
            # Not only after its visibility_timeout, an hour.
            assert {d.envelope.id for d in again.receive(2)} == {d.envelope.id for d in others}
            again.link.acknowledge([begun, *again.received])
        with opened(patient(), topology) as nobody:
            assert nobody.link.size(shop.queue("paid")) == 0
            assert nobody.link._channel.client.hlen("unacked") == 0


def test_several_urls_are_tried_in_turn(tmp_path):
    with private_redis(tmp_path) as server:
        nowhere = f"redis://127.0.0.1:{free_port()}/0"
        with opened(KombuLink(f"{nowhere};{server.url}"), Topology("test")) as till:
            assert till.publish(till.outgoing("paid")) == [None]
        with pytest.raises(LinkLost):
            KombuLink(f"{nowhere};{nowhere}").open()


@pytest.mark.parametrize("kind", ["filesystem"], indirect=True)
def test_bindings_that_have_vanished_are_made_again(connect, tmp_path):
    shop = connect("paid")
    shop.consume(shop.queue("paid"))
    shutil.rmtree(tmp_path / "control")
    shop.link._check_at = 0.0
    with pytest.raises(LinkLost, match="bindings of its queues have vanished"):
        shop.until(lambda: False, "a look at the bindings")
    shop.link.declare(shop.topology, queues_of(shop.topology, "paid"))


@pytest.mark.parametrize("kind", ["filesystem"], indirect=True)
def test_a_process_that_holds_the_bindings_for_ever_does_not_hold_up_others(
    connect, tmp_path, monkeypatch
):
    monkeypatch.setattr(channels, "_PATIENCE", 0.05)
    shop = connect("paid")
    descriptor = os.open(tmp_path / "control", os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # as another process has it
    with pytest.raises(LinkLost, match="control is in use"), gevent.Timeout(LIMIT):
        shop.publish(shop.outgoing("paid"))
    os.close(descriptor)
    assert shop.publish(shop.outgoing("paid")) == [None]


BIND = """
import json, sys
from gemstone_sync.event.transport.kombu.link import KombuLink
from gemstone_sync.event.topology import Topology
from tests.event.transport.support import queues_of

application, options, number = sys.argv[1:]
link = KombuLink("filesystem://", transport_options=json.loads(options))
link.open()
print("open", flush=True)
sys.stdin.readline()
for turn in range(250):
    topology = Topology(f"{application}{turn}")
    link.declare(topology, queues_of(topology, "paid", service=f"s{number}"))
"""


@pytest.mark.slow  # only hundreds of first bindings meet often enough
@pytest.mark.parametrize("kind", ["filesystem"], indirect=True)
def test_processes_that_bind_first_at_once_lose_no_binding(connect):
    till = connect()
    command = [sys.executable, "-c", BIND, till.topology.application]
    command.append(json.dumps(till.link._options))
    binding = [
        subprocess.Popen([*command, str(n)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for n in range(2)
    ]
    for each in binding:
        assert each.stdout.readline() == b"open\n"
    for each in binding:
        each.stdin.write(b"\n")
        each.stdin.flush()
    for each in binding:
        each.communicate(timeout=LIMIT)
        assert each.returncode == 0
    application = till.topology.application
    for turn in range(250):
        assert len(till.link._channel.get_table(f"{application}{turn}.events")) == 2


EMIT = """
import json, sys, time
from gemstone_sync.event.transport.kombu.link import KombuLink
from gemstone_sync.event.topology import Topology
from tests.event.transport.support import opened

application, options = sys.argv[1:]
with opened(KombuLink("filesystem://", transport_options=json.loads(options)),
            Topology(application)) as till:
    for number in range(400):
        till.publish(till.outgoing("paid", body=b'"%b"' % (b"x" * 3000)))
        time.sleep(0.0003)  # so that the other process is ahead
"""


@pytest.mark.parametrize("kind", ["filesystem"], indirect=True)
def test_no_event_of_another_process_is_read_half_written(connect):
    shop = connect("paid")
    shop.consume(shop.queue("paid"), prefetch=1000)
    options = json.dumps({**shop.link._options, "polling_interval": 0})
    command = [sys.executable, "-c", EMIT, shop.topology.application, options]
    with subprocess.Popen(command) as emitting:
        shop.link._longest = 0
        shop.receive(400)
    assert emitting.returncode == 0


@pytest.mark.parametrize("kind", ["sqlalchemy"], indirect=True)
def test_a_forked_child_has_connections_to_the_database_of_its_own(connect):
    shop = connect("paid")
    shop.fill(1)
    (engine, _), *_ = shop.link._channel._engines.values()
    assert engine.pool.checkedin() + engine.pool.checkedout() > 0
    child = os.fork()
    if child == 0:
        os._exit(engine.pool.checkedin() + engine.pool.checkedout())
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("qpid://h", "not one of kombu's virtual transports"),
        ("etcd://h", "has no topic exchanges"),
        ("librabbitmq://h", "No module named"),
        ("nosuch://h", "No such transport"),
        ("memory://h:p4", "its port is no number"),
    ],
)
def test_what_cannot_be_used_is_told(url, why):
    with pytest.raises(LinkRefused, match=why):
        KombuLink(url).open()
