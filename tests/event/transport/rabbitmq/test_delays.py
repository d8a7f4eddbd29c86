"""AmqpLink and the ladder of delays: what comes when, and where to."""

import time

import pytest

from gemstone_sync.event.transport.rabbitmq.queues import STEPS, step_for
from tests.support.rabbitmq import SharedRabbitMq, connect


@pytest.mark.parametrize("delay", [0.0001, 0.124, 0.125, 0.13, 1, 30, 86400, 40 * 86400, 1e9])
def test_down_the_ladder_a_message_is_late_by_a_shortest_step_at_most(delay):
    left = delay * 1000
    steps = []
    while left > 0:
        steps.append(step_for(left / 1000))
        left -= steps[-1]
    assert -left < STEPS[0]
    assert steps == sorted(steps, reverse=True)
    fewest = 26 if delay * 1000 < 2 * STEPS[-1] else delay * 1000 / STEPS[-1] + 26
    assert len(steps) <= fewest


def test_there_are_few_steps_and_each_fits_a_brokers_integer():
    steps = {step_for(1.2**exponent / 1000) for exponent in range(200)}
    assert len(steps) == 25
    assert (min(steps), max(steps)) == (STEPS[0], STEPS[-1])
    assert max(steps) < 2**31


def test_what_comes_through_a_delay_knows_where_it_goes_and_nothing_of_the_way(shop):
    event = shop.outgoing("paid", broadcast=False, key="k", delay=0.1, attempts=2, handler="h")
    shop.consume(shop.topology.due)
    before = time.time()

    shop.publish(event, shop.outgoing("set", due=1800000000.25, delay=0.1))
    delivery, set_already = sorted(shop.receive(2), key=lambda each: each.envelope.name)

    due = delivery.envelope.due
    assert due is not None
    assert before + 0.1 - 0.002 <= due <= time.time()
    assert delivery.deliveries == 0
    assert delivery.envelope.with_changes(due=None, time=event.envelope.time) == event.envelope
    assert shop.topology.address_of(delivery.envelope) == event.address
    assert set_already.envelope.due == 1800000000.25


def test_ever_so_many_delays_make_few_queues_and_hold_up_nobody(shop):
    delays = [60 + 0.37 * number for number in range(100)]
    shop.consume(shop.queue("paid"))
    events = [shop.outgoing("paid", delay=delay) for delay in delays]
    assert set(shop.publish(*events, shop.outgoing("paid"))) == {None}
    assert shop.receive(1)[0].envelope.due is None
    sizes = {step: shop.link.size(shop.topology.delay_queue(step)) for step in (32_000, 64_000)}
    assert sizes == {
        32_000: sum(delay < 64 for delay in delays),
        64_000: sum(delay >= 64 for delay in delays),
    }


def test_a_delayed_event_does_not_tell_that_its_exchange_is_bound_again(shop):
    doubtful = shop.link._known.doubtful
    doubtful.add(shop.topology.events)
    shop.publish(shop.outgoing("paid", delay=60))
    assert doubtful == {shop.topology.events}
    shop.publish(shop.outgoing("paid"))
    assert doubtful == set()


def test_a_step_that_was_deleted_is_made_anew(shop):
    step = shop.topology.delay_queue(64_000)
    shop.publish(shop.outgoing("paid", delay=100))
    with connect(SharedRabbitMq.url) as connection:
        connection.channel().queue_delete(step)
    assert [shop.publish(shop.outgoing("paid", delay=100))[0] for _ in range(2)] == [None, None]
    assert shop.link.size(step) == 2


def test_a_step_that_the_broker_does_not_make_is_refused_and_holds_up_nobody_else(shop):
    """A virtual host that may have no more queues refuses it in the same way."""
    with connect(SharedRabbitMq.url) as connection:
        connection.channel().queue_declare(shop.topology.delay_queue(64_000), auto_delete=False)
    refused, *others = shop.publish(
        shop.outgoing("paid", delay=100), shop.outgoing("paid"), shop.outgoing("paid", delay=40)
    )
    assert refused is not None
    assert "makes no queue for it: PRECONDITION_FAILED" in refused
    assert others == [None, None]
