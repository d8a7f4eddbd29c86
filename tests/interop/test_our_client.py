"""RemoteService against servers that others wrote: what their users get, ours get too."""

import pytest

from gemstone_sync import (
    AccessDenied,
    HeaderToken,
    InternalError,
    InvalidParams,
    MethodCall,
    MethodNotFound,
    Notification,
    RemoteError,
    RpcError,
)
from tests.client.faults import client_of
from tests.support.waiting import gather, wait_until

from .packages import MARKS, server_of

pytestmark = MARKS

OLD = "old-gemstone"
OTHERS = ["flask-jsonrpc", "pjrpc"]


def served(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    with server_of(request.param, folder) as url, client_of(url) as client:
        yield client


any_server = pytest.fixture(scope="module", params=[OLD, *OTHERS], name="client")(served)
old_server = pytest.fixture(scope="module", params=[OLD], name="old")(served)
other_server = pytest.fixture(scope="module", params=OTHERS, name="other")(served)

TEXT = 'h\u00e9 \u2603 \U0001d11e " \\ \n'


def test_calls_by_position_by_name_and_without_parameters(client):
    assert client.methods.subtract(42, 23) == 19
    assert client.methods.subtract(subtrahend=23, minuend=42) == 19
    assert client.methods.nothing() is None
    assert client.call_method("nothing").error is None


def test_values_come_back_as_they_went(client):
    for value in (None, True, 0, "", 2**70, -2.5e-3, TEXT, [], {}, [[{}, None]]):
        found = client.methods.echo({"value": value})
        assert found == {"value": value}
        assert type(found["value"]) is type(value)


def test_many_calls_at_once(client):
    handles = [client.methods.echo.async_(number) for number in range(20)]
    assert [handle.result(wait=True) for handle in handles] == list(range(20))
    calls = [lambda number=number: client.methods.echo(number) for number in range(100)]
    assert gather(calls) == list(range(100))


def test_errors(client):
    with pytest.raises(MethodNotFound) as caught:
        client.methods.unknown(1)
    assert isinstance(caught.value, RemoteError)
    assert (caught.value.code, caught.value.method) == (-32601, "unknown")
    for params in ((1,), {"minuend": 1}, {"minuend": 1, "other": 2}):
        result = client.call_method("subtract", params)
        assert isinstance(result.error, InvalidParams)
        assert result.error.code == -32602
    assert client.call_method("fail").error is not None
    assert client.methods.subtract(3, 1) == 2  # a call after an error works


def test_an_error_of_the_application(other):
    class OutOfStock(RpcError):
        code = 1001

    for client, kind in (
        (other, RemoteError),
        (other.with_options(errors=[OutOfStock]), OutOfStock),
    ):
        with pytest.raises(kind) as caught:
            client.methods.fail()
        assert (caught.value.code, caught.value.message) == (1001, "Out of stock")
        assert caught.value.data == {"left": 0}


def test_an_exception_in_a_method_of_old_gemstone(old):
    with pytest.raises(InternalError) as caught:
        old.methods.fail()
    assert caught.value.code == -32603
    assert caught.value.data == {"class": "ValueError", "info": "out of stock"}


def test_notifications_arrive_and_the_connection_goes_on(client):
    words = [f"note {number}" for number in range(5)]
    for word in words:
        assert client.notifications.note(word) is None
        assert client.methods.echo(word) == word
    # Old gemstone answers a notification before it runs the method.
    wait_until(lambda: set(words) <= set(client.methods.noted()), "the notifications")


def test_a_batch(client):
    calls = [
        MethodCall("subtract", (5, 3)),
        MethodCall("unknown"),
        MethodCall("subtract", {"minuend": 1, "subtrahend": 2}, id="named"),
        MethodCall("fail"),
    ]
    batch = client.call_batch(calls[0], Notification("note", ["in a batch"]), *calls[1:])
    assert [result.method_call for result in batch] == calls
    assert [result.result for result in batch] == [2, None, -1, None]
    codes = [result.error and result.error.code for result in batch]
    assert codes[:3] == [None, -32601, None]
    assert codes[3] in (1001, -32603)
    named = batch.get_response_for_call(calls[2])
    assert (named.id, named.value()) == ("named", -1)

    words = {"first of two", "second of two"}
    assert len(client.call_batch(*[Notification("note", [word]) for word in words])) == 0
    wait_until(lambda: words | {"in a batch"} <= set(client.methods.noted()), "the notifications")


def test_what_old_gemstone_says_of_itself(old):
    assert old.name == "peer.old_gemstone"
    specs = old.methods.get_service_specs()
    assert specs["accessible_at"] == old.url
    assert specs["methods"]["subtract"] == "Return the difference."


def test_others_have_no_name_to_ask_for(other):
    with pytest.raises(MethodNotFound, match="get_service_specs"):
        _ = other.name


def test_a_private_method_of_old_gemstone(old):
    with client_of(old, authentication_method=HeaderToken("right")) as trusted:
        assert trusted.methods.secret() == "the secret"
    for token in (None, HeaderToken("wrong")):
        with client_of(old, authentication_method=token) as stranger:
            denied = stranger.call_method("secret").error
        assert isinstance(denied, AccessDenied)
        assert denied.code == -32001
