"""A program that imported things before gevent patched the process works all the same."""

import re

import pytest

from tests.support.faulty_server import CERTIFICATE, FaultyServer
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


OBJECTS_OF_MINE = """
import queue, threading
from concurrent.futures import ThreadPoolExecutor

LOCK = threading.Lock()
REENTRANT = threading.RLock()
CONDITION = threading.Condition()
EVENT = threading.Event()
QUEUE = queue.Queue()
SIMPLE = queue.SimpleQueue()
LOCAL = threading.local()
POOL = ThreadPoolExecutor(2)
TABLE = {"users": [threading.Lock()]}

class Class:
    lock = threading.Lock()

class Holder:
    def __init__(self):
        self.lock = threading.Lock()

HELD = Holder()
"""

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

HOSTILE = Hostile()
CLASS = HostileMeta("Class", (), {})

class Lazy(types.ModuleType):
    def __getattribute__(self, name):
        raise RuntimeError(f"the module was asked for {name}")

sys.modules["lazy"] = Lazy("lazy")
sys.modules["odd"] = types.ModuleType("odd")
sys.modules["odd"].__file__ = Hostile()
sys.modules["none"] = None
"""


def test_what_is_older_than_the_patch_and_stays_native_is_warned_of_by_name(run_python, tmp_path):
    for name in ("objects_of_mine", "made_afterwards"):
        (tmp_path / f"{name}.py").write_text(OBJECTS_OF_MINE)
    done = run_python(
        "import objects_of_mine, gemstone_sync\ngemstone_sync.MicroService\nimport made_afterwards",
        GEMSTONE_MONKEY_PATCH="late",
    )

    assert done.returncode == 0, done.stderr
    told = dict(
        re.findall(r"RuntimeWarning: objects_of_mine.(\w+) is older .* keeps (.*):", done.stderr)
    )
    assert told == {
        **dict.fromkeys(["LOCK", "REENTRANT", "CONDITION", "EVENT", "QUEUE"], "a native lock"),
        **dict.fromkeys(["TABLE", "Class", "HELD"], "a native lock"),
        "SIMPLE": "a native queue",
        "LOCAL": "a thread-local that all greenlets share",
        "POOL": "an executor whose threads wait natively",
    }
    assert "made_afterwards" not in done.stderr


@pytest.mark.parametrize("environment", [{}, {"GEMSTONE_MONKEY_PATCH": "late"}], ids=["", "late"])
def test_nothing_of_the_program_is_asked_anything(run_python, tmp_path, environment):
    (tmp_path / "harmless.py").write_text(HARMLESS)
    done = run_python(
        "import harmless\nimport gemstone_sync\ngemstone_sync.MicroService\nprint('ok')",
        **environment,
    )

    assert (done.stdout, done.stderr) == ("ok\n", "")


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
