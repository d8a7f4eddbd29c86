"""Describe callables that are no functions: partials, objects with ``__call__``, mocks."""

from __future__ import annotations

import functools
import inspect
from typing import Any

__all__ = ["class_of", "doc_of", "function_behind", "name_of"]

_PARTIALS = (functools.partial, functools.partialmethod, functools.singledispatchmethod)


def function_behind(target: Any) -> Any:
    """Find the function whose code runs when `target` is called.

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
    """Return the qualified name, or its function's; the same in every process."""
    return str(getattr(target, "__qualname__", None) or function_behind(target).__qualname__)


def class_of(method: Any) -> type:
    """Return the class of a bound method's object, or the class that a classmethod is bound to."""
    owner = getattr(method, "__self__", None)
    return owner if isinstance(owner, type) else type(owner)


def doc_of(target: Any) -> str | None:
    """Return the docstring, and not that of the class `functools.partial`."""
    found = function_behind(target) if isinstance(target, functools.partial) else target
    doc: str | None = found.__doc__
    return doc
