"""AmqpLink over a RabbitMQ that works: what other links do not have.

What all links do is in test_links.py, delays in test_delays.py, what breaks in test_faults.py.
"""

import itertools
import struct
import time

import amqp as py_amqp
import gevent
import pytest

from gemstone_sync.event.emission import make_envelope
from gemstone_sync.event.link import LinkLost, LinkRefused, Outgoing
from gemstone_sync.event.topology import Address, Topology
from gemstone_sync.event.transport.rabbitmq.link import AmqpLink
from gemstone_sync.event.transport.rabbitmq.publishing import AmqpPublishing
from tests.support.rabbitmq import SharedRabbitMq, connect
from tests.support.waiting import LIMIT, wait_until

from ..support import amqp, named, queues_of

URL = SharedRabbitMq.url


def test_what_amqp_cannot_carry_is_an_error_and_the_rest_gets_through(shop):
    shop.publish(*(shop.outgoing("paid", request_id=id) for id in ("1", "x" * 256, "3")))
    errors = [error for _name, error in shop.settled]
    assert errors.count(None) == 2
    assert any(error is not None and "AMQP cannot carry it" in error for error in errors)


def test_an_event_that_is_called_as_a_queue_of_ours_is_one_that_nobody_handles(shop):
    assert shop.publish(shop.outgoing(shop.topology.dead)) == [None]


def test_a_full_queue_refuses_and_says_so(shop):
    full = f"{shop.topology.application}:1:full"
    with connect(URL) as connection:
        arguments = {"x-max-length": 1, "x-overflow": "reject-publish"}
        connection.channel().queue_declare(full, auto_delete=False, arguments=arguments)
    errors = [shop.publish(shop.outgoing("paid", queue=full))[0] for _ in range(3)]
    assert errors[0] is None
    assert errors[-1] == "the broker refused it: its queue is full, or failing"


def test_other_greenlets_get_their_turn_while_much_is_published(shop):
    left: list[int] = []  # to be encoded

    def look():
        while True:
            left.append(len(shop.link._backlog))
            gevent.sleep(0)

    looking = gevent.spawn(look)
    gevent.sleep(0)
    shop.fill(5000)
    looking.kill()

    # Unfair, most would be encoded between two turns.
    assert max(before - after for before, after in itertools.pairwise(left)) < 2500


@pytest.mark.parametrize(
    "order",
    [
        [[0, 1, 2, 3, 4, 5]],
        [[5, 4], [3], [2, 1], [0]],
        [[1, 3, 5], [0], [2, 4]],
        [[2], [0, 1], [2, 3], [3, 5, 4]],
    ],
    ids=["all", "backwards", "gaps", "some twice"],
)
def test_acknowledged_in_any_order_nothing_comes_again(shop, order):
    queue = shop.fill(7)
    shop.consume(queue)
    received = shop.receive(7)
    for group in order:
        shop.link.acknowledge([received[position] for position in group])
    shop.link.close()
    with amqp(URL, shop.topology) as second:
        second.consume(queue)
        second.receive(1)
        assert second.bodies == [6]
        assert second.link.size(queue) == 0


def test_an_instance_queue_tells_whether_it_was_delivered_before(topology):
    queues = queues_of(topology, "paid", scope="instance")
    with amqp(URL, topology, queues) as shop:
        shop.publish(shop.outgoing("paid"))
        shop.consume(named(queues, ":instance:"))
        shop.link.requeue(shop.receive(1))
        assert [delivery.deliveries for delivery in shop.receive(2)] == [0, 1]


def test_an_instance_queue_goes_when_its_instance_is_gone(topology):
    topology.instance_expiry = 0.2
    queues = queues_of(topology, "paid", scope="instance")
    with amqp(URL, topology, queues):
        pass

    with connect(URL) as connection:

        def is_gone():
            gevent.sleep(2 * topology.instance_expiry)  # asking keeps it
            try:
                connection.channel().queue_declare(named(queues, ":instance:"), passive=True)
            except py_amqp.NotFound:
                return True
            return False

        wait_until(is_gone, "the queue to expire")


def test_a_message_that_ends_its_consumers_goes_to_the_dead_letters(topology):
    with amqp(URL, topology, queues_of(topology, "paid"), delivery_limit=2) as shop:
        queue = shop.fill(1)
        for _ in range(3):
            shop.link.requeue([shop.take(queue)])
        envelope = shop.take(topology.dead).envelope
    assert (envelope.name, envelope.body) == ("paid", b"0")
    assert envelope.dead is not None
    assert (envelope.dead.reason, envelope.dead.queue) == ("crashed", queue)
    assert abs(envelope.dead.time - time.time()) < LIMIT + 2


def test_a_message_that_expires_in_the_broker_is_an_expired_dead_letter(topology):
    """As each one does in time where a policy of the broker says message-ttl."""
    with amqp(URL, topology, queues_of(topology, "paid")) as shop, connect(URL) as connection:
        queue = shop.queue("paid")
        message = py_amqp.Message(b"0", expiration="1")
        connection.channel().basic_publish(message, topology.events, "paid")
        shop.until(lambda: shop.link.size(topology.dead), "the dead letter")
        envelope = shop.take(topology.dead).envelope
    assert (envelope.name, envelope.body) == ("paid", b"0")
    assert envelope.dead is not None
    assert (envelope.dead.reason, envelope.dead.queue) == ("expired", queue)
    assert "message-ttl" in envelope.dead.error


def test_a_connection_outlives_a_greenlet_that_computes_for_longer_than_its_heartbeat(topology):
    with amqp(URL, topology, queues_of(topology, "paid"), heartbeat=1) as shop:
        queue = shop.fill(1)
        shop.consume(queue)
        shop.link.keep_alive()
        received = shop.receive(1)
        end = time.monotonic() + 4.5  # the broker gives up after 3
        while time.monotonic() < end:
            pass
        shop.until(lambda: shop.link.size(queue) == 0, "an answer")
        shop.link.acknowledge(received)
        shop.link.requeue(received)
        with amqp(URL, topology) as other:
            assert other.link.take(queue) is None


@pytest.mark.parametrize("id", ["a1", None], ids=["ours", "without an id"])
def test_processes_that_died_of_an_event_are_counted_and_not_lost_connections(topology, id):
    queues = queues_of(topology, "paid")
    queue = named(queues, ":service:")

    def receive(count, *, dies=False, done=False):
        """One process's connection, which has so many crashes told, and then is lost."""
        with amqp(URL, topology, queues) as shop:
            shop.consume(queue)
            (delivery,) = shop.receive(1)
            shop.link.mark(delivery)
            assert delivery.crashes == count
            if not dies:
                shop.link.unmark([delivery], done=done)
            if done:
                shop.link.acknowledge([delivery])

    with amqp(URL, topology, queues):
        with connect(URL) as connection:
            message = py_amqp.Message("1", **({"message_id": id} if id else {}))
            connection.channel().basic_publish(message, topology.events, "paid")
        for _ in range(4):
            receive(0)
        receive(0, dies=True)
        receive(3, dies=True)
        receive(4)
        receive(4, done=True)


@pytest.mark.parametrize(
    "properties",
    [
        {},
        {"content_encoding": "latin-1"},
        {"message_id": b"\xff", "type": b"\xff"},
        {"application_headers": {"x-delivery-count": "many", "x-death": [{"reason": 1}], "f": 1.5}},
    ],
    ids=["bare", "encoding", "no text", "headers"],
)
def test_what_another_program_published_is_taken(topology, properties):
    queues = queues_of(topology, "paid.*")
    with amqp(URL, topology, queues) as shop, connect(URL) as connection:
        for queue in queues:
            shop.consume(queue.name)
        message = py_amqp.Message(b"\xff\x00", **properties)
        for exchange, key in ((topology.events, "paid.late"), (topology.work[0], "once.paid.x")):
            connection.channel().basic_publish(message, exchange, key)

        shop.link.acknowledge(shop.receive(2))

        assert sorted((d.envelope.name, d.envelope.body) for d in shop.received) == [
            ("paid.late", b"\xff\x00"),
            ("paid.x", b"\xff\x00"),
        ]


class _WithHeader(py_amqp.Message):
    """A message with one header, in the bytes that no client of Python's writes."""

    header: bytes

    def _serialize_properties(self) -> bytes:
        entry = b"\x01h" + self.header
        return struct.pack(">HI", 1 << 13, len(entry)) + entry


def _nested(entry: bytes, kind: bytes, depth: int) -> bytes:
    value = b"V"
    for _ in range(depth):
        value = kind + struct.pack(">I", len(entry + value)) + entry + value
    return value


@pytest.mark.parametrize("body", [b"1", b""])
@pytest.mark.parametrize(
    "header",
    [
        _nested(b"\x01h", b"F", 3000),
        _nested(b"", b"A", 15000),
        b"T" + b"\xff" * 8,
        b"T" + struct.pack(">Q", 2**40),
    ],
    ids=["deep table", "deep array", "no time", "late time"],
)
def test_headers_that_nothing_can_read_do_not_end_the_connection(shop, header, body):
    queue = shop.queue("paid")
    shop.consume(queue)
    with connect(URL) as connection:
        message = _WithHeader(body)
        message.header = header
        connection.channel().basic_publish(message, "", queue)
    shop.publish(shop.outgoing("paid"))

    shop.link.acknowledge(shop.receive(2))

    assert shop.received[0].envelope.body == body


@pytest.mark.parametrize("body", [b"1", b""])
def test_a_routing_key_that_is_no_text_does_not_end_the_connection(topology, body):
    queues = queues_of(topology, "paid.*")
    with amqp(URL, topology, queues) as shop, connect(URL) as connection:
        for queue in queues:
            shop.consume(queue.name)
        channel, message = connection.channel(), py_amqp.Message(body)
        for exchange, key in (
            (topology.events, b"paid.\xe4x"),
            (topology.work[1], b"once.paid.\xe4"),
        ):
            channel.basic_publish(message, exchange, key)
        shop.link.acknowledge(shop.receive(2))
        assert sorted(d.envelope.name for d in shop.received) == ["paid.?", "paid.?x"]
        assert {d.envelope.body for d in shop.received} == {body}


def test_what_comes_back_with_an_id_that_is_no_text_does_not_end_the_connection(shop):
    queue = shop.queue("paid")
    with connect(URL) as connection:
        message = py_amqp.Message(b"1", message_id="\ud800")  # as py-amqp takes and gives it
        connection.channel().basic_publish(message, "", queue)
    shop.consume(queue)
    for count in range(4):
        delivery = shop.receive(count + 1)[count]
        assert delivery.deliveries == count
        shop.link.requeue([delivery])
    shop.link.acknowledge(shop.receive(5)[4:])


def test_what_is_there_and_other_is_refused_by_name(shop):
    queues = queues_of(shop.topology, "paid")
    link = AmqpLink(URL, delivery_limit=77)
    link.open()
    with pytest.raises(LinkRefused, match=r"another 'x-delivery-limit'.*delete it") as caught:
        link.declare(shop.topology, queues)
    assert any(queue.name in str(caught.value) for queue in queues)
    assert shop.publish(shop.outgoing("paid", broadcast=False)) == [None]

    other = Topology(f"{shop.topology.application}-other")
    with connect(URL) as connection:
        exchange = other.events
        connection.channel().exchange_declare(exchange, "fanout", durable=True, auto_delete=False)
        link = AmqpLink(URL)
        link.open()
        with pytest.raises(LinkRefused, match=f"exchange '{exchange}' exists with another 'type'"):
            link.declare(other)
        connection.channel().exchange_delete(exchange)


def test_a_queue_that_is_deleted_under_its_consumer_ends_the_link(shop):
    queue = shop.queue("paid")
    shop.consume(queue)
    with connect(URL) as connection:
        connection.channel().queue_delete(queue)
    with pytest.raises(LinkLost, match="was deleted"):
        shop.receive(1)


def test_who_reads_a_queue_waits_for_another_who_does(shop):
    queue = shop.fill(200)
    with amqp(URL, shop.topology) as other:
        first = [next(reading := shop.link.read(queue)), next(reading)]
        waiting = gevent.spawn(lambda: [int(d.envelope.body) for d in other.link.read(queue)])
        gevent.sleep(0.3)
        assert not waiting.ready()
        shop.link.acknowledge(first[:1])
        shop.link.end_reading(first[1:])
        assert waiting.get(timeout=LIMIT) == [*range(1, 200)]


def test_a_queue_that_is_deleted_while_it_is_read_is_told(shop):
    queue = shop.fill(200)
    reading = shop.link.read(queue)
    next(reading)
    with connect(URL) as connection:
        connection.channel().queue_delete(queue)
    with pytest.raises(LinkLost, match=r"was deleted|no queue"):
        list(reading)


def test_a_confirm_of_several_walks_over_what_waits_only():
    """It does not go over all that a connection has ever published: here that is years of it."""

    class Unsettled(dict):
        def pop(self, tag, default):
            assert tag in self, "one that was settled long ago"
            return super().pop(tag)

    publishing = AmqpPublishing.__new__(AmqpPublishing)
    publishing._unsettled, publishing._returned, publishing._until = Unsettled(), [], {}
    settled = []

    def publish(tag):
        outgoing = Outgoing(
            make_envelope("a", tag), Address("", "q"), lambda _: settled.append(tag)
        )
        publishing._unsettled[tag] = (outgoing, "q", 0, True)

    for tag in (10**15 - 1, 10**15, 10**15 + 1, 10**15 + 2):
        publish(tag)
    publishing._on_confirmed(10**15, True)
    assert settled == [10**15 - 1, 10**15]
    publishing._on_confirmed(0, True)  # all that there are (AMQP 0-9-1, basic.ack)
    assert settled[2:] == [10**15 + 1, 10**15 + 2]
    publishing._on_confirmed(10**15 + 3, True)
    assert len(settled) == 4
