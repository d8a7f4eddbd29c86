"""The JSON Schema of what pydantic checks: its own, mended where its validator takes other values.

pydantic is imported when there is something for it.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from .enums import flag_values

__all__ = ["HASHABLE", "OF_PYTHON", "pydantic_schemas"]

#: Of pydantic's core schema: what no JSON value passes, unless something is made of it before.
OF_PYTHON = ("is-instance", "is-subclass", "callable")
#: Of the items of a set that may be anything: Python takes no list and no dict there.
HASHABLE = {"type": ["null", "boolean", "number", "string"]}


def pydantic_schemas(
    adapters: Sequence[Any],
    models: Sequence[type],
    ref_template: str,
    *,
    sent: Collection[int] = (),
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Make the schema of each `pydantic.TypeAdapter`, then of each model, and the shared ones.

    :param ref_template: with ``{name}`` for a shared one's name.
    :param sent: the places of adapters whose values the service sends: serializers, computed and
        excluded fields count for them.
    """
    if not adapters and not models:
        return [], {}
    from pydantic import TypeAdapter

    all_of_them = [*adapters, *map(TypeAdapter, models)]
    modes = ("validation", "serialization")
    inputs = [(at, modes[at in sent], adapter) for at, adapter in enumerate(all_of_them)]
    found, shared = TypeAdapter.json_schemas(
        inputs,  # type: ignore[arg-type]
        ref_template=ref_template.replace("{name}", "{model}"),
        schema_generator=_generator(),
    )
    by_number = {key[0]: schema for key, schema in found.items()}
    return [dict(by_number[number]) for number in range(len(inputs))], shared.get("$defs", {})


@functools.cache
def _generator() -> Any:
    from pydantic.json_schema import GenerateJsonSchema

    return type("Generator", (_Mending, GenerateJsonSchema), {})


if TYPE_CHECKING:
    from pydantic.json_schema import GenerateJsonSchema as _Base
else:
    _Base = object


class _Mending(_Base):
    """Says of sets, flags and keys what strict validation of JSON does."""

    _in_model = False

    def generate_inner(self, schema: Any) -> Any:
        outside = self._in_model
        self._in_model = outside or schema["type"] == "model"
        try:
            return super().generate_inner(schema)
        finally:
            self._in_model = outside

    def ser_schema(self, schema: Any) -> Any:
        """Say what a serializer makes: in models only, for `encode_json` asks no other hint."""
        return super().ser_schema(schema) if self._in_model else None

    def set_schema(self, schema: Any) -> Any:
        return _without_uniqueness(super().set_schema(schema))

    def frozenset_schema(self, schema: Any) -> Any:
        return _without_uniqueness(super().frozenset_schema(schema))

    def decimal_schema(self, schema: Any) -> Any:
        """Say of the text that it is a decimal: pydantic says nothing, or a pattern."""
        made = super().decimal_schema(schema)
        if "anyOf" not in made:  # the same for what is sent, or each model has two schemas
            bounds = ("multiple_of", "le", "ge", "lt", "gt")
            number: Any = {key: float(schema[key]) for key in bounds if key in schema}
            made = {"anyOf": [self.float_schema({"type": "float"} | number), made]}
        for option in made.get("anyOf", ()):
            if option.pop("pattern", None) is not None or option.get("type") == "string":
                option["format"] = "decimal"
        return made

    def enum_schema(self, schema: Any) -> Any:
        made = super().enum_schema(schema)
        if issubclass(schema["cls"], enum.Flag):
            del made["enum"]
            made |= flag_values(schema["cls"], _validator_of(schema))
        return made

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> Any:
        """Say of what takes objects of Python only that no JSON value fits."""
        return {"not": {}} if schema["type"] in OF_PYTHON else {}

    def function_before_schema(self, schema: Any) -> Any:
        return _or_anything(super().function_before_schema(schema))

    def function_wrap_schema(self, schema: Any) -> Any:
        return _or_anything(super().function_wrap_schema(schema))

    def dict_schema(self, schema: Any) -> Any:
        made = super().dict_schema(schema)
        keys = schema.get("keys_schema", {})
        if keys.get("type") == "int":
            made["propertyNames"] = {"pattern": _int_key(keys)}
        elif keys.get("type") == "enum":
            values = {str(member.value) for member in keys["members"]}
            made["propertyNames"] = {"enum": sorted(values)}
        return made


def _int_key(schema: Any) -> str:
    """Write how pydantic reads an int in a text: ``" +1_000.0"``; of its bounds the sign only."""
    low = schema["ge"] if "ge" in schema else schema["gt"] + 1 if "gt" in schema else -1
    number = "[+-]?[0-9]+(_[0-9]+)*"
    if low > 0:
        number = r"(?=[^1-9]*[1-9])\+?[0-9]+(_[0-9]+)*"
    elif low == 0:
        number = r"(\+?[0-9]+(_[0-9]+)*|-0+(_0+)*)"
    return rf"^\s*{number}(\.0+)?\s*$"


def _or_anything(schema: Any) -> Any:
    """Say of what no JSON value is, but a validator may make of one, that any value will do."""
    return {} if schema == {"not": {}} else schema


def _validator_of(schema: Any) -> Any:
    from pydantic_core import SchemaValidator

    return SchemaValidator(schema).validate_python


def _without_uniqueness(schema: dict[str, Any]) -> dict[str, Any]:
    """A set takes duplicates, and then has one of them; of any value those that have a hash."""
    made = {key: value for key, value in schema.items() if key != "uniqueItems"}
    return made if made.get("items") else {**made, "items": HASHABLE}
