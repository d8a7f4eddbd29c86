"""A program that imported things before gevent patched the process works all the same."""

import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from gevent.event import Event
from gevent.pywsgi import WSGIServer

CERTIFICATE = Path(__file__).resolve().parents[1] / "data" / "localhost.pem"

#: Seconds until the TLS server gives up waiting for calls to overlap.
TOGETHER = 10


class Together:
    """A WSGI application that answers once three requests are there at the same time."""

    def __init__(self) -> None:
        self._inside = 0
        self._all_here = Event()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        self._inside += 1
        if self._inside == 3:
            self._all_here.set()
        overlapped = self._all_here.wait(TOGETHER)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"overlapped" if overlapped else b"alone"]


@pytest.fixture
def tls_server() -> Iterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    server = WSGIServer(("127.0.0.1", 0), Together(), log=None, ssl_context=context)
    server.start()
    yield f"https://localhost:{server.server_port}/"
    server.stop()


OVERLAPPING_HTTPS = """
import sys
import requests  # first: urllib3 and ssl are loaded unpatched

import gemstone_sync

class Service(gemstone_sync.MicroService):
    name = "late"

import gevent

def call():
    return requests.get(sys.argv[1], verify=sys.argv[2], timeout=20).text

calls = [gevent.spawn(call) for _ in range(3)]
gevent.joinall(calls, raise_error=True)
print([call.value for call in calls])
"""


def test_https_calls_work_and_overlap_when_requests_was_imported_first(
    run_python: Callable[..., Any], tls_server: str
) -> None:
    done = run_python(OVERLAPPING_HTTPS, tls_server, str(CERTIFICATE))

    assert done.stdout.strip() == str(["overlapped"] * 3), done.stderr
    assert done.stderr == ""


def test_names_imported_early_are_cooperative_afterwards(run_python: Callable[..., Any]) -> None:
    done = run_python("""
from time import sleep
from threading import Lock, Thread
from socket import create_connection, socket
from subprocess import Popen

import gemstone_sync
gemstone_sync.MicroService

import time, threading, socket as socket_module, subprocess
assert sleep is time.sleep and Lock is threading.Lock and Popen is subprocess.Popen
assert socket is socket_module.socket and create_connection is socket_module.create_connection

import gevent
seen = []
sleeper = gevent.spawn(lambda: (sleep(0.05), seen.append("slept")))
other = gevent.spawn(lambda: seen.append("ran meanwhile"))
gevent.joinall([sleeper, other])
print(*seen, sep=", ")
""")

    assert done.stdout.strip() == "ran meanwhile, slept", done.stderr
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


def test_a_native_lock_in_a_module_of_the_user_is_warned_of_by_name(
    run_python: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "locks_of_mine.py").write_text(LOCKS_OF_MINE)
    done = run_python("import locks_of_mine, gemstone_sync\ngemstone_sync.MicroService\n")

    assert done.returncode == 0, done.stderr
    for name in ("LOCK", "REENTRANT", "CONDITION", "EVENT", "QUEUE"):
        assert f"RuntimeWarning: locks_of_mine.{name} holds a native lock" in done.stderr
    assert "Import gemstone_sync.MicroService first" in done.stderr


def test_a_lock_made_afterwards_is_fine(run_python: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "locks_of_mine.py").write_text(LOCKS_OF_MINE)
    done = run_python("import gemstone_sync\ngemstone_sync.MicroService\nimport locks_of_mine\n")

    assert (done.returncode, done.stderr) == (0, "")


def test_importing_libraries_first_is_no_reason_to_warn(run_python: Callable[..., Any]) -> None:
    done = run_python("""
import logging, threading, queue, concurrent.futures, socket, ssl, subprocess, time
import flask, requests, msgspec
log = logging.getLogger("mine")
import gemstone_sync
gemstone_sync.MicroService
""")

    assert (done.returncode, done.stderr) == (0, "")


def test_patching_twice_changes_nothing(run_python: Callable[..., Any]) -> None:
    done = run_python("""
from gemstone_sync.concurrency import is_patched, patch
assert not is_patched()
patch()
import socket, time
once = (socket.socket, time.sleep)
patch()
assert is_patched() and once == (socket.socket, time.sleep)
""")

    assert (done.returncode, done.stderr) == (0, "")


def test_a_service_in_a_process_that_opted_out_says_that_calls_will_not_overlap(
    run_python: Callable[..., Any],
) -> None:
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
