"""The peers that events.py measures, how their processes are run, and the broker they share.

A new peer is one function in event_peers/ and one entry in PUBLISHERS or CONSUMERS. Each
measurement has a process of its own, and an exchange and a queue that nobody else uses.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import amqp
import process
import redis
import venvs
from event_peers.runner import BODY
from servers import REPOSITORY

from gemstone_sync.event.emission import make_envelope
from gemstone_sync.event.envelope import to_message
from gemstone_sync.event.handlers import Handler, Subscriber
from gemstone_sync.event.topology import Topology

FOLDER = Path(__file__).resolve().parent / "event_peers"
#: Seconds for one line of a peer.
LIMIT = 180.0
ROUTING_KEY = "bench.thing"
PREFETCH = 100
REDIS_URL = "redis://127.0.0.1:6379/0"


class PeerFault(Exception):
    """A peer raised, ended or hangs; the message is one line."""


@dataclass(frozen=True)
class Peer:
    """One way to publish or to consume.

    :param module, function: in event_peers/
    :param extra: what its job has besides
    :param package: the entry of PACKAGES that has it; empty: it runs in this environment
    :param patched: by what its process is: gevent, eventlet, or nothing
    :param declares: a function of the module that declares the queue itself, of its own kind
    """

    name: str
    title: str
    module: str
    function: str
    extra: dict[str, Any] = field(default_factory=dict)
    package: str = ""
    patched: str = ""
    declares: str = ""

    def python(self) -> str:
        """Return the interpreter that has it; its environment is made first if need be.

        :raises venvs.VenvFault: it could not be made
        """
        return PACKAGES[self.package].python() if self.package else sys.executable


PACKAGES = {
    package.name: package
    for package in (
        venvs.Package("pika", ("pika==1.4.4",), "import pika", ("pika",)),
        venvs.Package(
            "nameko",
            ("nameko==2.14.1", "kombu==5.7.0", "amqp==5.4.2", "eventlet==0.41.3"),
            "from nameko.events import EventDispatcher, event_handler",
            ("nameko", "eventlet", "kombu", "amqp"),
            older=True,
        ),
    )
}

PUBLISHERS = (
    Peer(
        "ours",
        "gemstone_sync, 50 greenlets",
        "ours",
        "publish",
        {"greenlets": 50},
        patched="gevent",
    ),
    Peer(
        "ours-200",
        "gemstone_sync, 200 greenlets",
        "ours",
        "publish",
        {"greenlets": 200},
        patched="gevent",
    ),
    Peer(
        "ours-emitter",
        "EventEmitter, 50 greenlets",
        "ours",
        "emitter",
        {"greenlets": 50},
        patched="gevent",
    ),
    Peer("raw-windowed", "py-amqp, window of 100", "raw_amqp", "windowed", patched="gevent"),
    Peer("raw-plain", "py-amqp, window of 100, unpatched", "raw_amqp", "windowed"),
    Peer("raw-single", "py-amqp, one by one", "raw_amqp", "one_by_one", patched="gevent"),
    Peer("kombu-single", "kombu Producer, one by one", "plain_kombu", "single", patched="gevent"),
    Peer(
        "kombu",
        "kombu, 50 greenlets, pool of 50",
        "plain_kombu",
        "pool",
        {"greenlets": 50, "pool": 50},
        patched="gevent",
    ),
    Peer(
        "kombu-10",
        "kombu, 50 greenlets, pool of 10",
        "plain_kombu",
        "pool",
        {"greenlets": 50, "pool": 10},
        patched="gevent",
    ),
    Peer("pika", "pika BlockingConnection", "pika_blocking", "publish", package="pika"),
    Peer(
        "nameko",
        "nameko EventDispatcher, 50 workers",
        "nameko_events",
        "dispatch",
        {"greenlets": 50},
        package="nameko",
        patched="eventlet",
    ),
)

CONSUMERS = (
    Peer("ours", "gemstone_sync", "ours", "consume", patched="gevent", declares="declare"),
    Peer("raw", "py-amqp", "raw_amqp", "consume", patched="gevent"),
    Peer("kombu", "kombu ConsumerMixin", "plain_kombu", "consumer_mixin", patched="gevent"),
    Peer("pika", "pika BlockingConnection", "pika_blocking", "consume", package="pika"),
    Peer(
        "nameko",
        "nameko event_handler (classic queue)",
        "nameko_events",
        "handle",
        package="nameko",
        patched="eventlet",
        declares="declare",
    ),
)

OURS = CONSUMERS[0]


class RunningPeer:
    """A peer's process, on the given cores; a context manager."""

    def __init__(
        self, peer: Peer, python: str, cores: set[int], job: dict[str, Any], function: str = ""
    ) -> None:
        self._peer = peer
        options = [f"--{peer.patched}"] if peer.patched else []
        called = function or peer.function
        self._command = [python, "runner.py", peer.module, called, json.dumps(job), *options]
        self._cores = cores

    def __enter__(self) -> RunningPeer:
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        if not self._peer.package:
            environment["PYTHONPATH"] = str(REPOSITORY)
        self._child: subprocess.Popen[str] = process.spawn(
            self._command, cores=self._cores, environment=environment, folder=FOLDER, pipes=True
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        process.stop(self._child)

    def is_running(self) -> bool:
        return self._child.poll() is None

    def answer(self) -> dict[str, Any]:
        """Wait for the next line that it says.

        :raises PeerFault: it failed, ended or hangs
        """
        assert self._child.stdout is not None
        ready, _, _ = select.select([self._child.stdout], [], [], LIMIT)
        line = self._child.stdout.readline() if ready else ""
        if not line:
            raise PeerFault("its process ended" if ready else f"no end within {LIMIT:.0f} s")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise PeerFault(answer["error"])
        return answer


def run(
    peer: Peer, python: str, cores: set[int], job: dict[str, Any], function: str = ""
) -> dict[str, Any]:
    """Run a function of the peer to its end; what it returned.

    :raises PeerFault: it failed, ended or hangs
    """
    with RunningPeer(peer, python, cores, job, function) as running:
        return running.answer()


class Broker:
    """A RabbitMQ: what is declared, filled and removed there."""

    def __init__(self, host: str, port: int, user: str = "guest", password: str = "guest") -> None:
        self.place = {"host": host, "port": port, "user": user, "password": password}
        self.url = f"amqp://{user}:{password}@{host}:{port}"

    def connect(self) -> Any:
        return amqp.Connection(
            f"{self.place['host']}:{self.place['port']}",
            self.place["user"],
            self.place["password"],
            connect_timeout=10,
        )

    def version(self) -> str:
        with self.connect() as connection:
            return str(connection.server_properties["version"])

    @contextlib.contextmanager
    def scene(self, kind: str, *, queue: bool) -> Iterator[dict[str, Any]]:
        """What a job says of the broker, with an exchange (and a queue) that is gone afterwards.

        The exchange is the one that gemstone_sync and nameko would make for this application.
        """
        application = f"bench-{uuid.uuid4().hex[:12]}"
        job = {
            **self.place,
            "url": self.url,
            "application": application,
            "exchange": f"{application}.events",
            "routing_key": ROUTING_KEY,
            "queue": f"{application}.queue",
            "prefetch": PREFETCH,
        }
        try:
            with self.connect() as connection:
                channel = connection.channel()
                channel.exchange_declare(job["exchange"], "topic", durable=True, auto_delete=False)
                if queue:
                    arguments = {"x-queue-type": kind}
                    channel.queue_declare(
                        job["queue"], durable=True, auto_delete=False, arguments=arguments
                    )
                    channel.queue_bind(job["queue"], job["exchange"], ROUTING_KEY)
            yield job
        finally:
            self._remove(application)

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
        with self.connect() as connection:
            channel = connection.channel()
            for queue in queues:
                channel.queue_delete(queue)
            for exchange in (topology.events, topology.keyed, *topology.work):
                channel.exchange_delete(exchange)

    def fill(self, job: dict[str, Any], count: int) -> None:
        """Publish messages as gemstone_sync's are, and wait until the broker has all of them."""
        with self.connect() as connection:
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
                    connection.drain_events(timeout=LIMIT)


@contextlib.contextmanager
def broker(private: bool, folder: Path) -> Iterator[Broker]:
    """The machine's RabbitMQ, or one of the benchmark's own."""
    if not private:
        yield Broker("127.0.0.1", 5672)
        return
    sys.path.insert(0, str(REPOSITORY))
    from tests.support.rabbitmq import private_rabbitmq

    with private_rabbitmq(folder) as own:
        yield Broker("127.0.0.1", own.port)


@contextlib.contextmanager
def store_scene(kind: str, folder: Path) -> Iterator[dict[str, Any]]:
    """The same for a SQLite file or the machine's Redis, with nothing left behind."""
    application = f"bench-{uuid.uuid4().hex[:12]}"
    file = folder / f"{application}.db"
    job = {
        "url": str(file) if kind == "sqlite" else REDIS_URL,
        "application": application,
        "routing_key": ROUTING_KEY,
        "prefetch": PREFETCH,
    }
    try:
        yield job
    finally:
        if kind == "redis":
            with redis.Redis.from_url(REDIS_URL, socket_timeout=10) as client:
                for key in client.scan_iter(match=f"*{application}*", count=1000):
                    client.delete(key)
        for left in folder.glob(f"{application}.db*"):
            left.unlink()


def wait_for(what: str, condition: Any, running: RunningPeer, limit: float = 30.0) -> Any:
    """The first true value of `condition`, whose OSErrors are not yet an answer."""
    end = time.monotonic() + limit
    while True:
        with contextlib.suppress(OSError):
            if value := condition():
                return value
        if not running.is_running():
            running.answer()
        if time.monotonic() > end:
            raise PeerFault(f"waited {limit:.0f} s for {what}")
        time.sleep(0.05)
