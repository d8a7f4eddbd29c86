"""Examples of calls: as JSON, and checked against what the method's hints say."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..errors import UNSET, InvalidParams, ServiceConfigurationError
from .binding import BoundParameter, ParameterBinder
from .hints import CannotEvaluate, Fault, UncheckedHint, evaluate
from .model import NOTHING, Example
from .plain import as_json, clean_text
from .results import result_check_for

__all__ = ["Signature", "by_name", "plain_example", "refuse_unfit"]


@dataclass(frozen=True)
class Signature:
    """The signature that examples of a method have to fit.

    :param function: the plain function.
    :param cls: the class that has it.
    :param result: the type of its results; `inspect.Signature.empty` for any.
    """

    binder: ParameterBinder
    function: Callable[..., Any]
    cls: type
    result: Any


def plain_example(example: Example, parameters: Sequence[BoundParameter]) -> Example:
    """Return an example whose values are as they travel: as JSON, by name where that can be."""
    params = by_name(_params(example), [(p.name, p.kind) for p in parameters])
    result = example.result if example.result is UNSET else as_json(example.result)
    return replace(example, params=params, result=result, summary=clean_text(example.summary))


def by_name(params: Any, parameters: Sequence[tuple[str, str]]) -> Any:
    """Write parameters by name, in the method's order; those that have a position only stay so.

    :param parameters: names and kinds.

    >>> by_name([1, 2], [("a", "either"), ("b", "either"), ("c", "named")])
    {'a': 1, 'b': 2}
    """
    order = [name for name, _ in parameters]
    if isinstance(params, dict):
        known = sorted(params, key=lambda name: order.index(name) if name in order else len(order))
        return {name: params[name] for name in known}
    kinds = [kind for _, kind in parameters if kind in ("positional", "either")]
    if "positional" in kinds or len(params) > len(kinds):
        return params
    return dict(zip(order, params, strict=False))


def _params(example: Example) -> Any:
    params = example.params
    return as_json(dict(params) if hasattr(params, "keys") else [*params])


def refuse_unfit(place: str, examples: Iterable[Example], method: Signature) -> None:
    """:raises ServiceConfigurationError: for an example that is none of the method."""
    for number, example in enumerate(examples, 1):
        if (why := _why_unfit(example, method)) is not None:
            name = repr(example.summary) if example.summary else str(number)
            raise ServiceConfigurationError(f"{place}: example {name} does not fit: {why}")


def _why_unfit(example: Example, method: Signature) -> str | None:
    params = _params(example)
    if params is UNSET:
        return "its params cannot be represented as JSON"
    try:
        method.binder.bind(params)
    except InvalidParams as error:
        faults = error.data["parameters"] if isinstance(error.data, dict) else []
        told = [f"{each.get('name', each.get('position'))}: {each['reason']}" for each in faults]
        return "; ".join(told)
    if example.result is UNSET:
        return None
    if method.result is NOTHING:
        return "it has a result, and the method returns nothing"
    if as_json(example.result) is UNSET:
        return "its result cannot be represented as JSON"
    try:
        if (check := _result_check(method)) is not None:
            check(example.result)
    except Fault as fault:
        return f"its result: {fault}"
    return None


def _result_check(method: Signature) -> Callable[[Any], None] | None:
    try:
        return result_check_for(evaluate(method.result, method.function, method.cls))
    except (CannotEvaluate, UncheckedHint):
        return None
