"""Calls in the background: what runs them, and waiting for several. Nothing here polls.

They run in real threads in a plain program, in greenlets in a patched one.
"""

from __future__ import annotations

import concurrent.futures
import contextvars
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from ..concurrency import is_patched
from .structs import AsyncMethodCall

__all__ = ["BackgroundCalls", "as_completed", "first_completed", "make_callbacks"]

T = TypeVar("T")

_EXAMPLE = "client.methods.say_hello.async_()"

_logger = logging.getLogger("gemstone_sync.client")


class BackgroundCalls:
    """Runs calls in an executor, which is made anew in a forked child and after patching.

    :param limit: calls that run at once; the others wait for their turn.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        #: By process and by whether it is patched: the threads of another kind are of no use here.
        self._executors: dict[tuple[int, bool], concurrent.futures.ThreadPoolExecutor] = {}

    def submit(self, function: Callable[[], T]) -> concurrent.futures.Future[T]:
        """Run `function` with the caller's context: its deadline, request id and trace."""
        here = (os.getpid(), is_patched())
        while True:
            executor = self._executors.get(here)
            if executor is None:
                made = concurrent.futures.ThreadPoolExecutor(self._limit, "gemstone_sync-call")
                # One step: two threads do not get one each. The other, unused, has no thread.
                executor = self._executors.setdefault(here, made)
            try:
                return executor.submit(contextvars.copy_context().run, function)
            except RuntimeError:
                if self._executors.get(here) is executor:
                    raise  # the process ends; else another thread has closed it meanwhile

    def close(self) -> None:
        """Let what runs or waits finish, and the threads end."""
        executor = self._executors.pop((os.getpid(), is_patched()), None)
        if executor is not None:
            executor.shutdown(wait=False)


def as_completed(
    *async_result_wrappers: AsyncMethodCall, timeout: float | None = None
) -> Iterator[AsyncMethodCall]:
    """Yield asynchronous calls as they finish, the first to finish first.

    :param timeout: seconds for all of them.
    :raises TimeoutError: when they are over.

    ::

        calls = [service.call_method_async("do_stuff", (x,)) for x in range(25)]
        for call in gemstone.as_completed(*calls):
            print("just finished with result", call.result())
    """
    by_future: dict[Any, list[AsyncMethodCall]] = {}
    for handle in async_result_wrappers:
        if not isinstance(handle, AsyncMethodCall):
            raise TypeError(f"asynchronous calls are wanted, such as {_EXAMPLE}, not {handle!r}")
        by_future.setdefault(handle.future, []).append(handle)
    try:
        for future in concurrent.futures.as_completed(by_future, timeout):
            yield from by_future.pop(future)
    except concurrent.futures.TimeoutError as error:  # another class before Python 3.11
        raise TimeoutError(str(error)) from None


def first_completed(
    *async_result_wrappers: AsyncMethodCall, timeout: float | None = None
) -> AsyncMethodCall:
    """Return the asynchronous call that finishes first. Nobody waits for the others, which go on.

    :param timeout: seconds to wait.
    :raises TimeoutError: when they are over.
    :raises ValueError: when there is no call.
    """
    for handle in as_completed(*async_result_wrappers, timeout=timeout):
        return handle
    raise ValueError("there is no call to wait for")


def make_callbacks(
    async_result_wrappers: Iterable[AsyncMethodCall],
    on_result: Callable[[Any], object],
    on_error: Callable[[Any], object],
    run_in_threads: bool = False,
) -> None:
    """Hand each call's outcome to a callback as soon as it is there.

    :param on_result: gets the value of a call that succeeded.
    :param on_error: gets the exception of a call that failed.
    :param run_in_threads: call the callbacks in background threads (greenlets, in a patched
        process), with the context of this call, and return at once; what they raise is logged.
        Otherwise they are called here, one after another, and this returns when the last call has
        finished.
    """
    handles = list(async_result_wrappers)
    if not handles:
        return
    if run_in_threads:
        arguments = (_call_in_threads, handles, on_result, on_error)
        run = contextvars.copy_context().run
        threading.Thread(target=run, args=arguments, name="gemstone_sync-callbacks").start()
        return
    for handle in as_completed(*handles):
        _hand_over(handle, on_result, on_error)


def _call_in_threads(
    handles: list[AsyncMethodCall],
    on_result: Callable[[Any], object],
    on_error: Callable[[BaseException], object],
) -> None:
    def hand_over(handle: AsyncMethodCall) -> None:
        try:
            _hand_over(handle, on_result, on_error)
        except Exception:
            _logger.exception("a callback of %r failed", handle)

    with concurrent.futures.ThreadPoolExecutor(min(32, len(handles))) as executor:
        for handle in as_completed(*handles):
            executor.submit(contextvars.copy_context().run, hand_over, handle)


def _hand_over(
    handle: AsyncMethodCall,
    on_result: Callable[[Any], object],
    on_error: Callable[[BaseException], object],
) -> None:
    error = handle.error()
    if error is not None:
        on_error(error)
    else:
        on_result(handle.result())
