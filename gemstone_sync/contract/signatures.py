"""The parameters of whatever can be called, as callers of a method see them.

`inspect.signature` says most of it; here is the rest: which types a singledispatchmethod takes, and
the names in ``**options: Unpack[Options]`` (PEP 692).
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Iterator
from typing import Any

from ..annotations import CannotEvaluate, evaluate, hints_of
from ..callables import name_of
from ..errors import UNSET, ServiceConfigurationError

__all__ = ["parameters_of", "result_hint"]


def parameters_of(function: Callable[..., Any], cls: type | None = None) -> list[inspect.Parameter]:
    """List the parameters of a function.

    :param cls: the class that has it.
    :raises ServiceConfigurationError: for what has no signature, as some functions made in C.
    """
    dispatched = getattr(getattr(function, "register", None), "__self__", None)
    if isinstance(dispatched, functools.singledispatchmethod):
        return _of_dispatched(dispatched, cls)
    try:
        signature = inspect.signature(function)
    except ValueError:
        raise ServiceConfigurationError(
            f"{name_of(function)} does not say which parameters it takes: call it from a method"
        ) from None
    found: list[inspect.Parameter] = []
    for parameter in signature.parameters.values():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            found += _unpacked(parameter, function, cls, {each.name for each in found})
        else:
            found.append(parameter)
    return found


def _of_dispatched(method: Any, cls: type | None) -> list[inspect.Parameter]:
    """Say which types the first parameter may be: those of all functions that are registered."""
    function = getattr(method.func, "__func__", method.func)
    parameters = parameters_of(function, cls)
    if not isinstance(method.func, staticmethod):
        del parameters[:1]
    if not parameters or parameters[0].annotation is inspect.Parameter.empty:
        return parameters  # the function for all other types takes anything
    try:
        own = evaluate(parameters[0].annotation, function, cls)
    except CannotEvaluate:  # which is warned of where the hint is checked
        return parameters
    others = [each for each in method.dispatcher.registry if each is not object]
    choices = (own, *others)
    hint: Any = typing.Union[choices]  # noqa: UP007
    return [parameters[0].replace(annotation=hint), *parameters[1:]]


def _unpacked(
    parameter: inspect.Parameter, function: Any, cls: type | None, taken: set[str]
) -> Iterator[inspect.Parameter]:
    try:
        hint = evaluate(parameter.annotation, function, cls)
    except CannotEvaluate:  # which is warned of where the hint is checked
        hint = None
    (options,) = typing.get_args(hint) or (None,) if _is_unpack(hint) else (None,)
    options = typing.get_origin(options) or options
    if not isinstance(options, type) or not hasattr(options, "__required_keys__"):
        yield parameter
        return
    for name, inner in hints_of(options).items():
        if name not in taken:
            # typing does not look into text: of `"Required[int]"` it does not know it.
            said = getattr(typing.get_origin(inner), "_name", None)
            required = said == "Required" or (
                said != "NotRequired" and name in options.__required_keys__
            )
            default = inspect.Parameter.empty if required else UNSET
            yield inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=inner
            )


def _is_unpack(hint: Any) -> bool:
    return getattr(typing.get_origin(hint), "_name", None) == "Unpack"


def result_hint(function: Callable[..., Any], result: Any) -> Any:
    """Return the type of a method's results, not evaluated; ``inspect.Signature.empty`` for any.

    :param result: what ``exposed_method(result=)`` said.
    """
    return inspect.signature(function).return_annotation if result is UNSET else result
