"""A process that stands still because of a native lock says so, once, with the place."""

import contextlib
import re
import signal
import socket

import pytest

from tests.support.http import call, call_message
from tests.support.programs import gunicorn, program
from tests.support.waiting import LIMIT

SERVICE = """
import logging, os, queue, threading, time

LOCKS = (threading.Lock(),)  # in a tuple it cannot be replaced
QUEUES = (queue.SimpleQueue(),)
CONDITION = threading.Condition(LOCKS[0])
LOCKED = (threading.Lock(),)

class Handler(logging.Handler):
    def emit(self, record):
        with LOCKED[0], LOCKED[0]:
            pass

import gemstone_sync
from gemstone_sync.concurrency import blocked

blocked.PERIOD = 0.1  # of a second: the test need not wait

#: Seconds: where nobody waits for their end, a second call comes within them however late it is.
HELD = float(os.environ.get("HELD", "60"))

class Service(gemstone_sync.MicroService):
    name = "s"
    port = 0

    def on_service_start(self):
        print(self.url, flush=True)

    @gemstone_sync.exposed_method()
    def lock(self):
        with LOCKS[0]:
            time.sleep(HELD)

    @gemstone_sync.exposed_method()
    def queue(self):
        QUEUES[0].get()

    @gemstone_sync.exposed_method()
    def condition(self):
        with CONDITION:
            time.sleep(HELD)

    @gemstone_sync.exposed_method()
    def handler(self):
        logging.getLogger("gemstone_sync").addHandler(Handler())
        logging.getLogger("gemstone_sync").warning("it waits for a lock while it holds its own")

    @gemstone_sync.exposed_method()
    def compute(self):
        end = time.monotonic() + 1
        while time.monotonic() < end:
            pass

    @gemstone_sync.exposed_method()
    def wait_for_a_pipe(self):
        reading, writing = os.pipe()
        from gevent.monkey import get_original
        get_original("select", "select")([reading], [], [], 1)

app = Service()

if __name__ == "__main__":
    app.start()
"""

LATE = {"GEMSTONE_MONKEY_PATCH": "late", "PYTHONWARNINGS": "ignore"}


@pytest.fixture
def make_calls():
    """``make_calls(program, method)``: make two calls at once, and wait for no answer."""
    with contextlib.ExitStack() as connections:

        def make(served, method):
            for _ in range(2):
                connection = socket.create_connection(("127.0.0.1", served.port), LIMIT)
                connections.enter_context(connection).sendall(call_message(method))

        yield make


def errors(served):
    return [line for line in served.stderr.splitlines() if "stands still" in line]


@pytest.mark.parametrize(
    ("method", "place"),
    [
        ("lock", r"lock at .*service\.py:\d+"),
        ("queue", r"queue at .*service\.py:\d+"),
        ("condition", r"__enter__ at .*threading\.py:\d+"),
        ("handler", r"emit at .*service\.py:\d+"),
    ],
)
def test_a_native_lock_that_stops_the_process_is_told_of_with_the_stack(
    tmp_path, make_calls, method, place
):
    (tmp_path / "service.py").write_text(SERVICE)
    with program(tmp_path / "service.py", tmp_path, environment=LATE) as served:
        served.wait_until_ready()
        make_calls(served, method)
        served.wait_until(lambda: errors(served), "the error")

        (line,) = errors(served)
        assert re.search(rf"the process stands still: {place} has been waiting for", line)
        assert "SIGTERM is not obeyed" in line
        assert re.search(rf"File .*, in {place.partition(' ')[0]}\n", served.stderr)
        served.send_signal(signal.SIGTERM)
        assert served.process.poll() is None


@pytest.mark.parametrize("worker", ["gevent", "gemstone_sync.server.GunicornWorker"])
def test_it_is_told_in_gunicorn_s_workers_too(tmp_path, make_calls, worker):
    (tmp_path / "service.py").write_text(SERVICE)
    arguments = ["--preload", "-w", "1", "-k", worker]
    with gunicorn("service:app", tmp_path, *arguments, environment=LATE) as served:
        served.wait_until_ready()
        make_calls(served, "lock")
        served.wait_until(lambda: errors(served), "the error")

        (line,) = errors(served)
        assert "lock at " in line


def test_a_hub_that_computes_or_waits_for_something_else_is_not_told_of(tmp_path):
    (tmp_path / "service.py").write_text(SERVICE)
    environment = {**LATE, "HELD": "1"}
    with program(tmp_path / "service.py", tmp_path, environment=environment) as served:
        served.wait_until_ready()
        for method in ("compute", "wait_for_a_pipe"):
            assert call(served.port, method).status == 200
        assert call(served.port, "lock").status == 200

        assert served.terminate() == 0
        assert not errors(served)
