"""The hooks around a call: what they see, what they may change, what happens when they fail."""

from typing import Any

import gevent
import pytest

from gemstone_sync.dispatch import CallContext, Hooks
from gemstone_sync.errors import UNSET, RpcError
from gemstone_sync.protocol import JsonRpcRequest, JsonRpcResponse

from .support import ask, call, dispatcher, method, request


def double(number: int) -> int:
    if number == 13:
        raise ValueError("unlucky")
    return number * 2


def test_the_hooks_come_in_their_order_and_see_messages() -> None:
    log: list[Any] = []

    def work(number: int) -> int:
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
    ("content", "context", "code"),
    [
        (request("double", ["x"]), CallContext("me"), -32602),
        (request("double", [13]), CallContext("me"), -32603),
        (request("double", [1]), CallContext(None), -32001),
    ],
    ids=["params", "exception", "access"],
)
def test_a_failed_call_is_shown_to_failed_and_never_to_after(
    content: Any, context: CallContext, code: int
) -> None:
    failures: list[Any] = []
    hooks = Hooks(
        after=lambda *_: pytest.fail("called"),  # type: ignore[arg-type]
        failed=lambda req, res: failures.append((req.method, res.error.code, res.id)),  # type: ignore[union-attr]
    )
    offered = dispatcher(method(double, private=True), hooks=hooks)

    assert ask(offered, content, context)["error"]["code"] == code
    assert failures == [("double", code, 1)]


def test_before_is_not_called_for_what_is_refused() -> None:
    hooks = Hooks(before=lambda _: pytest.fail("called"), on_call=lambda _: pytest.fail("called"))
    offered = dispatcher(method(double, private=True), hooks=hooks)

    assert call(offered, "double", 1)["code"] == -32001
    assert call(offered, "double", "x", context=CallContext("me"))["code"] == -32602


def test_after_may_change_the_result() -> None:
    hooks = Hooks(after=lambda req, res: res.with_result({"value": res.result}))
    offered = dispatcher(double, hooks=hooks)

    assert call(offered, "double", 2) == {"value": 4}
    assert [
        a["result"]["value"] for a in ask(offered, [request("double", [n]) for n in (1, 2)])
    ] == [
        2,
        4,
    ]


def test_after_may_turn_a_result_into_an_error() -> None:
    def refuse(req: JsonRpcRequest, res: JsonRpcResponse) -> JsonRpcResponse:
        return JsonRpcResponse.failure(RpcError("changed my mind", code=5), res.id)

    assert call(dispatcher(double, hooks=Hooks(after=refuse)), "double", 2)["code"] == 5


def test_after_that_returns_something_else_is_a_fault_that_says_what_to_return(
    caplog: pytest.LogCaptureFixture,
) -> None:
    hooks = Hooks(after=lambda req, res: res.result)  # type: ignore[arg-type,return-value]

    assert call(dispatcher(double, hooks=hooks), "double", 2)["code"] == -32603
    assert "response.with_result(...)" in caplog.text


def test_before_may_refuse_with_an_error_of_its_own() -> None:
    ran = []

    def before(req: JsonRpcRequest) -> None:
        raise RpcError("not on Sundays", code=7)

    offered = dispatcher(method(lambda: ran.append(1), name="run"), hooks=Hooks(before=before))

    assert call(offered, "run") == {"code": 7, "message": "not on Sundays"}
    assert not ran


@pytest.mark.parametrize("hook", ["before", "after"])
def test_a_hook_that_fails_is_masked_as_the_method_would_be(
    hook: str, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError("secret")

    offered = dispatcher(double, hooks=Hooks(**{hook: broken}))
    error = call(offered, "double", 2)

    assert error["code"] == -32603
    assert "secret" not in str(error)
    assert error["data"]["error_id"] in caplog.text


@pytest.mark.parametrize("failure", [ValueError("broken hook"), gevent.Timeout(1), SystemExit(1)])
def test_a_failing_failed_hook_is_logged_and_the_answer_stays(
    failure: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(req: JsonRpcRequest, res: JsonRpcResponse) -> None:
        raise failure

    assert call(dispatcher(double, hooks=Hooks(failed=broken)), "double", "x")["code"] == -32602
    assert "on_failed_method_call failed" in caplog.text


def test_internal_errors_are_shown_as_they_were_raised() -> None:
    seen: list[BaseException] = []
    offered = dispatcher(double, hooks=Hooks(on_internal_error=seen.append))

    call(offered, "double", 13)
    call(offered, "double", "x")
    assert [(type(error), str(error)) for error in seen] == [(ValueError, "unlucky")]


def test_every_call_is_observed_with_its_duration_and_outcome() -> None:
    seen: list[tuple[str, float, bool]] = []

    def nap() -> None:
        gevent.sleep(0.02)

    offered = dispatcher(double, nap, hooks=Hooks(observe=lambda *what: seen.append(what)))
    call(offered, "double", 1)
    call(offered, "double", 13)
    call(offered, "nap")

    assert [(name, ok) for name, _, ok in seen] == [
        ("double", True),
        ("double", False),
        ("nap", True),
    ]
    assert 0 <= seen[0][1] < 0.02 <= seen[2][1]


def test_a_notification_passes_the_same_hooks() -> None:
    log: list[Any] = []
    hooks = Hooks(
        before=lambda req: log.append(req.id),
        after=lambda req, res: log.append(res.result),
        failed=lambda req, res: log.append(res.error.code),  # type: ignore[union-attr]
    )
    offered = dispatcher(double, hooks=hooks)

    assert ask(offered, request("double", [2], id=...)) is None
    assert ask(offered, request("double", ["x"], id=...)) is None
    assert log == [UNSET, 4, -32602]
