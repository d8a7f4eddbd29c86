"""Run before the first line of a program that `starting_over` has started over: vanish, and patch.

Python's `site` imports this instead of the user's own ``sitecustomize``, which is imported in
between: launchers such as ddtrace-run want to be before the patch. The folder of this file is
nowhere else on a path.
"""

import contextlib
import json
import os
import signal
import sys
from collections.abc import Iterator


def take_back() -> list[str] | None:
    """Take out of the environment what is there for this, and have signals delivered again.

    Returns the `sys.path` of the first beginning; None where this is not a second one.
    """
    mark = os.environ.pop("_GEMSTONE_SYNC_STARTED_OVER", None)
    if mark is None:
        return None
    path: list[str]
    variable, blocked, name, path = json.loads(mark)
    if variable is None:
        os.environ.pop("PYTHONPATH", None)
    else:
        os.environ["PYTHONPATH"] = variable
    if name is not None:  # of the file, for a script that begins with #!
        with contextlib.suppress(OSError), open("/proc/self/comm", "wb") as file:
            file.write(os.fsencode(name))
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    return path


@contextlib.contextmanager
def _ended_by_interrupt() -> Iterator[None]:
    """Have Ctrl-C end the process; `site` would make a traceback of it, and go on."""
    on_interrupt = signal.getsignal(signal.SIGINT)
    if on_interrupt is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, on_interrupt)


def _hand_on() -> None:
    """Import the next ``sitecustomize``."""
    own = sys.modules.pop(__name__)
    try:
        import sitecustomize  # type: ignore[import-not-found]  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != __name__:
            raise
    finally:
        sys.modules.setdefault(__name__, own)  # the import of this one ends with asking for it


def _patch(path: list[str]) -> None:
    """Patch with the packages that were found in the first beginning, wherever that was."""
    path, sys.path[:] = sys.path[:], path
    try:
        from gemstone_sync.concurrency import starting_over

        starting_over.begin_patched()
    finally:
        sys.path[:] = path


def _begin() -> None:
    folder = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != folder]
    with _ended_by_interrupt():
        path = take_back()
    try:
        _hand_on()
    finally:
        if path is not None:
            with _ended_by_interrupt():
                _patch(path)


if __name__ == "sitecustomize":
    _begin()
