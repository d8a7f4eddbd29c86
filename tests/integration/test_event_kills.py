"""Brokers and workers killed under load, each event counted at both ends.

The emitter writes down what `emit_event` returned for: that must have been done, whatever happened
meanwhile. The worker writes down each time that it did something.
"""

import contextlib
import itertools
import json
import random
import signal
import sqlite3
import sys
import uuid
from collections import Counter
from pathlib import Path

import gevent
import pytest

from gemstone_sync import transport_from_url
from gemstone_sync.event import deadletters
from tests.support.http import call, is_ready, result_of
from tests.support.programs import Program
from tests.support.proxy import Proxy
from tests.support.redis import private_redis
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

PROGRAMS = Path(__file__).parent / "event_programs.py"

#: Seconds for everything to settle on a machine that is busy.
PATIENCE = 150.0


class Cluster:
    """Emitters and workers on one broker, and what they wrote down."""

    def __init__(self, folder, stack, url, **options):
        self.folder = folder
        self.stack = stack
        self.application = f"kills-{uuid.uuid4().hex}"  # the broker may be one for all tests
        options["application"] = self.application
        self.transport = transport_from_url(url, **options)
        self.environment = {"EVENTS_URL": url, "EVENTS_OPTIONS": json.dumps(options)}
        self.confirmed_file = folder / "confirmed"

    def start(self, *arguments, **worker):
        environment = {**self.environment, "WORKER": json.dumps(worker)}
        command = [sys.executable, str(PROGRAMS), *map(str, arguments)]
        started = Program(command, self.folder, environment=environment)
        self.stack.callback(started.kill)
        return started

    def start_worker(self, *, ready=True, **worker):
        """Start one of a service's instances; `ready` waits for it."""
        file = self.folder / f"done-{worker.get('name', 'worker')}"
        started = self.start("work", file, **worker)
        if ready:
            started.wait_until_ready()
        return started

    def start_emitter(self, count, *, first=0, work=False, held=0):
        """Start to emit; the last `held` events wait for `let_go`, however fast the machine is."""
        kind = "work" if work else "broadcast"
        return self.start("emit", self.confirmed_file, first, count, kind, held)

    def let_go(self):
        """Have the emitter go on with the events that it holds back."""
        Path(f"{self.confirmed_file}.go").touch()

    @property
    def confirmed(self):
        """The numbers of the events that were confirmed."""
        return [int(line) for line in lines_of(self.confirmed_file)]

    def done(self, service="worker"):
        """How often each number was done by a service."""
        lines = lines_of(self.folder / f"done-{service}")
        return Counter(int(line.split()[0]) for line in lines)

    def wait_for(self, emitter, count, service="worker"):
        """Wait until all are confirmed, and all that are confirmed are done by a service."""
        self.wait_for_confirmation(emitter)
        assert len(set(self.confirmed)) == count
        missing = set(self.confirmed)
        wait_until(
            lambda: not missing.difference(self.done(service)), f"all {count} done", PATIENCE
        )

    def duplicates(self, service="worker"):
        return sum(times - 1 for times in self.done(service).values())

    def wait_for_part(self, emitter, count):
        """Wait until more than that many are confirmed."""
        emitter.wait_until(lambda: len(self.confirmed) > count, "a part", PATIENCE)

    def wait_for_confirmation(self, emitter):
        emitter.wait_until(lambda: "done" in emitter.stdout, "all confirmed", PATIENCE)


def lines_of(path):
    return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def stack():
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture(params=["rabbitmq", "redis", "sqlite"])
def make_cluster(tmp_path, stack, request):
    """Make a cluster on each kind of broker; `limits` are RabbitMQ's, `lease` the others'."""

    def make(lease, limits=None, **options):
        if request.param == "rabbitmq":
            url, options = request.getfixturevalue("own_broker").url, options | (limits or {})
        elif request.param == "redis":
            url, options["lease"] = stack.enter_context(private_redis(tmp_path)).url, lease
        else:
            url, options["lease"] = f"sqlite:///{tmp_path}/events.db", lease
        return Cluster(tmp_path, stack, url, **options)

    return make


@pytest.fixture
def cluster(make_cluster):
    """Few at once, so that there is something left when they are killed."""
    return make_cluster(lease=2, limits={"delivery_limit": 1000}, pool_size=4)


def test_a_rabbitmq_that_is_killed_twice_under_load_loses_nothing(tmp_path, stack, own_broker):
    cluster = Cluster(tmp_path, stack, own_broker.url)
    cluster.start_worker(deduplication=f"sqlite:///{tmp_path}/processed.db")
    cluster.start_worker(name="other")
    emitter = cluster.start_emitter(20_000, held=9_000)
    for part in (4_000, 8_000):
        cluster.wait_for_part(emitter, part)
        own_broker.kill()
        if part == 8_000:
            cluster.let_go()
        own_broker.start()
    cluster.wait_for(emitter, 20_000)
    cluster.wait_for(emitter, 20_000, "other")
    assert cluster.duplicates() == 0  # dropped, by the service that asked for it


def kill_at_random(cluster, workers, until, **worker):
    """Kill one of the workers again and again, and start another one.

    The emitter goes on with what it holds back after the second kill.
    """
    for kill in itertools.count(1):
        if until():
            return
        gevent.sleep(random.uniform(1.0, 2.0))
        workers.pop(random.randrange(len(workers))).kill()
        if kill == 2:
            cluster.let_go()
        workers.append(cluster.start_worker(ready=False, **worker))


def test_workers_that_are_killed_do_each_job_at_least_once(cluster):
    worker = {"seconds": 0.01}
    workers = [cluster.start_worker(**worker) for _ in range(3)]
    emitter = cluster.start_emitter(5_000, work=True, held=1_500)
    kill_at_random(cluster, workers, lambda: len(cluster.done()) > 4_000, **worker)
    cluster.wait_for(emitter, 5_000)


def test_workers_that_are_killed_do_each_job_once_where_the_mark_commits_with_the_effect(
    cluster, tmp_path
):
    database = tmp_path / "effects.db"
    worker = {"seconds": 0.01, "effects": str(database)}
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE effects (number INTEGER)")
    workers = [cluster.start_worker(**worker) for _ in range(3)]
    emitter = cluster.start_emitter(500, work=True, held=200)

    def effects():
        with contextlib.closing(sqlite3.connect(database, timeout=20)) as connection:
            return Counter(number for (number,) in connection.execute("SELECT number FROM effects"))

    kill_at_random(cluster, workers, lambda: len(effects()) > 400, **worker)
    cluster.wait_for_confirmation(emitter)
    wait_until(lambda: len(effects()) == 500, "all done", PATIENCE)
    assert set(effects().values()) == {1}


def test_a_job_that_kills_its_process_becomes_a_dead_letter_and_no_other_does(make_cluster):
    cluster = make_cluster(lease=1)
    poisonous = {"seconds": 0.05, "poison": 50}
    workers = [cluster.start_worker(**poisonous)]
    emitter = cluster.start_emitter(100, work=True)

    def dead_letters():
        if workers[-1].process.poll() is not None:
            # It may die before it says that it is ready.
            workers.append(cluster.start_worker(ready=False, **poisonous))
        return deadletters.list(cluster.transport)

    letters = wait_until(dead_letters, "a dead letter", PATIENCE)
    wait_until(lambda: len(cluster.done()) == 99, "all others are done", PATIENCE)
    cluster.wait_for_confirmation(emitter)
    assert [(letter.body, letter.reason) for letter in letters] == [(50, "crashed")]
    assert len(deadletters.list(cluster.transport)) == 1


def test_a_redis_that_is_restarted_loses_nothing(tmp_path, stack):
    server = stack.enter_context(
        private_redis(tmp_path, "--appendonly", "yes", "--appendfsync", "always")
    )
    cluster = Cluster(tmp_path, stack, server.url, lease=2)
    cluster.start_worker()
    emitter = cluster.start_emitter(5_000, held=1_000)
    cluster.wait_for_part(emitter, 1_000)
    server.kill()
    cluster.let_go()
    gevent.sleep(0.5)
    server.start()
    cluster.wait_for(emitter, 5_000)


@pytest.mark.parametrize("trouble", ["stall", "cut", "drip"])
def test_a_network_that_is_in_trouble_loses_nothing(tmp_path, stack, own_broker, trouble):
    proxy = stack.enter_context(Proxy(own_broker.port))
    url = own_broker.url.replace(f":{own_broker.port}", f":{proxy.port}")
    assert url != own_broker.url
    cluster = Cluster(tmp_path, stack, url, heartbeat=2)
    cluster.start_worker()
    emitter = cluster.start_emitter(5_000, held=1_000)
    cluster.wait_for_part(emitter, 500)
    for number in range(3):
        if number == 2:
            cluster.let_go()
        if trouble == "stall":
            proxy.stall()
            gevent.sleep(6)  # longer than two heartbeats
            proxy.resume()
        elif trouble == "cut":
            proxy.cut()
            gevent.sleep(0.5)
        else:
            proxy.drip(20_000)
            gevent.sleep(2)
            proxy.resume()
    cluster.wait_for(emitter, 5_000)


def test_a_memory_alarm_holds_publishers_up_and_loses_nothing(tmp_path, stack, own_broker):
    cluster = Cluster(tmp_path, stack, own_broker.url)
    worker = cluster.start_worker()
    emitter = cluster.start_emitter(10_000, held=1_000)
    cluster.wait_for_part(emitter, 1_000)
    own_broker.set_memory_alarm(True)  # takes a second or two
    cluster.let_go()
    gevent.sleep(3)
    before = len(cluster.confirmed)
    gevent.sleep(1)
    assert len(cluster.confirmed) == before < 10_000
    assert result_of(call(worker.port, "trivial")) > 0
    own_broker.set_memory_alarm(False)
    cluster.wait_for(emitter, 10_000)


def test_a_frozen_rabbitmq_is_noticed_and_everything_arrives(tmp_path, stack, own_broker):
    cluster = Cluster(tmp_path, stack, own_broker.url, heartbeat=2)
    worker = cluster.start_worker()
    emitter = cluster.start_emitter(10_000, held=1_000)
    cluster.wait_for_part(emitter, 1_000)
    with own_broker.frozen():
        cluster.let_go()
        wait_until(lambda: not is_ready(worker.port), "the worker says that it is not ready", 30)
        assert result_of(call(worker.port, "trivial")) > 0
    wait_until(lambda: is_ready(worker.port), "it is ready again", 60)
    cluster.wait_for(emitter, 10_000)


def test_sigterm_with_100_in_flight_finishes_them_and_gives_the_rest_back(
    tmp_path, stack, own_broker
):
    cluster = Cluster(tmp_path, stack, own_broker.url)
    gate = tmp_path / "gate"
    worker = cluster.start_worker(gate=str(gate))
    emitter = cluster.start_emitter(300, work=True)
    cluster.wait_for_confirmation(emitter)
    worker.wait_until(lambda: len(lines_of(tmp_path / "gate.begun")) >= 100, "they run")
    assert cluster.application in own_broker.control("list_consumers")
    worker.send_signal(signal.SIGTERM)
    # Only now may they end: the place of one that ends sooner would go to another.
    wait_until(
        lambda: cluster.application not in own_broker.control("list_consumers"),
        "that no more are taken",
    )
    gate.touch()
    assert worker.wait(30) == 0
    assert len(cluster.done()) == 100
    assert set(cluster.done().values()) == {1}
    cluster.start_worker()
    cluster.wait_for(emitter, 300)
    assert cluster.duplicates() == 0
