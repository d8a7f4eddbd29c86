"""Forks in the middle of an emit, a handler and a transaction: each event is one process's."""

import contextlib

import pytest

from gemstone_sync import transport_from_url
from tests.event.suite.services import Network, handler
from tests.support.redis import REDIS_URL, shared_redis


@pytest.fixture(params=["rabbitmq", "redis", "sqlite"])
def url(request, tmp_path):
    """Of a broker, with an application of the test's own."""
    if request.param == "rabbitmq":
        broker = request.getfixturevalue("shared_broker")
        yield f"{broker.url}?application={broker.new_application()}&shards=1"
    elif request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/events.db"
    else:
        with shared_redis() as prefix:
            yield f"{REDIS_URL}?application={prefix.rstrip(':')}"


EMITTING = """
import os, sys, threading, time
from gemstone_sync import EventEmitter

emitter = EventEmitter(sys.argv[1])
emitter.emit_event("x", "first")
emitted = {}
stop = threading.Event()

def emit(number):
    while not stop.is_set():
        emitted[number] = emitted.get(number, 0) + 1
        emitter.emit_event("x", f"{number}/{emitted[number]}")

threads = [threading.Thread(target=emit, args=(number,)) for number in range(4)]
for thread in threads:
    thread.start()
children = []
for number in range(6):
    time.sleep(0.02)  # in the middle of whatever the threads are at
    children.append(os.fork())
    if not children[-1]:
        emitter.emit_event("x", f"child {number}")
        emitter.close()
        print(emitter.transport.why_not_ready(), flush=True)
        emitter.transport.stop()  # once more is no harm
        os._exit(0)
for child in children:
    assert os.waitpid(child, 0)[1] == 0
stop.set()
for thread in threads:
    thread.join()
emitter.close()
print(sum(emitted.values()) + 7)
"""


@pytest.mark.slow  # it is about the right moment, of which there are some here
def test_threads_emit_while_children_are_forked_which_emit_and_close(url, run_python):
    with contextlib.closing(Network(lambda: transport_from_url(url))) as network:
        network.start("a", handler("x"))
        done = run_python(EMITTING, url, PYTHONWARNINGS="error")
        assert (done.stderr, done.returncode) == ("", 0)
        *closed, count = done.stdout.splitlines()
        assert ["not started" in line for line in closed] == [True] * 6
        network.wait_for(int(count))
    bodies = [body for _, _, body in network.told]
    assert len(set(bodies)) == len(bodies)


BEFORE = """
import os, sys, time
import gevent
import gemstone_sync as g

def wait_for(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        gevent.sleep(0.01)

class Shop(g.MicroService):
    name, port, skip_configuration = "shop", 0, True
    event_transports = [g.transport_from_url(sys.argv[1])]
    done = []
"""

HANDLING = (
    BEFORE
    + """
    codes = []

    @g.event_handler("x", retries=0)
    def on_x(self, how):
        child = os.fork()
        if child == 0:
            if how == "raises":
                raise ValueError(how)
            if how == "exits":
                sys.exit(7)
            if how == "emits":
                self.emit_event("y", how)
                os._exit(8)
            return
        self.codes.append((how, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])))

    @g.event_handler("y")
    def on_y(self, body):
        self.done.append(body)

shop = Shop()
shop.start(block=False)
for how in ("returns", "raises", "exits", "emits"):
    shop.emit_event("x", how)
wait_for(lambda: len(shop.codes) == 4 and shop.done)
transport = shop.event_transports[0]
assert transport.drain(20)
from gemstone_sync.event import deadletters
print(sorted(shop.codes), shop.done, deadletters.list(transport))
shop.stop()
"""
)


def test_what_a_handler_forks_settles_nothing_of_its_event(tmp_path, run_python):
    done = run_python(HANDLING, f"{tmp_path}/events.db")
    codes = [("emits", 8), ("exits", 7), ("raises", 1), ("returns", 1)]
    assert (done.stdout, done.returncode) == (f"{codes} ['emits'] []\n", 0), done.stderr
    assert done.stderr.count("Shop.on_x: a process that it has forked came out of it") == 2
    assert "ValueError: raises" in done.stderr


TRANSACTION = (
    BEFORE
    + """
    outbox = g.Outbox("outbox.db")

    @g.event_handler("x")
    def on_x(self, body):
        self.done.append(body)

import sqlite3
shop = Shop()
shop.start(block=False)
with sqlite3.connect("shop.db") as connection, shop.outbox.transaction(connection):
    shop.emit_event("x", 1)
    child = os.fork()
    if child == 0:
        try:
            shop.emit_event("x", 2)
        except g.ServiceConfigurationError as error:
            print(error, flush=True)
            os._exit(9)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    shop.emit_event("x", 3)
wait_for(lambda: len(shop.done) == 2)
print(shop.done, shop.outbox.drain(20))
shop.stop()
"""
)


def test_a_transaction_is_that_of_the_process_that_has_begun_it(tmp_path, run_python):
    done = run_python(TRANSACTION, f"{tmp_path}/events.db")
    refused, told = done.stdout.splitlines()
    assert refused.startswith("this transaction was begun before the process was forked")
    assert (told, done.returncode) == ("[1, 3] True", 0), done.stderr
