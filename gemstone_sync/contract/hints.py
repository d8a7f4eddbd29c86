"""One annotation -> a function that checks and converts a JSON value, or nothing to check.

msgspec does the work (0.3 µs a parameter); the four plain types are checked here for less.
"""

from __future__ import annotations

import builtins
import functools
import inspect
import re
from collections.abc import Callable
from typing import Any, TypeAlias

import msgspec

from ..callables import function_behind
from .pydantic_hints import ModelFaults, decode_model, is_model, validator_for

__all__ = ["Converter", "Fault", "UncheckedHint", "converter_for", "resolve"]

#: Takes a decoded JSON value, returns the value for the method; raises `Fault`.
Converter: TypeAlias = Callable[[Any], Any]


class Fault(Exception):
    """A value does not fit its hint; `args` say why, one for each place in it."""


class UncheckedHint(Exception):
    """A hint that cannot be checked against JSON; the text says why."""


def resolve(annotation: object, function: Callable[..., Any]) -> Any:
    """Evaluate an annotation that is still text (``from __future__ import annotations``).

    Each is evaluated on its own, so that one import under ``TYPE_CHECKING`` does not switch off
    the checks of the others.

    :raises UncheckedHint: when a name in it is not defined at run time.
    """
    if not isinstance(annotation, str):
        return annotation
    function = function_behind(function)  # names mean what they mean where that was written
    scope = dict(inspect.getclosurevars(function).nonlocals)
    namespace = {**vars(builtins), **function.__globals__}
    try:
        return eval(annotation, namespace, scope)
    except Exception as error:
        raise UncheckedHint(f"{annotation!r} cannot be evaluated: {error}") from error


def converter_for(hint: Any) -> Converter | None:
    """Make the check for `hint`; None when every JSON value fits it.

    :raises UncheckedHint: when no JSON value can ever be of that type, or msgspec refuses it.
    :raises ServiceConfigurationError: for a constraint that nothing here understands.
    """
    if hint is inspect.Parameter.empty or hint is Any or hint is object:
        return None
    if hint in (str, bool, int, float):
        return _plain(hint)
    if (validate := validator_for(hint)) is not None:
        return functools.partial(_validate, validate)
    try:
        _refuse_custom(msgspec.inspect.type_info(hint), set())
        msgspec.json.Decoder(hint, dec_hook=decode_model)  # raises for unions it cannot tell apart
    except (TypeError, NameError) as error:
        raise UncheckedHint(str(error)) from error
    return functools.partial(_convert, hint)


def _refuse_custom(info: Any, seen: set[type]) -> None:
    """Refuse hints that hold a class which JSON cannot give, wherever they stand in the type."""
    cls = getattr(info, "cls", None)
    if isinstance(info, msgspec.inspect.CustomType):
        if not is_model(info.cls):
            raise TypeError(f"no JSON value is a {info.cls.__qualname__}")
        return
    if cls is not None:
        if cls in seen:  # a type that holds itself
            return
        seen.add(cls)
    for part in ("item_type", "key_type", "value_type", "type"):
        if (inner := getattr(info, part, None)) is not None:
            _refuse_custom(inner, seen)
    for parts in ("types", "item_types", "fields"):
        for inner in getattr(info, parts, ()):
            _refuse_custom(inner, seen)


#: msgspec repeats the caller's value here, which may be a password that stands in the wrong place.
_VALUE = re.compile(r"^(Invalid (?:enum )?value) .*?(?= - at `|$)", re.DOTALL)

_PLACE = re.compile(r" - at `\$([^`]*)`$")


def _convert(hint: Any, value: Any) -> Any:
    try:
        return msgspec.convert(value, hint, dec_hook=decode_model)
    except msgspec.ValidationError as error:
        if isinstance(error.__cause__, ModelFaults):
            raise Fault(*_placed(error.__cause__.reasons, str(error))) from None
        raise Fault(_VALUE.sub(r"\1", str(error))) from error
    except RecursionError as error:
        raise Fault("nested too deeply") from error


def _placed(reasons: list[str], told: str) -> list[str]:
    """The reasons of a model, with the place at which msgspec found that model."""
    outer = _PLACE.search(told)
    if outer is None or outer[0] in reasons[-1]:
        return reasons
    return [
        _PLACE.sub("", reason) + f" - at `${outer[1]}{inner[1] if inner else ''}`"
        for reason in reasons
        for inner in [_PLACE.search(reason)]
    ]


def _validate(validate: Callable[[Any], Any], value: Any) -> Any:
    try:
        return validate(value)
    except ModelFaults as error:
        raise Fault(*error.reasons) from None
    except RecursionError as error:
        raise Fault("nested too deeply") from error


def _plain(hint: type) -> Converter:
    if hint is float:

        def check(value: Any) -> Any:
            kind = type(value)
            if kind is float:
                return value
            if kind is int:
                return _convert(float, value)  # an int beyond a float's range is a fault
            raise Fault(f"Expected `float`, got `{_json_name(value)}`")

    else:
        expected = hint.__name__

        def check(value: Any) -> Any:
            if type(value) is hint:
                return value
            raise Fault(f"Expected `{expected}`, got `{_json_name(value)}`")

    return check


_JSON_NAMES = {type(None): "null", list: "array", dict: "object"}


def _json_name(value: object) -> str:
    return _JSON_NAMES.get(type(value), type(value).__name__)
