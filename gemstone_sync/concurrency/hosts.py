"""Hosts: programs that run what users write, and hold the main thread outside gevent's hub.

Greenlets of that thread do not run meanwhile. Python's own prompt bears a patch of the process. An
event loop, or a prompt that has one, does not: it made its selectors and threads before, and would
wait for ever. Beside one nothing is patched.
"""

from __future__ import annotations

import inspect
import sys
import threading
import types
from collections.abc import Iterator

from . import patching
from .doing import collector_paused

__all__ = ["host", "is_at_prompt", "patch_unless_hosted"]

#: Packages that run users' code at a prompt, in cells or from a console.
_PROMPTS = {"IPython", "ipykernel", "marimo", "ptpython", "bpython", "xonsh", "spyder_kernels"}

#: Packages that have a loop, and hold a thread for as long as one of their functions runs.
_LOOPS = {"asyncio", "uvloop", "trio", "curio", "twisted", "tkinter", "idlelib", "pydevconsole"}

#: Beside whose loop the process was not patched.
_host: str | None = None


def patch_unless_hosted() -> None:
    """Patch the process, unless an event loop runs that this would stop.

    Not at a later call either: what the process began with natively goes on so.
    """
    global _host
    if host() is None:
        patching.patch()
    else:
        _host = host()


def host() -> str | None:
    """Name the package beside whose loop this process is not patched, or None."""
    if patching.is_patched():
        return None
    loop = _at_work(_PROMPTS) or ("asyncio" if _loop_is_running() else _at_work(_LOOPS))
    return _host or loop


def is_at_prompt() -> bool:
    """Tell whether somebody types at a prompt, or will when the program is through."""
    return hasattr(sys, "ps1") or bool(sys.flags.inspect) or _at_work(_PROMPTS) is not None


def _loop_is_running() -> bool:
    events = sys.modules.get("asyncio.events")
    return events is not None and events._get_running_loop() is not None


def _at_work(packages: set[str]) -> str | None:
    """Name the one whose function is being run, in this thread or in the main one."""
    with collector_paused():
        main = sys._current_frames().get(threading.main_thread().ident or 0)
        names = [*_running(sys._getframe()), *_running(main)]
    return next((name for name in names if name in packages), None)


def _running(frame: types.FrameType | None) -> Iterator[str]:
    """Name the packages of the functions on a stack, the innermost first."""
    while frame is not None:
        name = frame.f_globals.get("__name__")
        if frame.f_code.co_flags & inspect.CO_OPTIMIZED and type(name) is str:
            yield name.partition(".")[0]
        frame = frame.f_back
