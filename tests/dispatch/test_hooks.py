"""The hooks around a call: what they see, what they may change, what happens when they fail."""

import gc
import logging
import time
import weakref

import gevent
import pytest

from gemstone_sync.dispatch import CallContext, Hooks, ObservedCall
from gemstone_sync.errors import UNSET, RpcError
from gemstone_sync.protocol import JsonRpcRequest, JsonRpcResponse

from .support import ask, call, dispatcher, method, request


def double(number: int) -> int:
    if number == 13:
        raise ValueError("unlucky")
    return number * 2


def test_the_hooks_come_in_their_order_and_see_messages():
    log = []

    def work(number):
        log.append(("method", number))
        return 2 * number

    hooks = Hooks(
        before=lambda req: log.append(("before", req)),
        on_call=lambda req: log.append(("on_call", req)),
        after=lambda req, res: log.append(("after", req, res)),
        failed=lambda req, res: log.append(("failed", req, res)),
    )
    assert call(dispatcher(work, hooks=hooks), "work", 4) == 8

    sent = JsonRpcRequest("work", [4], 1)
    assert log == [
        ("before", sent),
        ("on_call", sent),
        ("method", 4),
        ("after", sent, JsonRpcResponse(result=8, id=1)),
    ]


@pytest.mark.parametrize(
    ("content", "context", "code", "seen"),
    [
        (request("double", ["x"]), CallContext("me"), -32602, []),
        (request("double", [1]), CallContext(None), -32001, []),
        (request("double", [13]), CallContext("me"), -32603, ["before", "on_call"]),
    ],
    ids=["params", "access", "exception"],
)
def test_a_failed_call_is_shown_to_failed_and_what_is_refused_to_no_other(
    content, context, code, seen
):
    log = []
    hooks = Hooks(
        before=lambda _: log.append("before"),
        on_call=lambda _: log.append("on_call"),
        after=lambda *_: log.append("after"),
        failed=lambda req, res: log.append((req.method, res.error.code, res.id)),
    )
    offered = dispatcher(method(double, private=True), hooks=hooks)

    assert ask(offered, content, context)["error"]["code"] == code
    assert log == [*seen, ("double", code, 1)]


def test_after_may_change_the_result_or_turn_it_into_an_error():
    hooks = Hooks(after=lambda req, res: res.with_result({"value": res.result}))
    offered = dispatcher(double, hooks=hooks)
    assert call(offered, "double", 2) == {"value": 4}
    batch = ask(offered, [request("double", [n]) for n in (1, 2)])
    assert [answer["result"]["value"] for answer in batch] == [2, 4]

    error = RpcError("changed my mind", code=5)
    hooks = Hooks(after=lambda req, res: JsonRpcResponse.failure(error, res.id))
    assert call(dispatcher(double, hooks=hooks), "double", 2)["code"] == 5


def test_after_that_returns_something_else_is_a_fault_that_says_what_to_return(caplog):
    hooks = Hooks(after=lambda req, res: res.result)

    assert call(dispatcher(double, hooks=hooks), "double", 2)["code"] == -32603
    assert (
        "TypeError: after_method_call returns None or a JsonRpcResponse "
        "(response.with_result(...)), not a int\n"
    ) in caplog.text


def test_before_may_refuse_with_an_error_of_its_own():
    ran = []

    def before(req):
        raise RpcError("not on Sundays", code=7)

    offered = dispatcher(method(lambda: ran.append(1), name="run"), hooks=Hooks(before=before))

    assert call(offered, "run") == {"code": 7, "message": "not on Sundays"}
    assert not ran


@pytest.mark.parametrize("hook", ["before", "after"])
def test_a_hook_that_fails_is_masked_as_the_method_would_be(hook, caplog):
    def broken(*_):
        raise ZeroDivisionError("secret")

    offered = dispatcher(double, hooks=Hooks(**{hook: broken}))
    error = call(offered, "double", 2)

    assert error["code"] == -32603
    assert "secret" not in str(error)
    assert error["data"]["error_id"] in caplog.text


@pytest.mark.parametrize("failure", [ValueError("broken hook"), gevent.Timeout(1), SystemExit(1)])
def test_a_failing_failed_hook_is_logged_and_the_answer_stays(failure, caplog):
    def broken(req, res):
        raise failure

    assert call(dispatcher(double, hooks=Hooks(failed=broken)), "double", "x")["code"] == -32602
    assert "on_failed_method_call failed" in caplog.text


def test_internal_errors_are_shown_as_they_were_raised():
    seen = []
    offered = dispatcher(double, hooks=Hooks(on_internal_error=seen.append))

    told = call(offered, "double", 13)["data"]["error_id"]
    call(offered, "double", "x")
    assert [(str(error), error.gemstone_error_id) for error in seen] == [("unlucky", told)]


def test_every_call_is_observed_with_its_duration_and_outcome():
    begun, ended = [], []
    nap = method(lambda: gevent.sleep(0.02), name="nap")
    offered = dispatcher(double, nap, hooks=Hooks(begun=begun.append, finished=ended.append))
    started = time.monotonic()
    call(offered, "double", 1)
    call(offered, "double", 13)
    call(offered, "nap")
    total = time.monotonic() - started

    assert begun == ended
    seen = [(one.name, one.seconds, one.failed) for one in ended]
    names, seconds, outcomes = zip(*seen, strict=True)
    assert (names, outcomes) == (("double", "double", "nap"), (False, True, False))
    assert min(seconds) >= 0
    assert 0.01 < seconds[2] <= sum(seconds) <= total


def test_observers_see_how_each_call_ends():
    """With what its caller got, and what the log has of it."""
    ended: list[ObservedCall] = []
    hooks = Hooks(finished=ended.append)
    offered = dispatcher(double, method(double, name="closed", private=True), hooks=hooks)
    context = CallContext(request_id="r1", hops=8)
    call(offered, "double", 2, context=context)
    masked = call(offered, "double", 13, context=context)["data"]["error_id"]
    call(offered, "double", "x", context=context)
    call(offered, "closed", 2, context=context)
    ask(offered, request("double", ["x"], id=...), context)

    assert [one.error_code for one in ended] == [None, -32603, -32602, -32001, -32602]
    assert [one.error_id for one in ended] == [None, masked, None, None, None]
    assert [type(one.exception).__name__ for one in ended[:3]] == [
        *("NoneType", "ValueError", "InvalidParams")
    ]
    assert {one.request_id for one in ended} == {"r1"}
    assert [one.request.id for one in ended] == [1, 1, 1, 1, UNSET]
    assert ended[1].request.params == [13]
    assert ended[0].call.hops == 8
    assert not any(one.refused for one in ended)


def test_observers_see_what_is_refused_too():
    begun: list[ObservedCall] = []
    ended: list[ObservedCall] = []
    hooks = Hooks(begun=begun.append, finished=ended.append)
    nap = method(lambda: gevent.sleep(0.1), name="nap")
    places = {"max_parallel_blocking_tasks": 1, "max_waiting_calls": 0}
    offered = dispatcher(nap, hooks=hooks, **places)
    context = CallContext()

    assert call(offered, "absent", context=context)["code"] == -32601
    assert call(offered, "nap", context=CallContext(hops=9))["code"] == -32003
    assert ask(offered, request("absent", id=...)) is None
    refused = ended[:]
    running = gevent.spawn(call, offered, "nap")
    gevent.idle()
    assert call(offered, "nap")["code"] == -32000
    running.get()

    *overload, served = ended[len(refused) :]
    assert all(one.refused and one.failed for one in (*refused, *overload))
    assert [one.error_code for one in refused] == [-32601, -32003, -32601]
    assert [one.error_code for one in overload] == [-32000]
    assert (served.refused, served.failed) == (False, False)
    assert ("X-Request-Id", ended[0].request_id) in context.response_headers
    assert {id(one) for one in begun} == {id(one) for one in ended}


class Traced(Exception):
    """Can be referred to weakly, which a ValueError cannot."""


def test_what_is_observed_of_a_failed_call_needs_no_garbage_collection():
    """An exception holds the frames that it came through: none of them may hold it."""
    gone: list[str] = []

    def note(one: ObservedCall) -> None:
        weakref.finalize(one.exception, gone.append, "exception")

    def fail() -> None:
        raise Traced

    silent = logging.Logger("silent", logging.CRITICAL + 1)
    offered = dispatcher(fail, hooks=Hooks(finished=note), logger=silent)
    gc.disable()
    try:
        call(offered, "fail")
        assert gone == ["exception"]
    finally:
        gc.enable()


def test_a_notification_passes_the_same_hooks():
    log = []
    hooks = Hooks(
        before=lambda req: log.append(req.id),
        after=lambda req, res: log.append(res.result),
        failed=lambda req, res: log.append(res.error.code),
    )
    offered = dispatcher(double, hooks=hooks)

    assert ask(offered, request("double", [2], id=...)) is None
    assert ask(offered, request("double", ["x"], id=...)) is None
    assert log == [UNSET, 4, -32602]
