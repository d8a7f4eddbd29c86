"""Calls in the background: real threads in a plain program, greenlets in a patched one."""

from __future__ import annotations

import concurrent.futures
import contextvars
import os
from collections.abc import Callable
from typing import TypeVar

from ..concurrency import is_patched

__all__ = ["BackgroundCalls"]

T = TypeVar("T")


class BackgroundCalls:
    """An executor that is made when first used, and again in a forked child or after patching.

    :param limit: calls that run at once; the others wait for their turn.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._executor: concurrent.futures.ThreadPoolExecutor | None = None
        self._made_in: tuple[int, bool] | None = None

    def submit(self, function: Callable[[], T]) -> concurrent.futures.Future[T]:
        """Run `function` with the caller's context: its deadline, request id and trace."""
        here = (os.getpid(), is_patched())
        if self._executor is None or self._made_in != here:
            made = concurrent.futures.ThreadPoolExecutor(self._limit, "gemstone_sync-call")
            self._executor, self._made_in = made, here
        return self._executor.submit(contextvars.copy_context().run, function)

    def close(self) -> None:
        """Let what runs or waits finish, and the threads end."""
        executor, self._executor = self._executor, None
        if executor is not None and self._made_in == (os.getpid(), is_patched()):
            executor.shutdown(wait=False)
