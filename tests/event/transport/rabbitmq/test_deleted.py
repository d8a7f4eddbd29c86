"""What RabbitMQ has is deleted under services that run: they mend it, and lose nothing."""

import time

import gevent
import pytest

from gemstone_sync import EventNotDelivered
from gemstone_sync.event import deadletters
from gemstone_sync.event.transport import RabbitMqEventTransport
from gemstone_sync.event.transport.rabbitmq import publishing
from tests.event.suite.services import Network, handler
from tests.support.rabbitmq import connect
from tests.support.waiting import LIMIT, wait_until, why_not_ready


@pytest.fixture
def broker(shared_broker):
    return shared_broker


@pytest.fixture
def application(shared_broker):
    return shared_broker.new_application()


@pytest.fixture
def channel(shared_broker):
    """What an administrator works with."""
    with connect(shared_broker.url) as connection:
        yield connection.channel()


def queue_of(node, part):
    (queue,) = (
        queue
        for queue in node.event_transports[0]._receptions[0].queues
        if f":{part}:" in queue.name
    )
    return queue


@pytest.mark.parametrize("how", ["exchange", "binding", "queue"])
@pytest.mark.parametrize(
    "key",
    # Each waits for the consumer to bind again.
    [pytest.param(None, id="plain"), pytest.param("k", id="keyed", marks=pytest.mark.slow)],
)
def test_what_is_emitted_after_it_was_deleted_is_delivered(network, channel, how, key):
    node = network.start("shop", handler("paid"))
    network.emit("paid", 0, key=key)
    network.wait_for(1)
    queue = queue_of(node, "service" if key is None else "keyed")
    if how == "exchange":
        channel.exchange_delete(queue.bindings[0].exchange)
    elif how == "binding":
        channel.queue_unbind(queue.name, queue.bindings[0].exchange, queue.bindings[0].pattern)
    else:
        channel.queue_delete(queue.name)
    for body in range(1, 4):
        network.emit("paid", body, key=key)
    network.wait_for(4)
    assert [body for _, _, body in network.told] == [0, 1, 2, 3]
    wait_until(lambda: why_not_ready(node) is None, "ready again")


def test_another_emitter_declares_a_deleted_exchange_first(network, channel):
    node = network.start("shop", handler("paid"))
    network.emit("paid", 0)
    network.wait_for(1)
    channel.exchange_delete(queue_of(node, "service").bindings[0].exchange)
    network.start("newcomer")
    network.emit("paid", 1)
    network.wait_for(2)


@pytest.mark.slow  # it waits for consumers
def test_while_nobody_has_bound_anew_emitting_raises_and_it_is_not_ready(network, channel):
    node = network.start("shop", handler("paid"))
    network.emit("paid", 0)
    network.wait_for(1)
    exchange = queue_of(node, "service").bindings[0].exchange
    node.stop()
    channel.exchange_delete(exchange)
    emitting = gevent.spawn(network.emit, "paid", 1)
    wait_until(lambda: "nothing is bound" in str(why_not_ready(network.emitter)), "not ready")
    with pytest.raises(EventNotDelivered, match=r"was deleted; nobody has bound anew"):
        emitting.get(timeout=LIMIT)
    assert why_not_ready(network.emitter) is None
    network.start("shop", handler("paid"))
    network.emit("paid", 2)
    assert network.wait_for(2)[1][2] == 2


@pytest.mark.slow  # it waits for consumers once
def test_an_event_that_nobody_handles_any_more_is_no_fault(network, channel, monkeypatch):
    network.emit("paid", 0)
    node = network.start("shop", handler("paid", scope="instance"))
    queue = queue_of(node, "instance")
    wait_until(lambda: _emitted_to(network, node), "it is handled")
    node.stop()
    channel.queue_delete(queue.name)
    network.emit("paid", 2)
    monkeypatch.setattr(publishing, "_MENDED", 2 * LIMIT)
    began = time.monotonic()
    for body in range(20):
        network.emit("paid", body)
    assert time.monotonic() - began < LIMIT  # not as long as consumers have to bind again


def _emitted_to(network, node):
    """What nobody handles is asked for once a minute only."""
    known = network.emitter.event_transports[0]._link_options["known"]
    known.unrouted.clear()
    network.emit("paid", 1)
    return "paid" in known.routed


@pytest.mark.parametrize("which", ["dead", "delay"])
def test_a_deleted_queue_of_our_own_is_declared_again_and_nothing_is_run_again(
    network, channel, which
):
    def fail(body):
        raise ValueError(body)

    retries = 0 if which == "dead" else 1
    node = network.start("shop", handler("paid", fail, retries=retries, backoff=0.25))
    topology = node.event_transports[0].topology
    network.emit("paid", 0)
    network.letters()
    channel.queue_delete(topology.dead if which == "dead" else topology.delay_queue(250))
    network.emit("paid", 1)
    wait_until(
        lambda: 1 in [each.body for each in deadletters.list(node.event_transports[0])],
        "the dead letter",
    )
    assert [body for _, _, body in network.told].count(1) == 1 + retries


@pytest.mark.slow  # the tests' own RabbitMQ
@pytest.mark.parametrize("what", ["policy", "permissions"])
def test_policies_and_permissions_come_and_go(own_broker, what):
    application = f"t{time.monotonic_ns()}"
    control = own_broker.control

    def make_transport(**options):
        return RabbitMqEventTransport.from_url(
            own_broker.url, application=application, shards=1, **options
        )

    network = Network(make_transport)
    try:
        node = network.start("shop", handler("paid"))
        network.emit("paid", 0)
        if what == "policy":
            control("set_policy", "p", f"^{application}", '{"max-length": 10}')
            network.emit("paid", 1)
            control("clear_policy", "p")
            network.emit("paid", 2)
        else:
            control("clear_permissions", "guest")
            control("close_all_connections", "test")
            wait_until(lambda: "refused for" in str(why_not_ready(node)), "told")
            with pytest.raises(EventNotDelivered, match="refused for"):
                network.emit("paid", 1, timeout=1)
            control("set_permissions", "guest", ".*", ".*", ".*")
            wait_until(lambda: why_not_ready(node) is None, "ready again", 60)
            wait_until(lambda: why_not_ready(network.emitter) is None, "ready", 60)
            network.emit("paid", 1)
            network.emit("paid", 2)
        network.wait_for(3)
    finally:
        control("set_permissions", "guest", ".*", ".*", ".*")
        network.close()


def test_what_nobody_ever_handled_holds_up_no_emitter_when_it_is_asked_about_anew(
    network, monkeypatch
):
    """Confirms of those that were sent before, without asking, say nothing."""
    monkeypatch.setattr(publishing, "_MENDED", 2 * LIMIT)  # as long as consumers have to bind again
    known = network.emitter.event_transports[0]._link_options["known"]

    def emit(number):
        if number % 5 == 0:
            known.unrouted.update(dict.fromkeys(known.unrouted, 0.0))
        network.emit("unheard", number)

    began = time.monotonic()
    for first in range(0, 200, 20):
        gevent.joinall([gevent.spawn(emit, first + n) for n in range(20)], raise_error=True)
    assert time.monotonic() - began < LIMIT
    assert known.routed == set()
