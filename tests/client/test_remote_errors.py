"""Which exception tells what went wrong when a service answers with an error."""

import copy
import functools
import logging
import pickle
from typing import Any

import pytest

from gemstone_sync import UNSET, MethodCall, RemoteService, errors
from gemstone_sync.testing import running_service
from tests.support.waiting import wait_until

from .faults import client_of, fault_of
from .shop import OutOfStock, Shop

SERVICE = Shop


def test_a_method_that_is_not_there(client: RemoteService) -> None:
    error = fault_of(client.methods.users.logout, errors.MethodNotFound)
    assert isinstance(error, errors.RemoteError)
    assert (error.code, error.message) == (-32601, "Method not found")
    assert (error.method, error.url) == ("users.logout", client.url)
    assert str(error) == f"users.logout at {client.url}: Method not found (-32601)"


def test_parameters_that_do_not_fit_are_named(client: RemoteService) -> None:
    error = fault_of(lambda: client.methods.buy(size="XXL"), errors.InvalidParams)
    assert sorted(each["name"] for each in error.data["parameters"]) == ["article", "size"]
    assert str(error).startswith(f"buy at {client.url}: Invalid params (-32602): ")
    assert "article: missing" in str(error), "a traceback or a failed test shows the text alone"


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"parameters": [{"position": 2, "reason": "unexpected"}]}, ": position 2: unexpected"),
        (
            {"parameters": [{"name": f"p{n}", "reason": "missing"} for n in range(6)]},
            ": p0: missing; p1: missing; p2: missing; p3: missing; p4: missing; ...",
        ),
        *(({"parameters": other}, "") for other in ([], None, "n", [1], [{"name": "n"}], {"n": 1})),
        ([], ""),
    ],
)
def test_what_other_services_say_of_parameters_is_told_when_it_is_in_our_form(
    data: Any, told: str
) -> None:
    error = errors.RemoteError("Invalid params", code=-32602, data=data)
    assert str(error) == f"Invalid params (-32602){told}"


def test_a_crash_is_found_by_its_id(
    client: RemoteService, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    error = fault_of(client.methods.crash, errors.InternalError)
    assert isinstance(error, errors.RemoteError)
    assert error.error_id
    assert error.error_id in caplog.text
    assert f"[error_id={error.error_id}]" in str(error)
    assert "secret" not in repr(error) + str(error)


def test_a_service_that_is_full() -> None:
    limits = {"max_parallel_blocking_tasks": 1, "max_waiting_calls": 0}
    with running_service(Shop, **limits) as full, client_of(full) as client:
        first = client.methods.hold.async_()
        wait_until(lambda: full.calls == ["hold"], "the first call")

        for call in (client.methods.echo, client.notifications.echo):
            error = fault_of(functools.partial(call, 1), errors.ServerOverloaded)
            assert isinstance(error, errors.RemoteError)
            assert error.code == -32000
            assert error.retry_after >= 1
        batch = client.call_batch(MethodCall("echo", [1]), MethodCall("echo", [2]))
        for told in (client.call_method("echo", [1]), *batch):
            assert isinstance(told.error, errors.ServerOverloaded)

        full.go_on.set()
        assert first.result(wait=True) == "held"
        assert client.methods.echo(1) == 1
        assert full.calls == ["hold", 1]


def test_an_error_of_the_users_own_class(client: RemoteService) -> None:
    knowing = client.with_options(errors=[OutOfStock])
    unknown = fault_of(lambda: client.methods.buy("card"), errors.RemoteError)
    known = fault_of(lambda: knowing.methods.buy("card"), OutOfStock)
    assert type(unknown) is errors.RemoteError  # nobody said which class has the code
    assert isinstance(known, errors.RemoteError)
    for error in (unknown, known):
        assert (error.code, error.message) == (1001, "Out of stock")
        assert (error.method, error.data) == ("buy", {"article": "card"})

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
    for name in ("MethodNotFound", "InvalidParams", "AccessDenied", "TooManyHops"):
        kind = getattr(errors, name)
        fault_of(functools.partial(client.methods.fail, kind.code), kind)


def test_an_error_further_down_is_masked(
    caplog: pytest.LogCaptureFixture, service: Shop, make_service: Any
) -> None:
    def pass_on(self: Any, method: str) -> Any:
        return client_of(service).methods[method]()

    with running_service(make_service(pass_on)) as outer, client_of(outer) as client:
        for method in ("nonsense", "private", "crash"):
            error = fault_of(
                functools.partial(client.methods.pass_on, method), errors.InternalError
            )
            assert (error.code, error.method) == (-32603, "pass_on")
            assert service.url not in str(error) + str(error.data)
            # The log of the outer service says what happened, and where.
            assert f"{method} at {service.url}" in caplog.text
        assert client.methods.pass_on("echo") == "nothing"


def every_error(client: RemoteService) -> list[Exception]:
    url = client.url
    overloaded = errors.CircuitOpen(f"{url}: not now")
    overloaded.retry_after = 0.7
    knowing = client.with_options(errors=[OutOfStock])
    calls = {"nonsense": [], "echo": [1, 2], "crash": [], "buy": ["card"], "fail": [5, None]}
    return [
        *[knowing.call_method(method, params).error for method, params in calls.items()],
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
