"""Objects that are older than the patch and stay native, found without running anything of theirs.

Only ``type(x)``, the namespaces of modules and classes, and what the garbage collector knows is
looked at: a proxy, lazy object, mock or dead reference of the user's is never asked anything.
"""

from __future__ import annotations

import _queue
import _socket
import _thread
import collections
import contextvars
import functools
import gc
import os
import select
import sys
import sysconfig
import types
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

__all__ = [
    # native types
    "LOCK",
    "RLOCK",
    "LOCAL",
    "SIMPLE_QUEUE",
    # what a program keeps
    "imported_before",
    "nothing_is_older",
    "Older",
    "find",
    # looking without asking
    "namespace",
    "lineage",
    "attributes",
    "home",
    "is_settable",
]


def _original(name: str, module: types.ModuleType = _thread) -> Any:
    """Look up a name, whether gevent has replaced it or not."""
    monkey = sys.modules.get("gevent.monkey")
    saved = {} if monkey is None else monkey.saved.get(module.__name__, {})
    return saved.get(name, getattr(module, name, None))


#: The types that gevent replaces, as they are natively.
LOCK: Any = type(_original("allocate_lock")())
RLOCK: Any = _original("RLock")
LOCAL: Any = _original("_local")
SIMPLE_QUEUE: Any = _queue.SimpleQueue
#: Below the library's sockets, plain and TLS, and not below gevent's.
SOCKET: Any = _socket.socket

#: What a selector keeps.
_POLLS = [
    _original(name, select) for name in ("epoll", "kqueue") if _original(name, select) is not None
]
if hasattr(select, "poll"):
    _POLLS.append(type(_original("poll", select)()))

#: What a variable that leads to one of them keeps.
_WAITS = "that stops every greenlet when one waits for it"
_KINDS = {
    id(LOCK): f"a native lock {_WAITS}",
    id(RLOCK): "a native lock that lets all greenlets in",
    id(SIMPLE_QUEUE): f"a native queue {_WAITS}",
    **{id(cls): f"a native selector {_WAITS}" for cls in _POLLS},
}
_SOCKET = f"a native socket {_WAITS}"
_SOCKET_BELOW = f"a native socket as its base {_WAITS}"
_EXECUTOR = "an executor that begins no more threads than the native ones it has"
_SHARED = "a thread-local that all greenlets share"

#: How many references away from a variable of a module, and how many objects of each at most.
_DEPTH = 4
_MOST = 10_000

#: Modules that are there before a program's first line, put there by ``.pth`` files.
_OF_THE_START = {"__main__", "sitecustomize", "usercustomize", "apport_python_hook", "_virtualenv"}

#: This package, and what its lower layers import before anybody can ask.
_OURS = {"gemstone_sync", "gevent", "greenlet", "zope", "msgspec"}

#: What setuptools and `sysconfig` add: editable installs, a module of data.
_OTHERS = ("__editable__", "_distutils_hack", "_sysconfigdata_")

_NOT_THE_USERS = sys.stdlib_module_names | {"gemstone_sync"}

#: By identity, as everything of classes here: a metaclass may compare and hash as it likes.
_CONTAINERS = {
    id(cls)
    for cls in (
        dict,
        collections.defaultdict,
        collections.OrderedDict,
        collections.deque,
        list,
        tuple,
        set,
        frozenset,
        types.MappingProxyType,
        functools.partial,
        type(functools.lru_cache(len)),
        contextvars.ContextVar,
        types.CellType,
    )
}

#: What leads nowhere, or everywhere.
_LEAVES = {
    id(cls)
    for cls in (
        str,
        bytes,
        types.ModuleType,
        types.BuiltinFunctionType,
        types.MethodType,
        types.CodeType,
        types.FrameType,
    )
}

#: Whose sockets and selectors wait for nothing, or are mended.
_KEEP_SOCKETS = {"asyncio", "logging", "multiprocessing", "unittest"}

#: Whose objects hold their locks while they wait for something else.
_HOLD_LOCKS_LONG = {"threading", "queue", "httpx", "httpcore", "urllib3", "requests"}


class Older(NamedTuple):
    """Names a variable of the program, and says what it keeps."""

    name: str
    kind: str


def imported_before(others: Iterable[str] = ()) -> bool:
    """Tell whether the program has imported anything but the standard library and this package.

    Modules without a file hold no code: packages of ``-nspkg.pth``, Cython's shared types.

    :param others: names that count as well.
    """
    known = sys.stdlib_module_names | _OF_THE_START | _OURS
    loaded = (
        name
        for name, module in list(sys.modules.items())
        if type(module) is types.ModuleType and vars(module).get("__file__") is not None
    )
    return any(
        name.partition(".")[0] not in known and not name.startswith(_OTHERS)
        for name in (*loaded, *others)
    )


def nothing_is_older() -> bool:
    """Tell that the program has done nothing yet but import this package."""
    main = vars(sys.modules.get("__main__", types.ModuleType("absent")))
    return not imported_before() and all(
        type(value) is types.ModuleType or (name.startswith("__") and name.endswith("__"))
        for name, value in list(main.items())
    )


def find() -> Iterator[Older]:
    """Find native objects that variables of the user's modules lead to.

    Below objects of libraries no locks are told of, but those of pools of connections: logging,
    metrics and mocks hold theirs for moments.
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
            kind = _kind_below(value, modules, seen)
            if kind is not None:
                yield Older(f"{module_name}.{name}", kind)


def _is_of_the_user(name: str, module: types.ModuleType, libraries: tuple[str, ...]) -> bool:
    """Tell whether a module is the program's, not the standard library's or an installed one."""
    if name == "__main__":
        return True
    path = vars(module).get("__file__")
    if name.partition(".")[0] in _NOT_THE_USERS or type(path) is not str:
        return False
    # multiprocessing knows the main module by a second name.
    return name != "__mp_main__" and not path.startswith(libraries)


def _kind_below(value: Any, modules: dict[str, types.ModuleType], seen: set[int]) -> str | None:
    """Find the nearest native object from a variable, itself included; tell its kind."""
    left = collections.deque([(value, 0, True, True)])
    first = len(seen)
    while left and len(seen) - first < _MOST:
        one, depth, is_own, may_poll = left.popleft()
        cls = type(one)
        kind = _kind_of(one)
        if (
            kind is not None
            and (is_own or "lock" not in kind)
            and (may_poll or not ("socket" in kind or "selector" in kind))
        ):
            return kind
        if id(one) in seen or depth == _DEPTH or id(cls) in _LEAVES:
            continue
        seen.add(id(one))
        if issubclass(cls, type):
            if depth == 0 and home(one) in modules:
                if issubclass(one, LOCAL):
                    return _SHARED
                if issubclass(one, SOCKET):
                    return _SOCKET_BELOW
                left += [(held, 1, True, True) for held in list(namespace(one).values())]
            continue
        package = one.__module__ if cls is types.FunctionType else home(cls)
        package = package if type(package) is str else ""
        own = is_own and (
            id(cls) in _CONTAINERS
            or package in modules
            or package.partition(".")[0] in _HOLD_LOCKS_LONG
        )
        polls = may_poll and package.partition(".")[0] not in _KEEP_SOCKETS
        left += [(held, depth + 1, own, polls) for held in _held_by(one)[:_MOST]]
    return None


def _held_by(one: Any) -> list[Any]:
    """List what an object holds; of a function its defaults, and not the module that it is in."""
    if type(one) is types.FunctionType:
        return [one.__defaults__, one.__kwdefaults__, *(one.__closure__ or ())]
    return gc.get_referents(one)


def _kind_of(one: Any) -> str | None:
    cls = type(one)
    if issubclass(cls, LOCAL):
        return _SHARED
    if issubclass(cls, ThreadPoolExecutor):
        queue = (attributes(one) or {}).get("_work_queue")
        return _EXECUTOR if type(queue) is SIMPLE_QUEUE else None
    if issubclass(cls, SOCKET):
        waits = SOCKET.timeout.__get__(one) != 0 and SOCKET.fileno(one) >= 0
        return _SOCKET if waits else None
    return _KINDS.get(id(cls))


# Looking without asking


def namespace(cls: type) -> Any:
    """Look into a class, whatever its metaclass says of ``__dict__``."""
    return type.__dict__["__dict__"].__get__(cls)


def lineage(cls: type) -> tuple[type, ...]:
    """List a class and its bases in the order in which names are looked up."""
    return type.__dict__["__mro__"].__get__(cls)  # type: ignore[no-any-return]


def attributes(one: Any) -> dict[str, Any] | None:
    """Look into an instance, whatever its class says of ``__dict__``; None if it has none."""
    for names in map(namespace, lineage(type(one))):
        found = names.get("__dict__")
        if found is not None:
            held = found.__get__(one) if type(found) is types.GetSetDescriptorType else None
            return held if type(held) is dict else None
    return None


def home(cls: type) -> str:
    """Tell the module of a class."""
    module = namespace(cls).get("__module__")
    return module if type(module) is str else ""


def is_settable(cls: type, name: str) -> bool:
    """Tell whether `type.__setattr__` sets this name and runs nothing of the program's."""
    flags = type.__dict__["__flags__"].__get__(cls)
    return (
        bool(flags & _HEAP)
        and not flags & _IMMUTABLE
        and not any(name in names for names in map(namespace, lineage(type(cls))))
    )


#: Flags of CPython's types: made while the program runs; not to be changed.
_HEAP, _IMMUTABLE = 1 << 9, 1 << 8
