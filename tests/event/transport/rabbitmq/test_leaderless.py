"""Quorum queues without a leader: what a RabbitMQ leaves that is killed just as it makes one.

They can be declared, asked for their size and published to; nothing is ever confirmed.
"""

import contextlib
import traceback

import gevent
import pytest
from amqp import Channel

from gemstone_sync.event.link import LinkLost
from gemstone_sync.event.topology import Topology
from gemstone_sync.event.transport.rabbitmq import publishing, wire
from tests.event.suite.services import handler
from tests.support.rabbitmq import connect
from tests.support.waiting import wait_until, why_not_ready

from ..support import amqp, queues_of

pytestmark = pytest.mark.slow  # the tests' own RabbitMQ


@contextlib.contextmanager
def silent(broker, queue):
    """Have the process of a queue do nothing, as one does that waits for a leader."""
    process = f'list_to_atom("%2F_{queue}")'
    broker.control("eval", f"sys:suspend({process}).")
    try:
        yield
    finally:
        broker.control("eval", f"sys:resume({process}).")


def test_what_is_delayed_goes_through_another_queue(network, own_broker, monkeypatch, caplog):
    monkeypatch.setattr(publishing, "_LEADERLESS", 0.5)
    node = network.start("shop", handler("paid"))
    topology: Topology = node.event_transports[0].topology
    network.emit("paid", 0, delay=0.125)
    network.wait_for(1)
    step = topology.delay_queue(125)
    with silent(own_broker, step):
        newcomer = network.start("newcomer")  # its channel waits for the leader, the other's not
        for body, emitter in enumerate([network.emitter, newcomer] * 2, 1):
            emitter.emit_event("paid", body, delay=0.125)
        network.wait_for(5)
        assert sorted(body for _, _, body in network.told) == [0, 1, 2, 3, 4]
        told = [each for each in caplog.messages if "confirms nothing" in each]
        assert len(told) == 2
        assert f"{step!r}" in told[0]
        assert "rabbitmqctl delete_queue" in told[0]
        assert topology.delay_queue(125, 1) in network.emitter.event_transports[0]._delay_queues()
        assert why_not_ready(node) is None


def test_it_is_one_too_where_many_messages_keep_the_broker_from_reading(
    network, own_broker, monkeypatch, caplog
):
    """Then it answers nothing on that connection, and the next would have the same to send."""
    monkeypatch.setattr(publishing, "_LEADERLESS", 0.5)
    declare = Channel.queue_declare

    def stack_names():
        return [frame.name for frame in traceback.extract_stack()]

    def unanswered(channel, queue="", passive=False, **options):
        if passive and queue == step and "look_after_steps" in stack_names():
            raise TimeoutError("the broker gave no answer in time")
        return declare(channel, queue, passive, **options)

    network.start("shop", handler("paid"))
    network.emit("paid", 0, delay=0.125)
    network.wait_for(1)
    step = network.emitter.event_transports[0].topology.delay_queue(125)
    monkeypatch.setattr(Channel, "queue_declare", unanswered)
    with silent(own_broker, step):
        network.emit("paid", 1, delay=0.125)
        network.wait_for(2)
    assert "confirms nothing" in caplog.text


def test_it_is_one_too_where_no_connection_lasts(network, own_broker, monkeypatch, caplog):
    """For so long as a confirm is waited for: what they have waited counts together."""
    monkeypatch.setattr(publishing, "_LEADERLESS", 3.0)
    node = network.start("shop", handler("paid"))
    network.emit("paid", 0, delay=0.125)
    network.wait_for(1)
    transport = network.emitter.event_transports[0]
    with silent(own_broker, transport.topology.delay_queue(125)):
        emitted = gevent.spawn(network.emit, "paid", 1, delay=0.125)
        while not emitted.ready():
            emitted.join(1.5)
            own_broker.control("close_all_connections", "cut")  # which takes a second or two
    emitted.get()
    # Once for each connection: the queue has them all, and goes on by now.
    wait_until(lambda: {body for _, _, body in network.told} == {0, 1}, "the event")
    assert transport._link_options["known"].replaced == {125: 1}
    assert "confirms nothing" in caplog.text
    assert transport._link_options["known"].unconfirmed == {}
    wait_until(lambda: why_not_ready(node) is None, "ready again")


def test_a_broker_that_is_slow_is_not_taken_for_one(network, own_broker, monkeypatch, caplog):
    monkeypatch.setattr(publishing, "_LEADERLESS", 0.5)
    network.start("shop", handler("paid"))
    network.emit("paid", 0, delay=0.125)
    network.wait_for(1)
    emitter = network.emitter.event_transports[0]
    with own_broker.frozen():
        emitted = gevent.spawn(network.emit, "paid", 1, delay=0.125)
        emitted.join(2)
        assert not emitted.ready()
    emitted.get()
    network.wait_for(2)
    assert emitter._link_options["known"].replaced == {}
    assert "confirms nothing" not in caplog.text


def test_a_broker_that_takes_no_publishes_is_not_asked(network, own_broker, monkeypatch, caplog):
    """It reads nothing, and a question would have no answer: the connection would be given up."""
    monkeypatch.setattr(publishing, "_LEADERLESS", 0.2)
    monkeypatch.setattr(wire, "_PATIENCE", 1.0)
    network.start("shop", handler("paid"))
    network.emit("paid", 0, delay=0.125)
    network.wait_for(1)
    own_broker.set_memory_alarm(True)
    try:
        emitted = gevent.spawn(network.emit, "paid", 1, delay=0.125)
        wait_until(lambda: "blocked" in str(why_not_ready(network.emitter)), "blocked")
        emitted.join(3)  # longer than until a question is given up
        assert not emitted.ready()
        assert "no connection" not in caplog.text
    finally:
        own_broker.set_memory_alarm(False)
    emitted.get()
    network.wait_for(2)
    assert network.emitter.event_transports[0]._link_options["known"].replaced == {}


def test_a_service_says_which_queue_nobody_can_consume_from(
    network, own_broker, monkeypatch, caplog
):
    node = network.start("shop", handler("paid"))
    queue = node.event_transports[0]._receptions[0].queues[0].name
    node.stop()
    monkeypatch.setattr(wire, "_PATIENCE", 1.0)
    with silent(own_broker, queue):
        node = network.start("shop", handler("paid"), ready=False)
        wait_until(lambda: queue in str(why_not_ready(node)), "which one")
        assert f"rabbitmqctl delete_queue {queue!r}" in caplog.text
    with connect(own_broker.url) as connection:
        assert connection.channel().queue_declare(queue, passive=True).message_count == 0
    wait_until(lambda: why_not_ready(node) is None, "ready again")


def test_heartbeats_go_on_while_an_answer_is_waited_for(own_broker, monkeypatch):
    """Or the broker closes the connection, and nobody learns for what it was waiting."""
    monkeypatch.setattr(wire, "_PATIENCE", 5.0)
    topology = Topology("heartbeats")
    queues = queues_of(topology, "paid")
    with amqp(own_broker.url, topology, queues):
        pass  # it has made the queue
    with (
        silent(own_broker, queues[0].name),
        amqp(own_broker.url, topology, queues, heartbeat=1) as shop,
        pytest.raises(LinkLost) as lost,
    ):
        shop.link.consume(queues[0].name, 1, print)
    assert "it lets nobody consume from its queue" in str(lost.value)
