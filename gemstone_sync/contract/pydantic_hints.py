"""What only pydantic understands in a hint: its models, its dataclasses, constraints in Annotated.

pydantic is imported when a hint needs it, and not before.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Iterator
from typing import Annotated, Any

from ..errors import ServiceConfigurationError
from ..protocol import encode_json

__all__ = ["ModelFaults", "decode_model", "is_model", "validator_for"]

_PACKAGES = {"pydantic", "pydantic_core", "annotated_types"}

#: Faults of one value that are told.
_MOST = 10


class ModelFaults(ValueError):
    """What does not fit a value: where, and the rule; never the value, which may be a password.

    :ivar reasons: texts in msgspec's form: ``Field required - at `$.name` ``.
    """

    def __init__(self, reasons: list[str]) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = reasons


def is_model(cls: type) -> bool:
    """Tell whether a class is a pydantic model."""
    return hasattr(cls, "model_validate") and hasattr(cls, "model_fields")


def decode_model(cls: type, value: Any) -> Any:
    """Make a model of a decoded JSON value.

    :raises ModelFaults: when it does not fit.
    """
    return _without_values(cls.model_validate, value)  # type: ignore[attr-defined]


def validator_for(hint: Any) -> Callable[[Any], Any] | None:
    """Make the check for a hint that holds what msgspec would not look at; None for all others.

    :returns: takes a decoded JSON value, strictly; raises `ModelFaults`.
    :raises ServiceConfigurationError: when pydantic cannot check it either.
    """
    if not any(map(_is_pydantics, _parts(hint, set()))):
        return None
    try:
        import pydantic

        validate = pydantic.TypeAdapter(hint).validate_json
    except Exception as error:  # pydantic is absent, or the hint holds what it does not know
        told = str(error).splitlines()[0]
        raise ServiceConfigurationError(f"constraints that cannot be checked: {told}") from None
    # As JSON, because strictly a date of Python's is no text.
    return lambda value: _without_values(validate, encode_json(value), strict=True)


def _is_pydantics(part: Any) -> bool:
    if isinstance(part, type):
        return hasattr(part, "__get_pydantic_core_schema__") or hasattr(
            part, "__pydantic_validator__"
        )
    return type(part).__module__.partition(".")[0] in _PACKAGES


def _parts(hint: Any, seen: set[int]) -> Iterator[Any]:
    """The classes in a hint and what stands in Annotated, but not what pydantic looks at itself."""
    if id(hint) in seen or (isinstance(hint, type) and is_model(hint)):
        return
    seen.add(id(hint))
    if typing.get_origin(hint) is Annotated:
        yield from hint.__metadata__
    for inner in typing.get_args(hint):
        yield from _parts(inner, seen)
    for alias in ("__supertype__", "__value__"):  # NewType, and the statement `type X = ...`
        if (inner := getattr(hint, alias, None)) is not None:
            yield from _parts(inner, seen)
    if isinstance(hint, type):
        yield hint
        if dataclasses.is_dataclass(hint) or getattr(hint, "__annotations__", None):
            for inner in _hints_of(hint):
                yield from _parts(inner, seen)


def _hints_of(cls: type) -> list[Any]:
    try:
        return list(typing.get_type_hints(cls, include_extras=True).values())
    except Exception:  # a name that is not there at run time: msgspec says so
        return []


def _without_values(validate: Callable[..., Any], *args: Any, **options: Any) -> Any:
    try:
        return validate(*args, **options)
    except ValueError as error:
        if not hasattr(error, "errors"):
            raise
        found = error.errors(include_url=False, include_context=False, include_input=False)
    raise ModelFaults([f"{one['msg']}{_place(one['loc'])}" for one in found[:_MOST]])


def _place(steps: tuple[str | int, ...]) -> str:
    if not steps:
        return ""
    path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
    return f" - at `${path}`"
