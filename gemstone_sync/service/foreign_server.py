"""The server that runs this process, where it is not ours: what services know of it.

A worker of gunicorn says when it ends. Other servers know nothing of services: those are stopped
when the process ends. What ends as a program does runs `atexit`. SIGTERM ends a process at once
where nobody handles it, and uvicorn lets it do so when it has shut down: the services are stopped
before.
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
from ..server import seconds_left

__all__ = [
    "enter_worker",
    "has_our_server",
    "is_ending",
    "seconds_to_end",
    "workers_address",
    "stop_at_exit",
]

#: gunicorn's, and where it listens.
_worker: Any = None
_workers_address: str | None = None

#: Stop the services that another server serves here.
_stops: list[Callable[[], None]] = []


# A worker of gunicorn


def enter_worker(worker: Any, addresses: list[Any]) -> None:
    """Remember the worker of gunicorn that this process is, and where it listens."""
    global _worker, _workers_address
    _worker, _workers_address = worker, str(addresses)


def workers_address() -> str | None:
    """Return what the workers of gunicorn that serve the same have in common; None elsewhere."""
    return _workers_address


def has_our_server() -> bool:
    """Tell whether the worker of gunicorn that this process is has our server in it."""
    return hasattr(type(_worker), "settings")


def is_ending() -> bool:
    """Tell whether gunicorn has told this worker to stop: its services hear of it last of all."""
    return _worker is not None and not _worker.alive


def seconds_to_end() -> float:
    """Return the seconds until gunicorn kills this worker: for ever, as long as nothing says so."""
    return seconds_left(_worker)


# The end of the process


def stop_at_exit(stop: Callable[[], None]) -> None:
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
            before=self._block_sigterm,
            after_in_parent=self._unblock_sigterm,
            after_in_child=self._reset_in_child,
        )

    def __call__(self, number: int, frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)  # one more ends it at once

        def end() -> None:
            _stop_all()
            os.kill(os.getpid(), number)

        gevent.spawn(end)

    def _block_sigterm(self) -> None:
        self._mask = {*signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})}

    def _unblock_sigterm(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)

    def _reset_in_child(self) -> None:
        if signal.getsignal(signal.SIGTERM) is self:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self._unblock_sigterm()
