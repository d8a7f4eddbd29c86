"""Batches: in parallel with their order kept, within the same bound as everything else."""

import time
from typing import Any

import gevent
import pytest
from gevent.event import Event

from gemstone_sync.dispatch import CallContext

from .support import ask, call, dispatcher, method, request

LIMIT = 10

MODES = ["parallel", "serial"]


def echo(value: Any) -> Any:
    return value


def ids(answers: Any) -> list[Any]:
    return [answer["id"] for answer in answers]


@pytest.mark.parametrize("mode", MODES)
def test_answers_come_in_the_order_of_the_requests(mode: str) -> None:
    def nap(milliseconds: int) -> int:
        gevent.sleep(milliseconds / 1000)
        return milliseconds

    delays = [30, 0, 20, 10, 0]
    answers = ask(
        dispatcher(nap, batch_mode=mode),
        [request("nap", [delay], number) for number, delay in enumerate(delays)],
    )

    assert ids(answers) == [0, 1, 2, 3, 4]
    assert [answer["result"] for answer in answers] == delays


@pytest.mark.parametrize("mode", MODES)
def test_notifications_run_and_are_left_out(mode: str) -> None:
    ran = []

    def note(value: int) -> int:
        ran.append(value)
        return value

    offered = dispatcher(note, batch_mode=mode)
    answers = ask(offered, [request("note", [n], ... if n % 2 else n) for n in range(5)])

    assert ids(answers) == [0, 2, 4]
    assert sorted(ran) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("mode", MODES)
def test_a_batch_of_notifications_only_has_no_answer(mode: str) -> None:
    assert ask(dispatcher(echo, batch_mode=mode), [request("echo", [1], ...)] * 3) is None


def test_what_is_no_request_is_answered_in_its_place() -> None:
    answers = ask(dispatcher(echo), [request("echo", [1], "a"), 1, {"id": 7}, request("x", id="b")])

    assert [(a["id"], a.get("error", {}).get("code")) for a in answers] == [
        ("a", None),
        (None, -32600),
        (7, -32600),
        ("b", -32601),
    ]


def test_the_same_id_twice_is_the_callers_business() -> None:
    assert ids(ask(dispatcher(echo), [request("echo", [1])] * 3)) == [1, 1, 1]


def test_a_batch_over_its_cap_executes_nothing() -> None:
    ran = []
    offered = dispatcher(method(lambda: ran.append(1), name="run"), max_batch_size=3)

    assert len(ask(offered, [request("run")] * 3)) == 3
    ran.clear()
    answer = ask(offered, [request("run")] * 4)
    assert (answer["id"], answer["error"]["code"]) == (None, -32600)
    assert not ran


def test_items_overlap() -> None:
    """Each waits until all five are there: one after another they would wait for ever."""
    inside, all_here = [], Event()

    def meet() -> bool:
        inside.append(1)
        if len(inside) == 5:
            all_here.set()
        return all_here.wait(LIMIT)

    answers = ask(dispatcher(meet), [request("meet")] * 5)

    assert [answer["result"] for answer in answers] == [True] * 5


def test_serial_items_do_not_overlap() -> None:
    log = []

    def work(number: int) -> None:
        log.append(("begins", number))
        gevent.sleep(0.001)
        log.append(("ends", number))

    ask(dispatcher(work, batch_mode="serial"), [request("work", [n]) for n in range(4)])

    assert log == [(what, n) for n in range(4) for what in ("begins", "ends")]


def test_a_batch_larger_than_the_bound_stays_within_it_and_ends() -> None:
    now, most = 0, 0

    def work() -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        gevent.sleep(0.001)
        now -= 1

    for bound in (1, 3):
        most = 0
        offered = dispatcher(work, max_parallel_blocking_tasks=bound)
        answers = ask(offered, [request("work")] * 50)
        assert all("result" in answer for answer in answers)
        assert most == bound
        assert (offered.slots.in_use, offered.slots.waiting) == (0, 0)


def test_many_batches_at_once_do_not_lock_each_other_out() -> None:
    def work() -> None:
        gevent.sleep(0.0005)

    offered = dispatcher(work, max_parallel_blocking_tasks=2, max_waiting_calls=1000)
    batches = [gevent.spawn(ask, offered, [request("work")] * 20) for _ in range(10)]
    gevent.joinall(batches, timeout=LIMIT, raise_error=True)

    assert all("result" in answer for batch in batches for answer in batch.value)


def test_an_item_without_a_place_has_its_own_error_and_the_batch_is_fine() -> None:
    inside, leave = Event(), Event()

    def hold() -> str:
        inside.set()
        leave.wait(LIMIT)
        return "held"

    offered = dispatcher(hold, echo, max_parallel_blocking_tasks=1, max_waiting_calls=0)
    context = CallContext()
    batch = gevent.spawn(ask, offered, [request("hold", id=0), request("echo", [1], 1)], context)
    assert inside.wait(LIMIT)
    gevent.sleep(0)
    leave.set()
    answers = batch.get(timeout=LIMIT)

    assert answers[0]["result"] == "held"
    assert answers[1]["error"] == {"code": -32000, "message": "Server overloaded"}
    assert context.retry_after is None


def test_each_item_has_its_own_deadline() -> None:
    def wait(seconds: float) -> str:
        Event().wait(seconds)
        return "waited"

    started = time.monotonic()
    offered = dispatcher(method(wait, timeout=0.05), echo)
    answers = ask(
        offered, [request("wait", [LIMIT]), request("echo", [1]), request("wait", [LIMIT])]
    )

    assert [a.get("error", {}).get("code") for a in answers] == [-32002, None, -32002]
    assert time.monotonic() - started < LIMIT / 2


def test_one_item_that_fails_does_not_touch_the_others() -> None:
    def divide(a: int, b: int) -> float:
        return a / b

    answers = ask(dispatcher(divide), [request("divide", [1, b], b) for b in (1, 0, 2)])

    assert [a.get("result") for a in answers] == [1.0, None, 0.5]
    assert answers[1]["error"]["code"] == -32603


def test_access_is_checked_item_by_item() -> None:
    offered = dispatcher(method(echo, name="secret", private=True), echo)
    answers = ask(offered, [request("secret", [1]), request("echo", [2])], CallContext(None))

    assert [a.get("error", {}).get("code") for a in answers] == [-32001, None]


@pytest.mark.parametrize("mode", MODES)
def test_the_limit_of_a_response_is_for_all_items_together(mode: str) -> None:
    offered = dispatcher(echo, max_response_size=1000, batch_mode=mode)
    answers = ask(offered, [request("echo", ["x" * 300], n) for n in range(10)])

    codes = [answer.get("error", {}).get("code") for answer in answers]
    assert codes[:2] == [None, None]
    assert codes[3:] == [-32004] * 7
    assert ids(answers) == list(range(10))


def test_the_budget_starts_anew_with_each_body() -> None:
    offered = dispatcher(echo, max_response_size=1000)

    for _ in range(3):
        assert call(offered, "echo", "x" * 900) == "x" * 900


@pytest.mark.parametrize("mode", MODES)
def test_a_batch_inside_a_call_ends_even_at_the_bound(mode: str) -> None:
    """A method that sends its own service a batch, with one place: refused, not stuck."""
    services: list[Any] = []

    def outer() -> list[Any]:
        answers = ask(services[0], [request("echo", [n], n) for n in range(3)])
        return [answer["error"]["code"] for answer in answers]

    services.append(
        dispatcher(
            method(outer, timeout=LIMIT),
            echo,
            max_parallel_blocking_tasks=1,
            max_wait_seconds=0.02,
            batch_mode=mode,
        )
    )
    assert call(services[0], "outer") == [-32000] * 3


def test_quick_items_do_not_need_a_greenlet_each() -> None:
    seen = set()

    def which() -> None:
        seen.add(id(gevent.getcurrent()))

    ask(dispatcher(which), [request("which")] * 100)

    assert len(seen) <= 2


def test_gemstone_replies_to_batches_are_lists_too() -> None:
    offered = dispatcher(echo, wire_format="gemstone")

    assert ask(offered, [request("echo", [1], ...)]) == []
    assert ask(offered, [request("echo", [1], 0), request("echo", [1], ...)]) == [
        {"result": 1, "error": None, "jsonrpc": "2.0", "id": 0}
    ]
