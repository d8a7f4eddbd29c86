"""Hints that only pydantic understands: its models, its dataclasses, constraints in Annotated.

pydantic is imported when a hint needs it, and not before.
"""

from __future__ import annotations

import functools
import itertools
import re
import typing
from collections.abc import Callable, Iterator, Set
from typing import Any

from ..errors import ServiceConfigurationError
from ..protocol import encode_json
from .parts import Parts, is_model
from .pydantic_schemas import OF_PYTHON

__all__ = [
    "ModelFaults",
    "UncheckedModel",
    "adapter_for",
    "decode_model",
    "holds_pydantic_types",
    "dropped_by_pydantic",
    "holds_constraints",
    "validate",
    "without_values",
]

_PACKAGES = {"pydantic", "pydantic_core", "annotated_types"}

#: Faults of one value that are told.
_MOST = 10
#: Texts in a value that are looked for in what is told of it.
_MOST_TEXTS = 1000
#: Of annotated_types: what pydantic checks, and what is no constraint.
_KNOWN = {
    *("Gt", "Ge", "Lt", "Le", "MultipleOf", "MinLen", "MaxLen", "Predicate", "Not"),
    *("GroupedMetadata", "Unit", "DocInfo"),
}
#: Of pydantic's core schema: what no JSON value passes.
_NEVER = {"callable", "is-subclass"}
#: What takes other values than the schema inside says, or none at all.
_MAKING = {"nullable", "default", "function-before", "function-wrap", "function-plain"}
#: Where another schema stands in one; ``schema`` in all others.
_INNER: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("list", "set", "frozenset", "generator"), ("items_schema",)),
    "dict": ("keys_schema", "values_schema"),
    "json-or-python": ("json_schema",),
    "lax-or-strict": ("strict_schema",),
}
#: Found beside them: a set of what Python takes into none.
_UNHASHABLE = "set of what has no hash"


class ModelFaults(ValueError):
    """Tells what does not fit: where, and the rule; never the value, which may be a password.

    :ivar reasons: texts in msgspec's form: ``Field required - at `$.name` ``.
    """

    def __init__(self, reasons: list[str]) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = reasons


class UncheckedModel(Exception):
    """A model that pydantic itself cannot check; the text says why."""


def holds_pydantic_types(parts: Parts) -> bool:
    """Tell whether a hint holds what is pydantic's, which msgspec would not look at."""
    return any(map(_is_pydantics, (*parts.classes, *parts.notes)))


def holds_constraints(parts: Parts) -> bool:
    """Tell whether it holds more of pydantic's than models."""
    return any(_is_pydantics(part) for part in (*parts.classes, *parts.notes) if not is_model(part))


def _is_pydantics(part: Any) -> bool:
    if isinstance(part, type):
        return hasattr(part, "__get_pydantic_core_schema__") or hasattr(
            part, "__pydantic_validator__"
        )
    return bool(_PACKAGES & _packages_of(part)) or hasattr(part, "__get_pydantic_core_schema__")


def _packages_of(note: Any) -> set[str]:
    return {base.__module__.partition(".")[0] for base in type(note).__mro__}


def dropped_by_pydantic(parts: Parts) -> str | None:
    """Name a constraint of annotated_types that pydantic would drop; None when there is none."""
    for note in parts.notes:
        names = {base.__name__ for base in type(note).__mro__}
        packages = _packages_of(note)
        if "annotated_types" in packages and "pydantic" not in packages and not names & _KNOWN:
            return repr(note)
    return None


def adapter_for(hint: Any, *, only_json: bool = False) -> Any:
    """Make the ``pydantic.TypeAdapter`` of a hint.

    :param only_json: None for a hint that pydantic does not know, and for one that no JSON value
        passes; for hints that hold nothing of pydantic's.
    :raises ServiceConfigurationError: when pydantic is absent, or the hint holds what it does not
        know.
    :raises UncheckedModel: for a model with a name in it that is not there.
    """
    try:
        import pydantic

        adapter = _made(pydantic, hint)
        if only_json:
            adapter.json_schema()
    except Exception as error:
        if only_json:
            return None
        told = str(error).splitlines()[0]
        raise ServiceConfigurationError(f"constraints that cannot be checked: {told}") from None
    if not getattr(adapter, "pydantic_complete", True):
        raise UncheckedModel(f"{hint!r} holds a name that is not defined")
    kinds = _kinds_in(adapter.core_schema)
    if _UNHASHABLE in kinds:
        raise UncheckedModel(f"{hint!r} holds a set of lists, dicts or sets, which have no hash")
    if not only_json and (name := _never(adapter.core_schema, {})) is not None:
        owner = getattr(hint, "__qualname__", repr(hint))
        raise UncheckedModel(f"no JSON value is a {name}, which {owner} needs")
    if "generator" in kinds:
        adapter.validator = _eager_validator(adapter.core_schema)
    return None if only_json and kinds & _NEVER else adapter


def _made(pydantic: Any, hint: Any) -> Any:
    if is_model(hint) and not getattr(hint, "__pydantic_complete__", True):
        hint.model_rebuild(raise_errors=False)
    try:
        # As msgspec reads bytes everywhere else.
        return pydantic.TypeAdapter(hint, config={"val_json_bytes": "base64"})
    except pydantic.PydanticUserError:  # of a model, which has its own configuration
        return pydantic.TypeAdapter(hint)


def _kinds_in(schema: Any) -> set[str]:
    """The kinds of schemas in one of pydantic's core schemas."""
    kinds: set[str] = set()
    left = [schema]
    while left:
        part = left.pop()
        if isinstance(part, dict):
            if isinstance(part.get("type"), str):
                kinds.add(part["type"])
            if part.get("type") in ("set", "frozenset"):
                items = part.get("items_schema", {}).get("type")
                kinds |= {_UNHASHABLE} if items in ("list", "dict", "set", "typed-dict") else set()
            left += part.values()
        elif isinstance(part, (list, tuple)):
            left += part
    return kinds


def _never(schema: Any, named: dict[str, Any]) -> str | None:
    """Name what every value of a core schema must hold and no JSON value is; None for nothing.

    :param named: the schemas that others refer to; each is looked at once.
    """
    kind = schema["type"]
    if kind == "definitions":
        named |= {each["ref"]: each for each in schema["definitions"]}
    elif kind == "definition-ref":
        found = named.pop(schema["schema_ref"], None)
        return None if found is None else _never(found, named)
    if kind in OF_PYTHON:
        cls = schema.get("cls")
        return getattr(cls, "__qualname__", "Callable" if cls is None else repr(cls))
    parts: list[Any] = []
    if kind in ("model-fields", "typed-dict", "dataclass-args"):
        fields = schema["fields"]
        every = fields if isinstance(fields, list) else fields.values()
        parts = [each["schema"] for each in every if each.get("required", True)]
    elif kind in ("union", "tagged-union"):
        choices = schema["choices"]
        every = choices.values() if isinstance(choices, dict) else choices
        told = [_never(each[0] if isinstance(each, tuple) else each, named) for each in every]
        return told[0] if told and None not in told else None
    elif kind == "tuple":
        parts = schema["items_schema"]
    elif kind not in _MAKING:
        inner = _INNER.get(kind, ("schema",))
        parts = [schema[key] for key in inner if isinstance(schema.get(key), dict)]
    return next(filter(None, (_never(each, named) for each in parts)), None)


def _eager_validator(schema: Any) -> Any:
    """Make the validator that checks an Iterable at once: pydantic's own would in the method."""
    from pydantic_core import SchemaValidator

    def eager(part: Any) -> Any:
        if isinstance(part, dict):
            part = {key: eager(value) for key, value in part.items()}
            return {**part, "type": "list"} if part.get("type") == "generator" else part
        return type(part)(map(eager, part)) if isinstance(part, (list, tuple)) else part

    changed = eager(schema)
    try:
        return SchemaValidator(changed, _use_prebuilt=False)
    except TypeError:  # before pydantic 2.11, which prepares none
        return SchemaValidator(changed)


def decode_model(hint: Any, value: Any, strict: bool) -> Any:
    """Make a model of a decoded JSON value.

    :raises ModelFaults: when it does not fit.
    """
    return validate(_adapter_of(hint), value, strict)


def validate(adapter: Any, value: Any, strict: bool) -> Any:
    """Make of a decoded JSON value what the hint of an adapter says.

    :raises ModelFaults: when it does not fit.
    """
    # As JSON, because strictly a date of Python's is no text.
    return _without_values(adapter.validate_json, adapter, encode_json(value), strict=strict)


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
    return without_values(text, fault["input"], text.partition(",")[0])  # "Value error"


def without_values(text: str, found: Any, instead: str = "Invalid value") -> str:
    """Take the texts and numbers of a value out of what a class of the user's says of it.

    :param instead: is told when the value holds too many to look for.
    """
    values = list(itertools.islice(_texts_in(found), _MOST_TEXTS))
    if len(values) == _MOST_TEXTS:
        return instead
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
    return adapter_for(cls)


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
