"""A program that imported things before gevent patched the process works all the same."""

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
        done = run_python(IMPORTED_FIRST, server.url, CERTIFICATE)

    assert done.stdout == "ran meanwhile, slept\noverlapped overlapped overlapped\n", done.stderr
    assert done.stderr == ""


LOCKS_OF_MINE = """
import queue
import threading

LOCK = threading.Lock()
REENTRANT = threading.RLock()
CONDITION = threading.Condition()
EVENT = threading.Event()
QUEUE = queue.Queue()
"""


def test_a_native_lock_in_a_module_of_the_user_is_warned_of_by_name(run_python, tmp_path):
    for name in ("locks_of_mine", "made_afterwards"):
        (tmp_path / f"{name}.py").write_text(LOCKS_OF_MINE)
    done = run_python(
        "import locks_of_mine, gemstone_sync\ngemstone_sync.MicroService\nimport made_afterwards\n"
    )

    assert done.returncode == 0, done.stderr
    for name in ("LOCK", "REENTRANT", "CONDITION", "EVENT", "QUEUE"):
        assert f"RuntimeWarning: locks_of_mine.{name} holds a native lock" in done.stderr
    assert "Import gemstone_sync.MicroService first" in done.stderr
    assert "made_afterwards" not in done.stderr


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
