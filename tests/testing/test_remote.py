"""RemoteService in tests: canned answers, and a service of this process without a socket."""

import socket
import time
from collections.abc import Callable
from typing import Any

import pytest

import gemstone_sync
from gemstone_sync import (
    UNSET,
    AccessDenied,
    BasicAuth,
    ConnectionFailed,
    ConnectionLost,
    DeadlineExceeded,
    HeaderToken,
    InternalError,
    InvalidParams,
    MethodCall,
    MethodNotFound,
    Notification,
    RemoteError,
    RemoteService,
    RpcError,
    ServerOverloaded,
    Timeout,
    as_completed,
)
from gemstone_sync.testing import FakeRemoteService, InProcessAdapter
from tests.support.waiting import LIMIT

from .service import OutOfStock, Service


@pytest.fixture(autouse=True)
def nothing_connects(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        pytest.fail("a socket was connected")

    monkeypatch.setattr(socket.socket, "connect", refuse)


# FakeRemoteService


def test_answers_and_records():
    users = FakeRemoteService({"count": 3, "users.find": lambda name: {"name": name}})

    assert isinstance(users, RemoteService)
    assert users.methods.count() == 3
    assert users.methods.users.find("ada") == {"name": "ada"}
    assert users.methods.users.find(name="grace") == {"name": "grace"}
    assert users.notifications.count(1) is None
    assert [(call.method_name, call.params) for call in users.calls] == [
        ("count", None),
        ("users.find", ["ada"]),
        ("users.find", {"name": "grace"}),
        ("count", [1]),
    ]
    assert [type(call) for call in users.calls] == [MethodCall] * 3 + [Notification]
    # A method without an answer is not found, and recorded.
    with pytest.raises(MethodNotFound):
        users.methods.nonsense()
    assert users.notifications.nonsense() is None
    assert [call.method_name for call in users.calls[4:]] == ["nonsense", "nonsense"]


def test_results_go_through_json_as_real_ones_do():
    for value in (None, 0, "", [], {}, {"a": (1, 2)}, 2**70, "ü"):
        fake = FakeRemoteService({"get": value})
        expected = {"a": [1, 2]} if value == {"a": (1, 2)} else value
        assert fake.methods.get() == expected
        assert fake.call_method("get").result == expected


def test_an_answer_can_be_changed():
    fake = FakeRemoteService({"get": 1})
    other = fake.with_options(timeout=1)
    assert fake.methods.get() == 1
    fake.answer("get", 2)
    assert (fake.methods.get(), other.methods.get()) == (2, 2)
    fake.answer("get", error=RpcError("no", code=5))
    assert fake.call_method("get").error is not None
    assert len(fake.calls) == 4
    for given in ({}, {"result": 1, "error": RpcError("no")}):
        with pytest.raises(TypeError, match="either the result or the error"):
            fake.answer("get", **given)


def test_errors_come_as_they_would_from_a_service():
    fake = FakeRemoteService(errors=[OutOfStock])
    for error, code, data in [
        (AccessDenied(), -32001, UNSET),
        (InvalidParams(data={"parameters": []}), -32602, {"parameters": []}),
        (RpcError("no", code=7, data=None), 7, None),
        (OutOfStock(data=[1]), 1001, [1]),
    ]:
        fake.answer("get", error=error)
        with pytest.raises(type(error)) as caught:
            fake.methods.get()
        assert isinstance(caught.value, RemoteError)
        assert (caught.value.code, caught.value.data) == (code, data)
        assert (caught.value.method, caught.value.url) == ("get", "http://fake/api")
        assert isinstance(fake.call_method("get").error, type(error))


def test_an_error_may_be_raised_by_a_callable():
    """What else it raises is the test's own."""

    def find(name: str) -> str:
        assert name != "eve", "the wrong name"
        if name == "mallory":
            raise FileNotFoundError("no such user")
        if name != "ada":
            raise OutOfStock(data=name)
        return name

    fake = FakeRemoteService({"find": find})
    assert fake.methods.find("ada") == "ada"
    with pytest.raises(RemoteError, match="Out of stock"):
        fake.methods.find("bob")
    with pytest.raises(AssertionError, match="the wrong name"):
        fake.methods.find("eve")
    with pytest.raises(AssertionError, match="the wrong name"):
        fake.methods.find.async_("eve").result(wait=True)
    with pytest.raises(FileNotFoundError, match="no such user"):
        fake.methods.find("mallory")
    with pytest.raises(TypeError, match="nickname"):
        fake.methods.find(nickname="ada")


def test_a_transport_fault_in_the_place_of_an_answer():
    fake = FakeRemoteService()
    for error in (ConnectionLost("gone"), Timeout("late"), gemstone_sync.BadResponse("odd")):
        fake.answer("get", error=error)
        with pytest.raises(type(error)) as caught:
            fake.methods.get()
        assert caught.value is error
        with pytest.raises(type(error)):
            fake.notifications.get()
        with pytest.raises(type(error)):
            fake.call_batch(MethodCall("get"))


def test_faults_are_retried_as_with_a_real_service():
    failures = [ConnectionLost("gone"), ConnectionLost("gone")]

    def flaky() -> str:
        if failures:
            raise failures.pop()
        return "well"

    fake = FakeRemoteService({"get": flaky})
    assert fake.idempotent.get() == "well"
    assert [call.method_name for call in fake.calls] == ["get"] * 3
    failures.append(ConnectionLost("gone"))
    with pytest.raises(ConnectionLost):
        fake.methods.get()
    assert [call.method_name for call in fake.calls[3:]] == ["get"]

    nobody = FakeRemoteService()
    nobody.answer("get", error=ConnectionFailed("refused"))
    with pytest.raises(ConnectionFailed):
        nobody.methods.get()
    assert len(nobody.calls) > 1  # it was tried again, for nothing had been sent


def test_a_full_service_says_when_to_come_again():
    fake = FakeRemoteService()
    fake.answer("get", error=ServerOverloaded(retry_after=7))
    with pytest.raises(ServerOverloaded) as caught:
        fake.methods.get()
    assert caught.value.retry_after == fake.call_method("get").error.retry_after == 7


@pytest.mark.parametrize("options", [{"timeout": 0.05}, {"total_timeout": 0.05}])
def test_a_delay_beyond_the_limit_is_a_timeout(options):
    fake = FakeRemoteService(**options)
    fake.answer("get", 1, delay=10 * LIMIT)
    fake.answer("soon", 2)
    with pytest.raises(Timeout) as caught:
        fake.methods.get()
    assert caught.value.may_have_run is True
    assert fake.methods.soon() == 2
    with pytest.raises(Timeout):
        fake.call_batch(MethodCall("soon"), MethodCall("get"))


def test_answers_may_be_delayed_and_asynchronous_calls_overlap():
    fake = FakeRemoteService()
    fake.answer("slow", "slow", delay=0.2)
    fake.answer("quick", "quick", delay=0.01)
    began = time.monotonic()
    assert fake.methods.quick() == "quick"
    assert time.monotonic() - began >= 0.01
    calls = [fake.methods.slow.async_(), fake.methods.quick.async_()]
    assert [call.result() for call in as_completed(*calls)] == ["quick", "slow"]


def test_a_batch():
    fake = FakeRemoteService({"double": lambda number: 2 * number})
    fake.answer("deny", error=AccessDenied())
    calls = [MethodCall("double", [4]), MethodCall("deny"), MethodCall("nonsense")]

    batch = fake.call_batch(*calls, Notification("double", [5]))

    assert [response.result for response in batch] == [8, None, None]
    assert isinstance(batch.responses[1].error, AccessDenied)
    assert isinstance(batch.responses[2].error, MethodNotFound)
    assert [call.method_name for call in fake.calls] == ["double", "deny", "nonsense", "double"]
    assert list(fake.call_batch(Notification("double", [5]))) == []


def test_what_a_real_one_refuses_is_refused():
    fake = FakeRemoteService({"get": 1})
    with pytest.raises(TypeError, match="not both"):
        fake.methods.get(1, a=2)
    with pytest.raises(TypeError):
        fake.methods.get(object())
    assert fake.calls == []
    assert "http://fake/api" in repr(fake)
    assert FakeRemoteService({"get_service_specs": {"name": "users"}}).name == "users"
    assert FakeRemoteService(url="https://users/api").url == "https://users/api"
    with pytest.raises(ValueError, match="endpoint"):
        FakeRemoteService(url="users")


# InProcessAdapter


@pytest.fixture
def connect() -> Callable[..., RemoteService]:
    service = Service()

    def make(**options: Any) -> RemoteService:
        return RemoteService("http://here/api", adapter=InProcessAdapter(service), **options)

    make.service = service
    return make


def test_every_kind_of_call_reaches_the_service(connect):
    with connect() as client:
        assert client.name == "here"
        assert client.methods.add(1, 2) == 3
        assert client.methods.add(a=1) == 1
        assert client.methods.add.async_(1).result(wait=True) == 1
        assert client.notifications.users.tell("x") is None
        batch = client.call_batch(
            MethodCall("add", [1, 1]), Notification("users.tell", ["y"]), MethodCall("crash")
        )
        assert [response.result for response in batch] == [2, None]
        assert list(client.call_batch(Notification("users.tell", ["z"]))) == []
        assert [told for told in connect.service.log if told in ("x", "y", "z")] == ["x", "y", "z"]


def test_the_errors_of_the_service(connect):
    client = connect(errors=[OutOfStock])
    with pytest.raises(MethodNotFound):
        client.methods.nonsense()
    with pytest.raises(InvalidParams) as caught:
        client.methods.add("x")
    assert caught.value.data["parameters"][0]["name"] == "a"
    with pytest.raises(InternalError) as crashed:
        client.methods.crash()
    assert crashed.value.error_id
    with pytest.raises(OutOfStock) as refused:
        client.methods.fail(OutOfStock.code, [1])
    assert refused.value.data == [1]


@pytest.mark.parametrize(
    ("authentication", "let_in"),
    [
        (None, False),
        (HeaderToken("wrong"), False),
        (HeaderToken("token"), True),
        (BasicAuth("ada", "token"), True),
        (("ada", "token"), True),
    ],
)
def test_who_calls(connect, authentication, let_in):
    answer = connect(authentication_method=authentication).call_method("secret")
    assert answer.result == ("secret" if let_in else None)
    assert isinstance(answer.error, AccessDenied) is not let_in


def test_the_deadline_goes_along_and_holds(connect):
    client = connect(timeout=5, total_timeout=5)
    left = int(client.methods.header("X-Gemstone-Deadline"))
    assert 1000 < left <= 5250  # the service may take a little longer, its caller notices first
    with pytest.raises(DeadlineExceeded):
        client.with_options(timeout=0.05).methods.slow()


def test_another_path_is_not_the_services_endpoint():
    client = RemoteService("http://here/other", adapter=InProcessAdapter(Service()))
    with pytest.raises(gemstone_sync.BadResponse, match="404"):
        client.methods.add(1)


def test_two_services_that_call_each_other(make_service):
    inner = RemoteService("http://here/api", adapter=InProcessAdapter(Service()))

    def outer(self: Any, name: str) -> Any:
        return inner.methods.header(name)

    client = RemoteService("http://outer/api", adapter=InProcessAdapter(make_service(outer)))
    assert client.methods.outer("X-Gemstone-Hops") == "1"
    assert client.methods.outer("X-Request-Id")
