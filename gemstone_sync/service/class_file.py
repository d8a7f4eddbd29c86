"""Where a service class was written: the folder that its relative paths start at."""

from __future__ import annotations

import inspect
import os
import sys
import types
from collections.abc import Iterator
from typing import Any

__all__ = ["class_statement", "folder_of"]

_PACKAGE = __name__.partition(".")[0]


def folder_of(cls: type) -> str:
    """Tell the folder of the file that a class was written in.

    Of a class in a zip, that of the zip; of one that no file has (typed at a prompt, given to
    ``exec``), the working directory.
    """
    for namespace in _namespaces_of(cls):
        file = namespace.get("__file__")
        if type(file) is str:
            folder = os.path.dirname(os.path.abspath(file))
            while not os.path.isdir(folder):
                folder = os.path.dirname(folder)
            return folder
    return os.getcwd()


def _namespaces_of(cls: type) -> Iterator[dict[str, Any]]:
    """Find the variables of the class's module, which need not be in `sys.modules` any more.

    Another one may have its name by now: each program that is run in turn is ``__main__``.
    """
    for value in list(vars(cls).values()):
        if isinstance(value, types.FunctionType):
            namespace = inspect.unwrap(value).__globals__
            if namespace.get("__name__") == cls.__module__:
                yield namespace
                break
    module = sys.modules.get(cls.__module__)
    if module is not None:
        yield vars(module)


def class_statement() -> types.FrameType:
    """Find the frame that makes a class: the nearest that is neither ours nor a base's hook."""
    frame: types.FrameType = sys._getframe(1)
    while frame.f_back is not None and (
        frame.f_code.co_name == "__init_subclass__"
        or str(frame.f_globals.get("__name__")).partition(".")[0] == _PACKAGE
    ):
        frame = frame.f_back
    return frame
