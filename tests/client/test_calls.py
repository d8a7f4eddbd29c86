"""One call: how it is written, what comes back, what may be set, and what is not sent.

Errors that a service answers with are in test_remote_errors.py, what servers do wrong in
test_faults.py.
"""

import traceback
from typing import Any

import pytest

from gemstone_sync import MethodCall, Notification, RemoteService, errors
from gemstone_sync.testing import running_service
from tests.support.faulty_server import FaultyServer, answer
from tests.support.waiting import LIMIT, wait_until

from .faults import client_of
from .shop import OutOfStock, Shop

SERVICE = Shop


def test_dotted_names_and_both_kinds_of_parameters(client: RemoteService) -> None:
    assert client.methods.users.login("ada") == "ada:secret"
    assert client.methods.users.login("ada", "engine") == "ada:engine"
    assert client.methods.users.login(password="engine", name="ada") == "ada:engine"
    assert client.methods["users.login"]("ada") == "ada:secret"
    assert client.methods["users"].login("ada") == "ada:secret"
    assert client.idempotent.users.login("ada") == "ada:secret"
    assert client.methods.users.login.async_(name="ada").result(wait=True) == "ada:secret"


def test_both_kinds_at_once_are_refused(service: Shop, client: RemoteService) -> None:
    calls = [getattr(client, space).echo for space in ("methods", "idempotent", "notifications")]
    for call in (*calls, client.methods.echo.async_):
        with pytest.raises(TypeError, match="positional or named, not both"):
            call(1, value=2)
    with pytest.raises(TypeError, match="positional or named, not both"):
        client.methods.echo(1, value=2, __async=True)
    assert service.calls == []


def test_a_parameter_may_have_any_name(client: RemoteService) -> None:
    assert client.methods.keywords(self_=1, name=2, args=3, kwargs=4) == [1, 2, 3, 4]
    with pytest.raises(errors.InvalidParams, match="keywords"):
        client.methods.keywords(self=1)  # sent, and refused by the service


def test_a_method_can_be_kept_and_named(client: RemoteService) -> None:
    login = client.methods.users.login

    assert [login("a"), login("b")] == ["a:secret", "b:secret"]
    assert repr(login) == f"<RemoteMethod 'users.login' at {client.url}>"
    assert repr(client.notifications.users.login).startswith("<RemoteNotification 'users.login'")


def test_attributes_that_python_looks_for_are_not_methods(client: RemoteService) -> None:
    for thing in (client.methods, client.notifications, client.methods.a, client.notifications.a):
        for name in ("__wrapped__", "__len__", "__getstate_x__", "__fspath__"):
            assert not hasattr(thing, name)


VALUES = [
    None,
    True,
    0,
    -1.5,
    2**64,
    -(10**4000),
    "",
    "snö \U0001f40d \u2028 \x00 </script>",
    [],
    {},
]
VALUES += [[[None, [{"": {"b": 1e-7}}]]], {"code": -32601, "message": "not an error"}]
VALUES += [{"key with space": "ü", "error": None, "result": 1, "id": 7}]


@pytest.mark.parametrize("wire_format", ["jsonrpc", "gemstone"])
def test_values_arrive_as_they_are_and_come_back_so(wire_format: str) -> None:
    service = running_service(Shop, wire_format=wire_format)
    with service as running, RemoteService(running.url) as client:
        for value in VALUES:
            for answer in (
                client.methods.echo(value),
                client.methods.echo(value=value),
                client.call_method("echo", [value]).value(),
                client.call_method_async("echo", [value]).result(wait=True),
            ):
                assert answer == value
                assert type(answer) is type(value)
        assert running.calls == [value for value in VALUES for _ in range(4)]  # type: ignore[attr-defined]
        # Errors, notifications and batches have forms of their own on this wire.
        with pytest.raises(errors.MethodNotFound):
            client.methods.nonsense()
        assert client.notifications.echo("told") is None
        assert client.notifications.nonsense() is None
        wait_until(lambda: running.calls[-1] == "told", "the notification")  # type: ignore[attr-defined]
        good, bad = MethodCall("echo", ["x"]), MethodCall("nonsense")
        answers = client.call_batch(good, Notification("echo", [1]), bad)
        assert [answer.result for answer in answers] == ["x", None]
        assert isinstance(list(answers)[1].error, errors.MethodNotFound)


def test_no_parameters_are_no_parameters(client: RemoteService) -> None:
    assert client.methods.echo() == "nothing"
    for none in (None, (), [], {}):
        assert client.call_method("echo", none).value() == "nothing"


def test_call_method_tells_an_error_and_does_not_raise_it(client: RemoteService) -> None:
    good = client.call_method("echo", ("x",))
    assert (good.result, good.error, good.value()) == ("x", None, "x")
    assert repr(good) == f"Result(result='x', method_call=MethodCall('echo', ['x'], id={good.id}))"

    for method, params, error in [
        ("nonsense", None, errors.MethodNotFound),
        ("echo", (1, 2, 3), errors.InvalidParams),
        ("private", None, errors.AccessDenied),
        ("crash", None, errors.InternalError),
        ("dawdle", None, errors.DeadlineExceeded),
        ("long_text", None, errors.ResponseTooLarge),
        ("fail", (-32000,), errors.RemoteError),
    ]:
        bad = client.call_method(method, params)
        assert bad.result is None
        assert isinstance(bad.error, error)
        with pytest.raises(error) as caught:
            bad.value()
        assert caught.value is bad.error
        assert "error=" in repr(bad)
        assert "result=" not in repr(bad)


def test_url_and_name(service: Shop, client: RemoteService) -> None:
    assert client.url == service.url
    assert client.name == "shop"
    assert repr(client) == f"<RemoteService {service.url}>"


@pytest.mark.parametrize("more", [{}, {"idempotent_methods": None}])
def test_the_name_is_asked_once_and_only_when_wanted(more: dict[str, Any]) -> None:
    with FaultyServer() as server, RemoteService(server.url) as client:
        server.aside["get_service_specs"] = answer({"name": "x", **more})
        assert server.connections == 0
        assert [client.name, client.name, client.with_options(timeout=9).name] == ["x"] * 3
        assert server.received == {"get_service_specs": 1}


def test_options_hold_for_the_copy_only(service: Shop, client: RemoteService) -> None:
    short = [client.with_options(timeout=0.05), client.with_options(total_timeout=0.05)]
    for hurried in short:
        with pytest.raises(errors.Timeout):
            hurried.methods.hold()
    service.go_on.set()
    assert client.methods.hold() == "held"
    assert short[0].with_options(timeout=LIMIT).methods.hold() == "held"

    with FaultyServer() as server, client_of(server) as one:
        for each in (one, one.with_options(timeout=5), one.with_options(errors=[OutOfStock])):
            each.methods.ping()
        assert server.connections == 1


NO_URLS = ["", "127.0.0.1:8000/api", "localhost", "/api", "ftp://127.0.0.1/api", "http://[::1/api"]
NO_HOSTS = ["http://", "http:///api", "http://:8000/api", "http://x 127.0.0.1/api"]
NO_PORTS = [f"http://127.0.0.1:{port}/api" for port in ("port", 99999, 0)]
NO_PATHS = [f"http://127.0.0.1:8000/{path}" for path in ("a b", "api\r\nX-Evil: 1", "api\n")]


@pytest.mark.parametrize("url", [*NO_URLS, *NO_HOSTS, *NO_PORTS, *NO_PATHS])
def test_a_bad_url_is_told_at_once(url: str) -> None:
    """The URL's password is not shown."""
    for place in (url, url.replace("//", "//ada:engine@", 1)):
        with pytest.raises(ValueError, match=r"not a service's endpoint.*write it like") as caught:
            RemoteService(place)
        assert "ada" not in str(caught.value)
        assert "engine" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("url", [None, 8000, b"http://127.0.0.1/api"])
def test_a_url_is_a_text(url: Any) -> None:
    with pytest.raises(TypeError, match="URL"):
        RemoteService(url)


@pytest.mark.parametrize("errors", [[ValueError], [errors.RpcError("an instance")], ["OutOfStock"]])
def test_errors_are_classes(errors: Any) -> None:
    with pytest.raises(TypeError, match="subclasses of RpcError"):
        RemoteService("http://127.0.0.1:1/api", errors=errors)


CYCLE: list[Any] = []
CYCLE.append(CYCLE)


@pytest.mark.parametrize(
    ("params", "error"),
    [
        ([object()], TypeError),
        ([{1, 2, object()}], TypeError),
        ([1j], TypeError),
        ([lambda: 1], TypeError),
        ({"x": {("a", "b"): 1}}, TypeError),
        (["\ud800"], ValueError),
        (CYCLE, (ValueError, TypeError, RecursionError)),
        ("text", TypeError),
        (b"bytes", TypeError),
        (7, TypeError),
        ({1, 2}, TypeError),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_json_is_not_sent(
    service: Shop, client: RemoteService, params: Any, error: Any
) -> None:
    for send in (
        lambda: client.call_method("echo", params),
        lambda: client.notify("echo", params),
        lambda: client.call_batch(MethodCall("echo", params)),
        lambda: client.call_method_async("echo", params).result(wait=True),
    ):
        with pytest.raises(error):
            send()
    assert service.calls == []
    assert client.methods.echo("well") == "well"


@pytest.mark.parametrize("name", [None, 7, b"echo", ["echo"]])
def test_a_name_is_a_text(client: RemoteService, name: Any) -> None:
    for call in (client.call_method, client.call_method_async, client.notify):
        with pytest.raises(TypeError, match="a method's name is a str"):
            call(name)


@pytest.mark.parametrize("id", [True, [1], {}, "x" * 129])
def test_an_id_is_a_text_or_a_number(id: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="id"):
        MethodCall("echo", id=id)


def test_parameters_stand_in_one_place(client: RemoteService) -> None:
    for call in (client.call_method, client.call_method_async):
        with pytest.raises(TypeError, match="in the object already"):
            call(MethodCall("echo", [1]), [2])
    with pytest.raises(TypeError, match="in the object already"):
        client.notify(Notification("echo", [1]), [2])
    with pytest.raises(TypeError, match="wants an answer"):
        client.notify(MethodCall("echo", [1]))


def test_the_callers_own_objects_are_not_changed(client: RemoteService) -> None:
    params = {"value": {"a": (1, 2)}}
    call = MethodCall("echo", params, id="mine")

    for _ in range(2):
        result = client.call_method(call)
        assert result.value() == {"a": [1, 2]}
        assert result.method_call is call
    assert params == {"value": {"a": (1, 2)}}
    assert repr(call) == "MethodCall('echo', {'value': {'a': (1, 2)}}, id='mine')"
