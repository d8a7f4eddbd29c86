"""Containers: classes whose methods are exposed, and how their methods are found."""

from __future__ import annotations

import concurrent.futures
import copy
import functools
import inspect
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from ..annotations import CannotEvaluate, evaluator, keep_names_around
from ..callables import function_behind
from ..config import setting
from ..config.declaration import declarations_of, refuse_member_names, refuse_settings
from ..contract import ParameterBinder
from ..contract.examples import Signature, refuse_unfit
from ..contract.hints import why_impossible
from ..contract.signatures import result_hint
from ..errors import ServiceConfigurationError
from ..missing import missing_attribute
from .class_file import class_statement
from .decorators import UNMARKED, Marks, check_method_name, marks_of

__all__ = ["Container", "Module", "attach"]

T = TypeVar("T", bound=Any)

#: The attribute of an attached part that holds a copy of it as it was before.
_PRISTINE = "_gemstone_pristine"

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
    microservice: Any = setting(None, in_code="is set by the framework")

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        marked = _marked(cls)
        keep_names_around(cls, (each.member for each in marked.values()), class_statement())
        for name, (member, _) in marked.items():
            _refuse_selfless(cls, name, member)
            _refuse_async(cls, name, member)
            _refuse_handler_elsewhere(cls, name, marked[name].marks)
        _refuse_hidden(cls)
        _refuse_unexposable(cls, marked)
        _refuse_same_names(cls, marked)
        if hasattr(cls, "configurables"):  # a service
            refuse_member_names(cls)
        else:
            refuse_settings(cls, "module")
        _refuse_unfit_examples(cls, marked)

    def set_microservice(self, microservice: Any, /) -> None:
        """Called by the service that takes the container."""
        self.microservice = microservice

    def get_executor(self) -> concurrent.futures.ThreadPoolExecutor:
        """Return the executor of the service: see `MicroService.get_executor`."""
        executor: concurrent.futures.ThreadPoolExecutor = self.microservice.get_executor()
        return executor

    def get_exposed_methods(self) -> list[Callable[..., Any]]:
        """List the bound methods that callers may call."""
        return [method for method, marks in self.marked_methods() if marks.exposed]

    def get_event_handlers(self) -> list[Callable[..., Any]]:
        """List the bound methods that handle events."""
        return [method for method, marks in self.marked_methods() if marks.events]

    def attribute_of(self, exposed: str) -> str | None:
        """Return the attribute that is exposed under a name; None when there is none."""
        found = _marked(type(self)).items()
        return next((a for a, m in found if m.marks.exposed and m.marks.name == exposed), None)

    def marked_methods(self) -> Iterator[tuple[Callable[..., Any], Marks]]:
        """List the decorated methods, bound, with their marks; base classes first."""
        for name, (_, marks) in _marked(type(self)).items():
            yield getattr(self, name), marks

    if not TYPE_CHECKING:  # or checkers would believe that there is every name

        def __getattr__(self, name: str) -> Any:
            if name in vars(self).get("_gemstone_left", ()):
                raise AttributeError(
                    f"{name} is not here: this is the process of a cpu=True method, which has a "
                    "copy of the settings and of what can be pickled"
                )
            return missing_attribute(self, name)


class _Marked(NamedTuple):
    """A decorated member of a class, as it stands there, with its marks."""

    member: Any
    marks: Marks


def _marked(cls: type) -> dict[str, _Marked]:
    """Find the decorated members by name; an override without a decorator keeps the marks."""
    found: dict[str, _Marked | None] = {}
    for base in reversed(cls.__mro__):
        for name, member in vars(base).items():
            if not callable(member) and not isinstance(member, _METHODS):
                found[name] = None  # overridden by None or a property: no longer exposed
                continue
            marks = marks_of(member)
            if marks is not UNMARKED:
                named = marks if marks.name else replace(marks, name=name)
                found[name] = _Marked(member, named)
            elif (before := found.setdefault(name, None)) is not None:
                found[name] = _Marked(member, before.marks)
    return {name: each for name, each in found.items() if each is not None}


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


def _refuse_handler_elsewhere(cls: type, name: str, marks: Marks) -> None:
    """Refuse a method that takes the handler, which belongs to the call's greenlet, elsewhere."""
    if marks.runs_in is not None and marks.needs_handler:
        raise ServiceConfigurationError(
            f"{cls.__qualname__}.{name} runs in {marks.runs_in}: it cannot take the handler; take "
            "what it needs of it as parameters, or have a method that takes it call this one"
        )


def _refuse_hidden(cls: type) -> None:
    """Refuse what was marked and then made a property."""
    for name, member in vars(cls).items():
        hidden = member.fget if isinstance(member, property) else None
        hidden = member.func if isinstance(member, functools.cached_property) else hidden
        if marks_of(hidden).exposed:
            raise ServiceConfigurationError(
                f"{cls.__qualname__}.{name} is a {type(member).__name__}: only methods are exposed"
            )


def _refuse_unexposable(cls: type, marked: Mapping[str, _Marked]) -> None:
    """Refuse what cannot be called by its name, or never with a right value."""
    settings = declarations_of(cls)
    for name, (member, marks) in marked.items():
        if not marks.exposed and not marks.events:
            continue
        place = f"{cls.__qualname__}.{name}"
        if marks.exposed:
            try:
                check_method_name(marks.name or name)
            except ValueError as error:
                raise ServiceConfigurationError(f"{place}: {error}") from None
            rule = settings[name].rule if name in settings else None
            if rule is not None and not rule.fits(getattr(cls, name)):
                raise ServiceConfigurationError(
                    f"{place} is a setting of the service: give the method another name, and "
                    f"callers the same with exposed_method({name!r})"
                )
        _refuse_impossible(cls, place, member, marks)


def _refuse_impossible(cls: type, place: str, member: object, marks: Marks) -> None:
    function = getattr(member, "__func__", member)
    if not inspect.isfunction(function):
        return
    evaluated = evaluator(function, cls)
    hints = function_behind(function).__annotations__.values()
    if not any(_why_impossible(hint, evaluated) for hint in hints):
        return  # which is quicker than finding out what takes the handler
    parameters = [*inspect.signature(function).parameters.values()]
    own = not isinstance(member, staticmethod)
    for parameter in parameters[own + marks.needs_handler :]:
        why = _why_impossible(parameter.annotation, evaluated)
        if why is not None:
            raise ServiceConfigurationError(
                f"{place}: parameter {parameter.name!r} can never be given: {why}"
            )


def _refuse_unfit_examples(cls: type, marked: Mapping[str, _Marked]) -> None:
    for name, (member, marks) in marked.items():
        if not marks.told.examples:
            continue
        found = getattr(cls, name)
        own = not isinstance(member, staticmethod)
        function = getattr(found, "__func__", found)  # of a classmethod
        skip = own + marks.needs_handler
        # What names a class that is not there yet is not checked before the start.
        binder = ParameterBinder(
            function, skip=skip, cls=cls, strict=getattr(cls, "strict_types", True), warn=False
        )
        signature = Signature(binder, function, cls, result_hint(function, marks.told.result))
        refuse_unfit(f"{cls.__qualname__}.{name}", marks.told.examples, signature)


def _why_impossible(annotation: Any, evaluated: Callable[[Any], Any]) -> str | None:
    try:
        return why_impossible(evaluated(annotation))
    except CannotEvaluate:  # it may be there at the start
        return None


def _refuse_same_names(cls: type, marked: Mapping[str, _Marked]) -> None:
    taken: dict[str, str] = {}
    for name, (_, marks) in marked.items():
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


def attach(part: T, service: Any) -> T:
    """Attach a module or plugin to a service: they stand in class-level lists, yet none is shared.

    The first service takes the object itself, so that who made it sees what it does; a copy of it
    as it was then is kept for the services after.

    :returns: what the service is to use: `part`, or a copy of it.
    :raises ServiceConfigurationError: when a second service needs a copy that cannot be made.
    """
    if part.microservice is None:
        try:
            pristine = copy.deepcopy(part)
        except Exception:  # it holds a lock, a socket, …: found out only if a copy is needed
            pristine = None
        setattr(part, _PRISTINE, pristine)
    elif part.microservice is not service:
        pristine = getattr(part, _PRISTINE, None)
        if pristine is None:
            raise ServiceConfigurationError(
                f"{type(part).__qualname__} serves {part.microservice.name!r} already and cannot "
                "be copied: set the list on each service in its __init__"
            )
        part = copy.deepcopy(pristine)
        setattr(part, _PRISTINE, pristine)
    part.set_microservice(service)
    return part
