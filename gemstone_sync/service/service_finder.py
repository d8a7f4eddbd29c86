"""Finding the services that a WSGI application leads to, whatever it is wrapped in.

Only types, and what the garbage collector knows, are looked at: nothing of the user's is asked
anything.
"""

from __future__ import annotations

import collections
import gc
import sys
import types
from collections.abc import Collection, Iterator
from typing import Any

from werkzeug.middleware.dispatcher import DispatcherMiddleware

__all__ = ["find_services"]

#: How many objects are looked at; a service is a handful of references away from what wraps it.
_MOST = 20_000

#: What leads nowhere, or everywhere.
_LEAVES = (str, bytes, int, float, types.BuiltinFunctionType, types.CodeType, types.FrameType)

#: Packages whose variables lead to no service, or to every one.
_KNOW_NO_SERVICE = sys.stdlib_module_names | {"gemstone_sync", "gevent", "greenlet", "gunicorn"}


def find_services(application: Any, services: Collection[object]) -> dict[int, str]:
    """Find which of some services an application leads to.

    :param services: those that there are.
    :returns: the path below which each is served, by its identity, the nearest first.
    """
    wanted = {id(service) for service in services}
    found: dict[int, str] = {}
    seen: dict[int, Any] = {}
    left: collections.deque[tuple[Any, str]] = collections.deque([(application, "")])
    while left and len(found) < len(wanted) and len(seen) < _MOST:
        one, path = left.popleft()
        if id(one) in seen or type(one) in _LEAVES:
            continue
        seen[id(one)] = one  # kept, so that no other object gets its identity meanwhile
        if id(one) in wanted:
            found[id(one)] = path
        left.extend(_references(one, path))
    return found


def _references(one: Any, path: str) -> Iterator[tuple[Any, str]]:
    cls = type(one)
    if issubclass(cls, (type, types.ModuleType)):
        return
    if cls is DispatcherMiddleware:
        yield one.app, path
        for mounted, application in one.mounts.items():
            yield application, path + mounted
        return
    if cls is types.FunctionType:
        for held in (one.__closure__, one.__defaults__, one.__kwdefaults__, one.__dict__):
            yield held, path
        name = one.__globals__.get("__name__")
        if type(name) is not str or name.partition(".")[0] not in _KNOW_NO_SERVICE:
            for value in _globals_of(one.__code__, one.__globals__):
                yield value, path
        return
    for held in gc.get_referents(one):
        yield held, path
    for base in type.__dict__["__mro__"].__get__(cls)[:-1]:
        for value in type.__dict__["__dict__"].__get__(base).values():
            if type(value) is types.FunctionType:
                yield value, path


def _globals_of(code: types.CodeType, variables: dict[str, Any]) -> Iterator[Any]:
    """List the module's variables that a function names, also as ``module.variable``."""
    for name in code.co_names:
        value = variables.get(name)
        if type(value) is types.ModuleType:
            yield from (vars(value).get(other) for other in code.co_names)
        else:
            yield value
    for constant in code.co_consts:
        if type(constant) is types.CodeType:
            yield from _globals_of(constant, variables)
