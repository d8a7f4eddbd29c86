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
        #: By process and by whether it is patched: the threads of another kind are of no use here.
        self._executors: dict[tuple[int, bool], concurrent.futures.ThreadPoolExecutor] = {}

    def submit(self, function: Callable[[], T]) -> concurrent.futures.Future[T]:
        """Run `function` with the caller's context: its deadline, request id and trace."""
        here = (os.getpid(), is_patched())
        executor = self._executors.get(here)
        if executor is None:
            made = concurrent.futures.ThreadPoolExecutor(self._limit, "gemstone_sync-call")
            # One step, so that two threads do not get one each. Unused, the other has no thread.
            executor = self._executors.setdefault(here, made)
        return executor.submit(contextvars.copy_context().run, function)

    def close(self) -> None:
        """Let what runs or waits finish, and the threads end."""
        executor = self._executors.pop((os.getpid(), is_patched()), None)
        if executor is not None:
            executor.shutdown(wait=False)
