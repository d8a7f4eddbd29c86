"""What the caller hears of an unexpected exception: an id, which finds everything in the log."""

import sys

import gevent
import pytest
from gevent.event import Event

from gemstone_sync.dispatch import CallContext
from gemstone_sync.errors import RemoteError, RpcError

from .support import ask, call, dispatcher, method, request

SECRET = "password=hunter2"


def fail():
    raise KeyError(SECRET)


def test_the_caller_gets_an_id_and_the_log_everything(caplog):
    error = call(dispatcher(fail), "fail", context=CallContext(request_id="r-17"))

    error_id = error["data"]["error_id"]
    data = {"error_id": error_id}
    assert error == {"code": -32603, "message": "Internal error", "data": data}
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert record.getMessage() == f"fail failed [error_id={error_id} request_id=r-17]"
    assert "Traceback" in caplog.text
    assert SECRET in caplog.text


def test_debug_adds_class_and_text():
    data = call(dispatcher(fail, debug=True), "fail")["data"]

    assert data == {"error_id": data["error_id"], "class": "KeyError", "info": f"'{SECRET}'"}


def test_debug_survives_an_exception_that_cannot_be_printed():
    class Unprintable(Exception):
        def __str__(self):
            raise RuntimeError

    def fail_oddly():
        raise Unprintable

    data = call(dispatcher(fail_oddly, debug=True), "fail_oddly")["data"]
    assert (data["class"], data["info"]) == ("Unprintable", "(its text cannot be made)")


def leave():
    sys.exit("bye")


def own_time_out():
    with gevent.Timeout(0.01):
        Event().wait(10)


def recurse():
    recurse()


def stop():
    raise StopIteration


def pass_on():
    """What another service says of a method of its own is not what this one says."""
    raise RemoteError("Method not found", code=-32601)


@pytest.mark.parametrize("function", [leave, own_time_out, recurse, stop, pass_on])
def test_whatever_a_method_raises_is_its_own_fault_and_the_next_call_is_fine(function):
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


def test_an_exception_while_authenticating_is_masked_and_denies():
    ran = []

    class BrokenUser:
        def __bool__(self) -> bool:
            raise ConnectionError(SECRET)

    offered = dispatcher(method(lambda: ran.append(1), name="secret", private=True))
    error = call(offered, "secret", context=CallContext(BrokenUser()))

    assert error["code"] == -32603
    assert "hunter2" not in str(error)
    assert not ran


@pytest.mark.parametrize("value", [object(), "\ud800", {(1, 2): 3}, print])
def test_a_result_that_cannot_be_encoded_fails_its_own_item_only(value, caplog):
    offered = dispatcher(method(lambda good: 1 if good else value, name="give"))
    answers = ask(offered, [request("give", [good], n) for n, good in enumerate([True, False])])

    assert answers[0]["result"] == 1
    assert (answers[1]["error"]["code"], answers[1]["id"]) == (-32603, 1)
    (record,) = caplog.records
    error_id = answers[1]["error"]["data"]["error_id"]
    said = f"encoding the result of give failed [error_id={error_id} "
    assert record.getMessage().startswith(said)
    assert "Traceback" in caplog.text


def fail_with(data):
    def fail_badly():
        raise RpcError("no", data=data)

    return call(dispatcher(fail_badly, max_response_size=1000), "fail_badly")["code"]


def test_an_error_whose_data_cannot_be_sent():
    assert fail_with(object()) == -32603
    assert fail_with("x" * 1000) == -32004


def test_a_result_over_the_limit_is_an_error_and_not_a_cut_answer():
    offered = dispatcher(method(lambda size: "x" * size, name="text"), max_response_size=1000)

    for _ in range(3):  # the budget starts anew with each body
        assert call(offered, "text", 900) == "x" * 900
    assert call(offered, "text", 1000) == {"code": -32004, "message": "Response too large"}
