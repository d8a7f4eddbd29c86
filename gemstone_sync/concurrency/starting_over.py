"""Starting a program over, once, so that it is patched from its first line.

In ``python service.py`` the first service-side name stands below the imports, and objects that were
made by then stay native: one `threading.local` for all greenlets, locks and queues that stop the
process. Such a program is executed again in the same process (``os.execve`` of `sys.orig_argv`),
with the ``sitecustomize`` of ``first_line/`` ahead, which patches before anything else is imported.
PID, command, environment and descriptors are those that it began with; what had run by then are
imports, which run again. `repeating` tells where it would not be the same again.
"""

from __future__ import annotations

import contextlib
import dis
import json
import logging
import os
import runpy
import shutil
import signal
import sys
import types
from collections.abc import Iterator
from pathlib import Path

from . import older_objects, patching, repeating

__all__ = ["begin_patched", "has_started_over", "start_over_if_due"]

_FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "first_line")

#: For the program that is started over, in JSON: its PYTHONPATH, blocked signals, name in the
#: kernel, and `sys.path`, on which this package and gevent were found. Children never see it.
_MARK = "_GEMSTONE_SYNC_STARTED_OVER"

_NAME = Path("/proc/self/comm")

_has_started_over = _was_in_vain = False

_logger = logging.getLogger("gemstone_sync")


def has_started_over() -> bool:
    """Tell whether this program was started over, and so patched from its first line."""
    return _has_started_over


def start_over_if_due(importer: types.CodeType | None = None) -> None:
    """Start the program over if something was imported before that the patch comes too late for.

    Returns where the program goes on: when nothing was, when it is patched already, and where it
    cannot be started over; it is patched late then.

    :param importer: the module that imports this package for its service-side names: what else it
        imports counts too, so that it happens there, before the module does anything but import.
    :raises SystemExit: after one line, when eventlet has patched the process: it would hang.
    """
    global _was_in_vain
    if getattr(sys.modules.get("eventlet.patcher"), "already_patched", None):
        sys.stderr.write(
            "gemstone_sync services need gevent, and eventlet has patched this process: leave out "
            "eventlet.monkey_patch(), and use gunicorn -k gemstone_sync.server.GunicornWorker\n"
        )
        raise SystemExit(3)  # with which gunicorn starts no further worker
    if _has_started_over:
        _logger.debug("the program was started over, and patched before its first line")
        return
    if _MARK in os.environ:  # nobody has read first_line/, and nobody would the next time
        runpy.run_path(os.path.join(_FOLDER, "sitecustomize.py"))["take_back"]()
        _was_in_vain = True
    if (
        _was_in_vain
        or (patching.is_patched() and not patching.is_patched_in_part())
        or os.environ.get("GEMSTONE_MONKEY_PATCH", "1") in ("0", "late")
        or not (older_objects.imported_before(_imported_by(importer)) or _made_before())
        or not os.path.isdir(_FOLDER)
        or os.pathsep in _FOLDER
        or not repeating.is_repeatable()
    ):
        return
    environment = repeating.environment_of_the_start()
    command = [_name_of_python(environment), *sys.orig_argv[1:]]
    _keep_handed_over(environment)
    # Standard streams are not flushed: what is in their buffers, the program writes again.
    with _signals_held() as blocked, contextlib.suppress(OSError):
        os.execve(sys.executable, command, environment | _marked(environment, blocked))


def begin_patched() -> None:
    """Patch the process that was started over; called before its first line."""
    global _has_started_over
    _has_started_over = True  # once, whatever comes
    patching.patch()


def _marked(environment: dict[bytes, bytes], blocked: list[int]) -> dict[bytes, bytes]:
    """Return what is added to the environment until ``first_line/`` takes it out."""
    path = environment.get(b"PYTHONPATH")
    name = None
    with contextlib.suppress(OSError):
        name = os.fsdecode(_NAME.read_bytes().rstrip(b"\n"))
    mark = [
        None if path is None else os.fsdecode(path),
        blocked,
        name,
        [entry for entry in sys.path if type(entry) is str],
    ]
    return {
        b"PYTHONPATH": os.fsencode(_FOLDER) + (b":" + path if path else b""),
        _MARK.encode(): json.dumps(mark).encode(),
    }


def _name_of_python(environment: dict[bytes, bytes]) -> str:
    """Return the first word of the command, if it leads to this Python again."""
    word = sys.orig_argv[0]
    found: str | None = word
    if os.sep not in word:
        found = shutil.which(word, path=os.fsdecode(environment.get(b"PATH", b"")))
    same = found is not None and os.path.abspath(found) == os.path.abspath(sys.executable)
    return word if same else sys.executable


def _keep_handed_over(environment: dict[bytes, bytes]) -> None:
    """Keep open what systemd has handed over: its library says of it that `execve` may close it."""
    if environment.get(b"LISTEN_PID") == str(os.getpid()).encode():
        with contextlib.suppress(OSError, ValueError):
            for number in range(3, 3 + int(environment.get(b"LISTEN_FDS", b"0"))):
                os.set_inheritable(number, True)


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


def _imported_by(module: types.CodeType | None) -> Iterator[str]:
    """List what a module's own statements import, or will."""
    for step in dis.get_instructions(module) if module is not None else ():
        if step.opname == "IMPORT_NAME":
            yield step.argval
