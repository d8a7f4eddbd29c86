"""Fit into gunicorn's workers, and tell that one serves, without importing gunicorn."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sys
import time
import types
from collections.abc import Callable, Iterable
from typing import Any

import gevent

from ..concurrency.patching import hostile_objects_hidden
from .processes import StopRequests, close_or_name

__all__ = [
    "before_serving",
    "cannot_boot",
    "current_worker",
    "finish_calls",
    "master_leaves",
    "seconds_left",
    "under_gunicorn",
]

#: The exit code of a worker at which gunicorn's master gives up (``Arbiter.WORKER_BOOT_ERROR``).
_WORKER_BOOT_ERROR = 3

_is_prepared = False


def under_gunicorn() -> bool:
    """Tell whether gunicorn runs this process, as its master or as one of its workers."""
    return "gunicorn.arbiter" in sys.modules


def current_worker() -> Any:
    """Find the gunicorn worker that this process is; None in the master and everywhere else.

    A worker installs its signal handlers before it loads the application, and they are methods of
    the worker object: the one trace of it that an application can see.
    """
    base = sys.modules.get("gunicorn.workers.base")
    owner = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return owner if base is not None and isinstance(owner, base.Worker) else None


def before_serving(check: Callable[[Any], None], boot: Callable[[Any], None]) -> None:
    """Have the worker call `check`, then `boot`, with itself, when it has loaded the application.

    Once a process; does nothing where gunicorn does not run, or serves already. With ``--preload``
    the master loads the application: then each worker that it forks calls `check` before it sets
    anything up.
    """
    global _is_prepared
    if _is_prepared or not under_gunicorn():
        return
    _is_prepared = True
    worker = _starting_worker() or current_worker()
    if worker is not None:
        _do_first(worker, "run", check, boot)
        return
    master = os.getpid()

    def in_child() -> None:
        if os.getppid() == master:  # not in a worker's own children
            worker = _starting_worker()
            _patch_unasked(worker)
            _do_first(worker, "init_process", check)
            _do_first(worker, "run", boot)

    def before() -> None:
        if os.getpid() == master and _starting_worker() is not None:
            close_or_name()

    os.register_at_fork(before=before, after_in_child=in_child)


def _do_first(worker: Any, name: str, *steps: Callable[[Any], None]) -> None:
    """Have a worker that is not serving yet do this before its method of that name."""
    if worker is None or worker.booted:
        return
    method = getattr(worker, name)

    def do_all() -> None:
        for step in steps:
            step(worker)
        method()

    setattr(worker, name, do_all)


def _patch_unasked(worker: Any) -> None:
    """Have a worker patch its process without asking the application's objects anything."""
    patch = getattr(worker, "patch", None)
    if patch is None:
        return

    def patch_unasked() -> None:
        with hostile_objects_hidden():
            patch()

    worker.patch = patch_unasked


def _starting_worker() -> Any:
    """Find the worker that gunicorn's master has forked and that is being started just now."""
    frame: types.FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_globals.get("__name__") == "gunicorn.arbiter":
            return frame.f_locals.get("worker")
        frame = frame.f_back
    return None


def finish_calls(worker: Any) -> None:
    """Have a worker of gevent's finish its calls, whichever way it is told to end.

    It would cut them off by SIGINT, by SIGQUIT, which the master makes of SIGINT, by SIGHUP, which
    a terminal sends to the master's group, and when the master is killed.
    """
    if hasattr(worker, "told"):
        return
    #: When it was told to end (``time.monotonic()``).
    worker.told = None
    requests, notify, quit_at_once = StopRequests(), worker.tmp.notify, worker.handle_quit

    def end() -> None:
        worker.told = worker.told or time.monotonic()
        worker.handle_exit(signal.SIGTERM, None)

    def take(worker: Any, number: int, frame: Any) -> None:
        if number == signal.SIGHUP:
            return  # the master replaces its workers then
        second = requests.record(number) and number != signal.SIGTERM
        if second:
            quit_at_once(number, frame)
            return
        if worker.told is None and number != signal.SIGTERM:
            gevent.spawn(worker.cfg.worker_int, worker)
        end()

    def notify_or_end() -> None:
        notify()
        if worker.alive and worker.ppid != os.getppid():
            worker.log.error("The master is gone: worker %s finishes its calls", worker.pid)
            end()

    worker.notify = notify_or_end
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        # A method, as gunicorn's own: that tells whose it is.
        signal.signal(number, types.MethodType(take, worker))


def master_leaves(worker: Any, listeners: Iterable[Any]) -> bool:
    """Tell whether gunicorn as a whole stops, and not this worker alone, to be replaced.

    The master says the same to both; but before it stops it closes the sockets on which it listens.
    False where that cannot be seen: for a worker that runs as another user, with ``reuse_port``, or
    without Linux's ``/proc``.
    """
    if worker.told is None or worker.cfg.reuse_port:
        return False
    listening = {f"socket:[{os.fstat(sock.fileno()).st_ino}]" for sock in listeners}
    folder = f"/proc/{worker.ppid}/fd"
    held = set()
    try:
        for name in os.listdir(folder):
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                held.add(os.readlink(f"{folder}/{name}"))
    except OSError:
        return False
    return not listening & held


def seconds_left(worker: Any) -> float:
    """Count the seconds until gunicorn kills a worker that was told to end."""
    told = getattr(worker, "told", None)
    return math.inf if told is None else told + worker.cfg.graceful_timeout - time.monotonic()


def cannot_boot(line: str | None = None) -> SystemExit:
    """Make what ends gunicorn, which would start the next worker again and again.

    :param line: written to stderr.
    """
    if line is not None:
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
    return SystemExit(_WORKER_BOOT_ERROR)
