"""Containers: classes whose methods are exposed, and how their methods are found."""

from __future__ import annotations

import concurrent.futures
import functools
import inspect
import types
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..callables import function_behind
from ..errors import ServiceConfigurationError
from ..missing import missing_attribute
from .decorators import Marks, marks_of

if TYPE_CHECKING:
    from .microservice import MicroService

__all__ = ["Container", "Module"]

#: What is no callable itself and gives one.
_METHODS = (classmethod, functools.partialmethod, functools.singledispatchmethod)


class Container:
    """A group of exposed methods, event handlers, periodic methods and routes.

    List instances of your subclasses in a service's ``modules``::

        class Users(gemstone_sync.Module):
            @gemstone_sync.exposed_method("users.count")
            def count(self) -> int:
                return len(self.microservice.users)

        class MyService(gemstone_sync.MicroService):
            name = "my.service"
            modules = [Users()]

    A second service that lists the same module gets a copy of it, as it was before the first used
    it.
    """

    #: The service that the container belongs to; None until a service takes it. For type checkers
    #: it may be any: annotate it with your own service class in your subclass.
    microservice: Any = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in _marked(cls):
            member = inspect.getattr_static(cls, name)
            _refuse_selfless(cls, name, member)
            _refuse_async(cls, name, member)
        _refuse_same_names(cls)

    def set_microservice(self, microservice: MicroService, /) -> None:
        """Called by the service that takes the container."""
        self.microservice = microservice

    def get_executor(self) -> concurrent.futures.ThreadPoolExecutor:
        """The executor of the service: see `MicroService.get_executor`."""
        executor: concurrent.futures.ThreadPoolExecutor = self.microservice.get_executor()
        return executor

    def get_exposed_methods(self) -> list[Callable[..., Any]]:
        """The bound methods that callers may call."""
        return [method for method, marks in self.marked_methods() if marks.exposed]

    def get_event_handlers(self) -> list[Callable[..., Any]]:
        """The bound methods that handle events."""
        return [method for method, marks in self.marked_methods() if marks.events]

    def marked_methods(self) -> Iterator[tuple[Callable[..., Any], Marks]]:
        """Every decorated method, bound, with its marks; base classes first."""
        for name, marks in _marked(type(self)).items():
            yield getattr(self, name), marks

    if not TYPE_CHECKING:  # or checkers would believe that there is every name
        __getattr__ = missing_attribute


def _marked(cls: type) -> dict[str, Marks]:
    names = dict.fromkeys(name for base in reversed(cls.__mro__) for name in vars(base))
    found = {name: _marks_in(cls, name) for name in names}
    return {name: marks for name, marks in found.items() if marks != Marks()}


def _marks_in(cls: type, name: str) -> Marks:
    """The marks of an attribute; an override without a decorator keeps those it overrides."""
    for base in cls.__mro__:
        if name in vars(base):
            member = vars(base)[name]
            if not callable(member) and not isinstance(member, _METHODS):
                return Marks()  # overridden by None or a property: no longer exposed
            marks = marks_of(member)
            if marks != Marks():
                return replace(marks, name=marks.name or name)
    return Marks()


def _refuse_selfless(cls: type, name: str, member: object) -> None:
    if isinstance(member, types.FunctionType):
        code = member.__code__
        if code.co_argcount == 0 and not code.co_flags & inspect.CO_VARARGS:
            raise ServiceConfigurationError(
                f"{cls.__qualname__}.{name} is a method: it needs a first parameter, self"
            )


def _refuse_async(cls: type, name: str, member: object) -> None:
    function = function_behind(member)
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        kind = "an async def method"
    elif inspect.isgeneratorfunction(function):
        kind = "a generator"
    else:
        return
    raise ServiceConfigurationError(
        f"{cls.__qualname__}.{name} is {kind}: write plain blocking code. Each call has a greenlet "
        "of its own, and whatever blocks in it lets the others run."
    )


def _refuse_same_names(cls: type) -> None:
    taken: dict[str, str] = {}
    for name, marks in _marked(cls).items():
        if not marks.exposed or marks.name is None:
            continue
        if marks.name in taken:
            raise ValueError(
                f"cannot expose two methods under the name {marks.name!r}: "
                f"{cls.__qualname__}.{taken[marks.name]} and {cls.__qualname__}.{name}"
            )
        taken[marks.name] = name


class Module(Container):
    """The same as `Container`, under the name that gemstone 0.10 gave it."""
