"""as_completed, first_completed and make_callbacks: what they promise beyond the document.

The document's own examples are in test_document.py. The futures here are made by the tests, so
that they can finish in any order at any moment; those of real calls are the same.
"""

import concurrent.futures
import contextvars
import threading
import time
from collections.abc import Callable
from typing import Any

import gevent
import pytest

import gemstone_sync
from gemstone_sync import (
    AsyncMethodCall,
    MethodCall,
    MethodNotFound,
    RemoteError,
    RemoteService,
    Result,
    as_completed,
    first_completed,
    make_callbacks,
)
from tests.support.waiting import LIMIT, wait_until

from .shop import Shop

#: Seconds that something is waited for while the CPU's time is measured.
WAIT = 0.2


def handle(name: str = "method") -> AsyncMethodCall:
    """One that nothing finishes by itself."""
    return AsyncMethodCall(MethodCall(name), concurrent.futures.Future())


def finish(call: AsyncMethodCall, value: Any = None) -> AsyncMethodCall:
    """Give it a result, or the exception of its call."""
    if isinstance(value, RemoteError):
        call.future.set_result(Result(None, value, call.request.id, call.request))
    elif isinstance(value, Exception):
        call.future.set_exception(value)
    else:
        call.future.set_result(Result(value, None, call.request.id, call.request))
    return call


SERVICE = Shop


def test_waiting_uses_no_cpu_and_lets_others_run(service: Shop, client: RemoteService) -> None:
    called: list[str] = []
    waits: list[Callable[[AsyncMethodCall], Any]] = [
        lambda call: call.result(wait=True),
        lambda call: call.wait(LIMIT) and call.result(),
        lambda call: next(as_completed(call)).result(),
        lambda call: first_completed(call).result(),
        lambda call: make_callbacks([call], called.append, pytest.fail) or called[0],
    ]
    calls = [client.methods.hold.async_() for _ in waits]
    wait_until(lambda: service.calls == ["hold"] * 5, "the calls")
    waiting = [gevent.spawn(wait, call) for wait, call in zip(waits, calls, strict=True)]
    # A loop that asks again and again uses all of it; this is twenty ticks and their timers.
    # Once the garbage collector may have its turn.
    assert sorted(cpu_share_of_ticks() for _ in range(3))[1] < 1 / 3
    assert not any(greenlet.ready() for greenlet in waiting)
    service.go_on.set()
    assert [greenlet.get(timeout=LIMIT) for greenlet in waiting] == ["held"] * 5


def cpu_share_of_ticks() -> float:
    """How much of the time this process computes while other greenlets run, 1.0 for all of it."""
    began, used = time.monotonic(), time.process_time()
    for _ in range(20):
        gevent.sleep(WAIT / 20)
    return (time.process_time() - used) / (time.monotonic() - began)


def test_those_that_finished_or_failed_before_come_at_once() -> None:
    outcomes = (1, MethodNotFound("no"), OSError("no"), RemoteError("no"))
    calls = [finish(handle(), outcome) for outcome in outcomes]
    open_call = handle()

    seen = as_completed(open_call, *calls, calls[0])  # the same one twice

    first = [next(seen) for _ in range(5)]
    assert set(first) == set(calls)
    assert first.count(calls[0]) == 2
    finish(open_call, 3)
    assert [call.result() for call in seen] == [3]


def test_nothing_to_wait_for() -> None:
    assert list(as_completed()) == []
    with pytest.raises(ValueError, match="no call"):
        first_completed()
    for in_threads in (False, True):
        make_callbacks([], pytest.fail, pytest.fail, run_in_threads=in_threads)


def test_a_timeout_is_for_all_of_them() -> None:
    done, open_call = finish(handle(), 1), handle()
    seen = as_completed(open_call, done, timeout=0.02)

    assert next(seen) is done
    with pytest.raises(TimeoutError):
        next(seen)
    with pytest.raises(TimeoutError):
        first_completed(open_call, timeout=0.02)
    assert first_completed(open_call, done, timeout=LIMIT) is done
    # The call goes on.
    finish(open_call, 2)
    assert first_completed(open_call).result() == 2


def test_an_error_of_the_service_and_a_fault_go_to_on_error() -> None:
    errors = [RemoteError("no"), MethodNotFound("no"), gemstone_sync.Timeout("late")]
    calls = [finish(handle(), error) for error in errors]
    cancelled = handle()
    cancelled.future.cancel()
    cancelled.future.set_running_or_notify_cancel()
    seen: list[BaseException] = []

    make_callbacks([*calls, cancelled], pytest.fail, seen.append)

    assert set(errors) <= set(seen)
    assert len(seen) == 4
    assert any(isinstance(error, concurrent.futures.CancelledError) for error in seen)


def test_a_callback_that_fails_here_is_the_callers_affair() -> None:
    def fail(value: Any) -> None:
        raise LookupError(value)

    with pytest.raises(LookupError):
        make_callbacks([finish(handle(), 1), handle()], fail, pytest.fail)


def test_a_callback_that_fails_in_a_thread_stops_no_other(caplog: pytest.LogCaptureFixture) -> None:
    calls = [finish(handle("shaky"), number) for number in range(5)]
    seen: list[int] = []

    def sometimes(value: int) -> None:
        if value % 2:
            raise LookupError(f"odd: {value}")
        seen.append(value)

    make_callbacks(iter(calls), sometimes, pytest.fail, run_in_threads=True)

    wait_until(lambda: len(seen) == 3 and caplog.text.count("LookupError: odd") == 2, "callbacks")
    assert sorted(seen) == [0, 2, 4]
    assert "a callback of <AsyncMethodCall 'shaky' finished> failed" in caplog.text


def test_a_slow_callback_does_not_keep_the_next_outcome() -> None:
    go_on = threading.Event()
    first, second = handle(), handle()
    seen: list[str] = []

    def slowly(value: str) -> None:
        if value == "first":
            assert go_on.wait(LIMIT)
        seen.append(value)

    make_callbacks([first, second], slowly, pytest.fail, run_in_threads=True)
    finish(first, "first")
    finish(second, "second")

    wait_until(lambda: seen == ["second"], "the second")
    go_on.set()
    wait_until(lambda: seen == ["second", "first"], "the first")


def test_callbacks_in_threads_keep_the_context_of_who_asked_and_end_with_their_threads() -> None:
    mark: contextvars.ContextVar[str] = contextvars.ContextVar("mark", default="none")
    before = set(threading.enumerate())
    calls = [finish(handle(), number) for number in range(50)]
    seen: list[str] = []

    def ask() -> None:
        mark.set("mine")
        make_callbacks(calls, lambda _: seen.append(mark.get()), pytest.fail, True)

    contextvars.copy_context().run(ask)
    wait_until(lambda: len(seen) == 50, "the callbacks")
    assert seen == ["mine"] * 50
    wait_until(lambda: not set(threading.enumerate()) - before, "the threads' end")
