"""Batches: in parallel with their order kept, within the same bound as everything else."""

import time

import gevent
import pytest
from gevent.event import Event

from gemstone_sync.dispatch import CallContext
from tests.support.waiting import LIMIT

from .support import ask, call, dispatcher, method, request

IN_BOTH_MODES = pytest.mark.parametrize("mode", ["parallel", "serial"])


def echo(value):
    return value


def ids(answers):
    return [answer["id"] for answer in answers]


def codes(answers):
    """The codes of errors, None for a result."""
    return [answer.get("error", {}).get("code") for answer in answers]


@IN_BOTH_MODES
def test_answers_come_in_the_order_of_the_requests(mode):
    nap = method(lambda seconds: gevent.sleep(seconds) or seconds, name="nap")
    delays = [0.03, 0, 0.02, 0.01, 0]
    batch = [request("nap", [delay], number) for number, delay in enumerate(delays)]
    answers = ask(dispatcher(nap, batch_mode=mode), batch)

    assert ids(answers) == [0, 1, 2, 3, 4]
    assert [answer["result"] for answer in answers] == delays


@IN_BOTH_MODES
def test_notifications_run_and_are_left_out(mode):
    ran = []
    offered = dispatcher(method(lambda value: ran.append(value), name="note"), batch_mode=mode)
    answers = ask(offered, [request("note", [n], ... if n % 2 else n) for n in range(5)])

    assert ids(answers) == [0, 2, 4]
    assert sorted(ran) == [0, 1, 2, 3, 4]
    assert ask(offered, [request("note", [1], ...)] * 3) is None


def test_what_is_no_request_is_answered_in_its_place():
    one = request("echo", [1], "a")
    answers = ask(dispatcher(echo), [one, 1, {"id": 7}, request("x", id="b"), one])

    assert ids(answers) == ["a", None, 7, "b", "a"]  # an id twice is the caller's business
    assert codes(answers) == [None, -32600, -32600, -32601, None]


def test_a_batch_over_its_cap_executes_nothing():
    ran = []
    offered = dispatcher(method(lambda: ran.append(1), name="run"), max_batch_size=3)

    answer = ask(offered, [request("run")] * 4)
    assert (answer["id"], answer["error"]["code"]) == (None, -32600)
    assert not ran
    assert len(ask(offered, [request("run")] * 3)) == 3


@pytest.mark.parametrize(
    ("mode", "bound", "at_once"),
    [("parallel", 100, 50), ("parallel", 3, 3), ("parallel", 1, 1), ("serial", 100, 1)],
)
def test_so_many_items_run_at_once_and_all_end(mode, bound, at_once):
    """The first ones wait until so many are there: with fewer at once they would wait for ever."""
    now, most, all_here = 0, 0, Event()

    def work():
        nonlocal now, most
        now += 1
        most = max(most, now)
        if now == at_once:
            all_here.set()
        assert all_here.wait(LIMIT)
        gevent.sleep(0.001)
        now -= 1

    offered = dispatcher(work, max_parallel_blocking_tasks=bound, batch_mode=mode)

    assert codes(ask(offered, [request("work")] * 50)) == [None] * 50
    assert most == at_once
    assert (offered.slots.in_use, offered.slots.waiting) == (0, 0)


def test_many_batches_at_once_do_not_lock_each_other_out():
    work = method(lambda: gevent.sleep(0.0005), name="work")
    offered = dispatcher(work, max_parallel_blocking_tasks=2, max_waiting_calls=1000)
    batches = [gevent.spawn(ask, offered, [request("work")] * 20) for _ in range(10)]
    gevent.joinall(batches, timeout=LIMIT, raise_error=True)

    assert all("result" in answer for batch in batches for answer in batch.value)


def test_an_item_without_a_place_has_its_own_error_and_the_batch_is_fine():
    inside, leave = Event(), Event()

    def hold():
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
    assert context.status is None


def test_each_item_has_its_own_deadline_and_its_own_failure():
    offered = dispatcher(
        method(lambda: Event().wait(LIMIT), name="wait", timeout=0.05),
        method(lambda by: 1 / by, name="divide"),
        method(echo, name="secret", private=True),
    )
    names = [("wait", []), ("divide", [2]), ("divide", [0]), ("secret", [1]), ("wait", [])]
    answers = ask(offered, [request(name, params) for name, params in names])

    assert codes(answers) == [-32002, None, -32603, -32001, -32002]
    assert answers[1]["result"] == 0.5


@IN_BOTH_MODES
def test_the_limit_of_a_response_is_for_all_items_together(mode):
    offered = dispatcher(echo, max_response_size=1000, batch_mode=mode)
    answers = ask(offered, [request("echo", ["x" * 300], n) for n in range(10)])

    assert codes(answers)[:2] == [None, None]
    assert codes(answers)[3:] == [-32004] * 7
    assert ids(answers) == list(range(10))


@IN_BOTH_MODES
def test_a_batch_inside_a_call_ends_even_at_the_bound(mode):
    """A method that sends its own service a batch, with one place: refused, not stuck."""
    services = []

    def outer():
        return codes(ask(services[0], [request("echo", [n], n) for n in range(3)]))

    limits = {"max_parallel_blocking_tasks": 1, "max_wait_seconds": 0.02, "batch_mode": mode}
    services.append(dispatcher(method(outer, timeout=LIMIT), echo, **limits))
    assert call(services[0], "outer") == [-32000] * 3


def test_quick_items_do_not_need_a_greenlet_each():
    seen = set()
    which = method(lambda: seen.add(id(gevent.getcurrent())), name="which")

    ask(dispatcher(which), [request("which")] * 100)

    assert len(seen) <= 2


def test_gemstone_replies_to_batches_are_lists_too():
    offered = dispatcher(echo, wire_format="gemstone")

    assert ask(offered, [request("echo", [1], ...)]) == []
    (answer,) = ask(offered, [request("echo", [1], 0), request("echo", [1], ...)])
    assert answer == {"result": 1, "error": None, "jsonrpc": "2.0", "id": 0}


@IN_BOTH_MODES
def test_others_get_their_turn_between_items_that_compute(mode):
    turns = []

    def compute():
        turns.append("item")
        until = time.monotonic() + 0.006
        while time.monotonic() < until:
            pass

    def take_turns():
        while True:
            turns.append("other")
            gevent.sleep(0)

    others = gevent.spawn(take_turns)
    ask(dispatcher(compute, batch_mode=mode), [request("compute")] * 20)
    others.kill()

    assert turns.count("item") == 20
    assert "item item item" not in " ".join(turns)


def test_large_bodies_are_read_one_at_a_time_and_small_ones_in_between():
    ended = []
    offered = dispatcher(echo)

    def run(name, size):
        ask(offered, request("echo", [[[]] * size]))
        ended.append(name)

    calls = [gevent.spawn(run, "large", 50_000) for _ in range(3)]
    calls.append(gevent.spawn(run, "small", 1))
    gevent.joinall(calls, timeout=LIMIT, raise_error=True)
    assert sorted(ended) == ["large"] * 3 + ["small"]
    assert ended.index("small") <= 1
