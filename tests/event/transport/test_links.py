"""What every link promises its owner, over each kind of broker.

What is special about one is in rabbitmq/, sqlite/, redis/ and stores/.
"""

import itertools

import pytest

from gemstone_sync.event.envelope import Envelope
from gemstone_sync.event.link import LinkLost
from gemstone_sync.event.transport.rabbitmq.link import AmqpLink

from .support import queues_of


def test_an_event_arrives_as_it_was(connect):
    event = Envelope(
        name="paid",
        body='{"who": "Zoë ☃"}'.encode(),
        time=1_700_000_000.125,
        key="customer 7",
        emitter="till",
        request_id="r1",
        traceparent=f"00-{'1' * 32}-{'2' * 16}-01",
        tracestate="vendor=x,other=y",
        baggage="user=ada,plan=free",
        deadline=2_000_000_000.5,
        attempts=3,
        handler="shop.paid",
    )
    shop = connect("paid")
    shop.consume(shop.queue("paid", ":keyed:"))
    till = connect()

    assert till.publish(till.sent_on(event)) == [None]

    (delivery,) = shop.receive(1)
    assert (delivery.envelope, delivery.deliveries) == (event, 0)


def test_all_of_many_are_confirmed_and_arrive_in_order(connect):
    shop = connect("paid")
    shop.consume(shop.queue("paid"), prefetch=2000)
    connect().fill(2000)
    shop.receive(2000)
    assert shop.bodies == list(range(2000))


def test_large_bodies_get_through(connect):
    bodies = [b'"%b"' % (b"x" * size) for size in (0, 131_000, 131_072, 1_000_000)] * 3
    shop = connect("paid")
    shop.consume(shop.queue("paid"))
    assert set(shop.publish(*(shop.outgoing("paid", body=body) for body in bodies))) == {None}
    assert [d.envelope.body for d in shop.receive(len(bodies))] == bodies


def test_what_reaches_nobody_is_an_error_for_work_only(connect):
    shop = connect("paid")
    names = ("paid", "unheard", "paid", "unknown")

    shop.publish(
        *(shop.outgoing(name, broadcast=False) for name in names),
        shop.outgoing("broadcast"),
        shop.outgoing("lost", queue=f"{shop.topology.application}:1:gone"),
    )

    assert dict(shop.settled) == {
        "paid": None,
        "unheard": "nobody handles work named 'unheard'",
        "unknown": "nobody handles work named 'unknown'",
        "broadcast": None,
        "lost": f"there is no queue '{shop.topology.application}:1:gone' any more",
    }


def test_no_more_than_the_prefetch_of_each_queue_comes_unacknowledged(connect):
    shop = connect("a", "b")
    a, b = shop.fill(10, "a"), shop.fill(10, "b")
    shop.consume(a, prefetch=3)
    shop.consume(b, prefetch=5)
    received = shop.receive(8)
    shop.until(lambda: (shop.link.size(a), shop.link.size(b)) == (7, 5), "the others to stay")
    assert sorted(d.envelope.name for d in received) == ["a"] * 3 + ["b"] * 5
    shop.link.acknowledge([d for d in received if d.envelope.name == "a"][:2])
    shop.receive(10)
    assert [d.envelope.name for d in shop.received[8:]] == ["a", "a"]
    assert shop.link.size(a) == 5


def test_the_prefetch_of_a_queue_can_be_changed_while_it_is_consumed_from(connect):
    shop = connect("paid")
    queue = shop.fill(30)
    for prefetch in (3, 10):
        shop.consume(queue, prefetch)
        shop.receive(prefetch)
        shop.until(lambda: shop.link.size(queue) == 30 - prefetch, "the others to stay")  # noqa: B023
    shop.link.acknowledge(shop.received)
    shop.receive(20)
    shop.consume(queue, 2)
    shop.link.acknowledge(shop.received)
    # With RabbitMQ what came meanwhile counts until it is acknowledged.
    shop.until(lambda: shop.link.size(queue) <= 8, "as many as are allowed now")
    shop.link.cancel(queue)
    assert shop.bodies == list(range(len(shop.bodies)))


def test_what_was_not_acknowledged_comes_again(connect):
    shop, other = connect("paid"), connect("paid")
    queue = shop.fill(4)
    shop.consume(queue)
    first, second, third, _ = shop.receive(4)
    shop.link.acknowledge([first, third])
    # What another link has received is none of this one's business.
    other.consume(queue)
    other.link.acknowledge([second])
    other.link.requeue([second])
    shop.link.close()
    shop.link.close()
    with pytest.raises(LinkLost, match="not connected"):
        shop.link.size(queue)

    again = other.receive(2)
    assert other.bodies == [1, 3]
    # In a store only a lease that has ended counts.
    assert {d.deliveries for d in again} == {1 if isinstance(other.link, AmqpLink) else 0}
    other.link.acknowledge(again)
    assert other.link.size(queue) == 0


def test_given_back_it_is_delivered_again(connect):
    shop = connect("paid")
    queue = shop.fill(1)
    shop.consume(queue)
    for count in range(3):
        delivery = shop.receive(1)[0]
        assert delivery.deliveries == (count if isinstance(shop.link, AmqpLink) else 0)
        shop.received.clear()
        shop.link.requeue([delivery])
    shop.link.acknowledge(shop.receive(1))
    assert shop.link.size(queue) == 0


def test_after_cancel_nothing_more_comes_and_the_rest_can_be_acknowledged(connect):
    shop = connect("paid")
    queue = shop.fill(5)
    shop.consume(queue, prefetch=2)
    received = shop.receive(2)
    shop.link.cancel(queue)
    shop.link.cancel(queue)
    shop.link.acknowledge(received)
    shop.until(lambda: shop.link.size(queue) == 3, "the others to stay")
    assert len(shop.received) == 2


def test_one_at_a_time_takes_events_with_a_key(connect):
    shop, second = connect("paid"), connect("paid")
    queue = shop.queue("paid", ":keyed:")
    shop.consume(queue, prefetch=1)
    second.consume(queue, prefetch=1)
    shop.fill(4, key="k")
    shop.link.acknowledge(shop.receive(1))
    shop.receive(2)
    shop.link.close()
    second.receive(1)
    assert (shop.bodies, second.bodies) == ([0, 1], [1])


def test_a_queue_is_declared_again_looked_at_and_emptied(connect):
    shop = connect("paid")
    queue = shop.fill(4)
    # It may be declared again.
    shop.link.declare(shop.topology, queues_of(shop.topology, "paid"))
    shop.link.declare(shop.topology)
    taken = shop.take(queue)

    # Looking for one that is not there leaves what was taken elsewhere taken.
    assert shop.link.size("nowhere") == shop.link.purge("nowhere") == 0
    shop.link.remove("nowhere")
    assert shop.link.take("nowhere") is None

    assert (shop.link.size(queue), shop.link.purge(queue), shop.link.size(queue)) == (3, 3, 0)
    assert shop.link.take(queue) is None
    shop.link.acknowledge([taken])
    shop.link.remove(queue)
    assert shop.publish(shop.outgoing("paid", queue=queue)) != [None]


def test_a_dead_letter_stays_however_often_it_is_looked_at(connect):
    alone = connect(delivery_limit=1)
    dead = alone.topology.dead
    alone.publish(alone.outgoing("paid", queue=dead))
    for _ in range(30):
        alone.link.requeue([alone.take(dead)])
    alone.until(lambda: alone.link.size(dead) == 1, "the dead letter")


def test_what_is_read_and_not_acknowledged_keeps_its_place(connect):
    shop = connect("paid")
    queue = shop.fill(200)

    def read(count, *done):
        found = [*itertools.islice(shop.link.read(queue), count)]
        shop.link.acknowledge([d for d in found if int(d.envelope.body) in done])
        shop.link.end_reading([d for d in found if int(d.envelope.body) not in done])
        return [int(d.envelope.body) for d in found]

    assert read(1) == [0]
    assert read(1000) == [*range(200)]
    assert read(100, 3, 70) == [*range(100)]
    left = [number for number in range(200) if number not in (3, 70)]
    assert read(1000, 199) == left
    assert read(5) == left[:5]
    assert read(1000) == left[:-1]
    other = connect()
    other.consume(queue, prefetch=1000)
    assert sorted(int(d.envelope.body) for d in other.receive(197)) == left[:-1]
