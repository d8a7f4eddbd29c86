"""The end of services under servers that know nothing of them.

What ends as a program does runs `atexit`. SIGTERM ends a process at once where nobody handles it,
and uvicorn lets it do so when it has shut down: the services are stopped before.
"""

from __future__ import annotations

import atexit
import contextlib
import contextvars
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import gevent

from ..concurrency import is_patched

__all__ = ["stop_at_the_end"]

#: Stop the services that another server serves here.
_stops: list[Callable[[], None]] = []


def stop_at_the_end(stop: Callable[[], None]) -> None:
    """Have a service stopped when the process ends; SIGTERM is left to who handles it."""
    atexit.register(stop)
    _stops.append(stop)
    handler = signal.getsignal(signal.SIGTERM)
    server: Any = getattr(handler, "__self__", None)
    if type(server).__module__ == "uvicorn.server" and len(_stops) == 1:
        shut_down = server.shutdown

        async def shutdown(*args: Any, **more: Any) -> None:
            await shut_down(*args, **more)
            _stop_all()

        server.shutdown = shutdown
    # Not in a process without a hub that runs, nor below uWSGI, which handles it in C.
    elif handler is signal.SIG_DFL and is_patched() and "uwsgi" not in sys.modules:
        with contextlib.suppress(ValueError):  # in a native thread
            signal.signal(signal.SIGTERM, _Handler())


def _stop_all() -> None:
    # Beside the call that runs just now, if one does, and waits for nothing of ours.
    gevent.joinall([contextvars.Context().run(gevent.spawn, stop) for stop in _stops])


class _Handler:
    """Handles SIGTERM; not in children, which are forked with it."""

    def __init__(self) -> None:
        self._mask: set[int | signal.Signals] = set()
        # Python forgets in a child what has come by then.
        os.register_at_fork(
            before=self._hold, after_in_parent=self._release, after_in_child=self._leave
        )

    def __call__(self, number: int, frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)  # one more ends it at once

        def end() -> None:
            _stop_all()
            os.kill(os.getpid(), number)

        gevent.spawn(end)

    def _hold(self) -> None:
        self._mask = {*signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})}

    def _release(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)

    def _leave(self) -> None:
        if signal.getsignal(signal.SIGTERM) is self:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self._release()
