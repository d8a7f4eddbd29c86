"""What the caller hears of an unexpected exception: an id, which finds everything in the log."""

import sys
from typing import Any

import gevent
import pytest
from gevent.event import Event

from gemstone_sync.dispatch import CallContext
from gemstone_sync.errors import RpcError

from .support import ask, call, dispatcher, method, request

SECRET = "password=hunter2"


def fail() -> None:
    raise KeyError(SECRET)


def test_the_caller_gets_an_id_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    error = call(dispatcher(fail), "fail")

    assert set(error) == {"code", "message", "data"}
    assert (error["code"], error["message"], list(error["data"])) == (
        -32603,
        "Internal error",
        ["error_id"],
    )
    assert "hunter2" not in str(error)


def test_the_log_has_the_id_the_request_id_the_method_and_the_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    error = call(dispatcher(fail), "fail", context=CallContext(request_id="r-17"))

    (record,) = caplog.records
    assert record.levelname == "ERROR"
    for text in (error["data"]["error_id"], "r-17", "fail"):
        assert text in record.getMessage()
    assert "Traceback" in caplog.text
    assert SECRET in caplog.text


def test_every_failure_has_an_id_of_its_own() -> None:
    offered = dispatcher(fail)
    ids = {call(offered, "fail")["data"]["error_id"] for _ in range(50)}

    assert len(ids) == 50


def test_debug_adds_class_and_text() -> None:
    data = call(dispatcher(fail, debug=True), "fail")["data"]

    assert data["class"] == "KeyError"
    assert SECRET in data["info"]
    assert data["error_id"]


def test_debug_survives_an_exception_that_cannot_be_printed() -> None:
    class Unprintable(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    def fail_oddly() -> None:
        raise Unprintable

    assert call(dispatcher(fail_oddly, debug=True), "fail_oddly")["data"]["class"] == "Unprintable"


def leave() -> None:
    sys.exit("bye")


def own_time_out() -> None:
    with gevent.Timeout(0.01):
        Event().wait(10)


def recurse() -> None:
    recurse()


def stop() -> None:
    raise StopIteration


@pytest.mark.parametrize("function", [leave, own_time_out, recurse, stop])
def test_whatever_a_method_raises_is_its_own_fault_and_the_next_call_is_fine(
    function: Any,
) -> None:
    """sys.exit() and a gevent.Timeout are no Exceptions; neither may end the process."""

    def ok() -> str:
        return "ok"

    offered = dispatcher(function, ok)

    assert call(offered, function.__name__)["code"] == -32603
    assert call(offered, "ok") == "ok"
    assert offered.slots.in_use == 0
    answers = ask(offered, [request(function.__name__), request("ok")])
    assert answers[0]["error"]["code"] == -32603
    assert answers[1]["result"] == "ok"


def test_an_exception_while_authenticating_is_masked_and_denies() -> None:
    ran = []

    class BrokenUser:
        def __bool__(self) -> bool:
            raise ConnectionError(SECRET)

    offered = dispatcher(method(lambda: ran.append(1), name="secret", private=True))
    error = call(offered, "secret", context=CallContext(BrokenUser()))

    assert error["code"] == -32603
    assert "hunter2" not in str(error)
    assert not ran


# Results that cannot be sent


@pytest.mark.parametrize("value", [object(), "\ud800", {(1, 2): 3}, print])
def test_a_result_that_cannot_be_encoded_fails_its_own_item_only(
    value: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def give(good: bool) -> Any:
        return 1 if good else value

    offered = dispatcher(give)
    answers = ask(offered, [request("give", [good], n) for n, good in enumerate([True, False])])

    assert answers[0]["result"] == 1
    assert (answers[1]["error"]["code"], answers[1]["id"]) == (-32603, 1)
    assert answers[1]["error"]["data"]["error_id"] in caplog.text


def test_an_error_whose_data_cannot_be_encoded_is_masked() -> None:
    def fail_badly() -> None:
        raise RpcError("no", data=object())

    assert call(dispatcher(fail_badly), "fail_badly")["code"] == -32603


def test_numbers_that_json_lacks_become_null() -> None:
    def odd() -> list[float]:
        return [float("nan"), float("inf"), 1.5]

    assert call(dispatcher(odd), "odd") == [None, None, 1.5]


def test_a_result_over_the_limit_is_an_error_and_not_a_cut_answer() -> None:
    def text(size: int) -> str:
        return "x" * size

    offered = dispatcher(text, max_response_size=1000)

    assert call(offered, "text", 100) == "x" * 100
    assert call(offered, "text", 1000) == {"code": -32004, "message": "Response too large"}


def test_error_data_over_the_limit_is_an_error_too() -> None:
    def fail_at_length() -> None:
        raise RpcError("no", data="x" * 1000)

    offered = dispatcher(fail_at_length, max_response_size=1000)

    assert call(offered, "fail_at_length")["code"] == -32004
