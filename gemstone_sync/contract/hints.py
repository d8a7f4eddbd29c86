"""One annotation -> a function that checks and converts a JSON value, or nothing to check.

msgspec does the work (0.3 µs a parameter); the four plain types are checked here for less.
"""

from __future__ import annotations

import builtins
import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeAlias

import msgspec

__all__ = ["Converter", "Fault", "UncheckedHint", "converter_for", "resolve"]

#: Takes a decoded JSON value, returns the value for the method; raises `Fault`.
Converter: TypeAlias = Callable[[Any], Any]


class Fault(Exception):
    """A value does not fit its hint; the text says why."""


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
    function = inspect.unwrap(function)  # names mean what they mean where the method was written
    scope = dict(inspect.getclosurevars(function).nonlocals)
    namespace = {**vars(builtins), **function.__globals__}
    try:
        return eval(annotation, namespace, scope)
    except Exception as error:
        raise UncheckedHint(f"{annotation!r} cannot be evaluated: {error}") from error


def converter_for(hint: Any) -> Converter | None:
    """Make the check for `hint`; None when every JSON value fits it.

    :raises UncheckedHint: when no JSON value can ever be of that type, or msgspec refuses it.
    """
    if hint is inspect.Parameter.empty or hint is Any or hint is object:
        return None
    if hint in (str, bool, int, float):
        return _plain(hint)
    try:
        _refuse_custom(msgspec.inspect.type_info(hint))
        msgspec.json.Decoder(hint, dec_hook=_decode_model)  # raises for unions it cannot tell apart
    except (TypeError, NameError) as error:
        raise UncheckedHint(str(error)) from error
    return functools.partial(_convert, hint)


def _refuse_custom(info: msgspec.inspect.Type) -> None:
    """Refuse hints that hold a class which JSON cannot give, wherever they stand in the type."""
    if isinstance(info, msgspec.inspect.CustomType):
        if not _is_pydantic_model(info.cls):
            raise TypeError(f"no JSON value is a {info.cls.__qualname__}")
        return
    for part in ("item_type", "key_type", "value_type"):
        if (inner := getattr(info, part, None)) is not None:
            _refuse_custom(inner)
    for parts in ("types", "item_types"):
        for inner in getattr(info, parts, ()):
            _refuse_custom(inner)


def _is_pydantic_model(cls: type) -> bool:
    return hasattr(cls, "model_validate") and hasattr(cls, "model_fields")


def _decode_model(cls: type, value: Any) -> Any:
    """Let pydantic make its own models. Its ValidationError is a ValueError, as msgspec wants."""
    return cls.model_validate(value)  # type: ignore[attr-defined]


def _convert(hint: Any, value: Any) -> Any:
    try:
        return msgspec.convert(value, hint, dec_hook=_decode_model)
    except msgspec.ValidationError as error:
        raise Fault(str(error)) from error
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
