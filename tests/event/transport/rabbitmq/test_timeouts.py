"""RabbitMQ's consumer_timeout: for how long it lets an event be held."""

import logging
import time

import gevent
import pytest

from gemstone_sync import MicroService, RetryLater, ServiceConfigurationError, event_handler
from gemstone_sync.event import deadletters
from gemstone_sync.event.handlers import Handler, Subscriber
from gemstone_sync.event.link import LinkRefused
from gemstone_sync.event.transport import RabbitMqEventTransport
from gemstone_sync.event.transport.rabbitmq.link import AmqpLink
from gemstone_sync.event.transport.rabbitmq.queues import _arguments
from tests.event.suite.services import handler
from tests.support.waiting import wait_until

from ..support import queues_of

#: Seconds that the broker of these tests allows.
HELD = 2


@pytest.fixture
def broker(own_broker):
    def allow(held, interval):
        values = f"consumer_timeout, {held}), application:set_env(rabbit, channel_tick_interval"
        own_broker.control("eval", f"application:set_env(rabbit, {values}, {interval}).")

    allow(HELD * 1000, 200)
    yield own_broker
    allow(1_800_000, 60_000)


@pytest.mark.slow  # the tests' own RabbitMQ, and three times what it allows
def test_a_handler_that_outlasts_it_runs_once_and_leaves_no_dead_letter(network, caplog):
    caplog.set_level(logging.WARNING, logger="gemstone_sync.event")
    node = network.start("films", handler("film", lambda _: gevent.sleep(3 * HELD), retries=0))
    network.emit("film", "long")
    ended = time.monotonic() + 4 * HELD
    wait_until(lambda: time.monotonic() > ended, "its end, and a redelivery")
    wait_until(lambda: node.event_transports[0].drain(1), "its acknowledgement")

    assert network.told == [("films", "on_event", "long")]
    assert deadletters.list(network.emitter.event_transports[0]) == []
    assert "held for longer than its consumer_timeout of 2 s" in caplog.text
    assert "refuses" not in caplog.text


@pytest.mark.slow  # the tests' own RabbitMQ, and three times what it allows
def test_keys_that_wait_for_longer_keep_their_order_and_the_connection(network, caplog):
    caplog.set_level(logging.WARNING, logger="gemstone_sync.event")
    waits = {"a1": [3 * HELD], "b1": [1.5 * HELD] * 2}

    def act(body):
        if waits.get(body):
            raise RetryLater(waits[body].pop())

    network.start("films", handler("film", act), consumer_timeout=HELD)
    for body in ("a1", "b1", "a2", "b2", "a3", "b3", "c1"):
        network.emit("film", body, key=body[0])
    network.wait_for(10)

    told = [body for _, _, body in network.told]
    for key, expected in (("a", "a1 a1 a2 a3"), ("b", "b1 b1 b1 b2 b3"), ("c", "c1")):
        assert [body for body in told if body[0] == key] == expected.split()
    assert "c1" in told[:3]
    assert caplog.text == ""


def slow(seconds):
    return Handler(pattern="film", function=print, name="on_film", timeout=seconds)


def test_a_timeout_that_is_longer_is_refused_at_the_start_in_one_line():
    subscriber = Subscriber(service="films", instance="1", handlers=(slow(30),))
    RabbitMqEventTransport(consumer_timeout=31).topology.queues_of(subscriber)
    with pytest.raises(ServiceConfigurationError, match=r"^on_film: a timeout of 30 s, .* 20 s"):
        RabbitMqEventTransport(consumer_timeout=20).receive(subscriber, print)


def test_a_timeout_over_half_an_hour_is_refused_by_a_broker_that_allows_no_more(
    shared_broker, topology
):
    queues = topology.queues_of(Subscriber(service="films", instance="1", handlers=(slow(1800),)))
    link = AmqpLink(shared_broker.url)
    link.open()
    with pytest.raises(LinkRefused, match=r"^on_film: a timeout of 1800 s, .* held for 1800 s"):
        link.declare(topology, queues)
    link = AmqpLink(shared_broker.url, consumer_timeout=1801)
    link.open()
    link.declare(topology, queues)
    link.close()


def test_queues_say_it_where_they_can(topology):
    said = {
        queue.name.split(":")[2]: _arguments(queue, topology, 10, 604_800.0)
        for scope in ("service", "instance")
        for queue in queues_of(topology, "film", scope=scope)
    }
    assert said.pop("instance").keys() == {"x-queue-type", "x-expires"}
    assert {each["x-consumer-timeout"] for each in said.values()} == {604_800_000}
    for queue in queues_of(topology, "film"):
        assert "x-consumer-timeout" not in _arguments(queue, topology, 10, None)


def test_the_memory_of_handled_events_is_handed_on(shared_broker):
    """A service looks at the signature before it gives one."""

    class Service(MicroService):
        skip_configuration, port, name = True, 0, "films"
        event_deduplication = "memory://"

        @event_handler("film", idempotent=False)
        def on_film(self, body):
            pass

    url, application = shared_broker.url, shared_broker.new_application()
    service = Service()
    service.event_transports = [RabbitMqEventTransport.from_url(url, application=application)]
    service.start(block=False)
    service.stop()
