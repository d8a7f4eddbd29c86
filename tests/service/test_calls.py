"""One service as its users know it: the wire, the hooks to override, and work beside the calls."""

import contextvars
import logging
import threading
import time
from typing import Any

import gevent
import pytest
from gevent import monkey
from gevent.event import Event

import gemstone_sync
from gemstone_sync import JsonRpcRequest, JsonRpcResponse, MicroService, RpcError
from gemstone_sync.concurrency import outgoing_headers
from gemstone_sync.testing import ServiceClient
from tests.support.http import call, result_of
from tests.support.waiting import LIMIT, gather


class Hello(MicroService):
    name = "hello_world_service"

    @gemstone_sync.exposed_method()
    def say_hello(self, name: str) -> str:
        return f"hello {name}"

    @gemstone_sync.exposed_method()
    def nothing(self) -> None: ...

    @gemstone_sync.exposed_method()
    def fail(self) -> None:
        raise RpcError("no", code=7, data={"a": [1, 2]})


class OldHello(Hello):
    wire_format = "gemstone"


#: The call that the documentation of gemstone sends with curl.
DOCUMENTED_CALL = b'{"jsonrpc": "2.0","id": 1,"method": "say_hello","params": {"name": "world"}}'


@pytest.mark.parametrize(
    ("service", "body"),
    [
        (Hello, b'{"jsonrpc":"2.0","result":"hello world","id":1}'),
        (OldHello, b'{"result": "hello world", "error": null, "jsonrpc": "2.0", "id": 1}'),
    ],
)
def test_the_documents_hello_world_byte_for_byte(service, body):
    reply = ServiceClient(service()).post(DOCUMENTED_CALL)
    assert (reply.status, reply.headers["Content-Type"]) == (200, "application/json")
    assert reply.body == body


@pytest.mark.parametrize("method", ["nothing", "missing"])
def test_gemstones_wire_format_answers_notifications(method):
    reply = ServiceClient(OldHello()).post(b'{"jsonrpc":"2.0","method":"%b"}' % method.encode())
    assert (reply.status, reply.body) == (200, b'{"result": null, "error": null, "jsonrpc": "2.0"}')


@pytest.mark.parametrize("service", [Hello, OldHello])
def test_the_client_reads_both_forms(service):
    client = ServiceClient(service())
    assert client.call("say_hello", name="you") == "hello you"
    with pytest.raises(RpcError) as caught:
        client.call("fail")
    assert (caught.value.code, caught.value.data) == (7, {"a": [1, 2]})


# Hooks to override


class Hooked(MicroService):
    name = "hooked"

    def __init__(self) -> None:
        super().__init__()
        self.log: list[Any] = []

    @gemstone_sync.exposed_method()
    def divide(self, a: int, b: int) -> float:
        self.log.append("method")
        return a / b

    def before_method_call(self, request: JsonRpcRequest) -> None:
        self.log.append(("before", request.method, request.params))
        if request.params == [1, 1]:
            raise RpcError("not today", code=9)

    def after_method_call(
        self, request: JsonRpcRequest, response: JsonRpcResponse
    ) -> JsonRpcResponse | None:
        self.log.append(("after", request.id, response.result))
        return response.with_result({"value": response.result}) if request.id == 1 else None

    def on_failed_method_call(self, request: JsonRpcRequest, response: JsonRpcResponse) -> None:
        assert response.error is not gemstone_sync.UNSET
        self.log.append(("failed", request.params, response.error.code))


def test_the_hooks_surround_a_call_and_may_change_its_result():
    service = Hooked()
    client = ServiceClient(service)

    assert client.call("divide", 4, 2) == {"value": 2.0}
    assert client.call("divide", 4, 2) == 2.0
    assert service.log[:3] == [("before", "divide", [4, 2]), "method", ("after", 1, 2.0)]
    for params in ([4, 0], [4], [1, 1]):
        with pytest.raises(RpcError):
            client.call("divide", *params)
    assert [entry for entry in service.log if entry[0] == "failed"] == [
        ("failed", [4, 0], -32603),
        ("failed", [4], -32602),
        ("failed", [1, 1], 9),
    ]


def test_a_hook_set_on_the_instance_counts_too():
    service, seen = Hello(), []
    service.before_method_call = lambda request: seen.append(request.method)
    ServiceClient(service).call("nothing")
    assert seen == ["nothing"]


def test_get_logger_decides_where_failures_are_logged(make_client, caplog):
    def broken(self) -> None:
        raise ValueError

    client = make_client(broken, get_logger=lambda self: logging.getLogger("my.own"))
    with pytest.raises(gemstone_sync.InternalError):
        client.call("broken")
    assert [record.name for record in caplog.records] == ["my.own"]


# Limits, as the attributes set them


def test_what_a_caller_says_of_deadline_and_hops_counts(make_service):
    service = make_service(staticmethod(outgoing_headers))

    def handed_on(**sent: str) -> Any:
        named = {name.replace("_", "-"): value for name, value in sent.items()}
        return ServiceClient(service, named).call("outgoing_headers")

    headers = handed_on(X_Gemstone_Deadline="5000", X_Gemstone_Hops="3", X_Request_Id="r")
    assert 0 < int(headers["X-Gemstone-Deadline"]) <= 5000
    assert (headers["X-Gemstone-Hops"], headers["X-Request-Id"]) == ("4", "r")
    with pytest.raises(gemstone_sync.DeadlineExceeded):
        handed_on(X_Gemstone_Deadline="0")
    with pytest.raises(gemstone_sync.TooManyHops):
        handed_on(X_Gemstone_Hops="9")
    for odd in ("x", "-1", "", "1e3", "9" * 5000, "²"):
        assert handed_on(X_Gemstone_Deadline=odd, X_Gemstone_Hops=odd)["X-Gemstone-Hops"]


# Work beside the calls

USER: contextvars.ContextVar[str] = contextvars.ContextVar("USER", default="nobody")


def test_start_thread_runs_beside_the_call_and_keeps_its_context(make_client):
    done, done_too = Event(), Event()
    seen: list[Any] = []

    def work(*args: Any, **kwargs: Any) -> None:
        seen.append((args, kwargs, USER.get(), outgoing_headers()["X-Request-Id"]))
        done.set()

    def begin(self: Any) -> str:
        USER.set("ada")
        self.start_thread(done_too.set)  # a target is enough
        thread = self.start_thread(work, [1, 2], {"c": 3})
        assert isinstance(thread, threading.Thread)
        assert thread.daemon
        return outgoing_headers()["X-Request-Id"]

    request_id = make_client(begin).call("begin")
    assert done.wait(LIMIT)
    assert done_too.wait(LIMIT)
    assert seen == [((1, 2), {"c": 3}, "ada", request_id)]


def test_get_executor_lets_other_calls_run_while_work_blocks(make_client):
    lock = monkey.get_original("_thread", "allocate_lock")()
    lock.acquire()
    begun = Event()

    def blocking(self: Any) -> bool:
        begun.set()
        return self.get_executor().submit(lock.acquire, True, LIMIT).result()

    def quick(self: Any) -> None:
        lock.release()

    client = make_client(blocking, quick)
    slow = gevent.spawn(client.call, "blocking")
    assert begun.wait(LIMIT)
    client.call("quick")
    assert slow.get(timeout=LIMIT) is True  # it got the lock, and within its time
    client.service.get_executor().shutdown()


def test_the_executor_ends_with_the_service_and_is_new_with_the_next_start(make_service):
    """What work raises is raised where its result is asked for."""
    service = make_service(port=0)
    for _ in range(2):
        service.start(block=False)
        executor = service.get_executor()
        assert service.get_executor() is executor
        assert executor.submit(lambda: 5).result() == 5
        with pytest.raises(ZeroDivisionError):
            executor.submit(lambda: 1 / 0).result()
        service.stop()


def test_calls_overlap_and_a_sleep_stops_only_its_own(make_client):
    napping = []

    def nap() -> bool:
        napping.append(1)
        end = time.monotonic() + LIMIT
        while len(napping) < 20 and time.monotonic() < end:
            time.sleep(0.01)
        return len(napping) == 20

    client = make_client(staticmethod(nap))

    assert gather([lambda: client.call("nap")] * 20) == [True] * 20


def test_a_method_may_stop_its_service_and_is_answered(make_service):
    stopped = Event()

    def leave(self: MicroService) -> str:
        self.stop()
        gevent.sleep(0.02)
        return "bye"

    service = make_service(leave, port=0)
    service.on_service_stop = stopped.set
    service.start(block=False)

    assert result_of(call(service.port, "leave")) == "bye"
    assert stopped.wait(LIMIT)


def test_stop_from_the_start_hook_ends_the_start(make_service):
    log: list[str] = []
    service = make_service(port=0)
    service.on_service_start = service.stop
    service.on_service_stop = lambda: log.append("stopped")
    service.start()  # blocks until the service has stopped, which it has
    assert log == ["stopped"]


@pytest.mark.parametrize("failure", [ValueError("broken hook"), gevent.Timeout(1), SystemExit(1)])
def test_a_stop_hook_that_fails_does_not_keep_it_from_stopping(make_service, failure, caplog):
    def fail() -> None:
        raise failure

    service = make_service(port=0)
    service.on_service_stop = fail
    service.start(block=False)
    service.stop()

    assert "on_service_stop failed" in caplog.text
    service.on_service_stop = lambda: None
    service.start(block=False)  # it had stopped, so it can start again
    service.stop()
