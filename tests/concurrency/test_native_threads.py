"""Native threads with greenlets in them."""

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent import monkey
from gevent.threadpool import ThreadPool

from gemstone_sync.concurrency import native_threads

from ..support.programs import program
from ..support.waiting import LIMIT

#: How often a program is run whose end might crash: 1 in 15 did, of those that crashed least.
ENDS = 20

BEGINNING = """
import gemstone_sync.patch
import atexit, os, sys, threading, time
import gevent
import gemstone_sync
from gevent import monkey

class Service(gemstone_sync.MicroService):
    name = "threads"
    host, port = "127.0.0.1", 0
    skip_configuration = True
    stop_timeout = 1

service = Service()
atexit.register(print, "the end", flush=True)
"""

#: Seen to end by SIGSEGV on Python 3.10 to 3.12.
PROGRAMS = {
    "executor": """
service.start(block=False)
call = gemstone_sync.RemoteService(service.url).call_method
jobs = [service.get_executor().submit(call, "get_service_specs") for _ in range(3)]
for job in jobs:
    job.result()
service.stop()
""",
    "pool": """
from gevent.threadpool import ThreadPool
pool = ThreadPool(8)
for job in [pool.spawn(time.sleep, 0.01) for _ in range(8)]:
    job.get()
pool.kill()
""",
    "thread": """
def wait():
    while True:
        time.sleep(0.0005)
for _ in range(6):
    monkey.get_original("_thread", "start_new_thread")(wait, ())
gevent.sleep(0.05)
""",
    "left": """
def wait():
    while True:
        time.sleep(0.0005)
for _ in range(6):
    service.get_executor().submit(wait)
gevent.sleep(0.05)
""",
    "names": """
import socket
for name in ("localhost", "127.0.0.1"):
    gevent.spawn(socket.getaddrinfo, name, 80).get()
gevent.get_hub().threadpool.kill()
""",
}


@pytest.mark.slow  # many programs, one after the other
@pytest.mark.parametrize("kind", PROGRAMS)
def test_leaves_cleanly(run_python: Callable[..., Any], kind: str) -> None:
    for _ in range(ENDS):
        ended = run_python(BEGINNING + PROGRAMS[kind] + "sys.exit(7)\n")
        assert (ended.returncode, ended.stdout, ended.stderr) == (7, "the end\n", "")


#: Native work that does not end, and work that waits in a loop of its own.
BUSY = """
class Busy(Service):
    @gemstone_sync.exposed_method()
    def work(self):
        self.get_executor().submit(monkey.get_original("time", "sleep"), 1000)
        self.get_executor().submit(time.sleep, 1000)

    def on_service_start(self):
        self.work()
        print(self.url, flush=True)

Busy().start()
print("after", flush=True)
"""


def test_sigterm_does_not_wait_for_native_work(tmp_path: Path) -> None:
    with program(BEGINNING + BUSY, tmp_path) as service:
        service.wait_until_ready()
        assert service.terminate() == 0
        assert service.stdout.endswith("after\nthe end\n")


def test_a_lock_that_a_pools_thread_waited_for_is_given_to_greenlets() -> None:
    """gevent tells of a lock in the loop of the thread that waited first, which is idle here."""
    pool, lock = ThreadPool(1), threading.Lock()
    waits, has_it, give_up = (monkey.get_original("_thread", "allocate_lock")() for _ in range(3))
    for one in (waits, has_it, give_up):
        one.acquire()

    def work() -> None:
        gevent.sleep(0)  # so that the thread has a loop
        waits.release()
        with lock:
            has_it.release()
            give_up.acquire()

    with lock:
        work_done = pool.spawn(work)
        while not waits.acquire(False):
            gevent.sleep(0.001)
        gevent.sleep(0.05)  # until it waits for the lock, which nothing tells
    while not has_it.acquire(False):
        gevent.sleep(0.001)
    wants_it = gevent.spawn(lock.acquire, True, LIMIT)
    gevent.idle()
    give_up.release()
    work_done.get(timeout=LIMIT)
    assert wants_it.get(timeout=LIMIT + 1)
    lock.release()
    pool.kill()


def test_a_pools_idle_thread_takes_more_work_and_ends_in_time() -> None:
    pool = ThreadPool(2, idle_task_timeout=0.05)
    for _ in range(20):
        assert [job.get() for job in [pool.spawn(_waits, n) for n in range(5)]] == [0, 1, 2, 3, 4]
    with gevent.Timeout(LIMIT):
        while pool.size:
            gevent.sleep(0.01)
    assert pool.apply(_waits, (7,)) == 7
    pool.kill()
    assert sys.modules["gevent.threadpool"].Queue is type(pool.task_queue)


def _waits(number: int) -> int:
    gevent.sleep(0.001)
    return number


def test_an_idle_pools_thread_hears_of_work_that_came_before_it_slept() -> None:
    tasks = native_threads._TaskQueue()

    class Mutex:
        """Has work arrive as soon as it is released."""

        def __init__(self) -> None:
            self._native, self._work = tasks._mutex, ["work"]

        def __enter__(self) -> None:
            self._native.acquire()

        def __exit__(self, *_: object) -> None:
            self._native.release()
            if self._work:
                tasks.put(self._work.pop())

    tasks._mutex = Mutex()
    gevent.get_hub()
    assert tasks.get(None, LIMIT) == "work"


#: What ends by what was registered ``atexit`` before the patch.
OLDER = {
    "a thread that is told by an event": """
told = threading.Event()

def work():
    while not told.wait(0.05):
        pass

def end():
    told.set()
    thread.join()
    print("ended")
""",
    "a thread that is told by a queue": """
import queue
told = queue.Queue()
work = lambda: list(iter(told.get, None))

def end():
    told.put(None)
    thread.join()
    print("ended")
""",
    "a thread that looks every so often": """
import time
told = []

def work():
    while not told:
        time.sleep(0.01)

def end():
    told.append(True)
    thread.join()
    print("ended")
""",
    "one that listens for records": """
import logging.handlers, queue
records = queue.Queue()
listener = logging.handlers.QueueListener(records, logging.StreamHandler(sys.stdout))
listener.start()
work = print

def end():
    records.put(logging.makeLogRecord({"msg": "ended"}))
    listener.stop()
""",
}

OLD_PROGRAM = """
import atexit, sys, threading
{older}
thread = threading.Thread(target=work, daemon=True)
thread.start()
atexit.register(print, "oldest", end="!\\n", flush=True)
atexit.register(end)
atexit.register(print, "older")
atexit.register(lambda: 1 / 0)
import gemstone_sync
gemstone_sync.MicroService
import gevent
gevent.sleep(0.1)
atexit.register(print, "newer")
sys.exit(7)
"""


@pytest.mark.parametrize("kind", OLDER)
def test_what_is_older_than_the_patch_ends_as_it_was_told(
    run_python: Callable[..., Any], kind: str
) -> None:
    done = run_python(OLD_PROGRAM.format(older=OLDER[kind]), GEMSTONE_MONKEY_PATCH="late")
    lines = done.stdout.split()
    assert (done.returncode, lines) == (7, ["newer", "older", "ended", "oldest!"]), done.stderr
    assert done.stderr.count("ZeroDivisionError: ") == 1
