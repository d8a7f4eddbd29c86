"""Locks, events and queues that greenlets and native threads wait for together."""

import subprocess
from collections.abc import Callable

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]

BEGINNING = """
import gemstone_sync.patch
import logging, queue, threading, time
from concurrent.futures import ThreadPoolExecutor, as_completed
import gevent.threading
from gevent import monkey
from gevent.threadpool import ThreadPool

pool = ThreadPool(8)
native_sleep = monkey.get_original("time", "sleep")

def together(*works, rounds=3):
    "Run each function as often as it is told in native threads, and in greenlets."
    for _ in range(rounds):
        with gevent.Timeout(20):
            jobs = [pool.spawn(w) for w, natives, _ in works for _ in range(natives)]
            jobs += [gevent.spawn(w) for w, _, greenlets in works for _ in range(greenlets)]
            for job in jobs:
                job.get()
"""

PROGRAMS = {
    "logging": """
logging.basicConfig(level=logging.INFO, filename="/dev/null")
def log():
    for number in range(100):
        logging.info("number %s", number)
together((log, 6, 0))
together((log, 6, 6))
""",
    "locks": """
def held(lock, sleep):
    def hold():
        for _ in range(20):
            with lock:
                sleep(0.0002)
    return hold
for lock in (threading.Lock(), threading.RLock(), threading.Condition(),
             threading.Condition(threading.Lock()), threading.BoundedSemaphore(1)):
    # Some threads get a loop of their own, which sleeps; some never do.
    together((held(lock, native_sleep), 3, 0), (held(lock, time.sleep), 3, 3), rounds=2)
    assert lock.acquire(blocking=False)
""",
    "queues": """
def passed_through(queue):
    got = []
    def put():
        for number in range(100):
            queue.put(number, timeout=10)
    def get():
        for _ in range(100):
            got.append(queue.get(timeout=10))
            if hasattr(queue, "task_done"):
                queue.task_done()
    for putters, getters in (((3, 0), (0, 3)), ((0, 3), (3, 0)), ((2, 2), (2, 2))):
        together((put, *putters), (get, *getters))
    assert len(got) == 10 * 300
    if hasattr(queue, "join"):
        queue.join()
        pool.spawn(queue.join).get()
for made in (queue.Queue(), queue.Queue(2), queue.LifoQueue(), queue.LifoQueue(2),
             queue.PriorityQueue(), queue.PriorityQueue(2), queue.SimpleQueue()):
    passed_through(made)
""",
    "queue of a greenlet, get in a thread": """
for made in (queue.Queue(), queue.LifoQueue(), queue.PriorityQueue(), queue.SimpleQueue()):
    job = pool.spawn(made.get, True, 10)
    gevent.sleep(0.05)
    made.put(1)
    assert job.get() == 1
    job = pool.spawn(lambda: (native_sleep(0.05), made.put(2)))
    assert made.get(timeout=10) == 2
    job.get()
full = queue.Queue(1)
full.put(1)
job = pool.spawn(full.put, 2, True, 10)
gevent.sleep(0.05)
assert (full.get(), full.get()) == (1, 2)
job.get()
""",
    "time-outs": """
def refused():
    for made in (queue.Queue(), queue.SimpleQueue()):
        try:
            made.get(timeout=0.05)
        except queue.Empty:
            continue
        raise AssertionError(made)
    full = queue.Queue(1)
    full.put(1)
    try:
        full.put(2, timeout=0.05)
    except queue.Full:
        return not (threading.Event().wait(0.05) or threading.Semaphore(0).acquire(timeout=0.05)
                    or taken.acquire(timeout=0.05) or taken.acquire(False))
taken = threading.Lock()
taken.acquire()
assert refused() and pool.spawn(refused).get()
for arguments in ((False, 1), (True, -2)):
    try:
        taken.acquire(*arguments)
    except ValueError:
        continue
    raise AssertionError(arguments)
""",
    "events": """
def swung(natives):
    one, other = threading.Event(), threading.Event()
    def first():
        for _ in range(100):
            assert one.wait(10)
            one.clear()
            other.set()
    def second():
        for _ in range(100):
            one.set()
            assert other.wait(10)
            other.clear()
    together(*((work, native, not native) for work, native in zip((first, second), natives)))
for natives in ((0, 0), (0, 1), (1, 0), (1, 1)):
    swung(natives)
event = threading.Event()  # both wait for one, and hear of it though it is cleared at once
jobs = [pool.spawn(event.wait, 10), gevent.spawn(event.wait, 10), pool.spawn(event.wait, 10)]
while len(event._waiting) < 3:
    gevent.sleep(0.001)
event.set()
event.clear()
assert all(job.get() for job in jobs)
""",
    "conditions and barriers": """
barrier = threading.Barrier(6)
def meet():
    for _ in range(30):
        barrier.wait(10)
together((meet, 3, 3))
condition, turn = threading.Condition(), [0]
def in_turn(place):
    def take():
        for _ in range(30):
            with condition:
                assert condition.wait_for(lambda: turn[0] % 6 == place, 10)
                turn[0] += 1
                condition.notify_all()
    return take
together(*((in_turn(place), place % 2, not place % 2) for place in range(6)))
""",
    "executors": """
def nested(number):
    with ThreadPoolExecutor(2) as executor:
        jobs = [executor.submit(lambda n=n: (time.sleep(0.01), n)[1]) for n in range(number)]
        return sum(job.result() for job in as_completed(jobs, timeout=10))
assert pool.spawn(nested, 5).get() == nested(5) == 10
""",
    "who is ended when woken": """
def ended(wait, wake):
    first, second = gevent.spawn(wait), gevent.spawn(wait)
    gevent.sleep(0)
    first.kill(block=False)
    wake()
    with gevent.Timeout(5):
        second.get()
semaphore = threading.Semaphore(0)
ended(semaphore.acquire, semaphore.release)
lock = threading.Lock()
lock.acquire()
ended(lock.acquire, lock.release)
for made in (queue.Queue(), queue.SimpleQueue()):
    ended(made.get, lambda: made.put(1))
""",
    "in the loop itself": """
event, events, lock = threading.Event(), queue.SimpleQueue(), threading.Lock()
def work():
    with lock:
        native_sleep(0.02)
job = pool.spawn(work)
while not (lock.locked() or job.ready()):  # it may have been held and released unseen
    gevent.sleep(0.001)
def in_loop():
    with lock:  # of a native thread that does not hold it for long
        event.set()
        events.put(1)
gevent.get_hub().loop.run_callback(in_loop)
assert event.wait(5) and events.get(timeout=5)
""",
    "as the standard library's": """
class Derived(queue.Queue):
    def _init(self, maxsize):
        super()._init(maxsize)
        assert self.maxsize == maxsize >= 0
    def put(self, item, block=True, timeout=None):
        if not (self.maxsize > 0 and self.qsize() >= self.maxsize):
            super().put(item, block, timeout)
for cls in (Derived, queue.Queue, queue.LifoQueue, queue.PriorityQueue):
    assert (cls().maxsize, cls(0).maxsize, cls(3).maxsize) == (0, 0, 3)
    made = cls()
    made.put(1)
    with made.mutex:
        made.queue.clear()
    assert made.empty()
queue.SimpleQueue[int]
""",
    "a thread that logs and ends with the process": """
logging.basicConfig(level=logging.INFO, filename="/dev/null")
for job in [pool.spawn(logging.info, "once") for _ in range(4)]:
    job.get()
gevent.threading.__threading__ = None  # as at the end of the interpreter
pool.kill()
""",
}


@pytest.mark.parametrize("kind", PROGRAMS)
def test_greenlets_and_native_threads_wait_for_the_same(run_python: Run, kind: str) -> None:
    ran = run_python(BEGINNING + PROGRAMS[kind] + "\nprint('fine')")
    assert (ran.stdout, ran.stderr, ran.returncode) == ("fine\n", "", 0)


def test_a_second_patch_changes_nothing(run_python: Run) -> None:
    """The process is patched as gunicorn's workers do it."""
    again = "import warnings; warnings.simplefilter('ignore'); monkey.patch_all()\n"
    program = BEGINNING + again + PROGRAMS["queue of a greenlet, get in a thread"]
    ran = run_python(program + "\nprint('fine')")
    assert (ran.stdout, ran.stderr) == ("fine\n", "")
