"""ServiceClient: the whole stack in this process, without a socket."""

import pytest

import gemstone_sync
from gemstone_sync import RpcError
from gemstone_sync.testing import HttpReply, ServiceClient

from .service import Broken, Service


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
        (("missing",), "MethodNotFound"),
        (("add",), "InvalidParams"),
        (("secret",), "AccessDenied"),
        (("fail", -32603), "InternalError"),
        (("fail", -32002), "DeadlineExceeded"),
        (("fail", -32003), "TooManyHops"),
        (("fail", -32004), "ResponseTooLarge"),
        (("fail", 1001), "RemoteError"),
        (("fail", -32000), "RemoteError"),
    ],
)
def test_an_error_is_raised_as_its_class(client, call, error):
    with pytest.raises(RpcError) as caught:
        client.call(*call)
    assert isinstance(caught.value, gemstone_sync.RemoteError)
    classes = (type(caught.value), *type(caught.value).__bases__)
    assert getattr(gemstone_sync, error) in classes


def test_code_message_and_data_arrive(client):
    with pytest.raises(RpcError) as caught:
        client.call("fail", 1001, [1, {"a": None}])
    assert (caught.value.code, caught.value.message) == (1001, "no")
    assert caught.value.data == [1, {"a": None}]
    with pytest.raises(gemstone_sync.MethodNotFound) as caught:
        client.call("missing")
    assert caught.value.data is gemstone_sync.UNSET


def test_an_overloaded_service_raises_its_own_class(client):
    client.service.max_parallel_blocking_tasks, client.service.max_waiting_calls = 1, 0
    client.service.dispatcher.slots.acquire()
    with pytest.raises(gemstone_sync.ServerOverloaded):
        client.call("add", 1)


def test_a_notification_runs_and_gives_nothing(client):
    client.notify("add", 1, 2)
    client.notify("add", a=3)
    client.notify("missing")
    assert client.service.log == [(1, 2), (3, 0)]


def test_headers_of_the_client_are_sent_with_every_request():
    client = ServiceClient(Service(), {"X-Api-Token": "token", "X-Thing": "1"})
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
    assert client.request("GET", "/health/live").body.startswith(b'{"status":"pass",')
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
    with pytest.raises(ConnectionError, match="no database"), ServiceClient(Broken()):
        pytest.fail("entered")


def test_cookies_are_not_kept_between_requests(client):
    assert [client.call("cookie"), client.call("cookie")] == [None, None]
