"""Objects that are older than the patch and stay native, found without running anything of theirs.

Only ``type(x)``, the namespaces of modules and classes, and what the garbage collector knows is
looked at: a proxy, lazy object, mock or dead reference of the user's is never asked anything.
"""

from __future__ import annotations

import _thread
import collections
import gc
import os
import queue
import sys
import sysconfig
import threading
import types
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

__all__ = ["Older", "find", "native_kinds"]

#: How many references away from a variable of a module, and how many objects of each at most.
_DEPTH = 4
_MOST = 10_000

_NOT_THE_USERS = sys.stdlib_module_names | {"gemstone_sync"}

_CONTAINERS = (dict, list, tuple, set, frozenset, collections.deque, types.MappingProxyType)

#: Classes of the standard library that keep a native lock for as long as they live.
_HOLDERS = (
    threading.Condition,
    threading.Event,
    threading.Semaphore,
    threading.BoundedSemaphore,
    threading.Barrier,
    queue.Queue,
    queue.LifoQueue,
    queue.PriorityQueue,
)

#: What leads nowhere, or everywhere.
_LEAVES = (
    str,
    bytes,
    types.ModuleType,
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    types.CodeType,
    types.FrameType,
)

#: Classes of libraries whose instances wait for native locks over what blocks.
_POOLS = {("httpx", "Client"), ("httpcore", "ConnectionPool")}


class Older(NamedTuple):
    """Names a variable of the program, and says what it keeps."""

    name: str
    kind: str


def native_kinds() -> dict[type, str]:
    """List the types that gevent replaces and cannot mend; to be called before it does."""
    return {
        _thread.LockType: "a native lock",
        _thread.RLock: "a native lock",
        type(threading._RLock()): "a native lock",
        _thread._local: "a thread-local that all greenlets share",
        queue.SimpleQueue: "a native queue",
        ThreadPoolExecutor: "an executor whose threads wait natively",
    }


def find(kinds: dict[type, str]) -> Iterator[Older]:
    """Find native objects that variables of the user's modules lead to.

    Below objects of libraries no locks are told of: logging, metrics and mocks hold theirs for
    moments.
    """
    paths = sysconfig.get_paths()
    libraries = {paths[of] + os.sep for of in ("stdlib", "platstdlib", "purelib", "platlib")}
    modules = {
        name: module
        for name, module in list(sys.modules.items())
        if type(module) is types.ModuleType and _is_of_the_user(name, module, tuple(libraries))
    }
    seen: set[int] = set()
    for module_name, module in modules.items():
        for name, value in list(vars(module).items()):
            if name.startswith("__") and name.endswith("__"):
                continue
            kind = _kind_below(value, kinds, modules, seen)
            if kind is not None:
                yield Older(f"{module_name}.{name}", kind)


def _is_of_the_user(name: str, module: types.ModuleType, libraries: tuple[str, ...]) -> bool:
    """Tell whether a module is the program's, not the standard library's or an installed one."""
    if name == "__main__":
        return True
    path = vars(module).get("__file__")
    if name.partition(".")[0] in _NOT_THE_USERS or type(path) is not str:
        return False
    return not path.startswith(libraries)


def _kind_below(
    value: Any, kinds: dict[type, str], modules: dict[str, types.ModuleType], seen: set[int]
) -> str | None:
    """Find the nearest native object from a variable, itself included; tell its kind."""
    left = collections.deque([(value, 0, True)])
    first = len(seen)
    while left and len(seen) - first < _MOST:
        one, depth, is_own = left.popleft()
        cls = type(one)
        kind = kinds.get(cls)
        if kind is not None and (is_own or "lock" not in kind):
            return kind
        if id(one) in seen or depth == _DEPTH or cls in _LEAVES:
            continue
        seen.add(id(one))
        if issubclass(cls, type):
            if depth == 0 and _home(one)[0] in modules:
                left += [(held, 1, True) for held in list(_namespace(one).values())]
            continue
        package, name = _home(cls)
        if (package.partition(".")[0], name) in _POOLS:
            return "a pool of connections with native locks"
        own = is_own and (cls in _CONTAINERS or cls in _HOLDERS or package in modules)
        left += [(held, depth + 1, own) for held in gc.get_referents(one)[:_MOST]]
    return None


def _namespace(cls: type) -> Any:
    """Look into a class, whatever its metaclass says of ``__dict__``."""
    return type.__dict__["__dict__"].__get__(cls)


def _home(cls: type) -> tuple[str, str]:
    """Tell the module and name of a class."""
    module = _namespace(cls).get("__module__")
    return module if type(module) is str else "", type.__dict__["__name__"].__get__(cls)
