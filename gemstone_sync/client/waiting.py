"""Waiting for several asynchronous calls. Nothing here polls."""

from __future__ import annotations

import concurrent.futures
import contextvars
import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from .structs import AsyncMethodCall

__all__ = ["as_completed", "first_completed", "make_callbacks"]

_EXAMPLE = "client.methods.say_hello.async_()"

_logger = logging.getLogger("gemstone_sync.client")


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
    """The asynchronous call that finishes first; the others go on, and nobody waits for them.

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
