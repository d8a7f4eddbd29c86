"""Starting a program over, once, so that it is patched from its first line.

In ``python service.py`` the first service-side name stands below the imports, and objects that were
made by then stay native: one `threading.local` for all greenlets, locks and queues that stop the
process. Such a program is executed again in the same process (``os.execve`` of `sys.orig_argv`),
with the ``sitecustomize`` of ``first_line/`` ahead, which patches before anything else is imported.
PID, flags, arguments and standard streams stay; what had run by then are imports, which run again.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import logging
import os
import signal
import sys
import threading
import types
from collections.abc import Iterator
from typing import Any

from . import older_objects, patching

__all__ = ["begin_patched", "has_started_over", "leads_to", "start_over_if_due"]

_FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "first_line")

#: For the program that is started over: its PYTHONPATH and blocked signals. Children never see it.
_MARK = "_GEMSTONE_SYNC_STARTED_OVER"

#: While one of these is at work, it wants to see the program from its first line to its last.
#: And uWSGI, whose sockets are bound by now, calls nothing of Python's to import a program.
_OBSERVERS = {"pytest", "_pytest", "pydevd", "debugpy", "ipykernel", "uwsgi"}

_has_started_over = False

_logger = logging.getLogger("gemstone_sync")


def has_started_over() -> bool:
    """Tell whether this program was started over, and so patched from its first line."""
    return _has_started_over


def start_over_if_due() -> None:
    """Start the program over if something was imported before that the patch comes too late for.

    Returns where the program goes on: when nothing was, when it is patched already, and where it
    cannot be started over; it is patched late then.

    :raises SystemExit: after one line, when eventlet has patched the process: it would hang.
    """
    if getattr(sys.modules.get("eventlet.patcher"), "already_patched", None):
        sys.stderr.write(
            "gemstone_sync services need gevent, and eventlet has patched this process: leave out "
            "eventlet.monkey_patch(), and use gunicorn -k gemstone_sync.server.GunicornWorker\n"
        )
        raise SystemExit(3)  # with which gunicorn starts no further worker
    if _has_started_over:
        _logger.debug("the program was started over, and patched before its first line")
    if _MARK in os.environ:  # nobody has read first_line/: once is enough
        begin_patched()
    if (
        patching.is_patched()
        or os.environ.get("GEMSTONE_MONKEY_PATCH", "1") in ("0", "late")
        or not (older_objects.imported_before() or _made_before())
        or not _is_possible()
    ):
        return
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [_FOLDER, os.environ.get("PYTHONPATH")])),
    }
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        with contextlib.suppress(Exception):
            stream.flush()  # type: ignore[union-attr]  # None where there is none
    with _signals_held() as blocked:
        environment[_MARK] = json.dumps([os.environ.get("PYTHONPATH"), blocked])
        with contextlib.suppress(OSError):
            os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def begin_patched() -> None:
    """Patch the process that was started over; called before its first line.

    Takes what `start_over_if_due` has left out of the environment.
    """
    global _has_started_over
    mark = os.environ.pop(_MARK, None)
    if mark is None:
        return
    path, blocked = json.loads(mark)
    if path is None:
        os.environ.pop("PYTHONPATH", None)
    else:
        os.environ["PYTHONPATH"] = path
    try:
        patching.patch()
        _has_started_over = True
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


@contextlib.contextmanager
def _signals_held() -> Iterator[list[int]]:
    """Hold signals back; yields those that were blocked before.

    One that comes between the last line here and the first one there is delivered there. Threads of
    the program are not held: a handler of Python's would only note what reaches them.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    handlers = {n: signal.getsignal(n) for n in signal.valid_signals()}
    own = {n: handler for n, handler in handlers.items() if callable(handler)}
    try:
        for number in own:
            signal.signal(number, signal.SIG_DFL)
        yield [int(number) for number in before]
    finally:
        for number, handler in own.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _made_before() -> bool:
    """Tell whether the program has made objects that stay native."""
    return next(older_objects.find(), None) is not None


def _is_possible() -> bool:
    """Tell whether the same command does the same again, and nobody would miss what is lost."""
    return (
        not (sys.flags.isolated or sys.flags.ignore_environment or sys.flags.no_site)
        and not (sys.flags.interactive or hasattr(sys, "ps1") or hasattr(sys, "frozen"))
        and threading.current_thread() is threading.main_thread()
        and not _is_observed()
        and os.path.isdir(_FOLDER)
        and os.pathsep not in _FOLDER
        and _is_still_importing()
        and _command_can_be_repeated()
        and not _has_hub()
        and not _has_children()
    )


def _is_observed() -> bool:
    monitoring = getattr(sys, "monitoring", None)  # Python 3.12
    return (
        sys.gettrace() is not None
        or sys.getprofile() is not None
        or (monitoring is not None and any(monitoring.get_tool(n) for n in range(6)))
        or bool(_OBSERVERS & sys.modules.keys())
    )


def _is_still_importing() -> bool:
    """Tell whether the main module is being executed, and no function of anybody's is.

    A function may have done more than an import does; and it is not the main module's program that
    runs where a server, a debugger or a worker of multiprocessing has called one.
    """
    main = sys.modules.get("__main__")
    seen_main = False
    frame: types.FrameType | None = sys._getframe()
    while frame is not None:
        name = frame.f_globals.get("__name__")
        package = name.partition(".")[0] if type(name) is str else ""
        if main is not None and frame.f_globals is vars(main):
            seen_main = True
        if frame.f_code.co_flags & inspect.CO_OPTIMIZED:  # a function, not a module or class
            allowed = {"runpy"} if seen_main else {"gemstone_sync", "importlib", "zipimport"}
            frozen = frame.f_code.co_filename.startswith("<frozen ")
            if package not in allowed and not frozen:
                return False
        frame = frame.f_back
    return seen_main


def _command_can_be_repeated() -> bool:
    """Tell whether the command of this process still names the program that runs."""
    if not sys.executable or not sys.orig_argv or not _is_own_executable():
        return False
    main: Any = vars(sys.modules["__main__"])
    spec, file = main.get("__spec__"), main.get("__file__")
    if file is None:
        return "-c" in sys.orig_argv
    if spec is not None and spec.name != "__main__":  # python -m, from the working directory
        return os.getcwd() in [os.path.abspath(path or ".") for path in sys.path]
    # A script, folder or zip; not one from a pipe, and still there from where the program stands.
    return type(file) is str and any(leads_to(file, word) for word in sys.orig_argv[1:])


def leads_to(file: str, word: str) -> bool:
    """Tell whether a word of a command names a main module: its file, folder or zip."""
    path = os.path.abspath(word)
    if os.path.isfile(path) and os.path.exists(file):
        return os.path.samefile(path, file)
    return os.path.exists(path) and file.startswith(path + os.sep)  # in a folder or zip


def _is_own_executable() -> bool:
    """Tell whether this is Python itself, and not another program that has it inside."""
    try:
        return os.path.samefile(sys.executable, "/proc/self/exe")
    except OSError:
        return os.path.isfile(sys.executable)


def _has_hub() -> bool:
    gevent = sys.modules.get("gevent")
    if gevent is None:
        return False
    from gevent._hub_local import get_hub_if_exists

    return get_hub_if_exists() is not None


def _has_children() -> bool:
    """Tell whether there are child processes: they would lose their parent's knowledge of them."""
    if not hasattr(os, "waitid"):  # macOS before Python 3.13
        return False
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True
