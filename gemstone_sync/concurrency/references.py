"""Rebinding what refers directly to the names that gevent replaced.

As in `older_objects`, nothing of the program's is asked anything.
"""

from __future__ import annotations

import collections
import dataclasses
import gc
import sys
import types
from typing import Any

from .older_objects import home, is_settable, namespace

__all__ = ["rebind"]

#: Packages that need the originals: gevent itself, and the standard library, whose modules refer to
#: each other by module and whose C parts (``_socket.socket``) gevent's own classes build upon; and
#: gemstone_sync, which refers to modules too and whose few direct references are meant to be native
#: (``monkey.get_original``): rebound, an owner would take each greenlet for another thread.
_LEAVE_ALONE = sys.stdlib_module_names | {"gevent", "greenlet", "gemstone_sync"}


def rebind(saved: dict[str, dict[str, Any]]) -> None:
    """Put what stands in the originals' place now wherever programs and libraries keep them.

    That is in modules (``from time import sleep``), classes (``make = Lock``), functions (``def
    wait(sleep=sleep)``, and what they enclose), dataclasses (``field(default_factory=Lock)``) and
    ``defaultdict(Lock)``.
    """
    rebinding = _Rebinding(saved)
    for name, module in list(sys.modules.items()):
        # A subclass may import something when it is looked at.
        if type(module) is types.ModuleType and _is_others(name):
            for key, value in list(vars(module).items()):
                if rebinding.knows(value):
                    setattr(module, key, rebinding.current(value))
    for one in gc.get_objects():
        if type(one) is types.FunctionType:
            if _is_others(one.__globals__.get("__name__")) and not rebinding.is_original(one):
                rebinding.mend_function(one)
        elif issubclass(type(one), type):
            if _is_others(home(one)):
                rebinding.mend_class(one)
        elif type(one) is collections.defaultdict or type(one) is dataclasses.Field:
            one.default_factory = rebinding.current(one.default_factory)


def _is_others(module: Any) -> bool:
    return type(module) is str and module.partition(".")[0] not in _LEAVE_ALONE


class _Rebinding:
    """A table of the functions that were replaced, and of their replacements."""

    def __init__(self, saved: dict[str, dict[str, Any]]) -> None:
        #: By the identity of the original: itself, and what stands in its place.
        self._pairs: dict[int, tuple[Any, Any]] = {}
        for module_name, originals in saved.items():
            module = sys.modules.get(module_name)
            for name, original in originals.items():
                current = getattr(module, name, original)
                # gevent empties some names (threading._CRLock becomes None): nothing to put there.
                if callable(original) and callable(current) and current is not original:
                    self._pairs[id(original)] = (original, current)
        #: The functions among the originals, by their identity.
        self._functions = {
            id(original.__func__ if type(original) is types.MethodType else original)
            for original, _ in self._pairs.values()
        }
        # psycopg 3 chooses when it is imported; its function in C waits natively.
        psycopg = vars(sys.modules.get("psycopg.waiting", types.ModuleType("absent")))
        for name in ("wait_poll", "wait_selector"):
            if "wait_c" in psycopg and name in psycopg:
                native = psycopg["wait_c"]
                self._pairs.setdefault(id(native), (native, psycopg[name]))

    def knows(self, value: Any) -> bool:
        return id(value) in self._pairs

    def is_original(self, function: types.FunctionType) -> bool:
        """Tell whether it stands for an original, as a debugger's around the native one does.

        What asks gevent for the original gets this one, and means the native one.
        """
        return id(function) in self._functions

    def current(self, value: Any) -> Any:
        return self._pairs[id(value)][1] if self.knows(value) else value

    def mend_function(self, function: types.FunctionType) -> None:
        if any(map(self.knows, function.__defaults__ or ())):
            function.__defaults__ = tuple(map(self.current, function.__defaults__ or ()))
        keywords = function.__kwdefaults__ or {}
        for keyword, value in list(keywords.items()):
            keywords[keyword] = self.current(value)
        for cell in function.__closure__ or ():
            if any(map(self.knows, gc.get_referents(cell))):
                cell.cell_contents = self.current(cell.cell_contents)

    def mend_class(self, cls: type) -> None:
        for name, value in list(namespace(cls).items()):
            if self.knows(value) and is_settable(cls, name):
                current = self.current(value)
                # What was written in C was no method: called on an instance, it gets no self.
                bare = type(current) is types.FunctionType and type(value) is not type(current)
                type.__setattr__(cls, name, staticmethod(current) if bare else current)
