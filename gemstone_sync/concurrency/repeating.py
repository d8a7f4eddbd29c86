"""Decide whether this process can be started over unnoticed: same command, nothing lost.

What the kernel knows of the process is asked where there is Linux's ``/proc``.
"""

from __future__ import annotations

import contextlib
import dis
import inspect
import io
import os
import struct
import sys
import threading
import types
from pathlib import Path
from typing import Any

__all__ = ["environment_of_the_start", "is_repeatable", "leads_to"]

#: While one of these is at work, it wants to see the program from its first line to its last.
#: And uWSGI, whose sockets are bound by now, calls nothing of Python's to import a program.
_OBSERVERS = {"pytest", "_pytest", "pydevd", "debugpy", "ipykernel", "uwsgi"}

#: What is not the same a second time: input is gone, `execve` keeps what these have changed, and
#: what was written, to stderr, a descriptor or a file, would be there twice.
_NOT_TWICE = {"input", "getpass", "stdin", "chdir", "nice", "setsid"}
_NOT_TWICE |= {"write", "writelines", "write_text", "write_bytes", "flush"}

#: The ids that a process began with, in its auxiliary vector (linux/auxvec.h), and those of now.
_IDS = {11: os.getuid, 12: os.geteuid, 13: os.getgid, 14: os.getegid}

_FORKED = 0x40  # PF_FORKNOEXEC of linux/sched.h: forked, and nothing executed since


def is_repeatable() -> bool:
    """Tell whether the same command does the same again, and nobody would miss what is lost."""
    return (
        not (sys.flags.isolated or sys.flags.ignore_environment or sys.flags.no_site)
        and not (sys.flags.interactive or hasattr(sys, "ps1") or hasattr(sys, "frozen"))
        and threading.current_thread() is threading.main_thread()
        and not _is_observed()
        and _is_still_importing()
        and _command_can_be_repeated()
        and _is_as_it_was_started()
        and not _has_hub()
        and not _has_children()
    )


def environment_of_the_start() -> dict[bytes, bytes]:
    """Return the variables that the process began with.

    Not those of now: a program may have taken its secrets out of them, a launcher its own folder
    out of PYTHONPATH, and both look for them again. `execve` takes none without a name.
    """
    with contextlib.suppress(OSError):
        words = b"".join(os.fsencode(word) + b"\0" for word in sys.orig_argv)
        if Path("/proc/self/cmdline").read_bytes() == words:  # no title is written over all of it
            environment: dict[bytes, bytes] = {}
            for entry in Path("/proc/self/environ").read_bytes().split(b"\0"):
                name, equals, value = entry.partition(b"=")
                if name and equals:
                    environment.setdefault(name, value)  # the first one counts
            return environment
    return {name: value for name, value in os.environb.items() if name}


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
    runs where a server, a debugger or a worker of multiprocessing has called one. Loaders, which
    the import system calls, are part of an import.
    """
    main, not_twice = sys.modules.get("__main__"), _names_of_what_happens_once()
    seen_main = in_function = False
    frame: types.FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib."):
            in_function = False
        elif _is_function(frame.f_code):
            name = frame.f_globals.get("__name__")
            package = name.partition(".")[0] if type(name) is str else ""
            in_function |= package not in {"gemstone_sync", "importlib", "zipimport", "runpy"}
        elif in_function or _has_used(frame, not_twice):
            return False
        seen_main |= main is not None and frame.f_globals is vars(main)
        frame = frame.f_back
    return seen_main and not in_function


def _is_function(code: types.CodeType) -> bool:
    """Tell whether this is not a module or class, nor a part of one such as a comprehension."""
    own_name = not code.co_name.startswith("<") or code.co_name == "<lambda>"
    return bool(code.co_flags & inspect.CO_OPTIMIZED) and own_name


def _names_of_what_happens_once() -> set[str]:
    """Return `_NOT_TWICE`, and the name or keyword by which `print` writes to who reads it.

    What is in the buffer of stdout, as it is for a pipe or file, is not out: it is written again.
    """
    out = sys.stdout
    buffered = type(out) is io.TextIOWrapper and not (out.line_buffering or out.write_through)
    return _NOT_TWICE | {"file" if buffered else "print"}


def _has_used(frame: types.FrameType, names: set[str]) -> bool:
    """Tell whether a module's own statements have used one of these names or keywords by now."""
    for step in dis.get_instructions(frame.f_code):
        if step.offset > frame.f_lasti:
            break
        used: tuple[object, ...] = ()
        if step.opname == "KW_NAMES":  # Python 3.11 and 3.12
            used = frame.f_code.co_consts[step.arg or 0]
        elif type(step.argval) is tuple:  # of keywords, mostly
            used = step.argval
        elif step.opcode in dis.hasname and step.opname.startswith("LOAD"):
            used = (step.argval,)
        if any(type(one) is str and one in names for one in used):
            return True
    return False


def _command_can_be_repeated() -> bool:
    """Tell whether the command of this process still names the program that runs."""
    if not sys.executable or not sys.orig_argv or not _is_own_executable():
        return False
    main: Any = vars(sys.modules["__main__"])
    spec, file = main.get("__spec__"), main.get("__file__")
    if file is None:
        return sys.argv[:1] == ["-c"]  # no prompt, and not a program that came through a pipe
    with contextlib.suppress(OSError):  # the working directory may be gone
        if spec is not None and spec.name != "__main__":  # python -m, from the working directory
            here = os.getcwd()
            safe = getattr(sys.flags, "safe_path", False)  # Python 3.11: not from there
            return safe or here in [os.path.abspath(path or ".") for path in sys.path]
        # A script, folder or zip; not one from a pipe, and still there from where the program is.
        return type(file) is str and any(leads_to(file, word) for word in sys.orig_argv[1:])
    return False


def leads_to(file: str, word: str) -> bool:
    """Tell whether a word of a command names a main module: its file, folder or zip."""
    path = os.path.abspath(word)
    if os.path.isfile(path) and os.path.exists(file):
        return os.path.samefile(path, file)
    return os.path.exists(path) and os.path.abspath(file).startswith(path + os.sep)  # folder, zip


def _is_own_executable() -> bool:
    """Tell whether this is Python itself, and not another program that has it inside."""
    try:
        return os.path.samefile(sys.executable, "/proc/self/exe")
    except OSError:
        return os.path.isfile(sys.executable)


def _is_as_it_was_started() -> bool:
    """Tell whether this is the process that the command began, no daemon, with the same rights."""
    try:
        flags = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()[6]
        began = dict(struct.iter_unpack("@LL", Path("/proc/self/auxv").read_bytes()))
    except OSError:
        return True
    return not int(flags) & _FORKED and all(began.get(n, of()) == of() for n, of in _IDS.items())


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
