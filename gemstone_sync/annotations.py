"""Evaluate annotations: text, names in quotes inside a hint, names around a function or a class.

The one evaluator: parameters, results, event handlers, settings, options of transports and fields
of classes go through it. Each annotation is evaluated on its own, so that one import under
``TYPE_CHECKING`` does not switch off the others.
"""

from __future__ import annotations

import builtins
import collections
import contextlib
import functools
import inspect
import re
import sys
import types
import typing
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any, ForwardRef

from .callables import function_behind

__all__ = [
    "CannotEvaluate",
    "arguments_of",
    "evaluate",
    "evaluator",
    "hints_of",
    "is_alias",
    "keep_names_around",
    "value_of_alias",
    "with_arguments",
]

_TYPE_VARIABLES = (typing.TypeVar, typing.ParamSpec)


class CannotEvaluate(Exception):
    """An annotation holds a name that is not there at run time; the text says which."""


def evaluate(annotation: Any, owner: Any, cls: type | None = None) -> Any:
    """Evaluate one annotation.

    :param annotation: as it stands in ``__annotations__`` or in a signature; what holds no text
        comes back as it is.
    :param owner: the function, class or module in which it stands. What is called like a function
        and wraps one (a partial, a bound method, functools.wraps) stands for the innermost.
    :param cls: the class that has the function, or a subclass: classes that stand in its body are
        known by their names.
    :raises CannotEvaluate: for a name that is not there, or text that is no Python.

    >>> evaluate("dict[str, list['int']]", evaluate)
    dict[str, list[int]]
    """
    return evaluator(owner, cls)(annotation)


def evaluator(owner: Any, cls: type | None = None) -> Callable[[Any], Any]:
    """Return `evaluate` for the annotations of one owner, whose names are looked for once."""
    names: _Names | None = None

    def evaluate_here(annotation: Any) -> Any:
        nonlocal names
        if not _holds_text(annotation):
            return annotation
        if names is None:
            names = _Names(owner, cls)
        return names.evaluated(annotation, ())

    return evaluate_here


def hints_of(cls: type) -> dict[str, Any]:
    """Evaluate the annotations of a class and its bases, but those that cannot be."""
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        evaluated = evaluator(base)
        for name, annotation in vars(base).get("__annotations__", {}).items():
            try:
                found[name] = evaluated(annotation)
            except CannotEvaluate:
                continue
    return found


def is_alias(hint: Any) -> bool:
    """Tell whether a hint was made by ``type Name = ...`` (PEP 695), or its backport."""
    return type(hint).__name__ == "TypeAliasType" and hasattr(hint, "__value__")


def value_of_alias(hint: Any) -> Any:
    """Return what an alias stands for; its text is evaluated where the alias stands.

    :raises CannotEvaluate: for a name that is not there.
    """
    try:
        value = hint.__value__  # which evaluates it
    except Exception as error:
        raise CannotEvaluate(f"{hint} cannot be evaluated: {error}") from error
    return evaluate(value, sys.modules.get(hint.__module__ or "", builtins))


def _holds_text(hint: Any) -> bool:
    if type(hint) is type:
        return False
    if isinstance(hint, (str, ForwardRef)):
        return True
    if typing.get_origin(hint) is typing.Literal:
        return False
    return any(map(_holds_text, arguments_of(hint)))


def arguments_of(hint: Any) -> tuple[Any, ...]:
    """List what stands in a hint's brackets, without the notes of Annotated."""
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is Annotated:
        return arguments[:1]
    # Callable[[int], str] has a list in it.
    flat: list[Any] = []
    for each in arguments:
        flat += each if isinstance(each, list) else [each]
    return tuple(flat)


class _Names:
    """The names that an annotation may use, and what is made of it with them."""

    def __init__(self, owner: Any, cls: type | None) -> None:
        scopes: list[Any] = []
        if isinstance(owner, types.ModuleType):
            names = vars(owner)
        elif isinstance(owner, type):
            names = vars(sys.modules.get(owner.__module__, builtins))
            scopes = [_type_parameters(owner), _TypesIn(owner)]
        else:
            owner = function_behind(owner)  # names mean what they mean where that was written
            names = getattr(owner, "__globals__", {})
            scopes = [_type_parameters(owner)]
            if inspect.isfunction(owner):
                scopes.append(_nonlocals(owner))
            scopes += _class_around(owner, cls)
        # eval would add __builtins__ to a module that has none.
        self._globals = names if "__builtins__" in names else {**names}
        self._scopes = collections.ChainMap(*filter(None, scopes))

    def evaluated(self, hint: Any, inside: tuple[str, ...]) -> Any:
        """:param inside: the texts that this one stands in, so that a circle ends."""
        if isinstance(hint, ForwardRef):
            hint = hint.__forward_arg__
        if isinstance(hint, str):
            if hint in inside:
                raise CannotEvaluate(
                    f"{hint!r} holds itself: write it as `type {hint} = ...` (Python 3.12), "
                    "or with typing_extensions.TypeAliasType"
                )
            return self.evaluated(self._eval(hint), (*inside, hint))
        if not _holds_text(hint):
            return hint
        return with_arguments(hint, lambda inner: self.evaluated(inner, inside))

    def _eval(self, text: str) -> Any:
        try:
            return eval(_compiled(text), self._globals, self._scopes)
        except Exception as error:  # the user's text: it may raise anything
            raise CannotEvaluate(f"{text!r} cannot be evaluated: {error}") from error


@functools.lru_cache(maxsize=1000)  # most methods say the same few words: int, str
def _compiled(text: str) -> types.CodeType:
    return compile(text.strip(), "<string>", "eval")


def _nonlocals(function: types.FunctionType) -> dict[str, Any]:
    """Collect what a function sees of those around it, as far as that has a value yet."""
    found = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # an empty cell
            found[name] = cell.cell_contents
    return found


_AROUND = "__gemstone_names_around__"


def keep_names_around(cls: type, functions: Iterable[Any], frame: types.FrameType) -> None:
    """Keep the local names that annotations of a class's functions use, for `evaluate`.

    A class that is made in a function sees its local classes; once that function has returned,
    nothing else knows what their names meant.

    :param frame: runs the class statement.
    """
    if frame.f_locals is frame.f_globals:
        return
    texts = (
        text
        for function in functions
        for text in getattr(function_behind(function), "__annotations__", {}).values()
        if isinstance(text, str) or _holds_text(text)
    )
    words = {word for text in texts for word in re.findall(r"\w+", str(text))}
    around = dict(frame.f_locals)  # Python 3.13 gives a view that has no sets of keys
    setattr(cls, _AROUND, {word: around[word] for word in words & around.keys()})


def _class_around(function: Any, cls: type | None) -> Iterator[Any]:
    """The names in the body of the class that has a function, and around the class."""
    place = str(getattr(function, "__qualname__", "")).rpartition(".")[0]
    for base in () if cls is None else cls.__mro__:
        if base.__qualname__ == place and base.__module__ == function.__module__:
            yield _type_parameters(base)
            yield _TypesIn(base)
        if _AROUND in vars(base):
            yield vars(base)[_AROUND]


class _TypesIn:
    """The types in a class's body: a method or a default is none, whatever its name."""

    def __init__(self, cls: type) -> None:
        self._names = vars(cls)

    def __getitem__(self, name: str) -> Any:
        value = self._names[name]
        if not _is_type(value):
            raise KeyError(name)
        return value


def _type_parameters(owner: Any) -> dict[str, Any]:
    """The T in ``def first[T](...)`` and ``class Box[T]`` (PEP 695)."""
    return {each.__name__: each for each in getattr(owner, "__type_params__", ())}


def _is_type(value: Any) -> bool:
    if isinstance(value, (type, *_TYPE_VARIABLES, typing.NewType)) or is_alias(value):
        return True
    return typing.get_origin(value) is not None


def with_arguments(hint: Any, change: Callable[[Any], Any]) -> Any:
    """Make the hint that has other hints in its brackets; the notes of Annotated stay."""
    origin = typing.get_origin(hint)
    if origin is Annotated:
        parts = (change(hint.__origin__), *hint.__metadata__)
        return Annotated[parts]
    arguments = tuple(
        [change(inner) for inner in each] if isinstance(each, list) else change(each)
        for each in typing.get_args(hint)
    )
    if origin in (typing.Union, types.UnionType):
        return typing.Union[arguments]  # noqa: UP007
    if isinstance(hint, types.GenericAlias):
        return types.GenericAlias(origin, arguments)
    if hasattr(hint, "copy_with") and not any(isinstance(each, list) for each in arguments):
        return hint.copy_with(arguments)
    return origin[arguments]
