"""Where events go, and that whoever is to get them has a queue bound there."""

import re
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemstone_sync.event.envelope import Envelope
from gemstone_sync.event.handlers import Handler, Subscriber
from gemstone_sync.event.names import best_match, matches
from gemstone_sync.event.topology import Address, Binding, Queue, Topology

from .test_names import names, patterns

keys = st.none() | st.text(min_size=1, max_size=5)


def handler(pattern: str, **options: Any) -> Handler:
    return Handler(pattern=pattern, function=print, **{"name": f"on {pattern}", **options})


def queues_of(
    *handlers: Handler, service: str = "shop", instance: str = "i1", **options: Any
) -> dict[str, Queue]:
    """The queues of a service by their names."""
    subscriber = Subscriber(service=service, instance=instance, handlers=handlers)
    return {queue.name: queue for queue in Topology(**options).queues_of(subscriber)}


def event(name: str, **values: Any) -> Envelope:
    return Envelope(name=name, body=b"1", **values)


def routed(queues: Iterable[Queue], address: Address) -> list[Queue]:
    """Where a topic exchange puts it, alternate exchanges of work left aside."""
    return [
        queue
        for queue in queues
        if any(
            binding.exchange == address.exchange and matches(binding.pattern, address.routing_key)
            for binding in queue.bindings
        )
    ]


@given(st.lists(patterns, min_size=1, max_size=4, unique=True), names, keys, st.integers(1, 5))
def test_every_handler_of_a_broadcast_event_gets_it_exactly_once(
    found: list[str], name: str, key: str | None, shards: int
):
    handlers = [handler(pattern) for pattern in found]
    handlers += [handler(pattern, scope="instance", name=f"each {pattern}") for pattern in found]
    address = Topology(shards=shards).address_of(event(name, key=key))
    reached = [
        handler.name
        for queue in routed(queues_of(*handlers, shards=shards).values(), address)
        for handler in queue.handlers
        if matches(handler.pattern, name)
    ]
    assert sorted(reached) == sorted(h.name for h in handlers if matches(h.pattern, name))


@given(st.lists(patterns, min_size=1, max_size=4, unique=True), names, keys)
def test_work_goes_to_the_queue_of_the_best_match_only(
    found: list[str], name: str, key: str | None
):
    topology = Topology()
    queues = queues_of(*map(handler, found)).values()
    address = topology.address_of(event(name, key=key, broadcast=False))
    assert (address.exchange, address.mandatory) == (topology.work[0], True)
    # RabbitMQ: the first of the alternate exchanges that has a queue for it.
    for exchange in topology.work:
        taken = routed(queues, Address(exchange, address.routing_key))
        if taken:
            break
    best = best_match(found, name)
    assert (best is None) == (not taken)
    if best is not None:
        assert best in {handler.pattern for queue in taken for handler in queue.handlers}
        assert all(queue.keyed == (key is not None) for queue in taken)


def test_events_with_one_key_go_to_one_queue_whatever_their_names():
    topology = Topology(shards=4)
    queues = queues_of(handler("a"), handler("b"), shards=4).values()
    shared = [queue for queue in queues if ":keyed:" in queue.name]
    assert len(shared) == 4
    for number in range(20):
        first, second = (
            routed(shared, topology.address_of(event(name, key=f"k{number}"))) for name in "ab"
        )
        assert len(first) == 1
        assert first == second


def test_keys_of_any_text_are_spread_over_the_shards_the_same_in_every_process():
    topology = Topology(shards=4)
    shards = [topology.address_of(event("a", key=f"k{n}")).routing_key[0] for n in range(100)]
    assert set(shards) == set("0123")
    assert topology.address_of(event("a", key="k1")).routing_key == "1.a"
    assert topology.address_of(event("a", key="\udcff")).exchange == "gemstone.keyed"


def test_a_retry_goes_to_its_queue_and_a_broadcast_need_not_reach_anybody():
    queue = "gemstone:1:service:shop:a"
    retry = event("a", queue=queue, key="k", broadcast=False)
    assert Topology().address_of(retry) == Address("", queue, mandatory=True)
    assert not Topology().address_of(event("a")).mandatory


def test_an_event_that_names_a_queue_of_somebody_elses_goes_the_way_of_all():
    topology = Topology()
    assert topology.address_of(event("a", queue="theirs")) == topology.address_of(event("a"))


@pytest.mark.parametrize(
    ("other", "own"),
    [
        ({"instance": "i2"}, {"instance:shop:i1"}),
        ({"service": "store"}, {"service:shop:a", "keyed:shop:0", "instance:shop:i1"}),
        (
            {"application": "two"},
            {"work:a", "keyed-work:a", "service:shop:a", "keyed:shop:0", "instance:shop:i1"},
        ),
    ],
    ids=["instances", "services", "applications"],
)
def test_others_share_queues_as_far_as_they_share_the_work(other: dict[str, str], own: set[str]):
    handlers = (handler("a"), handler("a", scope="instance", name="each"))
    left = set(queues_of(*handlers)) - set(queues_of(*handlers, **other))
    assert left == {f"gemstone:1:{name}" for name in own}


def test_only_the_queue_of_an_instance_goes_by_itself():
    queues = queues_of(handler("a"), handler("b", scope="instance"), instance_expiry=30)
    expiries = {name: queue.expires for name, queue in queues.items() if queue.expires is not None}
    assert expiries == {"gemstone:1:instance:shop:i1": 30}


def test_of_two_handlers_of_one_event_one_takes_work():
    queues = queues_of(handler("a", name="1"), handler("a", name="2"))
    for kind in ("work", "keyed-work"):
        assert [handler.name for handler in queues[f"gemstone:1:{kind}:a"].handlers] == ["1"]


@pytest.mark.parametrize(
    ("bounds", "expected"), [((None, None), None), ((3, None), None), ((3, 5), 8), ((1,), 1)]
)
def test_a_queue_is_handled_as_often_at_once_as_its_handlers_allow(
    bounds: tuple[int | None, ...], expected: int | None
):
    handlers = tuple(handler("a", concurrency=bound) for bound in bounds)
    assert Queue("q", (Binding("e", "a"),), handlers).concurrency == expected


def test_odd_names_make_names_of_queues_that_differ_and_fit():
    services = ["a:b", "a%3Ab", "é", "x" * 300, "x" * 301, "a b", "a\n"]
    queues = [name for service in services for name in queues_of(handler("a:b"), service=service)]
    assert len(set(queues)) == 2 + 2 * len(services)
    for name in queues:
        assert re.fullmatch(r"[\x21-\x7e]{1,255}", name)


@pytest.mark.parametrize("application", ["", "a b", "a:b", "é", "x" * 61, None, 5])
def test_an_application_has_a_plain_name(application: Any):
    with pytest.raises(ValueError, match="application is a text"):
        Topology(application)
