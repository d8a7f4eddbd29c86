"""The order of a key, when its queue goes from one consumer to the next."""

import time

import pytest

from ..support import amqp, queues_of


@pytest.fixture
def shops(shared_broker, topology):
    """Two links of one service: while one consumes the keyed queue, the other waits for it."""
    queues = queues_of(topology, "paid")
    with (
        amqp(shared_broker.url, topology, queues) as first,
        amqp(shared_broker.url, topology, queues) as second,
    ):
        yield first, second


def test_a_queue_that_is_given_up_goes_on_where_it_was_once_nothing_of_it_runs(shops):
    first, second = shops
    queue = first.fill(10, key="k")
    first.consume(queue, 4)
    zero, one, two, three = first.receive(4)
    second.consume(queue)
    first.link.acknowledge([zero])
    first.link.cancel(queue)
    first.link.requeue([three, two])
    for each in (first, second):
        each.link.size(queue)
    second.link.pump()
    assert second.received == []

    first.link.acknowledge([one])
    second.receive(8)
    assert second.bodies == [2, 3, 4, 5, 6, 7, 8, 9]


def test_the_next_consumer_gets_in_order_what_was_renewed(shops):
    """RabbitMQ gives a consumer's messages to the next one as they came to the first one."""
    first, second = shops
    queue = first.fill(1, key="k")
    first.consume(queue)
    first.receive(1)
    moment = time.monotonic()
    for number in (1, 2):
        first.publish(first.outgoing("paid", body=b"%d" % number, key="k"))
    first.receive(3)
    # One more is on its way already.
    second.publish(second.outgoing("paid", body=b"3", key="k"))
    first.link._consuming[True].renew(moment)
    first.receive(4)
    first.until(lambda: not first.link._consuming[True]._renewing, "the renewed")
    assert first.bodies == [0, 1, 2, 3]
    second.consume(queue)
    first.link.abandon()
    second.receive(4)
    assert second.bodies == [0, 1, 2, 3]
