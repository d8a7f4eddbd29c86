"""Coroutines in blocking code: `run_async`, asyncio's own ways, several calls at once."""

import asyncio
import contextvars
import inspect
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import gevent
import greenlet
import pytest

import gemstone_sync
from gemstone_sync import run_async

from ..support.waiting import LIMIT, gather, wait_until

Run = Callable[[Coroutine[Any, Any, Any]], Any]


def _run_until_complete(coroutine: Coroutine[Any, Any, Any]) -> Any:
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(coroutine)
    finally:
        loop.close()


def _runner(coroutine: Coroutine[Any, Any, Any]) -> Any:
    with asyncio.Runner() as runner:  # type: ignore[attr-defined,unused-ignore]  # Python 3.11
        return runner.run(coroutine)


def _inside_another(coroutine: Coroutine[Any, Any, Any]) -> Any:
    async def outer() -> Any:
        return run_async(coroutine)

    return run_async(outer())


WAYS: list[Run] = [run_async, asyncio.run, _run_until_complete, _inside_another]
if sys.version_info >= (3, 11):
    WAYS.append(_runner)


@pytest.fixture(params=WAYS, ids=lambda way: way.__name__.strip("_"))
def run(request: pytest.FixtureRequest) -> Run:
    return request.param  # type: ignore[no-any-return]


def _no_loop_is_seen() -> bool:
    return asyncio._get_running_loop() is None


def test_several_at_once(run: Run) -> None:
    """Each ends only once all have begun, and has its own loop, task and generators throughout."""
    begun: list[int] = []

    async def numbers() -> AsyncIterator[int]:
        for number in range(3):
            await asyncio.sleep(0.001)
            yield number

    async def wait(number: int) -> Any:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        begun.append(number)
        while len(begun) < 5:
            await asyncio.sleep(0.001)
        time.sleep(0.001)  # blocks, so that other greenlets run, with loops of their own
        future: asyncio.Future[int] = asyncio.Future()
        loop.call_later(0.001, future.set_result, number)
        found = [one async for one in numbers()]
        gathered = await asyncio.gather(*(asyncio.sleep(0.001, n) for n in range(3)))
        same = asyncio.get_running_loop() is loop and asyncio.current_task() is task
        return await future, found, gathered, same

    answers = gather([lambda n=n: run(wait(n)) for n in range(5)])  # type: ignore[misc]
    assert answers == [(n, [0, 1, 2], [0, 1, 2], True) for n in range(5)]
    assert _no_loop_is_seen()
    assert greenlet.gettrace() is None


def test_greenlets_see_no_loop_of_others(run: Run) -> None:
    seen = []

    async def wait() -> None:
        seen.append(await asyncio.to_thread(_no_loop_is_seen))
        while len(seen) < 5:
            await asyncio.sleep(0.005)
        while len(seen) < 10:
            time.sleep(0.005)

    waiting = gevent.spawn(run, wait())
    while not waiting.ready():
        seen.append(_no_loop_is_seen())
        gevent.sleep(0.005)
    waiting.get()
    assert all(seen)


def test_what_it_raises(run: Run) -> None:
    async def fail() -> None:
        await asyncio.sleep(0)
        raise KeyError("x")

    with pytest.raises(KeyError, match="x"):
        run(fail())


def test_context_goes_in(run: Run) -> None:
    variable = contextvars.ContextVar[str]("variable")
    variable.set("here")

    async def get() -> str:
        return variable.get()

    assert run(get()) == "here"


def test_the_deadline_of_a_call_cancels_it(make_client: Callable[..., Any], run: Run) -> None:
    begun: list[Any] = []
    ended: list[Any] = []

    def method(self: Any) -> None:
        run(wait())

    async def wait() -> None:
        begun.append(asyncio.current_task())
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.001)
            ended.append(asyncio.current_task())

    if run is _run_until_complete:
        pytest.skip("whoever drives a loop cancels its tasks")

    def has_begun() -> Any:
        with pytest.raises(gemstone_sync.DeadlineExceeded):
            make_client(method, default_timeout=0.3).call("method")
        return begun

    # Where the machine stands still the time may be over before.
    wait_until(has_begun, "a coroutine that began within the time")
    assert ended == begun


def test_sockets_and_names(run: Run) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()

    async def talk() -> bytes:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("localhost", port)
        writer.write(b"hello\n")
        line = await reader.readline()
        writer.close()
        server.close()
        return line

    assert gather([lambda: run(talk())] * 3) == [b"hello\n"] * 3


def test_what_a_thread_has_done_is_told_at_once_by_newer_pythons_too(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """gevent's issue 2213: from CPython 3.13.12 and 3.14.3 on, futures ask which loop runs here.

    In a greenlet that a patched process takes for a thread, that must not be the waiting loop.
    """
    text = inspect.getsource(asyncio.futures._chain_future)  # type: ignore[attr-defined]
    asked = text.replace("dest_loop is source_loop:", "dest_loop is events._get_running_loop():")
    assert "dest_loop is events._get_running_loop():" in asked
    exec(asked, vars(asyncio.futures), made := {})
    monkeypatch.setattr(asyncio.futures, "_chain_future", made["_chain_future"])

    async def main() -> str:
        thread = asyncio.to_thread(lambda: time.sleep(0.01) or "done")
        return await asyncio.wait_for(thread, LIMIT)

    before = time.monotonic()
    assert run(main()) == "done"
    assert time.monotonic() - before < LIMIT / 2  # not when the time is over


def test_in_native_threads(make_client: Callable[..., Any], run: Run) -> None:
    async def answer() -> str:
        await asyncio.sleep(0.001)
        return "answer"

    with gevent.threadpool.ThreadPoolExecutor(3) as threads:
        jobs = [threads.submit(lambda: run(answer())) for _ in range(5)]
        assert [job.result() for job in jobs] == ["answer"] * 5


PLAIN = """
import asyncio, sys
import gemstone_sync

async def answer():
    await asyncio.sleep(0.001)
    return 42

async def notebook():
    return gemstone_sync.run_async(answer())

print(gemstone_sync.run_async(answer()), asyncio.run(notebook()))
from gevent import monkey
print(monkey.is_module_patched("socket"))
"""


def test_in_a_plain_program_it_patches_nothing(run_python: Callable[..., Any]) -> None:
    ended = run_python(PLAIN)
    assert (ended.stdout, ended.stderr) == ("42 42\nFalse\n", "")


def test_a_thread_that_runs_a_loop_for_ever(run: Run) -> None:
    """An SDK's loop in a thread does the work that is handed to it."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def answer() -> str:
        await asyncio.sleep(0.001)
        return "answer"

    handed = [asyncio.run_coroutine_threadsafe(answer(), loop) for _ in range(3)]
    assert run(answer()) == "answer"
    assert [one.result(timeout=20) for one in handed] == ["answer"] * 3
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
