"""asyncio in a patched process: a loop for each greenlet that wants one.

asyncio keeps one running loop for each native thread, and all calls are greenlets of one. A loop
waits in the hub, so it is here taken away whenever its greenlet waits, and given back when it goes
on: other greenlets can run loops of their own meanwhile.
"""

from __future__ import annotations

import contextvars
import functools
import importlib
import sys
import threading
import types
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import gevent
import greenlet
from gevent import monkey

__all__ = ["mend", "run_async"]

T = TypeVar("T")


def run_async(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end from blocking code, and give what it returns or raises.

    In any number of calls at once, and where a loop runs already: in a notebook, or in what a
    coroutine has called. At the deadline of a call the coroutine is cancelled, as `asyncio.run`
    does it.

    >>> async def answer():
    ...     return 42
    >>> run_async(answer())
    42
    """
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    return _run_beside(coroutine)


def _run_beside(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run it in a loop of another thread (in a patched process: a greenlet), and wait here."""
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

    cancel: Callable[[], object] = lambda: None  # noqa: E731

    async def cancellable() -> T:
        nonlocal cancel
        task: Any = asyncio.current_task()
        cancel = functools.partial(task.get_loop().call_soon_threadsafe, task.cancel)
        return await coroutine

    context = contextvars.copy_context()
    with ThreadPoolExecutor(1) as thread:
        future = thread.submit(context.run, asyncio.run, cancellable())
        try:
            return future.result()
        finally:
            if not future.done():  # interrupted
                cancel()


def mend(module: types.ModuleType) -> None:
    """Mend one of the modules below, which has just been imported."""
    if module.__name__ == "asyncio.events":
        _mend_events(module)
    elif module.__name__ == "asyncio.unix_events":
        # By the time that asyncio asks for a descriptor of a process it may be gone: gevent takes
        # the end of each. So it waits by os.waitpid.
        monkey.patch_item(module, "can_use_pidfd", lambda: False)
    elif module.__name__ == "uvloop":
        _mend_uvloop(module)
    elif module.__name__ == "uvicorn.loops.auto":
        # It would choose uvloop, of two that do the same.
        monkey.patch_item(module, "auto_loop_factory", _asyncio_loop)
    elif module.__name__ == "trio":
        monkey.patch_item(module, "run", _refuse_trio)


def _mend_events(module: types.ModuleType) -> None:
    """Give each greenlet its own running loop."""
    loops = _Loops(module)
    monkey.patch_item(module, "_set_running_loop", loops.set_running)
    package = sys.modules.get("asyncio")
    if hasattr(package, "_set_running_loop"):
        monkey.patch_item(package, "_set_running_loop", loops.set_running)


def _mend_uvloop(module: Any) -> None:
    """Refuse loops that would stop every greenlet: all but those of native threads."""
    init = module.Loop.__init__

    def begin(self: Any, *args: Any, **more: Any) -> None:
        in_main_thread = threading.get_native_id() == threading.main_thread().native_id
        if in_main_thread or isinstance(greenlet.getcurrent(), gevent.Greenlet):
            raise RuntimeError(
                "uvloop waits in C, where every other call of this process waits too: use "
                "asyncio's own loop (uvicorn --loop asyncio), or "
                "self.get_executor().submit(uvloop.run, coroutine).result()"
            )
        init(self, *args, **more)

    module.Loop.__init__ = begin


def _asyncio_loop(*args: Any, **more: Any) -> Any:
    """Make a loop as uvicorn does under ``--loop asyncio``."""
    return importlib.import_module("uvicorn.loops.asyncio").asyncio_loop_factory(*args, **more)


def _refuse_trio(*args: Any, **more: Any) -> None:
    raise RuntimeError(
        "trio does not run in a process that gevent has patched: run it in a process of its own, "
        "or use asyncio (with anyio: backend='asyncio')"
    )


class _Loops:
    """The loops of the greenlets that have one."""

    def __init__(self, events: Any) -> None:
        self._get: Callable[[], Any] = events._get_running_loop
        self._set: Callable[[Any], None] = events._set_running_loop
        #: Each native thread has its own switches.
        self._threads = monkey.get_original("threading", "local")()

    def set_running(self, loop: Any) -> None:
        """Set the running loop in place of asyncio, at every switch of greenlets."""
        self._set(loop)
        running = vars(self._threads).setdefault("running", set())
        if loop is None:
            running.discard(greenlet.getcurrent())
            if not running and hasattr(self._threads, "before"):
                greenlet.settrace(self._threads.before)
                del self._threads.before
            return
        running.add(greenlet.getcurrent())
        if not hasattr(self._threads, "before"):
            self._threads.before = greenlet.gettrace()
            greenlet.settrace(self._switching(self._threads.before))

    def _switching(self, before: Callable[..., None] | None) -> Callable[..., None]:
        """Make what greenlet calls after each switch, in the greenlet that was switched to."""
        waiting: dict[Any, tuple[Any, Any]] = {}

        def switched(event: str, greenlets: tuple[Any, Any]) -> None:
            origin, target = greenlets
            loop = self._get()
            if loop is not None:
                waiting[origin] = loop, sys.get_asyncgen_hooks()
                self._set(None)
                sys.set_asyncgen_hooks(None, None)
            if target in waiting:
                loop, hooks = waiting.pop(target)
                self._set(loop)
                sys.set_asyncgen_hooks(*hooks)
            if before is not None:
                before(event, greenlets)

        return switched
