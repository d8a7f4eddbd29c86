"""A type hint -> a function that checks and converts a JSON value, or nothing to check.

msgspec does the work (0.3 µs a parameter); the four plain types are checked here for less. Where a
hint holds what only pydantic understands, or what msgspec cannot tell apart, pydantic does it. The
classes that neither knows are `customs`.
"""

from __future__ import annotations

import abc
import collections.abc
import contextlib
import enum
import functools
import inspect
import re
import sys
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import msgspec

from ..annotations import CannotEvaluate, arguments_of, evaluate, is_alias, value_of_alias
from ..errors import UNSET, ServiceConfigurationError
from .customs import ValueRefused, is_custom, items_of, json_name, json_schema_of, make_custom
from .parts import Parts, is_model, plain_form
from .pydantic_hints import (
    ModelFaults,
    UncheckedModel,
    adapter_for,
    decode_model,
    dropped_by_pydantic,
    holds_constraints,
    holds_pydantic_types,
    validate,
    without_values,
)

__all__ = [
    "ANYTHING",
    "CannotEvaluate",
    "Check",
    "Converter",
    "Fault",
    "UncheckedHint",
    "check_for",
    "converter_for",
    "evaluate",
    "json_schema_of",
    "why_impossible",
]

#: Takes a decoded JSON value, returns the value for the method; raises `Fault`.
Converter: TypeAlias = Callable[[Any], Any]


class Fault(Exception):
    """A value does not fit its hint; `args` say why, one for each place in it."""


class UncheckedHint(Exception):
    """A hint that cannot be checked against JSON; the text says why."""


@dataclass(frozen=True)
class Check:
    """How the values of one hint are checked.

    :ivar convert: None when every JSON value fits.
    :ivar msgspec: the hint by which msgspec checks a value; UNSET when it does not.
    :ivar pydantic: the ``TypeAdapter`` by which pydantic does; None when it does not. Where both
        do, a value must fit both.
    """

    convert: Converter | None = None
    msgspec: Any = UNSET
    pydantic: Any = None


#: Of what every JSON value fits.
ANYTHING = Check()


def converter_for(hint: Any) -> Converter | None:
    """Make the check for `hint`; None when every JSON value fits it. See `check_for`."""
    return check_for(hint).convert


def check_for(hint: Any, *, strict: bool = True) -> Check:
    """Make the check for `hint`.

    :param hint: a hint that `evaluate` has seen.
    :param strict: False lets a text stand for a number or a bool: ``"3"`` for an int.
    :raises UncheckedHint: when no JSON value can ever be of that type, or nothing here knows it.
    :raises ServiceConfigurationError: for a constraint that nothing here understands.

    >>> check_for(list[int]).convert([1, 2])
    [1, 2]
    """
    if hint is inspect.Parameter.empty or hint is Any or hint is object:
        return ANYTHING
    for plain, found in _PLAIN if strict else ():
        if hint is plain:
            return found
    if isinstance(hint, (typing.ParamSpecArgs, typing.ParamSpecKwargs)):
        raise UncheckedHint(f"{hint} says nothing of what is given; functools.wraps would")
    try:
        if (plain_hint := plain_form(hint)) is not hint:
            return check_for(plain_hint, strict=strict)
        try:
            hash(hint)
        except TypeError:  # of a note in Annotated
            return _check_with_libraries(hint, strict)
        return _check_once(hint, repr(hint), strict)
    except CannotEvaluate as error:
        raise UncheckedHint(str(error)) from error
    except RecursionError as error:
        raise UncheckedHint(f"{hint!r} has no end") from error


@functools.lru_cache(maxsize=256)
def _check_once(hint: Any, text: str, strict: bool) -> Check:
    """:param text: its repr, which tells hints apart that are equal: the order in a union."""
    return _check_with_libraries(hint, strict)


def _check_with_libraries(hint: Any, strict: bool) -> Check:
    parts = Parts(hint)
    _refuse_unsatisfiable(parts)
    if (dropped := dropped_by_pydantic(parts)) is not None:
        raise UncheckedHint(f"nothing here knows the constraint {dropped}")
    with_msgspec = functools.partial(_convert_with_msgspec, hint, strict)
    refusal = _refusal_of_msgspec(hint, parts, strict)
    if not holds_pydantic_types(parts):
        if refusal is None:
            return Check(with_msgspec, hint)
        adapter = adapter_for(hint, only_json=True)
        if adapter is None or any(map(_has_msgspec_constraints, parts.notes)):
            raise UncheckedHint(refusal)
        return Check(functools.partial(_validate_with_pydantic, adapter, strict), pydantic=adapter)
    adapter = _adapter_or_refusal(hint, parts, refusal)
    if adapter is None:
        return Check(with_msgspec, hint)
    if (key := next(filter(_is_number_choice, parts.keys), None)) is not None:
        raise UncheckedHint(f"pydantic makes no {key} of the key of a JSON object")
    check = functools.partial(_validate_with_pydantic, adapter, strict)
    if not any(map(_has_msgspec_constraints, parts.notes)):
        return Check(check, pydantic=adapter)
    # Neither understands the other's constraints, and each drops what it does not understand.
    if refusal is not None:
        raise ServiceConfigurationError(f"constraints that cannot be checked: {refusal}")

    def check_both(value: Any) -> Any:
        with_msgspec(value)
        return check(value)

    return Check(check_both, hint, adapter)


def _refuse_unsatisfiable(parts: Parts) -> None:
    """Refuse what pydantic takes for a hint although no JSON value passes.

    :raises UncheckedHint: saying what it is.
    """
    try:
        for each in parts.atoms:
            if each in (collections.abc.Iterator, collections.abc.Generator):
                raise UncheckedHint(f"no JSON value is a {each.__name__}")
            is_enum = isinstance(each, type) and issubclass(each, enum.Enum)
            if is_enum or typing.get_origin(each) is typing.Literal:
                msgspec.inspect.type_info(each)
    except NotImplementedError:
        raise UncheckedHint("integers beyond 64 bits in an enum or a Literal") from None
    except TypeError as error:
        raise UncheckedHint(str(error)) from error
    for generic in parts.generics:
        if _is_set(typing.get_origin(generic)):
            for each in arguments_of(generic):
                if (unhashable := _unhashable_in(each)) is not None:
                    raise UncheckedHint(f"no item of a set is a {unhashable}")
    for key in parts.keys:
        with contextlib.suppress(TypeError):  # of a union that msgspec does not take
            info = msgspec.inspect.type_info(key)
            if not _may_be_key(info):
                raise UncheckedHint(f"no key of a JSON object is a {_name_of_info(info)}")


def _is_set(cls: Any) -> bool:
    return isinstance(cls, type) and issubclass(cls, collections.abc.Set)


def _unhashable_in(hint: Any) -> str | None:
    """Name what values of a hint may be and no item of a set can: a list, a dict, most classes."""
    hint = value_of_alias(hint) if is_alias(hint) else hint
    hint = getattr(hint, "__supertype__", hint)
    cls = typing.get_origin(hint) or hint
    if cls in (typing.Union, types.UnionType, typing.Annotated, tuple):
        return next(filter(None, map(_unhashable_in, arguments_of(hint))), None)
    if not isinstance(cls, type):
        return None
    struct = getattr(cls, "__struct_config__", None)
    if struct is not None:
        return cls.__name__ if struct.eq and not struct.frozen else None
    # The abstract ones come as list, dict and set.
    is_one = cls.__hash__ is None or cls.__module__ == "collections.abc"
    return cls.__name__ if is_one else None


def _is_number_choice(key: Any) -> bool:
    """Tell whether a key is one of a few numbers, which pydantic compares with the text."""
    if isinstance(key, type) and issubclass(key, enum.Enum):
        return not issubclass(key, int) and any(isinstance(each.value, int) for each in key)
    return typing.get_origin(key) is typing.Literal and any(
        isinstance(each, int) for each in typing.get_args(key)
    )


def _adapter_or_refusal(hint: Any, parts: Parts, refusal: str | None) -> Any:
    """Return pydantic's adapter; None when msgspec loses nothing of what pydantic cannot make."""
    try:
        return adapter_for(hint)
    except UncheckedModel as error:
        raise UncheckedHint(str(error)) from None
    except ServiceConfigurationError:
        if holds_constraints(parts):
            raise
    if refusal is not None:
        raise UncheckedHint(refusal)
    try:
        for model in filter(is_model, parts.classes):
            adapter_for(model)
    except UncheckedModel as error:
        raise UncheckedHint(str(error)) from None
    return None


def _has_msgspec_constraints(note: Any) -> bool:
    constraints = ("gt", "ge", "lt", "le", "multiple_of", "pattern", "min_length", "max_length")
    return isinstance(note, msgspec.Meta) and any(
        getattr(note, name) is not None for name in (*constraints, "tz")
    )


# msgspec


def _refusal_of_msgspec(hint: Any, parts: Parts, strict: bool) -> str | None:
    """Say why msgspec cannot check a hint; None when it can."""
    if parts.recursive:
        return f"{hint} holds itself, which needs pydantic"
    try:
        _refuse_unconvertible(msgspec.inspect.type_info(hint), set())
        for generic in parts.generics:
            if (items := items_of(generic)) is not None:
                check_for(items, strict=strict)
        make = functools.partial(_make_other, strict)
        msgspec.json.Decoder(hint, dec_hook=make)  # raises for unions it cannot tell apart
    except UncheckedHint as error:
        return str(error)
    except Exception as error:  # TypeError and NameError, but a hint may be anything
        told = str(error) or type(error).__name__
        return _QUOTED_INSIDE.sub(r"write the whole hint in quotes, not \1 in it", told)
    return None


#: What msgspec says before Python 3.11 of a class's field that is ``list["Node"]``.
_QUOTED_INSIDE = re.compile(r"^Type '('.*')' is not supported$")


_NO_JSON: dict[Any, str] = {
    msgspec.inspect.ExtType: "no JSON value is a msgpack.Ext",
    msgspec.inspect.RawType: "msgspec.Raw is made of bytes, and values are decoded already",
}


def _refuse_unconvertible(info: Any, seen: set[type]) -> None:
    """Refuse hints that hold a class which JSON cannot give, wherever they stand in the type."""
    cls = getattr(info, "cls", None)
    if (why := _NO_JSON.get(type(info))) is not None:
        raise TypeError(why)
    if isinstance(info, msgspec.inspect.CustomType):
        if not is_model(info.cls) and not is_custom(info.cls):
            raise TypeError(f"no JSON value is a {info.cls.__qualname__}")
        return
    if isinstance(info, msgspec.inspect.DictType) and not _may_be_key(info.key_type):
        raise TypeError(f"no key of a JSON object is a {_name_of_info(info.key_type)}")
    if isinstance(info, msgspec.inspect.UnionType):
        _refuse_merged(info)
    if cls is not None:
        if cls in seen:  # a type that holds itself
            return
        seen.add(cls)
    for part in ("item_type", "key_type", "value_type", "type"):
        if (inner := getattr(info, part, None)) is not None:
            _refuse_unconvertible(inner, seen)
    for parts in ("types", "item_types", "fields"):
        for inner in getattr(info, parts, ()):
            _refuse_unconvertible(inner, seen)


def _refuse_merged(union: Any) -> None:
    """Refuse what msgspec applies the constraints of one member to all of a kind for.

    ``Annotated[int, Meta(ge=3)] | float`` would refuse 0, which is a float's value too.
    """
    ints, floats, texts = [], [], []
    for info in union.types:
        while isinstance(info, msgspec.inspect.Metadata):
            info = info.type
        values = info.values if isinstance(info, msgspec.inspect.LiteralType) else ()
        if isinstance(info, msgspec.inspect.IntType) or any(type(v) is int for v in values):
            ints.append(info)
        if isinstance(info, msgspec.inspect.FloatType):
            floats.append(info)
        if isinstance(info, msgspec.inspect.StrType) or any(type(v) is str for v in values):
            texts.append(info)
    for kind, mixed, other in (("int", ints, floats), ("float", floats, []), ("str", texts, [])):
        alike = all(info == mixed[0] for info in mixed)
        if any(map(_is_bounded, mixed)) and (not alike or other):
            raise TypeError(f"in a union the constraints of one {kind} are those of all")


def _is_bounded(info: Any) -> bool:
    names = ("gt", "ge", "lt", "le", "multiple_of", "pattern", "min_length", "max_length")
    return any(getattr(info, name, None) is not None for name in names)


_NO_KEYS = tuple(
    getattr(msgspec.inspect, f"{name}Type")
    for name in (
        *("Bool", "None", "List", "Tuple", "VarTuple", "Set", "FrozenSet", "Dict"),
        *("Dataclass", "Struct", "TypedDict", "NamedTuple"),
    )
)


def _may_be_key(info: Any) -> bool:
    if isinstance(info, msgspec.inspect.UnionType):
        return any(map(_may_be_key, info.types))
    return not isinstance(info, _NO_KEYS)


def _name_of_info(info: Any) -> str:
    return type(info).__name__.removesuffix("Type").lower()


def _make_other(strict: bool, hint: Any, value: Any) -> Any:
    """Make what msgspec does not know; it is msgspec's ``dec_hook``."""
    cls = typing.get_origin(hint) or hint
    if is_model(cls):
        return decode_model(hint, value, strict)
    return make_custom(hint, value, functools.partial(_convert_inner, strict))


def _convert_inner(strict: bool, hint: Any, value: Any) -> Any:
    try:
        return _convert_with_msgspec(hint, strict, value)
    except Fault as fault:
        raise ModelFaults(list(fault.args)) from fault


#: msgspec repeats the caller's value here, which may be a password that stands in the wrong place.
_VALUE = re.compile(r"^(Invalid (?:enum )?value) .*?(?= - at `|$)", re.DOTALL)

_PLACE = re.compile(r" - at `\$([^`]*)`$")


def _convert_with_msgspec(hint: Any, strict: bool, value: Any) -> Any:
    try:
        return msgspec.convert(
            value,
            hint,
            strict=strict,
            str_keys=True,
            dec_hook=_MAKE_STRICTLY if strict else _MAKE_LAXLY,
        )
    except msgspec.ValidationError as error:
        cause, told = error.__cause__, str(error)
        if isinstance(cause, ModelFaults):
            raise Fault(*_with_outer_place(cause.reasons, told)) from None
        if cause is not None and not isinstance(cause, ValueRefused):  # of a __post_init__
            told = without_values(told, value)
        raise Fault(_VALUE.sub(r"\1", told)) from error
    except RecursionError as error:
        raise Fault("nested too deeply") from error
    except Exception as error:
        raise _user_code_fault(error) from error


_MAKE_STRICTLY = functools.partial(_make_other, True)
_MAKE_LAXLY = functools.partial(_make_other, False)


def _user_code_fault(error: Exception) -> Fault:
    """Make the fault of what a class or a validator of the user's raised for a value."""
    return Fault(f"Cannot be made of this value: {type(error).__name__}")


def _with_outer_place(reasons: list[str], told: str) -> list[str]:
    """Put the place at which msgspec found a model before the places in it."""
    outer = _PLACE.search(told)
    if outer is None or outer[0] in reasons[-1]:
        return reasons
    return [
        _PLACE.sub("", reason) + f" - at `${outer[1]}{inner[1] if inner else ''}`"
        for reason in reasons
        for inner in [_PLACE.search(reason)]
    ]


# pydantic


def _validate_with_pydantic(adapter: Any, strict: bool, value: Any) -> Any:
    try:
        return validate(adapter, value, strict)
    except ModelFaults as error:
        raise Fault(*error.reasons) from None
    except RecursionError as error:
        raise Fault("nested too deeply") from error
    except Exception as error:
        raise _user_code_fault(error) from error


# The four plain types


def _plain_type_converter(hint: type) -> Converter:
    if hint is float:

        def check(value: Any) -> Any:
            kind = type(value)
            if kind is float:
                return value
            if kind is int:
                # An int beyond a float's range is a fault.
                return _convert_with_msgspec(float, True, value)
            raise Fault(f"Expected `float`, got `{json_name(value)}`")

    else:
        expected = hint.__name__

        def check(value: Any) -> Any:
            if type(value) is hint:
                return value
            raise Fault(f"Expected `{expected}`, got `{json_name(value)}`")

    return check


_PLAIN = tuple((each, Check(_plain_type_converter(each), each)) for each in (str, bool, int, float))


# What can never be


def why_impossible(hint: Any) -> str | None:
    """Say why no JSON value can ever be a parameter; None when one may be, or nobody can tell.

    >>> why_impossible(type("Money", (), {}))
    'no JSON value is a Money'
    """
    if type(hint) is type and hint.__module__ == "builtins" and hint is not type:
        return None
    while isinstance(hint, typing.NewType) or typing.get_origin(hint) is typing.Annotated:
        hint = getattr(hint, "__supertype__", None) or hint.__origin__
    cls = typing.get_origin(hint) or hint
    if cls in (collections.abc.Callable, type):
        return f"no JSON value is a {cls.__name__}"
    if (
        not isinstance(cls, type)
        or cls is object
        or not _is_users_alone(cls)
        or holds_pydantic_types(Parts(cls))
    ):
        return None
    try:
        _refuse_unconvertible(msgspec.inspect.type_info(cls), set())
    except TypeError as error:
        return str(error)
    except Exception:  # whatever else there is about it, the check says at the start
        return None
    return None


def _is_users_alone(cls: type) -> bool:
    """Tell whether a class has nothing from the standard library, which JSON may well have."""
    modules = {base.__module__.partition(".")[0] for base in cls.__mro__ if base not in _NEUTRAL}
    return not modules & sys.stdlib_module_names


_NEUTRAL = {object, typing.Generic, typing.Protocol, abc.ABC}
