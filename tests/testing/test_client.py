"""ServiceClient: the whole stack in this process, without a socket."""

from typing import Any

import pytest

import gemstone_sync
from gemstone_sync import MicroService, RpcError
from gemstone_sync.testing import HttpReply, ServiceClient


class Service(MicroService):
    name = "tested"

    def __init__(self) -> None:
        super().__init__()
        self.log: list[Any] = []

    def on_service_start(self) -> None:
        self.log.append("start")

    def on_service_stop(self) -> None:
        self.log.append("stop")

    @gemstone_sync.exposed_method()
    def add(self, a: int, b: int = 0) -> int:
        self.log.append((a, b))
        return a + b

    @gemstone_sync.exposed_method()
    def echo(self, **members: Any) -> dict[str, Any]:
        return members

    @gemstone_sync.exposed_method()
    def fail(self, code: int, data: Any = None) -> None:
        raise RpcError("no", code=code, data=data)

    @gemstone_sync.exposed_method(private=True)
    def secret(self) -> str:
        return "secret"

    @gemstone_sync.exposed_method(requires_handler_reference=True)
    def cookie(self, handler: gemstone_sync.JsonRpcHandler) -> str | None:
        handler.set_cookie("seen", "yes")
        return handler.get_cookie("seen")

    @gemstone_sync.exposed_method(requires_handler_reference=True)
    def header(self, handler: gemstone_sync.JsonRpcHandler, name: str) -> str | None:
        return handler.headers.get(name)

    def authenticate_request(self, handler: gemstone_sync.JsonRpcHandler) -> Any:
        return handler.headers.get("User")


@pytest.fixture
def client() -> ServiceClient:
    return ServiceClient(Service())


def test_parameters_by_position_or_by_name_and_not_both(client):
    assert client.call("add", 1, 2) == 3
    assert client.call("add", a=1) == 1
    assert client.call("echo") == {}
    assert client.call("echo", method="x", id=5) == {"method": "x", "id": 5}
    with pytest.raises(TypeError, match="positional or named, not both"):
        client.call("add", 1, b=2)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (("missing",), gemstone_sync.MethodNotFound),
        (("add",), gemstone_sync.InvalidParams),
        (("secret",), gemstone_sync.AccessDenied),
        (("fail", -32603), gemstone_sync.InternalError),
        (("fail", -32002), gemstone_sync.DeadlineExceeded),
        (("fail", -32003), gemstone_sync.TooManyHops),
        (("fail", -32004), gemstone_sync.ResponseTooLarge),
        (("fail", 1001), gemstone_sync.RemoteError),
        (("fail", -32000), gemstone_sync.RemoteError),
    ],
)
def test_an_error_is_raised_as_its_class(client, call, error):
    with pytest.raises(RpcError) as caught:
        client.call(*call)
    assert isinstance(caught.value, gemstone_sync.RemoteError)
    assert error in (type(caught.value), *type(caught.value).__bases__)


def test_code_message_and_data_arrive(client):
    with pytest.raises(RpcError) as caught:
        client.call("fail", 1001, [1, {"a": None}])
    assert (caught.value.code, caught.value.message) == (1001, "no")
    assert caught.value.data == [1, {"a": None}]
    with pytest.raises(gemstone_sync.MethodNotFound) as caught:
        client.call("missing")
    assert caught.value.data is gemstone_sync.UNSET


def test_an_overloaded_service_raises_its_own_class(client):
    service = client.service
    service.max_parallel_blocking_tasks, service.max_waiting_calls = 1, 0
    service.dispatcher.slots.acquire()
    with pytest.raises(gemstone_sync.ServerOverloaded):
        client.call("add", 1)


def test_a_notification_runs_and_gives_nothing(client):
    client.notify("add", 1, 2)
    client.notify("add", a=3)
    client.notify("missing")
    assert client.service.log == [(1, 2), (3, 0)]


def test_headers_of_the_client_are_sent_with_every_request():
    client = ServiceClient(Service(), {"User": "ada", "X-Thing": "1"})
    assert client.call("secret") == "secret"
    assert client.call("header", "x-thing") == "1"
    reply = client.post(
        b'{"jsonrpc":"2.0","method":"header","params":["X-Thing"],"id":1}', {"X-Thing": "2"}
    )
    assert b'"result":"2"' in reply.body


def test_a_post_is_json_unless_it_says_otherwise(client):
    body = b'{"jsonrpc":"2.0","method":"add","params":[1],"id":1}'
    assert client.post(body).status == 200
    assert client.post(body, {"Content-Type": "text/plain"}).status == 415
    assert client.post(b"{").body.startswith(b'{"jsonrpc":"2.0","error":{"code":-32700')


def test_any_request_can_be_sent(client):
    reply = client.request("GET", "/api")
    assert isinstance(reply, HttpReply)
    assert reply.status == 405
    assert "POST" in reply.headers["allow"]
    assert client.request("GET", "/health/live").body == b'{"status":"ok"}'
    assert client.request("GET", "/nowhere").status == 404
    assert client.request("GET", "/health/live", headers={"Host": "evil.example"}).status == 200
    assert client.request("GET", "/nowhere", headers={"Host": "evil.example"}).status == 403


def test_only_as_a_context_manager_it_runs_the_services_hooks(client):
    client.call("add", 0)
    with client as entered:
        assert entered is client
        client.call("add", 1)
    assert client.service.log == [(0, 0), "start", (1, 0), "stop"]


def test_a_start_hook_that_fails_is_raised():
    class Broken(Service):
        def on_service_start(self) -> None:
            raise ConnectionError("no database")

    with pytest.raises(ConnectionError, match="no database"), ServiceClient(Broken()):
        pytest.fail("entered")


def test_cookies_are_not_kept_between_requests(client):
    assert [client.call("cookie"), client.call("cookie")] == [None, None]
