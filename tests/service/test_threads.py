"""A service has a thread of its own where the one that started it waits outside the hub."""

import json
import sys
import threading

import pytest
from gevent import monkey

import gemstone_sync
from gemstone_sync.testing import running_service
from tests.support.http import refuses_connections
from tests.support.waiting import LIMIT, wait_until


class Service(gemstone_sync.MicroService):
    name = "at_a_prompt"
    port = 0
    fails = False

    def __init__(self):
        super().__init__()
        self.both = threading.Barrier(2)
        self.heard = []

    def on_service_start(self):
        if self.fails:
            raise ConnectionError("no database")

    @gemstone_sync.exposed_method()
    def greet(self, name: str) -> str:
        return "hello " + name

    @gemstone_sync.exposed_method()
    def meet(self) -> int:
        return self.both.wait(LIMIT)

    @gemstone_sync.exposed_method()
    def end(self) -> None:
        self.stop()

    @gemstone_sync.event_handler("said_hello")
    def on_hello(self, body: str) -> None:
        self.heard.append(body)


class Hearing(Service):
    event_transports = [gemstone_sync.MemoryEventTransport()]


@pytest.fixture(autouse=True)
def prompt(monkeypatch):
    """Somebody types."""
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)


def ask_natively(port):
    """Call it without letting any greenlet of this thread run."""
    native = monkey.get_original("socket", "socket")
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "greet", "params": ["ada"]})
    head = f"POST /api HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
    with native() as client:
        client.settimeout(LIMIT)
        client.connect(("127.0.0.1", port))
        client.sendall(f"{head}Content-Type: application/json\r\n\r\n{body}".encode())
        return client.recv(65536).partition(b"\r\n\r\n")[2]


def test_it_answers_while_the_prompt_waits_and_its_calls_overlap():
    with running_service(Service) as service:
        assert b'"hello ada"' in ask_natively(service.port)
        client = gemstone_sync.RemoteService(service.url)
        calls = [client.methods.meet.async_() for _ in range(2)]
        assert {call.wait(LIMIT) and call.result() for call in calls} == {0, 1}
    assert refuses_connections(service.port)


def test_it_can_be_started_again_wherever_it_ran(monkeypatch):
    service = Service()
    for typing in (False, True, True, False):
        with monkeypatch.context() as patch:
            if not typing:
                patch.delattr(sys, "ps1")
            service.start(block=False)
        assert gemstone_sync.RemoteService(service.url).methods.greet("bob") == "hello bob"
        service.stop()
        assert refuses_connections(service.port)


def test_its_own_method_may_stop_it():
    service = Service()
    service.start(block=False)
    gemstone_sync.RemoteService(service.url).methods.end()
    service._runner.wait()
    assert refuses_connections(service.port)


def test_a_start_that_fails_is_raised_and_may_be_tried_again():
    service = Service()
    service.fails = True
    with pytest.raises(ConnectionError, match="no database"):
        service.start(block=False)
    assert refuses_connections(service.port)
    service.fails = False
    with running_service(service):
        assert b'"hello ada"' in ask_natively(service.port)


@pytest.mark.parametrize("block", [True, False])
def test_one_that_runs_is_not_started_twice_and_goes_on(block):
    with running_service(Service) as service:
        with pytest.raises(gemstone_sync.ServiceConfigurationError, match="is running"):
            service.start(block=block)
        assert b'"hello ada"' in ask_natively(service.port)


def test_an_address_that_is_taken_does_not_end_the_prompt():
    with running_service(Service) as taken:
        service = Service()
        service.port = taken.port
        with pytest.raises(gemstone_sync.ServiceStartError, match=str(taken.port)):
            service.start()


def test_events_come_and_go():
    with running_service(Hearing) as service:
        service.emit_event("said_hello", "world")
        wait_until(lambda: service.heard == ["world"], "the event")


AT_THE_END = """
import sys
sys.ps1 = ">>> "
import gemstone_sync

class Service(gemstone_sync.MicroService):
    name = "left"
    port = 0

    def on_service_stop(self):
        print("stopped", flush=True)

Service().start(block=False)
"""


@pytest.mark.parametrize("patch", ["1", "0"])
def test_it_is_stopped_when_the_program_ends(run_python, patch):
    done = run_python(AT_THE_END, GEMSTONE_MONKEY_PATCH=patch)
    assert (done.returncode, done.stdout) == (0, "stopped\n")


CTRL_C = """
import os, signal, threading, time
import gemstone_sync

class Service(gemstone_sync.MicroService):
    name = "interrupted"
    port = 0

    def on_service_start(self):
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()

Service().start()
try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(10)
except KeyboardInterrupt:
    print("heard")
"""


def test_ctrl_c_is_heard_after_it_has_stopped_a_service(run_python):
    assert run_python(CTRL_C).stdout == "heard\n"
