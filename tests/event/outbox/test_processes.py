"""Processes that are killed, forked, several at once, and not patched: nothing is lost."""

import contextlib

import pytest

from gemstone_sync.event.outbox import Outbox, lease
from tests.support.programs import program
from tests.support.sqlite import execute
from tests.support.waiting import LIMIT, wait_until

from .support import events, ids_of, sent_from, stored_in

#: What every program begins with: a `send` that writes each id to a file, on the disk at once.
HEAD = """
import os, signal, sqlite3, sys, time
import gemstone_sync
from gemstone_sync.event.emission import make_envelope
from gemstone_sync.event.outbox import Outbox

if "--patched" in sys.argv:
    from gemstone_sync.concurrency import patch
    patch()
import gevent

def event(n=0):
    return make_envelope("order.placed", n)

def send(envelopes):
    with open("sent.txt", "a") as file:
        file.writelines(f"{envelope.id}\\n" for envelope in envelopes)

outbox = Outbox("events.db")
"""


@pytest.fixture
def running(tmp_path):
    """``running(source, "--patched")``: a program that is killed with the test, if not before."""
    with contextlib.ExitStack() as stack:

        def run(source, *arguments):
            return stack.enter_context(program(HEAD + source, tmp_path, *arguments))

        yield run


def written(path):
    """The ids that the processes of a test have written to a file, but for one they had begun."""
    return [id for id in path.read_text().split() if len(id) == 32] if path.exists() else []


#: Stores in a transaction, commits or not, says the id, and is gone before anything can be sent.
DIE = """
made = event()
connection = sqlite3.connect("shop.db")
with connection, outbox.transaction(connection) as transaction:
    connection.execute("CREATE TABLE orders (id INTEGER)")
    connection.execute("INSERT INTO orders VALUES (1)")
    transaction.store([made])
    print(made.id, flush=True)
    if "before" in sys.argv:
        os.kill(os.getpid(), signal.SIGKILL)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow  # a process that is killed
@pytest.mark.parametrize(
    ("mode", "when"), [("--patched", "after"), ("--plain", "after"), ("--patched", "before")]
)
def test_kill_9_after_a_commit_sends_later_and_before_it_never(tmp_path, running, mode, when):
    killed = running(DIE, mode, when)
    assert killed.wait() == -9, killed.stderr
    (id,) = killed.stdout.split()
    if when == "after":
        assert stored_in(tmp_path / "shop.db") == 1
        assert execute(tmp_path / "shop.db", "SELECT id FROM orders") == [(1,)]

    # After its restart the database is one that it has not opened yet.
    outbox = Outbox(str(tmp_path / "events.db"))
    later = events(1)
    outbox.add(later)
    assert sorted(sent_from(outbox)) == sorted(ids_of(later) + [id] * (when == "after"))


KILLED_AT_RANDOM = """
outbox.start(send)
n = 0
while True:
    made = [event(n), event(n + 1)]
    outbox.add(made)
    # Only what add() has promised is written down.
    with open("stored.txt", "a") as file:
        file.writelines(f"{envelope.id}\\n" for envelope in made)
    n += 2
    gevent.sleep(0.001)
"""


@pytest.mark.slow  # processes that are killed
def test_what_add_has_promised_survives_kill_9(tmp_path, running):
    stored = tmp_path / "stored.txt"
    for count in (40, 120, 200):
        killed = running(KILLED_AT_RANDOM, "--patched")
        killed.wait_until(lambda c=count: len(written(stored)) >= c, "some that are stored")
        killed.kill()
    rest = sent_from(Outbox(str(tmp_path / "events.db")))
    promised = written(stored)
    sent = written(tmp_path / "sent.txt") + rest
    assert set(promised) <= set(sent)
    assert [id for id in dict.fromkeys(sent) if id in set(promised)] == promised


ADD_SOME = """
outbox.start(send)
made = []
for n in range(50):
    made.append(event(n))
    outbox.add(made[-1:])
    gevent.sleep(0.002)
print(*[envelope.id for envelope in made], flush=True)
while True:
    gevent.sleep(1)
"""


@pytest.mark.slow  # two processes that import all of it at the same time
def test_several_processes_send_each_event_once_and_each_ones_in_order(tmp_path, running):
    processes = [running(ADD_SOME, "--patched") for _ in range(2)]
    for process in processes:
        process.wait_until(lambda process=process: process.stdout.strip(), "stored")
    outbox = Outbox(str(tmp_path / "events.db"))
    wait_until(lambda: outbox.pending() == 0, "all sent")
    sent = written(tmp_path / "sent.txt")
    assert len(set(sent)) == len(sent) == 100
    for process in processes:
        own = process.stdout.split()
        assert [id for id in sent if id in set(own)] == own


@pytest.mark.slow  # another takes over after some silence only
def test_another_process_takes_over_from_one_that_was_killed(outbox, broker, running):
    """One that hangs in `send` with the lease, so that it has it when it is killed."""
    first = running(
        "outbox.start(lambda envelopes: gevent.sleep(60)); gevent.sleep(60)", "--patched"
    )
    sent = events(3)
    outbox.add(sent)
    first.wait_until(lambda: outbox._process.location.lease().owner, "the lease")
    outbox.start(broker.send)
    # It beats, so it keeps the lease.
    assert outbox.drain(0.5) is False
    assert broker.ids == []
    first.kill()
    assert outbox.drain(lease.SILENCE + LIMIT)
    outbox.stop(5)
    assert broker.ids == ids_of(sent)


#: Workers that were forked from one that has used it.
FORKED = """
outbox.add([event(0)])
connection = sqlite3.connect("shop.db")
with connection, outbox.transaction(connection) as transaction:
    transaction.store([event(1)])
children = []
for n in range(2):
    pid = os.fork()
    if pid == 0:
        outbox.start(send)
        outbox.add([event(2 + n)])
        while not os.path.exists("added"):  # or both may have ended before
            time.sleep(0.01)
        done = outbox.drain(15)
        outbox.stop(5)
        os._exit(0 if done else 1)
    children.append(pid)
outbox.add([event(4)])
open("added", "w").close()
codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
print(codes, outbox.pending(), flush=True)
"""

PLAIN = """
from gemstone_sync.concurrency import is_patched
import threading
assert not is_patched()
away = [True]
def slow_send(envelopes):
    # As a transport does in a process that is not patched: the thread really stops.
    assert threading.current_thread() is not threading.main_thread()
    time.sleep(0.05)
    if away:
        away.pop()
        raise gemstone_sync.EventNotDelivered("away")
    send(envelopes)
outbox.start(slow_send)
def add():
    for n in range(5):
        outbox.add([event(n)])
threads = [threading.Thread(target=add) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
with connection, outbox.transaction(connection) as transaction:
    transaction.store([event(9)])
print(outbox.drain(15), outbox.pending(), outbox.stop(15), flush=True)
outbox.start(slow_send)
outbox.add([event(9)])
print(outbox.stop(15), flush=True)
# It ends without a stop, and does not hang.
outbox.start(send)
outbox.add([event(10)])
"""


def test_workers_that_were_forked_from_one_that_used_it(tmp_path, running):
    forked = running(FORKED, "--patched")
    assert forked.wait(2 * LIMIT) == 0, forked.stderr
    assert forked.stdout == "[0, 0] 0\n", forked.stderr
    assert len(set(written(tmp_path / "sent.txt"))) == 5


def test_a_program_that_is_not_patched_forks_and_uses_threads_and_just_ends(tmp_path, running):
    plain = running(FORKED + PLAIN)
    assert plain.wait(3 * LIMIT) == 0, plain.stderr
    assert plain.stdout == "[0, 0] 0\nTrue 0 True\nTrue\n", plain.stderr
    assert plain.stderr.splitlines()[1:] == []  # the first tells that the broker is away
    left = sent_from(Outbox(str(tmp_path / "events.db")))
    assert len({*written(tmp_path / "sent.txt"), *left}) == 5 + 22 + 1
