"""AmqpLink and the ladder of delays: what comes when, and where to."""

import itertools
import time
from collections.abc import Iterator

import pytest

from gemstone_sync.event.link import Outgoing
from gemstone_sync.event.links.ladder import LONGEST, SHORTEST, step_for
from gemstone_sync.event.topology import Topology
from tests.support.rabbitmq import SharedRabbitMq, connect, shared_rabbitmq

from .amqp_support import Owner, named, owner, queues_of


@pytest.fixture(scope="module")
def rabbitmq() -> Iterator[SharedRabbitMq]:
    with shared_rabbitmq() as rabbitmq:
        yield rabbitmq


@pytest.fixture
def shop(rabbitmq: SharedRabbitMq) -> Iterator[Owner]:
    """A link of a service that handles "paid", and relays what is due."""
    topology = Topology(rabbitmq.new_application())
    with owner(rabbitmq.url, topology, queues_of(topology, "paid")) as shop:
        yield shop


# The ladder


@pytest.mark.parametrize("delay", [0.0001, 0.124, 0.125, 0.13, 1, 30, 86400, 40 * 86400, 1e9])
def test_down_the_ladder_a_message_is_late_by_a_shortest_step_at_most(delay: float) -> None:
    left = delay * 1000
    steps = []
    while left > 0:
        steps.append(step_for(left / 1000))
        left -= steps[-1]

    assert -left < SHORTEST
    assert steps == sorted(steps, reverse=True)
    fewest = 26 if delay * 1000 < 2 * LONGEST else delay * 1000 / LONGEST + 26
    assert len(steps) <= fewest


def test_there_are_few_steps_and_each_fits_a_brokers_integer() -> None:
    steps = {step_for(1.2**exponent / 1000) for exponent in range(200)}

    assert len(steps) == 25
    assert (min(steps), max(steps)) == (SHORTEST, LONGEST)
    assert max(steps) < 2**31


# Delayed events


def relay_until_due(shop: Owner, count: int) -> list[tuple[str, float]]:
    """Do as processors do, until so many are due: name and seconds after their moment."""
    late: list[tuple[str, float]] = []
    for position in itertools.count():
        delivery = shop.receive(position + 1)[position]
        envelope = delivery.envelope
        assert envelope.due is not None
        left = envelope.due - time.time()
        if left > 0:
            shop.link.publish(
                [
                    Outgoing(
                        envelope,
                        shop.topology.address_of(envelope),
                        lambda error: shop.settled.append(("relayed", error)),
                        left,
                    )
                ]
            )
        else:
            late.append((envelope.name, -left))
        shop.link.acknowledge([delivery])
        if len(late) == count:
            break
    return late


def test_delayed_events_come_in_the_order_of_their_moments_none_early_none_very_late(
    shop: Owner,
) -> None:
    delays = {"c": 0.9, "a": 0.05, "b": 0.4, "d": 1.3}
    shop.consume(shop.topology.due)

    errors = shop.publish(
        *(shop.outgoing(name, delay=delay, key="k") for name, delay in delays.items())
    )
    late = relay_until_due(shop, len(delays))

    assert set(errors) == {None}
    assert [name for name, _seconds in late] == ["a", "b", "c", "d"]
    # One shortest step, and what a busy machine takes for the way.
    assert max(seconds for _name, seconds in late) < SHORTEST / 1000 + 5


def test_what_comes_through_a_delay_knows_where_it_goes_and_nothing_of_the_way(
    shop: Owner,
) -> None:
    event = shop.outgoing("paid", broadcast=False, key="k", delay=0.1, attempts=2, handler="h")
    shop.consume(shop.topology.due)
    before = time.time()

    shop.publish(event)
    (delivery,) = shop.receive(1)

    due = delivery.envelope.due
    assert due is not None
    assert before + 0.1 - 0.002 <= due <= time.time()
    assert delivery.deliveries == 0
    assert delivery.envelope.with_changes(due=None, time=event.envelope.time) == event.envelope
    assert shop.topology.address_of(delivery.envelope) == event.address


def test_a_moment_that_is_set_already_stays(shop: Owner) -> None:
    shop.consume(shop.topology.due)

    shop.publish(shop.outgoing("paid", due=1800000000.25, delay=0.1))

    assert shop.receive(1)[0].envelope.due == 1800000000.25


def test_ever_so_many_delays_make_few_queues(shop: Owner, rabbitmq: SharedRabbitMq) -> None:
    delays = [60 + 0.37 * number for number in range(100)]

    assert set(shop.publish(*(shop.outgoing("paid", delay=delay) for delay in delays))) == {None}

    sizes = {step: shop.link.size(shop.topology.delay_queue(step)) for step in (32_000, 64_000)}
    assert sizes == {
        32_000: sum(delay < 64 for delay in delays),
        64_000: sum(d >= 64 for d in delays),
    }


def test_a_step_that_was_deleted_is_an_error_once_and_then_made_anew(
    shop: Owner, rabbitmq: SharedRabbitMq
) -> None:
    step = shop.topology.delay_queue(64_000)
    shop.publish(shop.outgoing("paid", delay=100))
    with connect(rabbitmq.url) as connection:
        connection.channel().queue_delete(step)

    errors = [shop.publish(shop.outgoing("paid", delay=100))[0] for _ in range(2)]

    assert errors == [f"there is no queue {step!r} any more", None]
    assert shop.link.size(step) == 1


def test_other_events_do_not_wait_for_delayed_ones(shop: Owner) -> None:
    shop.consume(named(queues_of(shop.topology, "paid"), ":service:"))

    shop.publish(shop.outgoing("paid", delay=100), shop.outgoing("paid"))

    assert shop.receive(1)[0].envelope.due is None
