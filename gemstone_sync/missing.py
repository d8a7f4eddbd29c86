"""Make the errors for missing names, which tell the name here for one of gemstone (`old_names`)."""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["OldName", "check_module", "missing_attribute", "missing_name", "twin_of"]

_PACKAGE = f"{__name__.partition('.')[0]}."


def twin_of(name: str) -> str | None:
    """Find the name here that replaces one of gemstone's; None for any other."""
    from .old_names import TWINS

    return TWINS.get(name.removeprefix(_PACKAGE))


def missing_attribute(self: object, name: str) -> Any:
    """Serve as the ``__getattr__`` of a class that lacks what gemstone's had."""
    if hasattr(type(self), name):  # a property, which raised an AttributeError: again, for its text
        return object.__getattribute__(self, name)
    line = f"{type(self).__qualname__!r} object has no attribute {name!r}"
    if not name.startswith("__"):  # as copying asks for, and nobody misses
        for cls in type(self).__mro__:
            if (twin := twin_of(f"{cls.__name__}.{name}")) is not None:
                raise AttributeError(f"{line}: {twin}", name=name)  # no obj: no more suggestions
    raise AttributeError(line, name=name, obj=self)


class OldName:
    """Stands in a class whose objects every call reads: ``__getattr__`` would slow all of it down.

    What is read from the class itself is told as well.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self._owner, self._name = owner.__name__, name

    def __get__(self, instance: object, owner: type) -> Any:
        kind = repr(owner.__name__)
        what = f"type object {kind}" if instance is None else f"{kind} object"
        twin = twin_of(f"{self._owner}.{self._name}")
        raise AttributeError(f"{what} has no attribute {self._name!r}: {twin}", name=self._name)


def missing_name(module: str, name: str) -> Exception:
    """Make the exception that a module's ``__getattr__`` raises."""
    if (twin := twin_of(f"{module}.{name}")) is None:
        return AttributeError(f"module {module!r} has no attribute {name!r}")
    line = f"{module} has no {name}: {twin}"
    # `from module import name` makes an ImportError of its own of every AttributeError.
    from opcode import opmap

    frame = sys._getframe(2)
    if frame.f_code.co_code[frame.f_lasti] == opmap["IMPORT_FROM"]:
        return ImportError(line, name=module)
    return AttributeError(line, name=name)


def check_module(name: str) -> None:
    """:raises ImportError: naming the twin, for a module that gemstone had."""
    if (twin := twin_of(name)) is not None:
        place, _, last = name.rpartition(".")
        # Not ModuleNotFoundError, which `from place import last` passes over.
        raise ImportError(f"{place} has no {last}: {twin}", name=name)
