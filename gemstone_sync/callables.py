"""What is called like a function and is none: a partial, an object with ``__call__``, a mock."""

from __future__ import annotations

import functools
import inspect
from typing import Any

__all__ = ["doc_of", "function_behind", "name_of"]

_PARTIALS = (functools.partial, functools.partialmethod, functools.singledispatchmethod)


def function_behind(target: Any) -> Any:
    """The function whose code runs when `target` is called.

    >>> function_behind(functools.partial(functools.partial(print))) is print
    True
    """
    target = inspect.unwrap(getattr(target, "__func__", target))
    if isinstance(target, _PARTIALS):
        return function_behind(target.func)
    if isinstance(target, type):
        return target.__init__  # type: ignore[misc]
    return target if hasattr(target, "__qualname__") else function_behind(type(target).__call__)


def name_of(target: Any) -> str:
    """The qualified name, of its function where it has none; the same in every process."""
    return str(getattr(target, "__qualname__", None) or function_behind(target).__qualname__)


def doc_of(target: Any) -> str | None:
    """The docstring, and not that of the class `functools.partial`."""
    found = function_behind(target) if isinstance(target, functools.partial) else target
    doc: str | None = found.__doc__
    return doc
