"""A program that imported things before gevent patched the process works all the same."""

import re

import pytest

from tests.support.faulty_server import CERTIFICATE, FaultyServer
from tests.support.http import call, result_of
from tests.support.programs import gunicorn
from tests.support.waiting import wait_until

IMPORTED_FIRST = """
import sys
import logging, queue, concurrent.futures, ssl
import flask, requests, msgspec
from time import sleep
from threading import Lock, Thread
from socket import create_connection, socket
from subprocess import Popen
log = logging.getLogger("mine")

from gemstone_sync.concurrency import is_patched, patch
assert not is_patched()

import gemstone_sync
gemstone_sync.MicroService

import time, threading, socket as socket_module, subprocess
assert sleep is time.sleep and Lock is threading.Lock and Popen is subprocess.Popen
assert socket is socket_module.socket and create_connection is socket_module.create_connection
patch()  # twice changes nothing
assert is_patched() and sleep is time.sleep and socket is socket_module.socket

import gevent
seen = []
sleeper = gevent.spawn(lambda: (sleep(0.05), seen.append("slept")))
other = gevent.spawn(lambda: seen.append("ran meanwhile"))
gevent.joinall([sleeper, other])
print(*seen, sep=", ")

def call():
    return requests.post(sys.argv[1], json={}, verify=sys.argv[2], timeout=20).text

calls = [gevent.spawn(call) for _ in range(3)]
gevent.joinall(calls, raise_error=True)
print(*(call.value for call in calls))
"""


def test_what_was_imported_first_is_cooperative_afterwards_and_no_reason_to_warn(run_python):
    def answer_when_three_are_here(exchange):
        wait_until(lambda: len(server.requests) == 3, "three requests at the same time")
        exchange.reply("overlapped")

    with FaultyServer(answer_when_three_are_here, tls=True) as server:
        done = run_python(IMPORTED_FIRST, server.url, CERTIFICATE, GEMSTONE_MONKEY_PATCH="late")

    assert done.stdout == "ran meanwhile, slept\noverlapped overlapped overlapped\n", done.stderr
    assert done.stderr == ""


#: Of every kind, in every place; what is below made them before the patch.
OBJECTS = """
import collections, dataclasses, functools, queue, threading, time
from concurrent.futures import ThreadPoolExecutor

LOCK = threading.Lock()
REENTRANT = threading.RLock()
CONDITION = threading.Condition()
OVER_LOCK = threading.Condition(LOCK)
SEMAPHORE = threading.BoundedSemaphore(1)
BARRIER = threading.Barrier(2)
EVENT = threading.Event()
QUEUE = queue.PriorityQueue()
SIMPLE = queue.SimpleQueue()
SIMPLE.put("kept")
LOCAL = threading.local()
LOCAL.value = "the main program's"
LOCAL.lock = threading.Lock()
POOL = ThreadPoolExecutor(2)
TABLE = {"users": [threading.Lock()], 3: collections.deque([threading.Lock()])}

class Class:
    lock = threading.Lock()

class Holder:
    def __init__(self):
        self.lock = threading.RLock()

class Slotted:
    __slots__ = ("lock", "unset")
    def __init__(self):
        self.lock = threading.Lock()

HELD, SLOTTED = Holder(), Slotted()

class Meta(type):
    def __getattribute__(cls, name):
        raise RuntimeError(f"the class was asked for {name}")
    __setattr__ = __eq__ = __hash__ = None

class Hostile(metaclass=Meta):
    lock = threading.Lock()
    def __getattribute__(self, name):
        raise RuntimeError(f"asked for {name}")
    __setattr__ = __eq__ = __hash__ = __bool__ = None

HOSTILE = Hostile()
vars_of = lambda one: object.__getattribute__(one, "__dict__")
vars_of(HOSTILE)["lock"] = threading.Lock()

def guarded(function):
    lock = threading.Lock()
    @functools.wraps(function)
    def call(*args):
        with lock:
            return function(*args)
    return call

class Worker(threading.Thread):
    def run(self):
        SIMPLE.put("worked")

@dataclasses.dataclass
class Record:
    lock: object = dataclasses.field(default_factory=threading.Lock)

class Makes:
    lock = threading.Lock
    sleep = time.sleep

def default(lock=threading.Lock, *, more=threading.RLock):
    return [lock(), more()]

def enclosing(make=threading.Lock):
    return lambda: make()

ENCLOSED = enclosing()
BY_NAME = collections.defaultdict(threading.Lock)
BY_NAME["made"], BY_NAME["shop", 7]
ORDERED = collections.OrderedDict(one=threading.Lock())

@functools.cache
def lock_of(*key):
    return threading.Lock()

lock_of(), lock_of("shop")
"""

USED_BY_GREENLETS = """
import objects
import gemstone_sync
gemstone_sync.MicroService

import gevent, time
from objects import *

def together(work, *others):
    tasks = [gevent.spawn(one) for one in (work, *others)]
    gevent.joinall(tasks, timeout=10, raise_error=True)
    return [task.get(block=False) for task in tasks]

def overlap(lock, log):
    with lock:
        log.append("in")
        time.sleep(0.001)
        log.append("out")

for lock in (
    LOCK, REENTRANT, CONDITION, OVER_LOCK, SEMAPHORE, LOCAL.lock, TABLE["users"][0], TABLE[3][0],
    Class.lock, HELD.lock, SLOTTED.lock, vars_of(HOSTILE)["lock"],
    type.__dict__["__dict__"].__get__(Hostile)["lock"],
    Record().lock, Makes.lock(), *default(), ENCLOSED(), BY_NAME["any"],
    BY_NAME["made"], BY_NAME["shop", 7], ORDERED["one"], lock_of(), lock_of("shop"),
):
    log = []
    together(*[lambda: overlap(lock, log)] * 3)
    assert log == ["in", "out"] * 3, (lock, log)
assert OVER_LOCK._lock is LOCK
log = []
together(lambda: Makes().sleep(0.001) or log.append("slept"), lambda: log.append("ran meanwhile"))
assert log == ["ran meanwhile", "slept"]

assert SIMPLE.get() == "kept"
for queue in (SIMPLE, QUEUE):
    assert together(queue.get, lambda: queue.put(1))[0] == 1
assert together(EVENT.wait, EVENT.set)[0]
assert sorted(together(BARRIER.wait, BARRIER.wait)) == [0, 1]

def wait():
    with CONDITION:
        return CONDITION.wait(10)

def notify():
    with CONDITION:
        CONDITION.notify()

assert together(wait, notify)[0]
gevent.spawn(setattr, LOCAL, "value", "a greenlet's").join()
assert LOCAL.value == "the main program's" and not together(lambda: hasattr(LOCAL, "value"))[0]
log = []
together(*[lambda: POOL.submit(guarded(overlap), LOCK, log).result()] * 3)
assert log == ["in", "out"] * 3
worker = Worker()
worker.start()
worker.join(10)
assert not worker.is_alive() and SIMPLE.get() == "worked"
print("ok")
"""


def test_what_was_made_first_is_cooperative_afterwards(run_python, tmp_path):
    (tmp_path / "objects.py").write_text(OBJECTS)
    done = run_python(USED_BY_GREENLETS, GEMSTONE_MONKEY_PATCH="late")

    assert (done.stdout, done.stderr) == ("ok\n", "")


IN_USE = """
import contextvars, functools, queue, threading
from concurrent.futures import ThreadPoolExecutor

TAKEN = threading.Lock()
TAKEN.acquire()
REENTRANT = threading.RLock()
REENTRANT.acquire()
UNCHANGEABLE = {"users": (threading.Lock(),)}
PARTIAL = functools.partial(print, threading.Lock())
VARIABLE = contextvars.ContextVar("VARIABLE", default=threading.Lock())

def default(lock=threading.Lock()):
    pass

def enclosing(locks=(threading.Lock(),)):
    return lambda: locks

enclosed = enclosing()
EXECUTOR = ThreadPoolExecutor(2)
EXECUTOR.submit(int).result()
SIMPLE = queue.SimpleQueue()
QUEUE = queue.Queue()

class Local(threading.local):
    pass

class Client:
    def __init__(self):
        self.state = Local()

CLIENT = Client()
SHARED = threading.local()
ready = threading.Barrier(4)

def work(wait):
    SHARED.value = 1
    ready.wait()
    wait()

for wait in (SIMPLE.get, QUEUE.get, threading.Event().wait):
    threading.Thread(target=work, args=(wait,), daemon=True, name=f"thread {wait.__name__}").start()
ready.wait()
del ready, wait
while not QUEUE.not_empty._waiters:
    pass
"""


def test_what_is_in_use_stays_native_and_is_warned_of_by_name(run_python, tmp_path):
    (tmp_path / "in_use.py").write_text(IN_USE)
    (tmp_path / "made_afterwards.py").write_text(OBJECTS)
    done = run_python(
        """
import in_use, gemstone_sync
gemstone_sync.MicroService
import made_afterwards
in_use.QUEUE.put(1)
in_use.SIMPLE.put(1)
import gevent, time
work = [gevent.spawn(lambda: in_use.EXECUTOR.submit(time.sleep, 0.01).result()) for _ in range(4)]
assert len(gevent.joinall(work, timeout=10, raise_error=True)) == 4
print("ok")
""",
        GEMSTONE_MONKEY_PATCH="late",
    )

    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr
    told = dict(
        re.findall(r"RuntimeWarning: in_use.(\w+) is older .* keeps (.*?)(?: that|\.)", done.stderr)
    )
    assert told == {
        **dict.fromkeys(["TAKEN", "REENTRANT", "UNCHANGEABLE", "QUEUE"], "a native lock"),
        **dict.fromkeys(["PARTIAL", "VARIABLE", "default", "enclosing"], "a native lock"),
        **dict.fromkeys(["Local", "CLIENT", "SHARED"], "a thread-local"),
        "SIMPLE": "a native queue",
        "EXECUTOR": "an executor",
    }
    (threads,) = re.findall(r"stay native: (.*?)\. A", done.stderr)
    assert threads == "ThreadPoolExecutor-0_0, thread get, thread get, thread wait"
    assert "made_afterwards" not in done.stderr


CONTEXTS = """
import ssl
from urllib3.util.ssl_ import create_urllib3_context

class Derived(ssl.SSLContext):
    pass

ALL = [
    ssl.create_default_context(),
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER),
    create_urllib3_context(),
    Derived(ssl.PROTOCOL_TLS_CLIENT),
    type("Further", (Derived,), {})(ssl.PROTOCOL_TLS_CLIENT),
]
OPTIONS = [context.options for context in ALL]
"""


def test_tls_contexts_that_were_made_first_work_afterwards(run_python, tmp_path):
    (tmp_path / "contexts.py").write_text(CONTEXTS)
    done = run_python(
        """
import contexts, gemstone_sync
gemstone_sync.MicroService
import gevent, socket, ssl

def shake_hands(context, with_whom):
    try:
        context.wrap_socket(with_whom, server_side=context is contexts.ALL[1])
    except OSError:
        return "cut off"

for context, options in zip(contexts.ALL, contexts.OPTIONS):
    assert isinstance(context, ssl.SSLContext) and context.options == options
    context.options |= ssl.OP_NO_TICKET
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    one, other = socket.socketpair()
    waits = gevent.spawn(shake_hands, context, one)
    gevent.sleep(0)
    assert not waits.ready()
    other.close()
    assert waits.get(timeout=10) == "cut off"
print("ok")
""",
        GEMSTONE_MONKEY_PATCH="late",
    )

    assert (done.stdout, done.stderr) == ("ok\n", "")


SOCKETS = """
import http.client, http.server, selectors, socket, ssl, threading

ONE, OTHER = socket.socketpair()
FILE = ONE.makefile("rb")
LISTENING = socket.create_server(("127.0.0.1", 0))
TLS = ssl.create_default_context().wrap_socket(socket.socket(), server_hostname="x")
CONNECTION = http.client.HTTPConnection(*LISTENING.getsockname())
CONNECTION.connect()
SELECTOR = selectors.DefaultSelector()
POLL = selectors.PollSelector()

class Derived(socket.socket):
    pass

class Client:
    def __init__(self):
        self.sockets = {"one": Derived()}

CLIENT = Client()
"""


def test_sockets_and_selectors_that_were_made_first_are_warned_of_by_name(run_python, tmp_path):
    (tmp_path / "sockets.py").write_text(SOCKETS)
    done = run_python(
        "import sockets, gemstone_sync\ngemstone_sync.MicroService", GEMSTONE_MONKEY_PATCH="late"
    )

    told = re.findall(r"RuntimeWarning: sockets.(\w+) is older .* keeps (.*) that", done.stderr)
    socket_names = ["ONE", "OTHER", "FILE", "LISTENING", "TLS", "CONNECTION", "CLIENT"]
    assert dict(told) == {
        **dict.fromkeys(socket_names, "a native socket"),
        "Derived": "a native socket as its base",
        **dict.fromkeys(["SELECTOR", "POLL"], "a native selector"),
    }


#: Closed, never waited for, or the business of the standard library.
QUIET = """
import asyncio, logging.handlers, multiprocessing.connection, socket, unittest.mock
import requests

CLOSED = socket.socket()
CLOSED.close()
DO_NOT_WAIT = socket.socketpair()
for one in DO_NOT_WAIT:
    one.setblocking(False)
LOOP = asyncio.new_event_loop()
HANDLER = logging.handlers.SysLogHandler(("127.0.0.1", 9))
LOG = logging.getLogger("mine")
LOG.addHandler(HANDLER)
LISTENER = multiprocessing.connection.Listener()
PIPE = multiprocessing.Pipe()
SESSION = requests.Session()
MOCK = unittest.mock.Mock(socket=socket.socket())
KINDS = (socket.socket, socket.create_connection)
"""


def test_sockets_that_stop_nobody_are_not_told_of(run_python, tmp_path):
    (tmp_path / "quiet.py").write_text(QUIET)
    done = run_python(
        "import quiet, gemstone_sync\ngemstone_sync.MicroService\nprint('ok')",
        GEMSTONE_MONKEY_PATCH="late",
    )

    assert (done.stdout, done.stderr) == ("ok\n", "")


#: As proxies, lazy objects and mocks are: whoever asks them anything at all gets an exception.
HARMLESS = """
import logging, sys, types, unittest.mock, weakref
import flask, werkzeug.local

LOG = logging.getLogger("mine")
MOCK = unittest.mock.MagicMock()
DEAD = weakref.proxy(type("Gone", (), {})())
UNBOUND = werkzeug.local.LocalStack()()

class Hostile:
    @property
    def __class__(self):
        raise RuntimeError("asked for its class")

    def __getattribute__(self, name):
        raise RuntimeError(f"asked for {name}")

    __repr__ = __eq__ = __bool__ = __hash__ = None

class HostileMeta(type):
    def __getattribute__(cls, name):
        raise RuntimeError(f"the class was asked for {name}")

    __eq__ = __hash__ = __instancecheck__ = __subclasscheck__ = None

HOSTILE = Hostile()
CLASS = HostileMeta("Class", (), {})
INSTANCE = type.__call__(CLASS)

class Lazy(types.ModuleType):
    def __getattribute__(self, name):
        raise RuntimeError(f"the module was asked for {name}")

sys.modules["lazy"] = Lazy("lazy")
sys.modules["odd"] = types.ModuleType("odd")
sys.modules["odd"].__file__ = Hostile()
sys.modules["none"] = None
"""


@pytest.mark.parametrize("environment", [{}, {"GEMSTONE_MONKEY_PATCH": "late"}], ids=["", "late"])
def test_nothing_of_the_program_is_asked_anything(run_python, tmp_path, environment):
    (tmp_path / "harmless.py").write_text(HARMLESS)
    done = run_python(
        "import harmless\nimport gemstone_sync\ngemstone_sync.MicroService\nprint('ok')",
        **environment,
    )

    assert (done.stdout, done.stderr) == ("ok\n", "")


def test_what_gunicorn_s_configuration_made_is_cooperative_in_its_gevent_worker(tmp_path):
    (tmp_path / "older.py").write_text("import threading\nLOCAL = threading.local()\n")
    (tmp_path / "gunicorn.conf.py").write_text("import older\n")
    (tmp_path / "service.py").write_text("""
import older, gemstone_sync

class Service(gemstone_sync.MicroService):
    name = "s"

    @gemstone_sync.exposed_method()
    def is_mine(self):
        older.LOCAL.caller = object()
        return gemstone_sync.concurrency.spawn(hasattr, older.LOCAL, "caller").get()

app = Service()
""")
    with gunicorn("service:app", tmp_path) as served:
        served.wait_until_ready()
        assert result_of(call(served.port, "is_mine")) is False, served.stderr


PATCHED_IN_PART = """
import partly, threading
LOCAL, LOCK = threading.local(), threading.Lock()
import gemstone_sync

class Service(gemstone_sync.MicroService):
    name = "s"

import gevent
LOCAL.value = "the main program's"

def work():
    with LOCK:
        gevent.sleep(0.001)
    return hasattr(LOCAL, "value")

tasks = [gevent.spawn(work) for _ in range(3)]
gevent.joinall(tasks, timeout=10, raise_error=True)
print([task.get(block=False) for task in tasks])
"""


@pytest.mark.parametrize("wanted", ["1", "late"])
@pytest.mark.parametrize("part", ["all(thread=False, select=False)", "socket()"])
def test_what_somebody_has_patched_in_part_is_patched_whole(run_python, tmp_path, part, wanted):
    """grequests leaves out threads: calls would share thread-locals, and wait natively."""
    (tmp_path / "partly.py").write_text(f"from gevent import monkey\nmonkey.patch_{part}\n")
    done = run_python(PATCHED_IN_PART, GEMSTONE_MONKEY_PATCH=wanted)

    assert (done.stdout, done.stderr) == ("[False, False, False]\n", "")


#: As debugpy has threads begin, where gevent's support is asked for.
WRAPPED = """
import _thread, threading, time
import requests

def wrap(native):
    class Wrapper:
        def start(self, function, args=(), kwargs={}):
            return native(function, args, kwargs)
    return Wrapper().start

_thread.start_new_thread = wrap(_thread.start_new_thread)
import gemstone_sync.patch
from gevent import monkey

threads, end = [threading.get_native_id()], time.monotonic() + 5
for begin in (monkey.get_original("_thread", "start_new_thread"), _thread.start_new_thread):
    begin(lambda: threads.append(threading.get_native_id()), ())
    while len(threads) < 2 and time.monotonic() < end:
        monkey.get_original("time", "sleep")(0.001)
time.sleep(0.001)
print(threads[1] != threads[0], threads[0] in threads[2:])
"""


def test_what_was_put_in_an_originals_place_stays_native(run_python):
    """Else the thread that watches the hub was a greenlet, and the service never answered."""
    assert run_python(WRAPPED).stdout == "True True\n"


def test_the_first_line_of_a_program_may_patch(run_python):
    done = run_python("""
import gemstone_sync.patch
import threading
local = threading.local()
import gemstone_sync
gemstone_sync.MicroService
import gevent
gevent.spawn(setattr, local, "seen", True).join()
print(hasattr(local, "seen"))
""")

    assert (done.stdout, done.stderr) == ("False\n", "")


def test_a_service_in_a_process_that_opted_out_says_that_calls_will_not_overlap(run_python):
    done = run_python(
        """
import logging
logging.basicConfig()
import gemstone_sync

class Service(gemstone_sync.MicroService):
    name = "plain.threads"
    port = 0

service = Service()
service.start(block=False)
service.stop()
""",
        GEMSTONE_MONKEY_PATCH="0",
    )

    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("WARNING")]
    assert "plain.threads: the process is not patched by gevent" in line
    assert "calls will not overlap" in line
