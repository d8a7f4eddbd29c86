"""Handlers of signals that wait.

Python calls a handler wherever the main thread is. In an idle program that is the hub, which must
not wait: there a handler is run in a greenlet of its own, and what it raises is raised in the main
greenlet, as it is in a program without greenlets.
"""

from __future__ import annotations

import contextlib
import signal
import types
from collections.abc import Callable
from typing import Any

import gevent.signal
from gevent import monkey
from gevent._hub_local import get_hub_if_exists

__all__ = ["mend"]


def mend() -> None:
    """Have handlers wait, also those that are set already; called after each patch."""
    if not monkey.is_module_patched("signal"):  # gunicorn's master
        return
    monkey.patch_item(signal, "signal", _signal)
    monkey.patch_item(signal, "getsignal", _getsignal)
    for number in signal.valid_signals():
        with contextlib.suppress(ValueError):  # not in the main thread
            handler = gevent.signal.getsignal(number)
            if _wrapped(number, handler) is not handler:
                gevent.signal.signal(number, _wrapped(number, handler))


class _Handler:
    def __init__(self, handler: Callable[[int, types.FrameType | None], Any]) -> None:
        self.handler = handler

    def __call__(self, number: int, frame: types.FrameType | None) -> None:
        hub = get_hub_if_exists()
        if hub is not None and hub is gevent.getcurrent():
            gevent.spawn(self._run, hub, number, frame)
        else:
            self.handler(number, frame)

    def _run(self, hub: Any, number: int, frame: types.FrameType | None) -> None:
        try:
            self.handler(number, frame)
        except BaseException as error:
            hub.loop.run_callback(hub.parent.throw, error)


def _wrapped(number: int, handler: Any) -> Any:
    if (
        not callable(handler)
        or handler is signal.default_int_handler
        or type(handler) is _Handler
        or number == signal.SIGCHLD  # gevent's own way
    ):
        return handler
    return _Handler(handler)


def _signal(signalnum: int, handler: Any) -> Any:
    """As `signal.signal`."""
    return _bare(gevent.signal.signal(signalnum, _wrapped(signalnum, handler)))


def _getsignal(signalnum: int) -> Any:
    """As `signal.getsignal`."""
    return _bare(gevent.signal.getsignal(signalnum))


def _bare(handler: Any) -> Any:
    return handler.handler if type(handler) is _Handler else handler
