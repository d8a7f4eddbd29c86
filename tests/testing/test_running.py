"""running_service and the pytest plugin, in a patched process and in one that is not."""

from typing import Any

import pytest
import requests

import gemstone_sync
from gemstone_sync import MicroService
from gemstone_sync.testing import ServiceClient, running_service
from tests.support.http import refuses_connections
from tests.support.waiting import LIMIT

from .service import Broken, Service


def post(service: MicroService, method: str, *params: Any) -> Any:
    call = {"jsonrpc": "2.0", "method": method, "params": params, "id": 1}
    return requests.post(service.url, json=call, timeout=LIMIT).json()["result"]


# patched


def test_a_class_or_an_instance_runs_on_a_free_port_and_is_stopped():
    """Attributes are set before the start."""
    instance = Service()
    with (
        running_service(Service) as first,
        running_service(instance) as second,
        running_service(Service, greeting="hi", endpoint="/rpc") as third,
    ):
        assert third.url.endswith("/rpc")
        assert post(third, "greet", "a") == "hi a"
        assert second is instance
        assert first.port != second.port
        assert 0 not in (first.port, second.port)
        assert post(first, "greet", "a") == post(second, "greet", "a") == "hello a"
        assert first.url == f"http://127.0.0.1:{first.port}/api"

    assert refuses_connections(first.port)
    assert instance.log == ["start", "stop"]
    assert (Service.port, Service.greeting) == (8000, "hello")


def test_an_attribute_that_does_not_exist_is_a_mistake():
    with (
        pytest.raises(AttributeError, match="Service has no attribute 'endpiont'"),
        running_service(Service, endpiont="/rpc"),
    ):
        pytest.fail("entered")


def test_a_start_that_fails_is_raised_and_nothing_listens():
    service = Broken()
    with pytest.raises(ConnectionError, match="no database"), running_service(service):
        pytest.fail("entered")
    assert refuses_connections(service.port)
    with (
        running_service(Service) as taken,
        pytest.raises(gemstone_sync.ServiceStartError, match=str(taken.port)),
        running_service(Service, port=taken.port),
    ):
        pytest.fail("entered")


def test_in_process_and_over_the_socket_are_the_same_service():
    with running_service(Service) as service:
        service.greeting = "hey"
        assert ServiceClient(service).call("greet", "a") == post(service, "greet", "a") == "hey a"
    with pytest.raises(ZeroDivisionError), running_service(service):
        _ = 1 / 0
    assert refuses_connections(service.port)  # also when the block raises


# not patched

UNPATCHED = """
import socket, threading, time
import requests
import gemstone_sync
from gemstone_sync.testing import ServiceClient, running_service

assert socket.socket.__module__ == "socket"

class Service(gemstone_sync.MicroService):
    name = "unpatched"
    stopped = False

    @gemstone_sync.exposed_method()
    def where(self):
        return threading.current_thread() is threading.main_thread()

    def on_service_stop(self):
        self.stopped = True

call = {"jsonrpc": "2.0", "method": "where", "id": 1}
with running_service(Service) as service:
    # A plain, blocking client in this thread: the service has one of its own.
    replies = [requests.post(service.url, json=call, timeout=10).json() for _ in range(3)]
assert [reply["result"] for reply in replies] == [False] * 3, replies
assert service.stopped
limit = time.monotonic() + 20
while threading.active_count() > 1 and time.monotonic() < limit:
    time.sleep(0.01)  # it says that it has ended just before it has
assert threading.active_count() == 1, threading.enumerate()

try:
    with running_service(Service, host="no.such.host.invalid"):
        pass
except gemstone_sync.ServiceStartError as error:
    print("refused:", error)
with running_service(Service) as service, running_service(Service) as other:
    assert requests.post(other.url, json=call, timeout=10).json()["result"] is False
assert ServiceClient(Service()).call("where") is True
try:
    with running_service(Service):
        raise KeyError("from the block")
except KeyError:
    print("raised")

from gemstone_sync.testing import event_waiter

class Hearing(Service):
    event_transports = [gemstone_sync.MemoryEventTransport()]

    @gemstone_sync.event_handler("said_hello")
    def on_hello(self, body):
        self.emit_event("heard", body)

with running_service(Hearing) as service, event_waiter(service, "heard") as waiter:
    service.emit_event("said_hello", "world")
    print("heard", waiter.wait())
assert not gemstone_sync.concurrency.is_patched()
"""


def test_in_a_process_that_is_not_patched_the_service_has_a_thread_of_its_own(run_python):
    done = run_python(UNPATCHED, GEMSTONE_MONKEY_PATCH="0")
    assert done.returncode == 0, done.stderr
    refused, raised, heard = done.stdout.splitlines()
    assert refused.startswith("refused: cannot listen on no.such.host.invalid")
    assert (raised, heard) == ("raised", "heard world")


# The pytest plugin

USERS_TESTS = """
import socket

import gemstone_sync
import pytest
import requests

PATCHED = {patched}

def is_patched():
    return socket.socket.__module__.startswith("gevent")

# Before anything of a service was used, as a test module is imported.
patched_at_import = is_patched()

class Service(gemstone_sync.MicroService):
    name = "users.service"
    log = []

    @gemstone_sync.exposed_method()
    def add(self, a: int, b: int) -> int:
        return a + b

    @gemstone_sync.exposed_method(requires_handler_reference=True)
    def user(self, handler):
        return handler.headers.get("User")

    def on_service_start(self):
        self.log.append("start")

    def on_service_stop(self):
        self.log.append("stop")

def test_patching():
    assert patched_at_import is PATCHED

def test_client(service_client):
    client = service_client(Service, {{"User": "ada"}})
    assert client.call("add", 1, 2) == 3
    assert client.call("user") == "ada"
    assert service_client(Service()).call("user") is None
    assert Service.log == ["start", "start"]

def test_the_clients_were_stopped():
    assert Service.log == ["start", "start", "stop", "stop"]
    Service.log.clear()

def test_running(running_service):
    service = running_service(Service, endpoint="/rpc")
    call = {{"jsonrpc": "2.0", "method": "add", "params": [1, 2], "id": 1}}
    assert requests.post(service.url, json=call, timeout=10).json()["result"] == 3
    assert service.url.endswith("/rpc")

def test_the_service_was_stopped():
    assert Service.log == ["start", "stop"]
"""


@pytest.mark.slow  # a pytest of its own
@pytest.mark.parametrize(
    ("options", "environment", "patched"),
    [
        ([], {"GEMSTONE_MONKEY_PATCH": "0"}, False),
        ([], {}, False),
        (["-p", "gemstone_sync.testing.monkey"], {}, True),
    ],
    ids=["opted out", "not asked for", "asked for"],
)
def test_the_plugin_patches_only_when_asked(run_python, tmp_path, options, environment, patched):
    """The plugin gives both as fixtures."""
    (tmp_path / "test_users.py").write_text(USERS_TESTS.format(patched=patched))
    words = ["-q", "-W", "error", "-p", "no:cacheprovider", *options, "test_users.py"]
    done = run_python(
        "import sys, pytest; sys.exit(pytest.main(sys.argv[1:]))", *words, **environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 passed" in done.stdout


def test_the_client_of_the_fixture_sends_headers(service_client):
    """The service is used in process, as `ServiceClient` does."""

    class Seen(gemstone_sync.MicroService):
        name = "seen"

        @gemstone_sync.exposed_method(requires_handler_reference=True)
        def seen(self, handler):
            return [handler.headers.get(name) for name in ("X-Api-Token", "User", "headers")]

    client = service_client(Seen, headers={"X-Api-Token": "t"})
    assert client.call("seen") == ["t", None, None]
    assert service_client(Seen, {"User": "bob"}).call("seen") == [None, "bob", None]


def test_both_are_fixtures(service_client, running_service):
    assert service_client(Service).call("greet", "a") == "hello a"
    assert service_client(Service, greeting="hi").call("greet", "a") == "hi a"
    with pytest.raises(AttributeError, match="Service has no attribute 'greting'"):
        service_client(Service, greting="hi")
    assert post(running_service(Service, greeting="hi"), "greet", "a") == "hi a"


@pytest.mark.slow  # a pytest of its own
def test_the_fixtures_are_listed_with_what_they_do(run_python):
    done = run_python("import sys, pytest; sys.exit(pytest.main(['--fixtures', '-q']))")
    assert "service_client" in done.stdout
    assert "running_service" in done.stdout
