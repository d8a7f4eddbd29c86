"""A greenlet of each call: thread-locals and context variables are nobody else's, nor live on."""

import contextvars
import threading
import weakref

import gevent
import pytest
from gevent.local import local

import gemstone_sync
from gemstone_sync import MicroService
from gemstone_sync.testing import running_service
from tests.dispatch.support import ask, dispatcher, method, request
from tests.support.http import Connection, call_message, message, result_of
from tests.support.waiting import wait_until

HERE = local()
WHO = contextvars.ContextVar("WHO", default="nobody")


class Session:
    """Of a database, as scoped_session keeps one for each thread."""


class Counting(MicroService):
    name = "counting"
    skip_configuration = True

    def __init__(self) -> None:
        super().__init__()
        self.sessions: list[weakref.ref[Session]] = []

    @gemstone_sync.exposed_method()
    def count(self) -> int:
        HERE.calls = getattr(HERE, "calls", 0) + 1
        HERE.session = Session()
        self.sessions.append(weakref.ref(HERE.session))
        return HERE.calls

    @gemstone_sync.exposed_method()
    def sleep_and_count(self) -> int:
        gevent.sleep(0.001)
        return self.count()

    @gemstone_sync.exposed_method()
    def greenlet(self) -> int:
        return threading.get_ident()

    @gemstone_sync.exposed_method()
    def who(self) -> str:
        return WHO.get()

    @gemstone_sync.route("/login")
    def login(self) -> str:
        WHO.set("ada")
        return "welcome"

    @gemstone_sync.route("/count")
    def count_page(self) -> str:
        return str(self.count())


@pytest.fixture
def service():
    with running_service(Counting) as service:
        yield service


def test_calls_over_one_connection_find_nobodys_thread_locals(service):
    with Connection(service.port) as client:
        for _ in range(3):
            assert result_of(client.call("count")) == 1
            assert result_of(client.call("sleep_and_count")) == 1


def test_pipelined_calls_and_pages_neither(service):
    with Connection(service.port) as client:
        client.send((call_message("count") + message("GET", "/count")) * 3)
        for _ in range(3):
            assert result_of(client.read_reply()) == 1
            assert client.read_reply().body == b"1"


def test_thread_locals_do_not_live_on_while_the_connection_is_idle(service):
    with Connection(service.port) as client:
        assert result_of(client.call("count")) == 1
        wait_until(lambda: service.sessions[0]() is None, "the end of the session")
        assert result_of(client.call("count")) == 1


def test_context_variables_of_a_page_are_not_the_next_calls(service):
    with Connection(service.port) as client:
        client.send(message("GET", "/login"))
        assert client.read_reply().body == b"welcome"
        assert result_of(client.call("who")) == "nobody"


def test_a_connection_whose_calls_leave_nothing_keeps_its_greenlet(service):
    with Connection(service.port) as client:
        assert len({result_of(client.call("greenlet")) for _ in range(3)}) == 1


def test_the_connection_ends_as_any_other(service):
    server = service._runner._server
    with Connection(service.port) as client:
        assert result_of(client.call("count")) == 1
        client.send(call_message("count", headers={"Connection": "close"}))
        assert result_of(client.read_reply()) == 1
        assert client.is_ended()
    with Connection(service.port) as client:
        assert result_of(client.call("count")) == 1
        client.send(b"nonsense\r\n\r\n")
        assert client.read_reply().status == 400
    wait_until(lambda: not server.state.connections, "the end of the connections")


@pytest.mark.parametrize("mode", ["parallel", "serial"])
def test_items_of_a_batch_find_nobodys_thread_locals(mode):
    def count(number):
        if number % 2:
            gevent.sleep(0)
        HERE.calls = getattr(HERE, "calls", 0) + 1
        return HERE.calls

    def run():
        batch = [request("count", [number], number) for number in range(10)]
        return ask(dispatcher(method(count), batch_mode=mode), batch)

    answers = gevent.spawn(run).get()
    assert [answer["id"] for answer in answers] == [*range(10)]
    assert {answer["result"] for answer in answers} == {1}


def test_in_a_test_client_the_calls_thread_locals_are_the_tests():
    service = Counting()
    client = service.app.test_client()
    for count in (1, 2):
        reply = client.post("/api", json={"jsonrpc": "2.0", "id": 1, "method": "count"})
        assert reply.get_json()["result"] == count
