"""Which exception tells what went wrong when a service answers with an error."""

import copy
import logging
import pickle
from typing import Any

import pytest

import gemstone_sync
from gemstone_sync import UNSET, MethodCall, MicroService, RemoteService, errors
from gemstone_sync.testing import running_service
from tests.support.waiting import wait_until

from .faults import client_of
from .shop import OutOfStock, Shop

SERVICE = Shop


# Errors by code


def test_a_method_that_is_not_there(client: RemoteService) -> None:
    with pytest.raises(errors.MethodNotFound) as caught:
        client.methods.users.logout()

    error = caught.value
    assert isinstance(error, errors.RemoteError)
    assert (error.code, error.message) == (-32601, "Method not found")
    assert (error.method, error.url) == ("users.logout", client.url)
    assert str(error) == f"users.logout at {client.url}: Method not found (-32601)"


def test_parameters_that_do_not_fit_are_named(client: RemoteService) -> None:
    with pytest.raises(errors.InvalidParams) as caught:
        client.methods.buy(size="XXL")

    names = [parameter["name"] for parameter in caught.value.data["parameters"]]  # type: ignore[index]
    assert sorted(names) == ["article", "size"]


def test_a_crash_is_found_by_its_id(
    client: RemoteService, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR), pytest.raises(errors.InternalError) as caught:
        client.methods.crash()

    error = caught.value
    assert isinstance(error, errors.RemoteError)
    assert error.error_id
    assert error.error_id in caplog.text
    assert f"[error_id={error.error_id}]" in str(error)
    assert "secret" not in repr(error) + str(error)


def test_the_time_of_the_method_is_over(client: RemoteService) -> None:
    with pytest.raises(errors.DeadlineExceeded) as caught:
        client.methods.dawdle()
    assert isinstance(caught.value, errors.RemoteError)
    assert caught.value.method == "dawdle"


def test_a_service_that_is_full() -> None:
    limits = {"max_parallel_blocking_tasks": 1, "max_waiting_calls": 0}
    with running_service(Shop, **limits) as full, client_of(full) as client:
        first = client.methods.hold.async_()
        wait_until(lambda: full.calls == ["hold"], "the first call")

        for call in (client.methods.echo, client.notifications.echo):
            with pytest.raises(errors.ServerOverloaded) as caught:
                call(1)
            assert isinstance(caught.value, errors.RemoteError)
            assert caught.value.code == -32000
            assert caught.value.retry_after >= 1
        batch = client.call_batch(MethodCall("echo", [1]), MethodCall("echo", [2]))
        for told in (client.call_method("echo", [1]), *batch):
            assert isinstance(told.error, errors.ServerOverloaded)

        full.go_on.set()
        assert first.result(wait=True) == "held"
        assert client.methods.echo(1) == 1
        assert full.calls == ["hold", 1]


def test_an_error_of_the_users_own_class(client: RemoteService) -> None:
    with pytest.raises(errors.RemoteError) as caught:
        client.methods.buy("card")
    assert type(caught.value) is errors.RemoteError  # nobody said which class has the code

    knowing = client.with_options(errors=[OutOfStock])
    with pytest.raises(OutOfStock) as known:
        knowing.methods.buy("card")
    assert isinstance(known.value, errors.RemoteError)
    for error in (caught.value, known.value):
        assert (error.code, error.message) == (1001, "Out of stock")
        assert error.data == {"article": "card"}
        assert error.method == "buy"

    [told] = knowing.call_batch(MethodCall("buy", ["card"]))
    with client_of(client, errors=[OutOfStock]) as other:
        for result in (told, other.call_method("buy", ["card"])):
            assert isinstance(result.error, OutOfStock)


@pytest.mark.parametrize("code", [7, -32099, -32000, 0, -(2**40)])
@pytest.mark.parametrize("data", [UNSET, None, 0, {"a": [1]}], ids=repr)
def test_any_other_code_is_a_remote_error(client: RemoteService, code: int, data: Any) -> None:
    error = client.call_method("fail", [code] if data is UNSET else [code, data]).error

    assert type(error) is errors.RemoteError
    assert (error.code, error.message, error.data) == (code, "as asked", data)
    # As with gemstone 0.10.1, whose errors were dicts.
    assert (error["code"], error["message"]) == (code, "as asked")
    if data is UNSET:
        with pytest.raises(KeyError):
            error["data"]
    else:
        assert error["data"] == data


def test_the_codes_of_the_framework_have_classes_whoever_raises_them(client: RemoteService) -> None:
    for cls in (
        errors.MethodNotFound,
        errors.InvalidParams,
        errors.AccessDenied,
        errors.TooManyHops,
        errors.DeadlineExceeded,
    ):
        with pytest.raises(cls):
            client.methods.fail(cls.code)


def test_an_error_further_down_is_masked(caplog: pytest.LogCaptureFixture, service: Shop) -> None:
    class Outer(MicroService):
        name = "outer"

        @gemstone_sync.exposed_method()
        def pass_on(self, method: str) -> Any:
            return RemoteService(service.url).methods[method]()

    with running_service(Outer) as outer, RemoteService(outer.url) as client:
        for method in ("nonsense", "private", "crash"):
            with pytest.raises(errors.InternalError) as caught:
                client.methods.pass_on(method)
            assert caught.value.code == -32603
            assert caught.value.method == "pass_on"
            assert service.url not in str(caught.value) + str(caught.value.data)
            # The log of the outer service says what happened, and where.
            assert f"{method} at {service.url}" in caplog.text
        assert client.methods.pass_on("echo") == "nothing"


# Exceptions travel: to other processes, into copies


def every_error(client: RemoteService) -> list[Exception]:
    url = client.url
    overloaded = errors.CircuitOpen(f"{url}: not now")
    overloaded.retry_after = 0.7
    knowing = client.with_options(errors=[OutOfStock])
    calls = [
        ("nonsense", []),
        ("echo", [1, 2]),
        ("crash", []),
        ("buy", ["card"]),
        ("fail", [5, None]),
    ]
    return [
        *[knowing.call_method(method, params).error for method, params in calls],  # type: ignore[list-item]
        errors.BadResponse(f"{url}: odd", status=502, body=b"<html>"),
        errors.Timeout(f"{url}: late"),
        errors.ConnectTimeout(f"{url}: late"),
        errors.ConnectionLost(f"{url}: gone"),
        overloaded,
    ]


def test_errors_are_readable_and_can_be_pickled_and_copied(client: RemoteService) -> None:
    for error in every_error(client):
        assert client.url in str(error)
        assert "\n" not in str(error)
        assert type(error).__name__ in repr(error)
        assert "object at 0x" not in repr(error)
        for made in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
            assert type(made) is type(error)
            assert vars(made) == vars(error)
            assert (str(made), repr(made)) == (str(error), repr(error))
