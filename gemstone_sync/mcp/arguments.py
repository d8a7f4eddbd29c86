"""From a tool's arguments, which have names, to the params of its method."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..contract.model import Method, Parameter
from ..errors import UNSET

__all__ = ["params_of", "parameters_of"]


def parameters_of(method: Method) -> Iterable[Parameter]:
    """List the parameters that an agent can give, without those of any names."""
    return [p for p in method.given if p.kind != "named_rest"]


def params_of(method: Method, arguments: dict[str, Any]) -> list[Any] | dict[str, Any]:
    """Write the arguments as the method takes them: by name, else by position.

    What cannot be written stays as it is: the method's own check says what is wrong with it.

    >>> where = Parameter(name="where", kind="positional")
    >>> params_of(Method(name="find", parameters=(where,)), {"where": "here"})
    ['here']
    """
    by_position = [p for p in method.parameters if p.kind in ("positional", "rest")]
    if method.param_structure != "by-position" and not any(
        p.name in arguments for p in by_position
    ):
        return arguments
    values: list[Any] = []
    left = dict(arguments)
    for parameter in method.parameters:
        if parameter.kind == "rest":
            more = left.pop(parameter.name, [])
            if not isinstance(more, list):
                return arguments
            values += more
        elif parameter.kind in ("positional", "either") and left:
            value = left.pop(parameter.name, parameter.default)
            if value is UNSET:  # nothing can stand for it, and others follow
                return arguments
            values.append(value)
    return arguments if left else values
