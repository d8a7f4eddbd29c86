"""The service of `service.py` under WSGI servers that know nothing of it."""

import contextlib
import http.client
import json
import signal
import sys
from collections.abc import Iterator

from tests.support.http import JSON, call_body
from tests.support.machine import free_port
from tests.support.programs import Program
from tests.support.waiting import LIMIT

from .processes import SERVICE, Processes

#: First lines of a program that serves it.
IMPORTS = f"""
import sys
sys.path.insert(0, {str(SERVICE.parent)!r})
from service import Worker, service
"""


@contextlib.contextmanager
def served(folder, *words: str) -> Iterator[Processes]:
    """Run Python with these words, in which ``{port}`` stands for a free port."""
    port = free_port()
    command = [word.replace("{port}", str(port)) for word in words]
    started = Program([sys.executable, *command], folder)
    started.port = port
    try:
        yield Processes(started, folder)
    finally:
        started.kill()


def ask(port, path, body=None):
    """The status and body of the answer, which may be HTTP/1.0; None and nothing without one."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT)
    try:
        connection.request("GET" if body is None else "POST", path, body, JSON if body else {})
        reply = connection.getresponse()
        return reply.status, reply.read()
    except OSError:
        return None, b""
    finally:
        connection.close()


def call(port, method, *params):
    return ask(port, "/api", call_body(method, *params))


def check(service: Processes) -> None:
    """The first request starts the service, once; then its periodic tasks run."""
    port = service.port
    service.program.wait_until(lambda: ask(port, "/health/ready")[0] == 200, "/health/ready")
    status, body = call(port, "add", 1, 2)
    assert (status, json.loads(body)["result"]) == (200, 3)
    for _ in range(3):  # most have one greenlet or thread for them
        assert json.loads(call(port, "count")[1])["result"] == 1
    assert service.ticking()
    assert len(service.notes("started")) == 1
    assert "Traceback" not in service.program.stderr


def check_end(service: Processes) -> None:
    """SIGTERM stops the service, which the first request has started, and ends the process."""
    service.program.wait_until(lambda: ask(service.port, "/health/ready")[0] == 200, "its start")
    started = service.pids("started")
    assert service.program.terminate() in (0, -signal.SIGTERM)
    assert [note.pid for note in service.notes("stopped")] == list(started)
    assert "Traceback" not in service.program.stderr
