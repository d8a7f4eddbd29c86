"""Look into a hint: its classes, their fields, the notes in Annotated, the aliases. Pure."""

from __future__ import annotations

import collections.abc
import dataclasses
import sys
import typing
from typing import Annotated, Any

from ..annotations import (
    arguments_of,
    evaluate,
    hints_of,
    is_alias,
    value_of_alias,
    with_arguments,
)

__all__ = ["Parts", "is_model", "plain_form"]

#: Stand around the hint of a value, and say nothing of the value.
_WRAPPERS = ("Final", "ClassVar", "Required", "NotRequired", "ReadOnly")
#: What an array is handed on as, where any iterable is wanted. pydantic's own check of one is lazy:
#: it would fail in the middle of the method.
_ITERABLES = (
    collections.abc.Iterable,
    collections.abc.Container,
    collections.abc.Reversible,
    collections.abc.Collection,
)


def is_model(cls: Any) -> bool:
    """Tell whether a class is a pydantic model."""
    return hasattr(cls, "model_validate") and hasattr(cls, "model_fields")


def plain_form(hint: Any) -> Any:
    """Write a hint with what the validators know: without TypeVars, wrappers, Iterable.

    >>> plain_form(dict[str, typing.Iterable[int]])
    dict[str, list[int]]
    """
    if type(hint) is type:
        return hint
    if isinstance(hint, typing.TypeVar):
        return plain_form(_of_variable(hint))
    if getattr(hint, "_name", None) == "LiteralString":
        return str
    origin = typing.get_origin(hint)
    if any(each is (origin or hint) for each in _ITERABLES):
        items = arguments_of(hint)
        return list[plain_form(items[0])] if items else list  # type: ignore[misc]
    if origin is None or origin is typing.Literal:
        return hint
    arguments = arguments_of(hint)
    if getattr(origin, "_name", None) in _WRAPPERS:
        return plain_form(arguments[0])
    plain = {id(each): plain_form(each) for each in arguments}
    if all(plain[id(each)] is each for each in arguments):
        return hint
    return with_arguments(hint, lambda each: plain[id(each)])


def _of_variable(variable: Any) -> Any:
    owner = sys.modules.get(variable.__module__ or "", typing)
    if variable.__bound__ is not None:
        return evaluate(variable.__bound__, owner)
    if variable.__constraints__:
        choices = tuple(evaluate(each, owner) for each in variable.__constraints__)
        return typing.Union[choices]  # noqa: UP007
    return Any


class Parts:
    """The parts of a hint.

    :ivar classes: in it and in the fields of its dataclasses, Structs, TypedDicts, NamedTuples; but
        not in pydantic's models, which look after themselves.
    :ivar notes: what stands in Annotated.
    :ivar atoms: the classes, and whatever else has no hint in it, as ``Literal[1]``.
    :ivar generics: hints with brackets.
    :ivar keys: the hints of the keys of dicts.
    :ivar recursive: an alias holds itself (``type Tree = list[Tree]``).
    :raises CannotEvaluate: for an alias that holds a name that is not there.
    """

    def __init__(self, hint: Any) -> None:
        self.classes: list[type] = []
        self.notes: list[Any] = []
        self.atoms: list[Any] = []
        self.keys: list[Any] = []
        self.generics: list[Any] = []
        self.recursive = False
        self._seen: dict[int, Any] = {}  # keeps them, or another would get the id of one that went
        self._look(hint, ())

    def _look(self, hint: Any, aliases: tuple[Any, ...]) -> None:
        if any(hint is alias for alias in aliases):
            self.recursive = True
        if id(hint) in self._seen:
            return
        self._seen[id(hint)] = hint
        origin = typing.get_origin(hint)
        if is_alias(hint):
            self._look(value_of_alias(hint), (*aliases, hint))
        elif isinstance(hint, typing.NewType):
            self._look(hint.__supertype__, aliases)
        elif isinstance(hint, typing.TypeVar):
            self._look(_of_variable(hint), aliases)
        elif origin is Annotated:
            self.notes += hint.__metadata__
            self._look(hint.__origin__, aliases)
        elif origin is not None and origin is not typing.Literal:
            self._look_into_generic(hint, origin, aliases)
        else:
            self._look_into_atom(hint, aliases)

    def _look_into_generic(self, hint: Any, origin: Any, aliases: tuple[Any, ...]) -> None:
        self.generics.append(hint)
        if isinstance(origin, type) and issubclass(origin, collections.abc.Mapping):
            self.keys += arguments_of(hint)[:1]
        for inner in (origin, *arguments_of(hint)):
            self._look(inner, aliases)

    def _look_into_atom(self, hint: Any, aliases: tuple[Any, ...]) -> None:
        self.atoms.append(hint)
        if isinstance(hint, type):
            self.classes.append(hint)
            for inner in hints_of(hint).values() if _has_fields(hint) else ():
                self._look(inner, aliases)


def _has_fields(cls: type) -> bool:
    if cls.__module__ in ("builtins", "typing", "collections.abc") or is_model(cls):
        return False
    return bool(
        dataclasses.is_dataclass(cls)
        or hasattr(cls, "__struct_fields__")
        or hasattr(cls, "__attrs_attrs__")
        or hasattr(cls, "__total__")
        or (issubclass(cls, tuple) and hasattr(cls, "_fields"))
    )
