"""Bytes in, bytes or nothing out: what one call meets on its way, in which order."""

import contextlib
import contextvars
import time

import pytest
from gevent.event import Event

from gemstone_sync.concurrency import current_call, outgoing_headers
from gemstone_sync.dispatch import CallContext
from gemstone_sync.errors import RpcError
from tests.support.waiting import LIMIT

from .support import Handler, ask, call, dispatcher, method, request


def add(a: int, b: int = 0) -> int:
    return a + b


def test_a_call_is_answered_in_bytes():
    body = b'{"jsonrpc": "2.0", "method": "add", "params": {"b": 2, "a": 1}, "id": "x"}'

    assert dispatcher(add).dispatch(body, CallContext()) == b'{"jsonrpc":"2.0","result":3,"id":"x"}'


def test_a_notification_runs_and_has_no_answer():
    ran = []
    offered = dispatcher(method(lambda text: ran.append(text), name="note"))

    assert ask(offered, request("note", ["a"], id=...)) is None
    assert ran == ["a"]


@pytest.mark.parametrize("name", ["nothing", "", "add ", "ADD", "add.__call__", "__class__"])
def test_a_name_that_is_not_offered_is_method_not_found(name):
    assert call(dispatcher(add), name)["code"] == -32601


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (request("nothing", id=...), "notification 'nothing': ErrorObject(code=-32601, "),
        (request("add", ["x"], id=...), "notification 'add': ErrorObject(code=-32602, "),
        (request("x" * 1_000_000, id=...), "notification 'xxx"),
    ],
    ids=["name", "params", "length"],
)
def test_a_failed_notification_is_silent_and_logged_at_no_length(content, said, caplog):
    assert ask(dispatcher(add), content) is None

    # Others may still tell, a second later, what else was refused.
    (record,) = [record for record in caplog.records if said in record.getMessage()]
    assert (record.name, record.levelname) == ("gemstone_sync.dispatch", "WARNING")
    assert record.getMessage().startswith(said)
    assert len(record.getMessage()) < 300


def test_what_is_wrong_first_is_what_the_caller_hears():
    """Name, hops, place and deadline, access, parameters, call."""
    seen = []

    def secret(number: int):
        seen.append(number)

    limits = {"max_parallel_blocking_tasks": 1, "max_waiting_calls": 0, "max_hops": 2}
    offered = dispatcher(method(secret, private=True), **limits)
    offered_busy = dispatcher(method(secret, private=True), **limits)
    offered_busy.slots.acquire()
    far, near = CallContext(hops=3), CallContext(hops=2)

    assert call(offered, "other", context=far)["message"] == "Method not found"
    too_far = {"code": -32003, "message": "Too many hops"}
    assert call(offered_busy, "secret", "x", context=far) == too_far
    assert call(offered_busy, "secret", "x", context=near)["message"] == "Server overloaded"
    denied = {"code": -32001, "message": "Access denied"}
    assert call(offered, "secret", "x", context=near) == denied
    assert call(offered, "secret", "x", context=CallContext("me"))["message"] == "Invalid params"
    assert call(offered, "secret", 5, context=CallContext("me")) is None
    assert seen == [5]


def test_a_method_that_wants_the_handler_gets_it_first():
    def who(handler: Handler, greeting: str) -> str:
        return f"{greeting} {handler.current_user}"

    offered = dispatcher(method(who, needs_handler=True))

    assert call(offered, "who", "hello", context=CallContext("me")) == "hello me"
    (fault,) = call(offered, "who", "a", "b", context=CallContext("me"))["data"]["parameters"]
    assert fault["position"] == 1


@pytest.mark.parametrize("error", [TypeError, ValueError])
def test_an_error_inside_the_method_is_never_taken_for_bad_parameters(error):
    def method_itself(number: int):
        raise error("method_itself() missing 1 required positional argument: 'number'")

    assert call(dispatcher(method_itself), "method_itself", 1)["code"] == -32603
    assert call(dispatcher(method_itself), "method_itself")["code"] == -32602


def wait() -> str:
    Event().wait(LIMIT)
    return "waited"


@pytest.mark.parametrize(
    ("timeout", "left"),
    [(0.02, None), (LIMIT, 0.02), (0.02, LIMIT), (None, 0.02)],
    ids=["the method's", "the caller's is sooner", "the method's is sooner", "the caller's"],
)
def test_a_call_that_takes_too_long_ends_with_its_own_code(timeout, left):
    context = CallContext(deadline=left and time.monotonic() + left)
    offered = dispatcher(method(wait, timeout=timeout))

    answer = call(offered, "wait", context=context)
    assert answer == {"code": -32002, "message": "Deadline exceeded"}


def test_a_call_whose_time_is_over_on_arrival_is_not_executed():
    ran = []
    offered = dispatcher(method(lambda: ran.append(1), name="run"))
    context = CallContext(deadline=time.monotonic() - 1)

    assert call(offered, "run", context=context)["code"] == -32002
    assert not ran


def test_a_method_that_swallows_the_interruption_is_late_all_the_same():
    def stubborn():
        with contextlib.suppress(BaseException):
            wait()

    assert call(dispatcher(method(stubborn, timeout=0.02)), "stubborn")["code"] == -32002


def test_a_call_has_its_deadline_while_it_waits_for_a_place_and_gives_it_back():
    offered = dispatcher(method(wait, timeout=0.02), add, max_parallel_blocking_tasks=1)
    offered.slots.acquire()
    assert call(offered, "wait")["code"] == -32002
    offered.slots.release()
    assert (offered.slots.in_use, offered.slots.waiting) == (0, 0)

    assert call(offered, "wait")["code"] == -32002
    assert offered.slots.in_use == 0
    assert call(offered, "add", 1, 2) == 3


@pytest.mark.parametrize(
    ("timeout", "of_the_inner", "message"),
    [(LIMIT, 0.02, "Deadline exceeded inside"), (0.02, LIMIT, "Deadline exceeded")],
    ids=["the inner one alone", "the outer one with it"],
)
def test_a_call_made_inside_a_call_runs_out_of_time(timeout, of_the_inner, message):
    inner = dispatcher(method(wait, timeout=of_the_inner))

    def outer():
        raise RpcError(call(inner, "wait")["message"] + " inside")

    answer = call(dispatcher(method(outer, timeout=timeout)), "outer")
    assert answer["message"] == message
    assert inner.slots.in_use == 0


def test_a_method_hands_on_what_came_with_the_call():
    def headers() -> dict[str, str]:
        return outgoing_headers()

    context = CallContext(hops=2, request_id="r1", traceparent="t1")
    offered = dispatcher(method(headers, timeout=LIMIT))
    handed_on = call(offered, "headers", context=context)

    left = int(handed_on.pop("X-Gemstone-Deadline"))
    assert 0 < left <= LIMIT * 1000
    assert handed_on == {"X-Request-Id": "r1", "X-Gemstone-Hops": "3", "traceparent": "t1"}
    assert current_call.get() is None
    assert call(dispatcher(headers), "headers")["X-Gemstone-Hops"] == "1"


USER = contextvars.ContextVar("USER", default="nobody")


def test_what_one_call_sets_does_not_reach_the_next():
    swap = method(lambda name: (USER.get(), USER.set(name))[0], name="swap")

    assert [call(dispatcher(swap), "swap", name) for name in ("a", "b")] == ["nobody", "nobody"]
    for mode in ("parallel", "serial"):
        answers = ask(dispatcher(swap, batch_mode=mode), [request("swap", ["a"])] * 3)
        assert [answer["result"] for answer in answers] == ["nobody"] * 3
    assert USER.get() == "nobody"


def test_what_the_transport_has_set_is_seen_by_the_method():
    offered = dispatcher(method(lambda: USER.get(), name="who"))

    def run():
        USER.set("transport")
        return call(offered, "who"), ask(offered, [request("who")] * 3)

    single, batch = contextvars.copy_context().run(run)
    assert single == "transport"
    assert [answer["result"] for answer in batch] == ["transport"] * 3


@pytest.mark.parametrize(("id", "answered"), [(7, 7), (..., None)], ids=["call", "notification"])
def test_without_a_place_a_call_is_refused_and_a_notification_not_dropped_silently(id, answered):
    offered = dispatcher(add, max_parallel_blocking_tasks=1, max_waiting_calls=0)
    offered.slots.acquire()
    context = CallContext()

    answer = ask(offered, request("add", [1], id=id), context)
    overloaded = {"code": -32000, "message": "Server overloaded"}
    assert answer == {"jsonrpc": "2.0", "error": overloaded, "id": answered}
    assert context.status == 503
    assert ("Retry-After", "1") in context.response_headers, "it is told when to come back"
    offered.slots.release()
    context = CallContext()
    assert call(offered, "add", 1, context=context) == 1
    assert context.status is None


def test_a_cycle_at_the_bound_ends_in_a_bounded_error():
    """A calls B calls A, one place each: nobody waits for ever."""
    services = {}

    def go_on(where):
        other = "b" if where == "a" else "a"
        now = current_call.get()
        context = CallContext(hops=now.hops + 1, deadline=now.deadline)
        return call(services[other], "go_on", other, context=context)

    for timeout, limits, message in (
        (LIMIT, {"max_parallel_blocking_tasks": 1, "max_wait_seconds": 0.02}, "Server overloaded"),
        (LIMIT, {"max_hops": 3}, "Too many hops"),
        (0.05, {"max_parallel_blocking_tasks": 1}, "Deadline exceeded"),
    ):
        for name in "ab":
            services[name] = dispatcher(method(go_on, timeout=timeout), **limits)
        assert call(services["a"], "go_on", "a")["message"] == message


class OutOfStock(RpcError):
    code = 1001
    message = "Out of stock"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RpcError("no"), {"code": -32000, "message": "no"}),
        (RpcError("no", code=7, data=None), {"code": 7, "message": "no", "data": None}),
        (OutOfStock(data=[0]), {"code": 1001, "message": "Out of stock", "data": [0]}),
    ],
)
def test_an_rpc_error_reaches_the_caller_as_it_is(error, expected, caplog):
    def fail():
        raise error

    assert call(dispatcher(fail), "fail") == expected
    assert not caplog.records  # expected by whoever wrote it: no alarm
