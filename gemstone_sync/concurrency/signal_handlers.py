"""Handlers of signals that wait, and waiting for signals.

Python calls a handler wherever the main thread is. In an idle program that is the hub, which must
not wait: there a handler is run in a greenlet of its own, and what it raises is raised in the main
greenlet, as it is in a program without greenlets. A call may set none, as no thread may: what a
time limit by SIGALRM raises would end the service, or another call.
"""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
import types
from collections.abc import Callable
from typing import Any

import gevent.signal
from gevent import monkey
from gevent._hub_local import get_hub_if_exists
from gevent.event import Event

from .calls import current_call
from .waiting import can_switch, pause

__all__ = ["mend"]

#: Seconds between two looks for a signal, which double.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.0005, 0.05

#: Set when a handler has run.
_handled = Event()

_native_pause = signal.pause
_native_sigtimedwait: Any = getattr(signal, "sigtimedwait", None)  # not on macOS
_native_sigwaitinfo: Any = getattr(signal, "sigwaitinfo", None)


def mend() -> None:
    """Have handlers wait, also those that are set already; called after each patch."""
    if not monkey.is_module_patched("signal"):  # gunicorn's master
        return
    monkey.patch_item(signal, "signal", _signal)
    monkey.patch_item(signal, "getsignal", _getsignal)
    monkey.patch_item(signal, "pause", _pause)
    if _native_sigtimedwait is not None:
        monkey.patch_item(signal, "sigtimedwait", _sigtimedwait)
        monkey.patch_item(signal, "sigwaitinfo", _sigtimedwait)
        monkey.patch_item(signal, "sigwait", _sigwait)
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
            token = current_call.set(None)  # it may be in the middle of one, and is no part of it
            try:
                self.handler(number, frame)
            finally:
                current_call.reset(token)
                _handled.set()

    def _run(self, hub: Any, number: int, frame: types.FrameType | None) -> None:
        try:
            self.handler(number, frame)
        except BaseException as error:
            hub.loop.run_callback(hub.parent.throw, error)
        _handled.set()


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
    """Set a handler as `signal.signal` does.

    :raises ValueError: in a call, which is in a thread of its own.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    if current_call.get() is not None and not in_main_thread:
        raise ValueError(
            "signal only works in main thread of the main interpreter, and no call is in it; what "
            "limits its time is exposed_method(timeout=…) or gevent.Timeout"
        )
    return _bare(gevent.signal.signal(signalnum, _wrapped(signalnum, handler)))


def _getsignal(signalnum: int) -> Any:
    """Return the handler as `signal.getsignal` does."""
    return _bare(gevent.signal.getsignal(signalnum))


def _bare(handler: Any) -> Any:
    return handler.handler if type(handler) is _Handler else handler


# Waiting


def _pause() -> None:
    """Wait until a handler has run, as `signal.pause` does."""
    if not can_switch():
        _native_pause()
        return
    _handled.clear()
    while not _handled.wait(3600):  # a time, for a loop that has nothing else to wait for
        pass


def _sigtimedwait(sigset: Any, timeout: float | None = None) -> Any:
    """Wait for a blocked signal as `signal.sigtimedwait` does, or `signal.sigwaitinfo`."""
    if not can_switch():
        if timeout is None:
            return _native_sigwaitinfo(sigset)
        return _native_sigtimedwait(sigset, timeout)
    end = math.inf if timeout is None else time.monotonic() + timeout
    seconds = _FIRST_PAUSE
    while (found := _native_sigtimedwait(sigset, 0)) is None and time.monotonic() < end:
        pause(min(seconds, max(0.0, end - time.monotonic())))
        seconds = min(2 * seconds, _LONGEST_PAUSE)
    return found


def _sigwait(sigset: Any) -> int:
    """Wait for a blocked signal as `signal.sigwait` does."""
    number: int = _sigtimedwait(sigset).si_signo
    with contextlib.suppress(ValueError):  # one that has no name
        return signal.Signals(number)
    return number
