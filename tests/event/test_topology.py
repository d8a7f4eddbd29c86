"""Where events go, and that whoever is to get them has a queue bound there."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemstone_sync.event.envelope import Envelope
from gemstone_sync.event.handlers import Handler, Subscriber
from gemstone_sync.event.names import best_match, matches
from gemstone_sync.event.topology import Address, Binding, Queue, Topology

words = st.sampled_from(["a", "b", "cc"])
names = st.lists(words, min_size=1, max_size=4).map(".".join)
patterns = st.lists(words | st.sampled_from(["*", "#"]), min_size=1, max_size=4).map(".".join)
keys = st.none() | st.text(min_size=1, max_size=5)


def handler(pattern: str, **options: Any) -> Handler:
    name = options.pop("name", f"on {pattern}")
    return Handler(pattern=pattern, function=print, name=name, **options)


def subscriber(*handlers: Handler, service: str = "shop", instance: str = "i1") -> Subscriber:
    return Subscriber(service=service, instance=instance, handlers=handlers)


def event(name: str, **values: Any) -> Envelope:
    return Envelope(name=name, body=b"1", **values)


def routed(queues: list[Queue], address: Address) -> list[Queue]:
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
    topology = Topology(shards=shards)
    handlers = [handler(pattern) for pattern in found]
    handlers += [handler(pattern, scope="instance", name=f"each {pattern}") for pattern in found]
    queues = topology.queues_of(subscriber(*handlers))
    reached = [
        handler.name
        for queue in routed(queues, topology.address_of(event(name, key=key)))
        for handler in queue.handlers
        if matches(handler.pattern, name)
    ]
    assert sorted(reached) == sorted(h.name for h in handlers if matches(h.pattern, name))


@given(st.lists(patterns, min_size=1, max_size=4, unique=True), names, keys)
def test_work_goes_to_the_queue_of_the_best_match_only(
    found: list[str], name: str, key: str | None
):
    topology = Topology()
    queues = topology.queues_of(subscriber(*map(handler, found)))
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
    queues = topology.queues_of(subscriber(handler("a"), handler("b")))
    shared = [queue for queue in queues if ":keyed:" in queue.name]
    assert len(shared) == 4
    for number in range(20):
        places = [
            routed(shared, topology.address_of(event(name, key=f"k{number}"))) for name in "ab"
        ]
        assert len(places[0]) == 1
        assert places[0] == places[1]


def test_keys_are_spread_over_the_shards_the_same_in_every_process():
    topology = Topology(shards=4)
    shards = [topology.address_of(event("a", key=f"k{n}")).routing_key[0] for n in range(100)]
    assert set(shards) == set("0123")
    assert topology.address_of(event("a", key="k1")).routing_key == "1.a"


def test_a_key_of_any_text_has_a_shard():
    assert Topology(shards=3).address_of(event("a", key="\udcff")).exchange == "gemstone.keyed"


def test_a_retry_goes_to_its_queue_and_nowhere_else():
    address = Topology().address_of(event("a", queue="q", key="k", broadcast=False))
    assert address == Address("", "q", mandatory=True)


def test_a_broadcast_need_not_reach_anybody():
    assert not Topology().address_of(event("a")).mandatory


def test_instances_of_a_service_share_their_queues_except_those_of_each_instance():
    topology = Topology()
    handlers = (handler("a"), handler("b", scope="instance"))
    first, second = (
        {queue.name for queue in topology.queues_of(subscriber(*handlers, instance=instance))}
        for instance in ("i1", "i2")
    )
    assert first - second == {"gemstone:1:instance:shop:i1"}
    assert len(first & second) == len(first) - 1


def test_services_share_the_queues_of_work_only():
    topology = Topology()
    first, second = (
        {queue.name for queue in topology.queues_of(subscriber(handler("a"), service=service))}
        for service in ("shop", "store")
    )
    assert first & second == {"gemstone:1:work:a", "gemstone:1:keyed-work:a"}


def test_applications_on_one_broker_share_nothing():
    names = [
        {queue.name for queue in Topology(application).queues_of(subscriber(handler("a")))}
        for application in ("one", "two")
    ]
    assert not names[0] & names[1]


def test_only_the_queue_of_an_instance_goes_by_itself():
    queues = Topology(instance_expiry=30).queues_of(
        subscriber(handler("a"), handler("a", scope="instance", name="each"))
    )
    assert {queue.name.split(":")[2]: queue.expires for queue in queues} == {
        "work": None,
        "keyed-work": None,
        "service": None,
        "keyed": None,
        "instance": 30,
    }


def test_of_two_handlers_of_one_event_one_takes_work():
    queues = Topology().queues_of(subscriber(handler("a", name="1"), handler("a", name="2")))
    assert {
        queue.name: [handler.name for handler in queue.handlers]
        for queue in queues
        if "work:" in queue.name
    } == {"gemstone:1:work:a": ["1"], "gemstone:1:keyed-work:a": ["1"]}


@pytest.mark.parametrize(
    ("bounds", "expected"), [((None, None), None), ((3, None), None), ((3, 5), 5), ((1,), 1)]
)
def test_a_queue_is_handled_as_often_at_once_as_its_handlers_allow(
    bounds: tuple[int | None, ...], expected: int | None
):
    handlers = tuple(handler("a", concurrency=bound) for bound in bounds)
    assert Queue("q", (Binding("e", "a"),), handlers).concurrency == expected


def test_odd_names_make_names_of_queues_that_differ_and_fit():
    topology = Topology()
    services = ["a:b", "a%3Ab", "é", "x" * 300, "x" * 301, "a b", "a\n"]
    names = [
        queue.name
        for service in services
        for queue in topology.queues_of(subscriber(handler("a:b"), service=service))
        if ":service:" in queue.name
    ]
    assert len(set(names)) == len(services)
    for name in names:
        assert re.fullmatch(r"[\x21-\x7e]{1,255}", name)


@pytest.mark.parametrize("application", ["", "a b", "a:b", "é", "x" * 61, None, 5])
def test_an_application_has_a_plain_name(application: Any):
    with pytest.raises(ValueError, match="application is a text"):
        Topology(application)
