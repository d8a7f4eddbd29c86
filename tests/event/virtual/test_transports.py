"""Programs that know kombu and nothing else use the stores by name."""

import contextlib
import time
import uuid
from typing import Any

import gevent
import kombu
import kombu.exceptions
import pytest
from amqp.exceptions import NotFound
from kombu.mixins import ConsumerMixin
from kombu.pools import producers

import gemstone_sync.event.virtual.registration  # noqa: F401
from gemstone_sync.errors import ServiceConfigurationError
from gemstone_sync.event.virtual.sqlite_store import SqliteStore
from gemstone_sync.event.virtual.store import Entry, StoreFault
from tests.support.redis import shared_redis
from tests.support.waiting import LIMIT, wait_until

EXCHANGE = kombu.Exchange("x", "topic")

#: For what is the same over all of them, and takes its time.
once = pytest.mark.parametrize("kind", ["sqlite"])


@pytest.fixture(params=["sqlite", "memory", "redis"])
def kind(request):
    return str(request.param)


@pytest.fixture
def connect(kind, tmp_path):
    """Makes connections to one place of a kind, with transport options."""
    with contextlib.ExitStack() as stack:
        options = {}
        if kind == "redis":
            url = "gemstone-redis://127.0.0.1:6379/0"
            options["prefix"] = stack.enter_context(shared_redis())
        elif kind == "sqlite":
            url = f"gemstone-sqlite:///{tmp_path}/events.db"
        else:
            url = f"gemstone-memory://{uuid.uuid4().hex}"

        def connect(**more):
            connection = kombu.Connection(url, transport_options={**options, **more})
            return stack.enter_context(connection)

        yield connect


def queue(name: str = "q", routing_key: str = "#", **options: Any) -> kombu.Queue:
    return kombu.Queue(name, EXCHANGE, routing_key, **options)


def publish(connection: Any, *bodies: Any, routing_key: str = "a.b", **options: Any) -> None:
    producer = connection.Producer(exchange=EXCHANGE)
    for body in bodies:
        producer.publish(body, routing_key=routing_key, **options)


class Consuming:
    """A consumer; what it got, and its messages."""

    def __init__(self, connection: Any, *queues: kombu.Queue, **options: Any) -> None:
        self.connection = connection
        self.bodies: list[Any] = []
        self.messages: list[Any] = []
        self.channel = connection.channel()
        self.consumer = kombu.Consumer(
            self.channel, list(queues), callbacks=[self._on_message], **options
        )
        self.consumer.consume()

    def _on_message(self, body: Any, message: Any) -> None:
        self.bodies.append(body)
        self.messages.append(message)

    def drain(self, count: int) -> list[Any]:
        """Wait until it has so many, and see that no more come."""
        while len(self.bodies) < count:
            self.connection.drain_events(timeout=LIMIT)
        assert not self.gets_more()
        assert len(self.bodies) == count
        return self.bodies

    def gets_more(self) -> bool:
        try:
            self.connection.drain_events(timeout=0.02)
        except TimeoutError:
            return False
        return True


def test_producer_and_consumer(connect):
    consuming = Consuming(connect(), queue(routing_key="orders.*"))
    options = {"headers": {"h": [1, {"a": None}]}, "correlation_id": "c", "reply_to": "r"}
    publish(connect(), {"n": 1}, {"text": "Zoë ☃"}, None, routing_key="orders.paid", **options)
    publish(connect(), "for nobody", routing_key="orders")
    assert consuming.drain(3) == [{"n": 1}, {"text": "Zoë ☃"}, None]
    message = consuming.messages[0]
    assert message.delivery_info == {
        "exchange": "x",
        "routing_key": "orders.paid",
        "redelivered": False,
    }
    assert message.content_type == "application/json"
    assert message.headers == options["headers"]
    assert (message.properties["correlation_id"], message.properties["reply_to"]) == ("c", "r")
    for each in consuming.messages:
        each.ack()
    consuming.connection.close()
    assert not Consuming(connect(), queue()).gets_more()


def test_bodies_of_every_kind(connect):
    consuming = Consuming(connect(), queue(), accept=["json", "pickle"])
    raw = {"content_type": "application/data", "content_encoding": "binary"}
    connection = connect()
    publish(connection, b"", b"text", bytes(range(256)), **raw)
    publish(connection, {"a": {1, 2}}, serializer="pickle")
    publish(connection, {"big": "x" * 10_000}, compression="zlib")
    bodies = consuming.drain(5)
    assert [bytes(body) for body in bodies[:3]] == [b"", b"text", bytes(range(256))]
    assert bodies[3:] == [{"a": {1, 2}}, {"big": "x" * 10_000}]


def test_exchanges_of_each_kind(connect):
    direct, work = kombu.Exchange("d", "direct"), kombu.Exchange("w", "work")
    consuming = Consuming(connect(), kombu.Queue("q", direct, "one"), kombu.Queue("r"))
    any_work = Consuming(connect(), kombu.Queue("any", work, "#"))
    letters = Consuming(connect(), kombu.Queue("exact", work, "mail"))
    producer = connect().Producer()
    producer.publish(1, exchange=direct, routing_key="one")
    producer.publish(2, exchange=direct, routing_key="on.e")
    producer.publish(3, routing_key="r")
    producer.publish("letter", exchange=work, routing_key="mail")
    assert sorted(consuming.drain(2)) == [1, 3]
    assert letters.drain(1) == ["letter"]
    assert not any_work.gets_more()


def test_prefetch_bounds_what_is_out(connect):
    connection = connect()
    consuming = Consuming(connection, queue())
    consuming.consumer.qos(prefetch_count=2)
    publish(connect(), 1, 2, 3, 4)
    assert consuming.drain(2) == [1, 2]
    consuming.messages[0].ack()
    assert consuming.drain(3) == [1, 2, 3]
    # Nothing is kept in advance beyond that: another consumer gets the rest.
    assert Consuming(connect(), queue()).drain(1) == [4]


def test_reject_and_requeue(connect):
    consuming = Consuming(connect(), queue())
    publish(connect(), "again", "never")
    consuming.drain(2)
    consuming.messages[0].requeue()
    consuming.messages[1].reject()
    assert consuming.drain(3)[2] == "again"
    with pytest.raises(consuming.messages[0].MessageStateError):
        consuming.messages[0].ack()


def test_what_is_not_acknowledged_goes_back_on_close(connect):
    connection = connect()
    consuming = Consuming(connection, queue())
    publish(connect(), 1, 2, 3)
    consuming.drain(3)
    consuming.messages[1].ack()
    consuming.channel.close()
    assert Consuming(connection, queue()).drain(2) == [1, 3]
    connection.close()
    assert Consuming(connect(), queue(), no_ack=True).drain(2) == [1, 3]
    # ... and without acknowledgements nothing does.
    assert not Consuming(connect(), queue()).gets_more()


def test_a_cancelled_consumer_keeps_nothing_in_advance(connect):
    consuming = Consuming(connect(), queue())
    publish(connect(), 1, 2, 3)
    consuming.connection.drain_events(timeout=LIMIT)
    assert consuming.bodies == [1]
    consuming.consumer.cancel()
    assert Consuming(connect(), queue()).drain(2) == [2, 3]


def test_a_consumer_mixin_with_a_pool_of_producers(connect):
    class Worker(ConsumerMixin):  # type: ignore[misc]
        def __init__(self):
            self.connection = connect()
            self.seen: list[Any] = []

        def get_consumers(self, consumer, channel):
            return [consumer([queue()], callbacks=[self.on_message], prefetch_count=10)]

        def on_message(self, body, message):
            self.seen.append(body)
            message.ack()

    worker = Worker()
    running = gevent.spawn(worker.run)
    connection = connect()
    channel = connection.channel()
    wait_until(lambda: channel.get_table("x"), "the worker's binding")
    with producers[connection].acquire(block=True, timeout=LIMIT) as producer:
        for number in range(50):
            producer.publish(number, exchange=EXCHANGE, routing_key="a")
    wait_until(lambda: len(worker.seen) == 50, "50 messages")
    worker.should_stop = True
    running.get(timeout=LIMIT)
    assert worker.seen == list(range(50))
    kombu.pools.reset()


def test_channels_and_queues_have_their_turns(connect):
    connection = connect()
    one = Consuming(connection, queue("q", "q"), queue("r", "r"), prefetch_count=2)
    two = Consuming(connection, queue("s", "s"))
    for routing_key in "q" * 20 + "rs":
        publish(connect(), routing_key, routing_key=routing_key)
    for _ in range(8):
        connection.drain_events(timeout=LIMIT)
        for message in one.messages:
            if not message.acknowledged:
                message.ack()
    assert "r" in one.bodies
    assert two.bodies == ["s"]


@pytest.mark.slow  # longer than it expires after, which a machine may stand still for
@once
def test_an_expiring_queue_lives_while_it_is_consumed(connect):
    consuming = Consuming(connect(), queue(expires=2.5))
    end = time.monotonic() + 3.5
    while time.monotonic() < end:
        assert not consuming.gets_more()
    publish(connect(), 1)
    assert consuming.drain(1) == [1]
    consuming.connection.close()
    channel = connect().channel()
    wait_until(lambda: not channel.get_table("x"), "the queue's end")


def test_exclusive_queues_go_with_their_channel(connect):
    consuming = Consuming(connect(), queue(exclusive=True))
    channel = connect().channel()
    assert channel.get_table("x") == [("#", None, "q")]
    consuming.channel.close()
    assert channel.get_table("x") == []


@pytest.mark.slow  # longer than a lease, which a machine may stand still for
@once
def test_leases_end_and_are_renewed_by_draining(connect):
    alive = Consuming(connect(lease=2.5), queue("q", "q"))
    gone = Consuming(connect(lease=2.5), queue("r", "r"))
    publish(connect(), 1, routing_key="q")
    publish(connect(), 2, routing_key="r")
    alive.drain(1)
    gone.drain(1)
    other = Consuming(connect(), queue("q", "q"), queue("r", "r"))
    end = time.monotonic() + 3.5
    while time.monotonic() < end:
        assert not alive.gets_more()
    assert other.drain(1) == [2]
    assert other.messages[0].delivery_info["redelivered"] is True
    alive.messages[0].ack()


def test_what_is_rejected_goes_to_the_dead_letters(connect):
    arguments = {
        "x-delivery-limit": 2,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": "dead",
    }
    options = {"queue_arguments": arguments}
    dead = Consuming(connect(), kombu.Queue("dead"))
    publish_with = connect()
    crashing = Consuming(connect(), queue(**options))
    publish(publish_with, "rejected")
    crashing.drain(1)
    crashing.messages[0].reject()
    assert dead.drain(1) == ["rejected"]


def test_delays_and_keys_by_headers(connect):
    consuming = Consuming(connect(), queue())
    connection = connect()
    publish(connection, "later", headers={"x-delay": 300})
    publish(connection, "k1", "k2", headers={"x-gemstone-key": "k"})
    publish(connection, "odd", headers={"x-delay": "soon", "x-gemstone-key": 7})
    while len(consuming.bodies) < 3:
        consuming.connection.drain_events(timeout=LIMIT)
    assert consuming.bodies == ["k1", "odd", "later"]
    consuming.messages[0].ack()
    assert consuming.drain(4)[3] == "k2"


def test_what_it_cannot_do_is_refused(connect):
    connection = connect()
    with pytest.raises(kombu.exceptions.ChannelError, match="no queue takes"):
        publish(connection, 1, mandatory=True)
    publish(connection, 1)
    channel = connection.channel()
    with pytest.raises(kombu.exceptions.ChannelError, match="topic and direct"):
        channel.exchange_declare("f", type="fanout")
    for arguments in ({"x-message-ttl": 1}, {"x-dead-letter-exchange": "x"}, {"x-max-length": 1}):
        with pytest.raises(kombu.exceptions.ChannelError, match="queue 'q'"):
            channel.queue_declare("q", arguments=arguments)
    with pytest.raises(NotFound):
        channel.queue_declare("q", passive=True)
    with pytest.raises(NotFound):
        channel.exchange_declare("none", passive=True)
    channel.queue_declare("q", arguments={"x-queue-type": "quorum"})
    channel.queue_declare("q", passive=True)


def test_unbinding_purging_deleting(connect):
    channel = connect().channel()
    bound = queue()(channel)
    bound.declare()
    publish(connect(), 1, 2)
    assert channel.queue_declare("q", passive=True).message_count == 2
    assert bound.purge() == 2
    bound.unbind_from(EXCHANGE, "#")
    publish(connect(), 3)
    assert bound.get() is None
    bound.bind_to(EXCHANGE, "#")
    EXCHANGE(channel).delete()
    publish(connect(), 4)
    bound.delete(if_empty=True)
    with pytest.raises(NotFound):
        channel.queue_declare("q", passive=True)


def test_what_is_no_message_of_kombu_s_is_left_to_the_consumer(tmp_path):
    path = tmp_path / "events.db"
    with kombu.Connection(f"gemstone-sqlite:///{path}") as connection:
        consuming = Consuming(connection, queue(), accept=["json"])
        SqliteStore(path).publish([Entry("", "q", b"\xffgarbage")])
        assert bytes(consuming.drain(1)[0]) == b"\xffgarbage"


def test_a_store_that_is_out_of_reach_is_an_error_in_time(tmp_path):
    with kombu.Connection(f"gemstone-sqlite:///{tmp_path}/none/events.db") as connection:
        assert issubclass(StoreFault, connection.connection_errors)
        with pytest.raises(kombu.exceptions.OperationalError, match="there is no folder"):
            connection.ensure_connection(max_retries=1, interval_start=0)


@pytest.mark.parametrize("url", ["gemstone-sqlite://", "gemstone-sqlite://events.db"])
def test_a_url_without_a_path_is_refused(url):
    with pytest.raises(ServiceConfigurationError, match="gemstone-sqlite:////var/lib"):
        kombu.Connection(url).connect()


def test_a_store_of_one_s_own():
    with (
        kombu.Connection(
            "gemstone-store://", transport_options={"store": lambda: SqliteStore(":memory:")}
        ) as connection,
        connection.SimpleQueue("q") as simple,
    ):
        simple.put(1)
        assert simple.get(timeout=LIMIT).payload == 1
        with pytest.raises(simple.Empty):
            simple.get_nowait()
    with pytest.raises(ServiceConfigurationError, match="wants a store"):
        kombu.Connection("gemstone-store://").connect()
