"""What only pydantic understands in a hint: its models, its dataclasses, constraints in Annotated.

pydantic is imported when a hint needs it, and not before.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import re
import typing
from collections.abc import Callable, Iterator, Set
from typing import Annotated, Any

from ..errors import ServiceConfigurationError
from ..protocol import encode_json

__all__ = ["ModelFaults", "decode_model", "is_model", "validator_for"]

_PACKAGES = {"pydantic", "pydantic_core", "annotated_types"}

#: Faults of one value that are told.
_MOST = 10
#: Texts in a value that are looked for in what is told of it.
_MOST_TEXTS = 1000


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
    return _without_values(cls.model_validate, _adapter_of(cls), value)  # type: ignore[attr-defined]


def validator_for(hint: Any) -> Callable[[Any], Any] | None:
    """Make the check for a hint that holds what msgspec would not look at; None for all others.

    :returns: takes a decoded JSON value, strictly; raises `ModelFaults`.
    :raises ServiceConfigurationError: when pydantic cannot check it either.
    """
    if not any(map(_is_pydantics, _parts(hint, set()))):
        return None
    try:
        import pydantic

        adapter = pydantic.TypeAdapter(hint)
    except Exception as error:  # pydantic is absent, or the hint holds what it does not know
        told = str(error).splitlines()[0]
        raise ServiceConfigurationError(f"constraints that cannot be checked: {told}") from None
    # As JSON, because strictly a date of Python's is no text.
    return lambda value: _without_values(
        adapter.validate_json, adapter, encode_json(value), strict=True
    )


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


# What is told of a value that does not fit


def _without_values(validate: Callable[..., Any], adapter: Any, *args: Any, **options: Any) -> Any:
    try:
        return validate(*args, **options)
    except ValueError as error:
        if not hasattr(error, "errors"):
            raise
        told = functools.partial(error.errors, include_url=False, include_context=False)
        found = told(include_input=False)[:_MOST]
        if any(one["type"] not in _never_repeating() for one in found):
            found = told()[:_MOST]
    names = _names_in(adapter) if any(one["loc"] for one in found) else frozenset[str]()
    raise ModelFaults([_rule(one) + _place(one, names) for one in found])


def _rule(fault: Any) -> str:
    """The rule in words, without the value where they may repeat it."""
    text: str = fault["msg"]
    if fault["type"] in _never_repeating():
        return text
    values = list(itertools.islice(_texts_in(fault["input"]), _MOST_TEXTS))
    if len(values) == _MOST_TEXTS:
        return text.partition(",")[0]  # "Value error"
    for value in values:
        text = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", "...", text)
    return text


@functools.cache
def _never_repeating() -> set[str]:
    """pydantic's own kinds of faults, but for texts of the user's validators and tags of unions."""
    from pydantic_core.core_schema import ErrorType

    return {*typing.get_args(ErrorType)} - {"value_error", "assertion_error", "union_tag_invalid"}


def _texts_in(value: Any) -> Iterator[str]:
    """The texts and numbers in a value, keys included, as `str` and `repr` write them."""
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, list):
        for inner in value:
            yield from _texts_in(inner)
    elif value not in (None, ""):
        yield from (str(value), repr(value).strip("'\""))


def _place(fault: Any, names: Set[str]) -> str:
    """Where it is; a key that a caller may have chosen, instead of a field's name, as msgspec."""
    *steps, last = fault["loc"] or [None]
    if last is None:
        return ""
    shown = names | {last} if fault["type"] == "extra_forbidden" else names
    path = "".join(
        f"[{step}]" if isinstance(step, int) else f".{step}" if step in shown else "[...]"
        for step in (*steps, last)
    )
    return f" - at `${path}`"


@functools.cache  # there are as many as the code has
def _adapter_of(cls: type) -> Any:
    import pydantic

    return pydantic.TypeAdapter(cls)


@functools.cache
def _names_in(adapter: Any) -> Set[str]:
    """The names of all fields and models of a hint."""
    try:
        left: list[Any] = [adapter.json_schema()]
    except Exception:  # of a type that JSON has no schema for
        return set()
    names: set[str] = set()
    while left:
        part = left.pop()
        if isinstance(part, dict):
            for key in ("properties", "$defs", "mapping"):
                names |= part.get(key, {}).keys()
            left += part.values()
        elif isinstance(part, list):
            left += part
    return names
