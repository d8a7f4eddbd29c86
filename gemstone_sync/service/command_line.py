"""Whose the process's command line is: the program's own, or that of what runs it."""

from __future__ import annotations

import sys
import types
from typing import Any

from ..concurrency import leads_to

__all__ = ["argv_of_caller"]


def argv_of_caller(depth: int) -> list[str]:
    """Find the words for the caller `depth` frames up, when it is the program's own main module.

    None where the command started something else, which has a main module of its own run: the
    words of IPython, of pytest or of a launcher are not the service's.
    """
    try:
        caller = sys._getframe(depth)
    except ValueError:  # the first function of a greenlet
        return []
    is_main = caller.f_globals.get("__name__") == "__main__"
    return sys.argv[1:] if is_main and sys.argv[1:] and _is_its_own(caller) else []


def _is_its_own(caller: types.FrameType) -> bool:
    """Tell whether `sys.argv` is of the main module that the caller belongs to."""
    main, command, words = caller.f_globals, sys.orig_argv, sys.argv[1:]
    is_real = main is vars(sys.modules["__main__"])
    if main.get("__file__") is None:  # python -c, from a pipe, or at the prompt
        return is_real and sys.argv[:1] in ([""], ["-"], ["-c"])
    if not _is_run_by_runpy(caller):  # a profiler's, say, has the name only
        return is_real or _names(sys.argv[0], main)
    # `runpy` gives it the first word. The others are its own if they stand behind it.
    before = [word for word in command[: -len(words)] if word != "--"]
    return bool(before) and _names(before[-1], main) and command[-len(words) :] == words


def _names(word: str, main: dict[str, Any]) -> bool:
    """Tell whether a word of a command names a main module."""
    name = getattr(main.get("__spec__"), "name", None)
    if name is not None and word in (name, name.removesuffix(".__main__")):
        return True
    file = main["__file__"]
    return type(file) is str and leads_to(file, word)


def _is_run_by_runpy(frame: types.FrameType | None) -> bool:
    """Tell whether a program has run another one, which leads to a frame; not by ``python -m``."""
    while frame is not None:
        function = frame.f_code.co_name
        if frame.f_globals.get("__name__") == "runpy" and function in ("run_path", "run_module"):
            return True
        frame = frame.f_back
    return False
