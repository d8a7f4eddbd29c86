"""AmqpLink over a RabbitMQ that works: what arrives where, and what is said of it.

Delays are in test_amqp_delays.py, what breaks is in test_amqp_faults.py.
"""

import time
from collections.abc import Iterator
from typing import Any

import amqp
import gevent
import pytest

from gemstone_sync.event.envelope import Envelope
from gemstone_sync.event.link import LinkLost, LinkRefused, Outgoing
from gemstone_sync.event.links.amqp import AmqpLink
from gemstone_sync.event.topology import Topology
from tests.support.rabbitmq import SharedRabbitMq, connect, shared_rabbitmq
from tests.support.waiting import LIMIT, wait_until

from .amqp_support import Owner, named, owner, queues_of


@pytest.fixture(scope="module")
def rabbitmq() -> Iterator[SharedRabbitMq]:
    with shared_rabbitmq() as rabbitmq:
        yield rabbitmq


@pytest.fixture
def topology(rabbitmq: SharedRabbitMq) -> Topology:
    return Topology(rabbitmq.new_application())


@pytest.fixture
def alone(rabbitmq: SharedRabbitMq, topology: Topology) -> Iterator[Owner]:
    """A link where nobody handles anything."""
    with owner(rabbitmq.url, topology) as alone:
        yield alone


@pytest.fixture
def shop(rabbitmq: SharedRabbitMq, topology: Topology) -> Iterator[Owner]:
    """A link of a service that handles "paid"."""
    with owner(rabbitmq.url, topology, queues_of(topology, "paid")) as shop:
        yield shop


# Publishing


def test_an_event_arrives_as_it_was(shop: Owner) -> None:
    event = Envelope(
        name="paid",
        body='{"who": "Zoë"}'.encode(),
        time=1700000000.125,
        emitter="till",
        request_id="r1",
        traceparent=f"00-{'1' * 32}-{'2' * 16}-01",
        deadline=1700009999.5,
        attempts=3,
        handler="shop.paid",
    )
    shop.consume(named(queues_of(shop.topology, "paid"), ":service:"))

    shop.link.publish(
        [
            Outgoing(
                event,
                shop.topology.address_of(event),
                lambda error: shop.settled.append(("", error)),
            )
        ]
    )

    (delivery,) = shop.receive(1)
    shop.until(lambda: shop.settled == [("", None)], "the confirm")
    assert delivery.envelope == event
    assert delivery.deliveries == 0


def test_all_of_many_are_confirmed_and_arrive_in_order(shop: Owner) -> None:
    shop.consume(named(queues_of(shop.topology, "paid"), ":service:"), prefetch=2000)

    errors = shop.publish(*(shop.outgoing("paid", body=b"%d" % n) for n in range(2000)))

    assert set(errors) == {None}
    assert [int(d.envelope.body) for d in shop.receive(2000)] == list(range(2000))


def test_large_bodies_get_through(shop: Owner) -> None:
    bodies = [b'"%b"' % (b"x" * size) for size in (0, 131_000, 131_072, 1_000_000)] * 3
    shop.consume(named(queues_of(shop.topology, "paid"), ":service:"))

    assert set(shop.publish(*(shop.outgoing("paid", body=body) for body in bodies))) == {None}
    assert [d.envelope.body for d in shop.receive(len(bodies))] == bodies


def test_a_broadcast_that_nobody_handles_is_fine(alone: Owner) -> None:
    assert alone.publish(alone.outgoing("unheard")) == [None]


def test_work_that_nobody_handles_is_an_error_for_each_such_message(shop: Owner) -> None:
    messages = [
        shop.outgoing(name, broadcast=False) for name in ("paid", "unheard", "paid", "unknown")
    ]

    shop.publish(*messages)

    assert dict(shop.settled) == {
        "paid": None,
        "unheard": "nobody handles work named 'unheard'",
        "unknown": "nobody handles work named 'unknown'",
    }


def test_a_queue_that_is_gone_is_an_error(alone: Owner) -> None:
    (error,) = alone.publish(alone.outgoing("paid", queue=f"{alone.topology.application}:gone"))

    assert error == f"there is no queue '{alone.topology.application}:gone' any more"


def test_what_amqp_cannot_carry_is_an_error_and_the_rest_gets_through(shop: Owner) -> None:
    shop.publish(
        shop.outgoing("paid"), shop.outgoing("paid", request_id="x" * 256), shop.outgoing("paid")
    )

    errors = [error for _name, error in shop.settled]
    assert errors.count(None) == 2
    assert any(error is not None and "AMQP cannot carry it" in error for error in errors)


def test_a_full_queue_refuses_and_says_so(alone: Owner, rabbitmq: SharedRabbitMq) -> None:
    full = f"{alone.topology.application}:full"
    with connect(rabbitmq.url) as connection:
        arguments = {"x-max-length": 1, "x-overflow": "reject-publish"}
        connection.channel().queue_declare(full, auto_delete=False, arguments=arguments)

    errors = [alone.publish(alone.outgoing("paid", queue=full))[0] for _ in range(3)]

    assert errors[0] is None
    assert errors[-1] == "the broker refused it: its queue is full, or failing"


def test_other_greenlets_get_their_turn_while_much_is_published(shop: Owner) -> None:
    def longest_gap() -> float:
        """As a part of the time that it takes to publish many."""
        gaps = [0.0]

        def tick() -> None:
            last = time.monotonic()
            while True:
                gevent.sleep(0.001)
                now = time.monotonic()
                gaps.append(now - last)
                last = now

        messages = [shop.outgoing("paid") for _ in range(10_000)]
        ticking = gevent.spawn(tick)
        gevent.sleep(0)
        began = time.monotonic()
        shop.publish(*messages)
        took = time.monotonic() - began
        ticking.kill()
        assert len(gaps) > 1
        return max(gaps) / took

    # Unfair, nothing else would run for most of it. The machine may stand still now and then.
    assert min(longest_gap() for _ in range(3)) < 1 / 3


# Work goes to the most special of the handlers' names


@pytest.mark.parametrize(
    ("handled", "name", "expected"),
    [
        (("a.b", "a.*", "#"), "a.b", ["a.b"]),
        (("a.b", "a.*", "#"), "a.c", ["a.*"]),
        (("a.b", "a.*", "#"), "c", ["#"]),
        (("a.*", "*.b"), "a.b", ["*.b", "a.*"]),
        (("a.#",), "a.b.c", ["a.#"]),
    ],
)
@pytest.mark.parametrize("key", [None, "k"])
def test_work_goes_to_the_queue_of_its_very_name_failing_that_to_patterns(
    alone: Owner, handled: tuple[str, ...], name: str, expected: list[str], key: str | None
) -> None:
    queues = queues_of(alone.topology, *handled)
    alone.link.declare(alone.topology, queues)

    assert alone.publish(alone.outgoing(name, broadcast=False, key=key)) == [None]

    kind = ":work:" if key is None else ":keyed-work:"
    taken = {queue.name: alone.link.size(queue.name) for queue in queues}
    assert sorted(q.split(kind)[1] for q, size in taken.items() if size) == sorted(expected)
    assert sum(taken.values()) == len(expected)


# Consuming


def fill(shop: Owner, count: int) -> str:
    """Publish so many; the queue where they lie."""
    assert set(shop.publish(*(shop.outgoing("paid", body=b"%d" % n) for n in range(count)))) == {
        None
    }
    return named(queues_of(shop.topology, "paid"), ":service:")


def bodies(owner_: Owner) -> list[int]:
    return [int(delivery.envelope.body) for delivery in owner_.received]


def test_no_more_than_the_prefetch_comes_unacknowledged(shop: Owner) -> None:
    queue = fill(shop, 10)
    shop.consume(queue, prefetch=3)
    shop.receive(3)
    shop.until(lambda: shop.link.size(queue) == 7, "the others to stay")
    assert len(shop.received) == 3

    shop.link.acknowledge(shop.received[:2])

    shop.receive(5)
    assert shop.link.size(queue) == 5


def test_each_queue_has_a_prefetch_of_its_own(rabbitmq: SharedRabbitMq, topology: Topology) -> None:
    queues = queues_of(topology, "a", "b")
    with owner(rabbitmq.url, topology, queues) as shop:
        shop.publish(*(shop.outgoing(name) for name in "ab" * 10))
        shop.consume(named(queues, ":service:shop:a"), prefetch=2)
        shop.consume(named(queues, ":service:shop:b"), prefetch=5)
        shop.receive(7)
        assert sorted(d.envelope.name for d in shop.received) == ["a"] * 2 + ["b"] * 5
        assert shop.link.size(named(queues, ":service:shop:b")) == 5


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
def test_acknowledged_in_any_order_nothing_comes_again(
    rabbitmq: SharedRabbitMq, shop: Owner, order: list[list[int]]
) -> None:
    queue = fill(shop, 7)
    shop.consume(queue)
    received = shop.receive(7)

    for group in order:
        shop.link.acknowledge([received[position] for position in group])

    shop.link.close()
    with owner(rabbitmq.url, shop.topology) as second:
        second.consume(queue)
        second.receive(1)
        assert bodies(second) == [6]
        assert second.link.size(queue) == 0


def test_what_was_not_acknowledged_comes_again_and_is_counted(
    rabbitmq: SharedRabbitMq, shop: Owner
) -> None:
    queue = fill(shop, 4)
    shop.consume(queue)
    first, second, third, _ = shop.receive(4)
    shop.link.acknowledge([first, third])
    shop.link.close()

    with owner(rabbitmq.url, shop.topology) as other:
        other.consume(queue)
        again = other.receive(2)
        # What an earlier link received is none of this one's business.
        other.link.acknowledge([second])
        other.link.requeue([second])
        assert [(int(d.envelope.body), d.deliveries) for d in again] == [(1, 1), (3, 1)]
        other.link.acknowledge(again)
        assert other.link.size(queue) == 0


def test_given_back_it_is_delivered_again_with_the_count(shop: Owner) -> None:
    queue = fill(shop, 1)
    shop.consume(queue)

    for count in range(3):
        delivery = shop.receive(1)[0]
        assert delivery.deliveries == count
        shop.received.clear()
        shop.link.requeue([delivery])
    shop.link.acknowledge(shop.receive(1))

    assert shop.link.size(queue) == 0


def test_an_instance_queue_tells_whether_it_was_delivered_before(
    rabbitmq: SharedRabbitMq, topology: Topology
) -> None:
    queues = queues_of(topology, "paid", scope="instance")
    with owner(rabbitmq.url, topology, queues) as shop:
        shop.publish(shop.outgoing("paid"))
        shop.consume(named(queues, ":instance:"))
        first = shop.receive(1)[0]
        shop.link.requeue([first])
        second = shop.receive(2)[1]
        assert (first.deliveries, second.deliveries) == (0, 1)


def test_an_instance_queue_goes_when_its_instance_is_gone(
    rabbitmq: SharedRabbitMq, topology: Topology
) -> None:
    topology.instance_expiry = 0.2
    queues = queues_of(topology, "paid", scope="instance")
    with owner(rabbitmq.url, topology, queues):
        pass

    with connect(rabbitmq.url) as connection:

        def is_gone() -> bool:
            gevent.sleep(2 * topology.instance_expiry)  # asking keeps it
            try:
                connection.channel().queue_declare(named(queues, ":instance:"), passive=True)
            except amqp.NotFound:
                return True
            return False

        wait_until(is_gone, "the queue to expire")


def test_one_consumer_at_a_time_takes_events_with_a_key(
    rabbitmq: SharedRabbitMq, shop: Owner
) -> None:
    queue = named(queues_of(shop.topology, "paid"), ":keyed:")
    shop.consume(queue, prefetch=1)
    with owner(rabbitmq.url, shop.topology) as second:
        second.consume(queue, prefetch=1)
        shop.publish(*(shop.outgoing("paid", key="k", body=b"%d" % n) for n in range(4)))

        shop.link.acknowledge(shop.receive(1))
        shop.receive(2)
        shop.link.close()

        second.receive(1)
        assert bodies(shop) == [0, 1]
        assert bodies(second) == [1]


def test_after_cancel_nothing_more_comes_and_the_rest_can_be_acknowledged(
    rabbitmq: SharedRabbitMq, shop: Owner
) -> None:
    queue = fill(shop, 5)
    shop.consume(queue, prefetch=2)
    received = shop.receive(2)

    shop.link.cancel(queue)
    shop.link.cancel(queue)
    shop.link.acknowledge(received)

    shop.until(lambda: shop.link.size(queue) == 3, "the others to stay")
    assert len(shop.received) == 2


# Dead letters


def test_a_message_that_ends_its_consumers_goes_to_the_dead_letters(
    rabbitmq: SharedRabbitMq, topology: Topology
) -> None:
    queues = queues_of(topology, "paid")
    queue = named(queues, ":service:")
    with owner(rabbitmq.url, topology, queues, delivery_limit=2) as shop:
        shop.publish(shop.outgoing("paid", body=b'"poison"'))
        for _ in range(3):
            shop.link.requeue([shop.take(queue)])

        dead = shop.take(topology.dead)

    assert dead.envelope.name == "paid"
    assert dead.envelope.body == b'"poison"'
    assert dead.envelope.dead is not None
    assert (dead.envelope.dead.reason, dead.envelope.dead.queue) == ("crashed", queue)
    assert abs(dead.envelope.dead.time - time.time()) < LIMIT + 2


def test_a_dead_letter_stays_however_often_it_is_looked_at(alone: Owner) -> None:
    dead = alone.topology.dead
    alone.publish(alone.outgoing("paid", queue=dead))

    for _ in range(30):
        alone.link.requeue([alone.take(dead)])

    alone.until(lambda: alone.link.size(dead) == 1, "the dead letter")


# Messages of other programs


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
def test_what_another_program_published_is_taken(
    rabbitmq: SharedRabbitMq, topology: Topology, properties: dict[str, Any]
) -> None:
    queues = queues_of(topology, "paid.*")
    with owner(rabbitmq.url, topology, queues) as shop:
        for queue in queues:
            shop.consume(queue.name)
        with connect(rabbitmq.url) as connection:
            channel = connection.channel()
            for exchange, key in (
                (topology.events, "paid.late"),
                (topology.work[0], "once.paid.x"),
            ):
                channel.basic_publish(amqp.Message(b"\xff\x00", **properties), exchange, key)

        received = shop.receive(2)
        shop.link.acknowledge(received)

    assert sorted((d.envelope.name, d.envelope.body) for d in received) == [
        ("paid.late", b"\xff\x00"),
        ("paid.x", b"\xff\x00"),
    ]


# Looking into queues


def test_sizes_and_purging(shop: Owner) -> None:
    queue = fill(shop, 3)

    assert shop.link.size(queue) == 3
    assert shop.link.purge(queue) == 3
    assert shop.link.size(queue) == 0
    assert shop.link.take(queue) is None


def test_a_queue_that_is_not_there_is_empty(shop: Owner) -> None:
    queue = fill(shop, 1)
    taken = shop.take(queue)

    assert shop.link.size("nowhere") == shop.link.purge("nowhere") == 0
    shop.link.remove("nowhere")
    assert shop.link.take("nowhere") is None

    # ... and what was taken elsewhere is still taken.
    assert shop.link.size(queue) == 0
    shop.link.acknowledge([taken])


# Declaring


def test_everything_may_be_declared_again(shop: Owner) -> None:
    shop.link.declare(shop.topology, queues_of(shop.topology, "paid"))
    shop.link.declare(shop.topology)

    assert shop.publish(shop.outgoing("paid", broadcast=False)) == [None]


def test_other_arguments_are_refused_by_name(rabbitmq: SharedRabbitMq, shop: Owner) -> None:
    queues = queues_of(shop.topology, "paid")
    link = AmqpLink(rabbitmq.url, delivery_limit=77)
    link.open()

    with pytest.raises(LinkRefused) as caught:
        link.declare(shop.topology, queues)

    text = str(caught.value)
    assert "another 'x-delivery-limit'" in text
    assert any(queue.name in text for queue in queues)
    assert "delete it" in text
    assert shop.publish(shop.outgoing("paid", broadcast=False)) == [None]


def test_another_kind_of_exchange_is_refused_by_name(
    rabbitmq: SharedRabbitMq, topology: Topology
) -> None:
    with connect(rabbitmq.url) as connection:
        channel = connection.channel()
        channel.exchange_declare(topology.events, "fanout", durable=True, auto_delete=False)
    link = AmqpLink(rabbitmq.url)
    link.open()

    with pytest.raises(LinkRefused, match=r"exchange '.*events' exists with another 'type'"):
        link.declare(topology)


def test_a_queue_that_is_deleted_under_its_consumer_ends_the_link(
    rabbitmq: SharedRabbitMq, shop: Owner
) -> None:
    queue = named(queues_of(shop.topology, "paid"), ":service:")
    shop.consume(queue)
    with connect(rabbitmq.url) as connection:
        connection.channel().queue_delete(queue)

    with pytest.raises(LinkLost, match="was deleted"):
        shop.receive(1)
