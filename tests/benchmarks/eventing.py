"""The peers that events.py measures, and the broker they share.

A new peer is one function in event_peers/ and one entry in PUBLISHERS or CONSUMERS. Each
measurement has a process of its own, and an exchange and a queue that nobody else uses.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import amqp
import redis
from process import Peer, Runner
from runner import BODY
from servers import REPOSITORY as REPOSITORY  # for tests.support.rabbitmq

from gemstone_sync.event.emission import make_envelope
from gemstone_sync.event.envelope import to_message
from gemstone_sync.event.handlers import Handler, Subscriber
from gemstone_sync.event.topology import Topology
from tests.support.rabbitmq import connect, private_rabbitmq

FOLDER = Path(__file__).resolve().parent / "event_peers"
ROUTING_KEY = "bench.thing"
PREFETCH = 100
REDIS_URL = "redis://127.0.0.1:6379/0"


@dataclass(frozen=True)
class EventPeer(Peer):
    """One way to publish or to consume.

    :param function: in its module
    :param extra: what its job has besides
    :param declares: a function of the module that declares the queue itself, of its own kind
    """

    function: str
    extra: dict[str, Any] = field(default_factory=dict)
    declares: str = field(default="", kw_only=True)

    def runner(self, cores: Iterable[int]) -> Runner:
        return Runner(self, FOLDER, cores)

    def run(self, cores: Iterable[int], job: dict[str, Any], function: str = "") -> dict[str, Any]:
        """Run a function of it to its end, in a process of its own; what it returned.

        :raises Fault: it failed, ended or hangs
        """
        with self.runner(cores) as running:
            return running.run(function or self.function, job)


GREEN = {"patched": "gevent"}
NAMEKO = {"package": "nameko", "patched": "eventlet"}
OWN = {"declares": "declare"}
FIFTY = {"greenlets": 50}
PUBLISHERS = (
    EventPeer("ours", "gemstone_sync, 50 greenlets", "ours", "publish", FIFTY, **GREEN),
    EventPeer(
        "ours-200", "gemstone_sync, 200 greenlets", "ours", "publish", {"greenlets": 200}, **GREEN
    ),
    EventPeer("ours-emitter", "EventEmitter, 50 greenlets", "ours", "emitter", FIFTY, **GREEN),
    EventPeer("raw-windowed", "py-amqp, window of 100", "raw_amqp", "windowed", **GREEN),
    EventPeer("raw-plain", "py-amqp, window of 100, unpatched", "raw_amqp", "windowed"),
    EventPeer("raw-single", "py-amqp, one by one", "raw_amqp", "one_by_one", **GREEN),
    EventPeer("kombu-single", "kombu Producer, one by one", "plain_kombu", "single", **GREEN),
    EventPeer(
        "kombu",
        "kombu, 50 greenlets, pool of 50",
        "plain_kombu",
        "pool",
        {**FIFTY, "pool": 50},
        **GREEN,
    ),
    EventPeer(
        "kombu-10",
        "kombu, 50 greenlets, pool of 10",
        "plain_kombu",
        "pool",
        {**FIFTY, "pool": 10},
        **GREEN,
    ),
    EventPeer("pika", "pika BlockingConnection", "pika_blocking", "publish", package="pika"),
    EventPeer(
        "nameko", "nameko EventDispatcher, 50 workers", "nameko_events", "dispatch", FIFTY, **NAMEKO
    ),
)
CONSUMERS = (
    EventPeer("ours", "gemstone_sync", "ours", "consume", **GREEN, **OWN),
    EventPeer("raw", "py-amqp", "raw_amqp", "consume", **GREEN),
    EventPeer("kombu", "kombu ConsumerMixin", "plain_kombu", "consumer_mixin", **GREEN),
    EventPeer("pika", "pika BlockingConnection", "pika_blocking", "consume", package="pika"),
    EventPeer(
        "nameko",
        "nameko event_handler (classic queue)",
        "nameko_events",
        "handle",
        declares="declare",
        **NAMEKO,
    ),
)
OURS = CONSUMERS[0]


class Broker:
    """A RabbitMQ: what is declared, filled and removed there."""

    def __init__(self, port: int) -> None:
        self.place = {"host": "127.0.0.1", "port": port, "user": "guest", "password": "guest"}
        self.url = f"amqp://guest:guest@127.0.0.1:{port}"

    def version(self) -> str:
        with connect(self.url) as connection:
            return str(connection.server_properties["version"])

    @contextlib.contextmanager
    def scene(self, kind: str, *, queue: bool) -> Iterator[dict[str, Any]]:
        """What a job says of the broker, with an exchange (and a queue) that is gone afterwards.

        The exchange is the one that gemstone_sync and nameko would make for this application.
        """
        job = {**job_of(self.url), **self.place}
        exchange, queue_name = (f"{job['application']}.{what}" for what in ("events", "queue"))
        try:
            with connect(self.url) as connection:
                channel = connection.channel()
                channel.exchange_declare(exchange, "topic", durable=True, auto_delete=False)
                if queue:
                    how = {"x-queue-type": kind}
                    channel.queue_declare(
                        queue_name, durable=True, auto_delete=False, arguments=how
                    )
                    channel.queue_bind(queue_name, exchange, ROUTING_KEY)
            yield {**job, "exchange": exchange, "queue": queue_name}
        finally:
            self._remove(job["application"])

    def _remove(self, application: str) -> None:
        topology = Topology(application, shards=4)
        handlers = tuple(
            Handler(pattern=name, function=print, name=name)
            for name in (ROUTING_KEY, "bench.first", "bench.handled")
        )
        subscriber = Subscriber(service="bench", instance="", handlers=handlers)
        queues = [queue.name for queue in topology.queues_of(subscriber)]
        queues += [topology.dead, topology.due, f"{application}.queue"]
        queues += [
            f"evt-{application}-{ROUTING_KEY}--bench.handle",
            f"evt-{application}-nothing--{application}.handle",
        ]
        with connect(self.url) as connection:
            channel = connection.channel()
            for queue in queues:
                channel.queue_delete(queue)
            for exchange in (topology.events, topology.keyed, *topology.work):
                channel.exchange_delete(exchange)

    def fill(self, job: dict[str, Any], count: int) -> None:
        """Publish messages as gemstone_sync's are, and wait until the broker has all of them."""
        with connect(self.url) as connection:
            channel = connection.channel()
            channel.confirm_select()
            confirmed = 0

            def on_confirm(delivery_tag: int, multiple: bool) -> None:
                nonlocal confirmed
                confirmed = max(confirmed, delivery_tag)

            channel.events["basic_ack"].add(on_confirm)
            for sent in range(1, count + 1):
                envelope = make_envelope(ROUTING_KEY, BODY)
                properties, headers = to_message(envelope)
                message = amqp.Message(envelope.body, application_headers=headers, **properties)
                channel.basic_publish(message, job["exchange"], job["routing_key"])
                while sent - confirmed >= 1000 or (sent == count and confirmed < count):
                    connection.drain_events(timeout=180)


def job_of(url: str) -> dict[str, Any]:
    """What every job says, for an application of its own."""
    application = f"bench-{uuid.uuid4().hex[:12]}"
    where = {"url": url, "application": application}
    return {**where, "routing_key": ROUTING_KEY, "prefetch": PREFETCH}


@contextlib.contextmanager
def broker(private: bool, folder: Path) -> Iterator[Broker]:
    """The machine's RabbitMQ, or one of the benchmark's own."""
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(private_rabbitmq(folder)).port if private else 5672
        yield Broker(port)


@contextlib.contextmanager
def store_scene(kind: str, folder: Path) -> Iterator[dict[str, Any]]:
    """What a job says of a SQLite file or of the machine's Redis, with nothing left behind."""
    job = job_of(REDIS_URL)
    application = job["application"]
    try:
        yield job if kind == "redis" else {**job, "url": str(folder / f"{application}.db")}
    finally:
        if kind == "redis":
            with redis.Redis.from_url(REDIS_URL, socket_timeout=10) as client:
                for key in client.scan_iter(match=f"*{application}*", count=1000):
                    client.delete(key)
        for left in folder.glob(f"{application}.db*"):
            left.unlink()
