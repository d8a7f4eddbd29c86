"""What somebody does to a Redis or a file under running services: emptied, queues deleted, full."""

import contextlib
import itertools
import os
from collections import Counter

import gevent
import pytest
import redis

from gemstone_sync import EventNotDelivered, RedisEventTransport, SqliteEventTransport
from gemstone_sync.event.handlers import Handler, Subscriber
from gemstone_sync.event.transport.stores.store import Entry
from tests.support.redis import private_redis
from tests.support.sqlite import execute
from tests.support.waiting import wait_until


class Redis:
    def __init__(self, server):
        self.url = server.url
        self.client = redis.Redis.from_url(server.url)

    def make(self):
        return RedisEventTransport(self.url)

    def empty(self):
        self.client.flushall()

    def delete_queues(self):
        self._delete("queue")

    def delete_bindings(self):
        self._delete("bindings")

    def _delete(self, part):
        self.client.delete(*self.client.keys(f"*-events}}:{part}:*"))

    def break_down(self):
        self.client.config_set("maxmemory", 1)

    def mend(self):
        self.client.config_set("maxmemory", 0)


class Sqlite:
    def __init__(self, path):
        self.path = path

    def make(self):
        return SqliteEventTransport(self.path)

    def empty(self):
        # All files at once: beside the log of the old one nobody can make a new one.
        folder = self.path.parent
        folder.rename(folder.with_name("old"))
        folder.mkdir()

    def delete_queues(self):
        execute(self.path, "DELETE FROM gemstone_bindings")
        execute(self.path, "DELETE FROM gemstone_queues")

    def delete_bindings(self):
        execute(self.path, "DELETE FROM gemstone_bindings")
        execute(self.path, "UPDATE gemstone_routing SET version = version + 1")

    def break_down(self):
        self.path.rename(self.path.parent / "away.db")
        self.path.mkdir()

    def mend(self):
        self.path.rmdir()
        os.rename(self.path.parent / "away.db", self.path)


@pytest.fixture(params=["redis", "sqlite"])
def place(request, tmp_path):
    if request.param == "sqlite":
        (tmp_path / "place").mkdir()
        yield Sqlite(tmp_path / "place" / "events.db")
    else:
        with private_redis(tmp_path) as server:
            yield Redis(server)


class Shop:
    """A service and, over a transport of its own, somebody who emits events to it all the time.

    :ivar told: the numbers of those that were confirmed.
    """

    def __init__(self, place, stack):
        self.told = []
        self.failed = 0
        self.handled = Counter()
        self.receiver, self.emitter = place.make(), place.make()
        handler = Handler(pattern="sold", function=self._handle, name="handle")
        subscriber = Subscriber(service="shop", instance="1", handlers=(handler,))
        reception = self.receiver.receive(subscriber, lambda handler, body: handler.function(body))
        stack.callback(self.receiver.stop, 1)
        stack.callback(reception.stop, 1)
        self.reception = reception
        wait_until(self.is_ready, "the service")
        self.emitter.start()
        stack.callback(self.emitter.stop, 1)
        emitting = gevent.spawn(self._emit)
        stack.callback(emitting.kill)
        self.goes_on()

    def _handle(self, number):
        self.handled[number] += 1

    def _emit(self):
        for number in itertools.count():
            with contextlib.suppress(EventNotDelivered):
                self.emitter.emit_event("sold", number, timeout=1)
                self.told.append(number)
                continue
            self.failed += 1

    def is_ready(self):
        return self.reception.why_not_ready() is None

    def goes_on(self):
        """Wait until events are confirmed and handled again."""
        number = len(self.told)
        wait_until(lambda: len(self.told) > number + 10, "what is emitted")
        last = self.told[-1]
        wait_until(lambda: self.handled[last], "what is handled")
        wait_until(lambda: self.is_ready() and self.emitter.why_not_ready() is None, "readiness")

    def is_through(self, first=0):
        """Wait until all that was confirmed is handled, from one event on."""
        told = [number for number in self.told if number >= first]
        wait_until(lambda: all(self.handled[number] for number in told), f"{len(told)} events")


@pytest.fixture
def shop(place):
    with contextlib.ExitStack() as stack:
        yield Shop(place, stack)


@pytest.mark.parametrize("act", ["empty", "delete_queues", "delete_bindings"])
def test_what_is_emitted_after_a_store_was_changed_is_handled_or_raises(place, shop, act):
    last = shop.told[-1]
    wait_until(lambda: shop.handled[last], "what was emitted before, and is lost otherwise")
    getattr(place, act)()
    first = shop.told[-1] + 2  # one may be under way
    shop.goes_on()
    shop.is_through(first)


def test_a_store_that_takes_nothing_has_emits_raise_until_it_is_mended(place, shop):
    failed = shop.failed  # by its time-out, where the machine stood still
    place.break_down()
    wait_until(lambda: shop.failed > failed, "an emit that raises")
    wait_until(lambda: shop.emitter.why_not_ready() is not None, "it tells")
    place.mend()
    shop.goes_on()
    shop.is_through()


def test_a_queue_that_expires_is_not_missed(place, shop):
    shop.emitter.topology.instance_expiry = shop.receiver.topology.instance_expiry = 0.5
    handler = Handler(pattern="shown", function=print, name="show", scope="instance")
    subscriber = Subscriber(service="shop", instance="2", handlers=(handler,))
    reception = shop.receiver.receive(subscriber, lambda handler, body: None)
    wait_until(lambda: reception.why_not_ready() is None, "the other service")
    shop.emitter.emit_event("shown", 1)
    reception.stop(1)
    (queue,) = (queue.name for queue in reception.queues if ":instance:" in queue.name)
    with shop.emitter.link() as link:
        link._store.publish([Entry("", queue, b"")])
        wait_until(lambda: not link.size(queue), "its end")
    shop.emitter.emit_event("shown", 2, timeout=5)
