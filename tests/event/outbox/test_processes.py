"""Processes that are killed, forked, several at once, and not patched: nothing is lost."""

import contextlib
import sqlite3

import pytest

from gemstone_sync.event.outbox import Outbox, tenure
from tests.event.outbox.support import Broker, events, ids_of, stored_in, wait_for_lines, written
from tests.support.programs import program
from tests.support.waiting import LIMIT, wait_until

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
"""

#: Stores in a transaction, commits, says the id, and is gone before anything can be sent.
COMMIT_AND_DIE = {
    "sqlite3": """
outbox = Outbox("events.db")
connection = sqlite3.connect("shop.db")
connection.execute("CREATE TABLE IF NOT EXISTS orders (id INTEGER)")
made = event()
with connection, outbox.transaction(connection) as transaction:
    connection.execute("INSERT INTO orders VALUES (1)")
    transaction.store([made])
print(made.id, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
""",
    "SQLAlchemy": """
import sqlalchemy as sa
engine = sa.create_engine("sqlite:///shop.db")
outbox = Outbox("events.db", databases=[engine])
made = event()
with engine.begin() as connection, outbox.transaction(connection) as transaction:
    connection.exec_driver_sql("CREATE TABLE orders (id INTEGER)")
    connection.exec_driver_sql("INSERT INTO orders VALUES (1)")
    transaction.store([made])
print(made.id, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
""",
}

#: The same program after its restart: the database is one that it has not opened yet.
RESTARTED = {
    "sqlite3": """
outbox = Outbox("events.db")
outbox.start(send)
signal.pause()
""",
    "SQLAlchemy": """
import sqlalchemy as sa
outbox = Outbox("events.db", databases=[sa.create_engine("sqlite:///shop.db")])
outbox.start(send)
signal.pause()
""",
}

RUN = """
outbox = Outbox("events.db")
outbox.start(send)
print("started", flush=True)
while True:
    gevent.sleep(1)
"""


@pytest.mark.parametrize("kind", COMMIT_AND_DIE)
@pytest.mark.parametrize("mode", ["--patched", "--plain"])
def test_kill_9_between_commit_and_send(tmp_path, kind, mode):
    with program(HEAD + COMMIT_AND_DIE[kind], tmp_path, mode) as first:
        assert first.wait() == -9, first.stderr
        committed = first.stdout.split()
    assert written(tmp_path / "sent.txt") == []
    assert stored_in(tmp_path / "shop.db") == 1
    with contextlib.closing(sqlite3.connect(tmp_path / "shop.db")) as connection:
        assert connection.execute("SELECT count(*) FROM orders").fetchone() == (1,)
    source = RESTARTED[kind].replace("signal.pause()", "gevent.sleep(60)")
    with program(HEAD + source, tmp_path, mode) as second:
        assert second.wait_until(lambda: written(tmp_path / "sent.txt"), "sent") == committed
        second.wait_until(lambda: stored_in(tmp_path / "shop.db") == 0, "deleted")
    assert len(committed) == 1


def test_kill_9_before_the_commit_sends_nothing(tmp_path):
    source = COMMIT_AND_DIE["sqlite3"].replace(
        "transaction.store([made])", "transaction.store([made]); os.kill(os.getpid(), 9)"
    )
    with program(HEAD + source, tmp_path) as first:
        assert first.wait() == -9, first.stderr
    with program(HEAD + RUN, tmp_path, "--patched") as second:
        outbox = Outbox(str(tmp_path / "events.db"))
        later = events(1)
        outbox.add(later)
        second.wait_until(lambda: written(tmp_path / "sent.txt"), "sent")
        wait_until(lambda: outbox.pending() == 0, "sent")
    assert written(tmp_path / "sent.txt") == ids_of(later)


KILLED_AT_RANDOM = """
outbox = Outbox("events.db")
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


@pytest.mark.slow
def test_what_add_has_promised_survives_kill_9(tmp_path):
    stored, sent = tmp_path / "stored.txt", tmp_path / "sent.txt"
    for count in (40, 120, 200):
        with program(HEAD + KILLED_AT_RANDOM, tmp_path, "--patched") as running:
            wait_for_lines(stored, count)
            running.kill()
    outbox, broker = Outbox(str(tmp_path / "events.db")), Broker()
    outbox.start(broker.send)
    assert outbox.drain(15)
    outbox.stop(5)
    sent_at_all = [line for line in written(sent) if len(line) == 32] + broker.ids
    promised = [line for line in written(stored) if len(line) == 32]
    assert set(promised) <= set(sent_at_all)
    first_times = [id for id in dict.fromkeys(sent_at_all) if id in set(promised)]
    assert first_times == promised


ADD_SOME = """
outbox = Outbox("events.db")
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


def test_several_processes_send_each_event_once_and_each_ones_in_order(tmp_path):
    folder = tmp_path
    with contextlib.ExitStack() as stack:
        (folder / "program.py").write_text(HEAD + ADD_SOME)
        running = [
            stack.enter_context(program(folder / "program.py", folder, "--patched"))
            for _ in range(3)
        ]
        for process in running:
            process.wait_until(lambda process=process: process.stdout.strip(), "stored")
        sent = wait_for_lines(folder / "sent.txt", 150)
        outbox = Outbox(str(folder / "events.db"))
        wait_until(lambda: outbox.pending() == 0, "all sent")
        assert len(written(folder / "sent.txt")) == len(sent) == 150
        assert len(set(sent)) == 150
        for process in running:
            own = process.stdout.split()
            assert [id for id in sent if id in set(own)] == own


def test_another_process_takes_over_from_one_that_was_killed(tmp_path):
    """One that hangs in `send` with the lease, so that it has it when it is killed."""
    hang = RUN.replace("outbox.start(send)", "outbox.start(lambda envelopes: gevent.sleep(60))")
    with program(HEAD + hang, tmp_path, "--patched") as first:
        first.wait_until(lambda: first.stdout, "started")
        outbox, broker = Outbox(str(tmp_path / "events.db")), Broker()
        sent = events(3)
        outbox.add(sent)

        def owner():
            return outbox._process.location.lease().owner

        first.wait_until(owner, "the lease")
        outbox.start(broker.send)
        # It beats, so it keeps the lease.
        assert outbox.drain(0.5) is False
        assert broker.ids == []
        first.kill()
        assert outbox.drain(tenure.SILENCE + LIMIT)
        outbox.stop(5)
    assert broker.ids == ids_of(sent)


FORKED = """
outbox = Outbox("events.db")
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
        done = outbox.drain(15)
        outbox.stop(5)
        os._exit(0 if done else 1)
    children.append(pid)
outbox.add([event(4)])
codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
print(codes, outbox.pending(), flush=True)
"""


@pytest.mark.parametrize("mode", ["--patched", "--plain"])
def test_workers_that_were_forked_from_one_that_used_it(tmp_path, mode):
    with program(HEAD + FORKED, tmp_path, mode) as running:
        assert running.wait() == 0, running.stderr
        assert running.stdout == "[0, 0] 0\n", running.stderr
    assert len(set(written(tmp_path / "sent.txt"))) == 5


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
outbox = Outbox("events.db")
outbox.start(slow_send)
def add():
    for n in range(5):
        outbox.add([event(n)])
threads = [threading.Thread(target=add) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
connection = sqlite3.connect("shop.db")
with connection, outbox.transaction(connection) as transaction:
    transaction.store([event(9)])
print(outbox.drain(15), outbox.pending(), outbox.stop(5), flush=True)
outbox.start(slow_send)
outbox.add([event(9)])
print(outbox.stop(5), flush=True)
"""


def test_a_program_that_is_not_patched(tmp_path):
    with program(HEAD + PLAIN, tmp_path) as running:
        assert running.wait() == 0, running.stderr
        assert running.stdout == "True 0 True\nTrue\n", running.stderr
    assert len(set(written(tmp_path / "sent.txt"))) == 22


def test_a_plain_program_that_just_ends_does_not_hang(tmp_path):
    source = RUN.replace("while True:\n    gevent.sleep(1)", "outbox.add([event()])")
    with program(HEAD + source, tmp_path) as running:
        assert running.wait() == 0, running.stderr
        assert running.stderr == ""
