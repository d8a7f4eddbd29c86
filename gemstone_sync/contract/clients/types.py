"""Schemas -> types as programs have them: lists, unions, classes with fields, enums.

What has no such type (``not``, patterns, bounds) is left to the service, which checks it anyway.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ...errors import UNSET
from ..model import REF, Contract
from ..schema_reading import alternatives, says
from .names import Names, capitalized

__all__ = [
    "ANY",
    "Alias",
    "DictOf",
    "Enumeration",
    "Field",
    "ListOf",
    "Literals",
    "Named",
    "Scalar",
    "Structure",
    "TupleOf",
    "Type",
    "Types",
    "Union",
]


@dataclass(frozen=True)
class Scalar:
    """``any``, ``null``, ``boolean``, ``integer``, ``number``, ``string``, or a format of it."""

    kind: str


@dataclass(frozen=True)
class ListOf:
    item: Type


@dataclass(frozen=True)
class TupleOf:
    items: tuple[Type, ...]


@dataclass(frozen=True)
class DictOf:
    value: Type


@dataclass(frozen=True)
class Union:
    options: tuple[Type, ...]


@dataclass(frozen=True)
class Literals:
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Named:
    """A declared type, by its name in the program."""

    name: str


Type: TypeAlias = Scalar | ListOf | TupleOf | DictOf | Union | Literals | Named

ANY = Scalar("any")
_NULL = Scalar("null")

#: Formats of texts that are types of their own.
_FORMATS = {
    "date-time": "datetime",
    "date": "date",
    "duration": "duration",
    "uuid": "uuid",
    "decimal": "decimal",
}


@dataclass(frozen=True)
class Field:
    """A field of a structure, by its name in JSON.

    :ivar default: `UNSET` for none.
    """

    key: str
    type: Type
    required: bool
    default: Any = UNSET
    doc: str = ""


@dataclass
class Structure:
    """A class with fields.

    :ivar tag: the field that tells it from others in a union, and its value.
    """

    name: str
    doc: str = ""
    fields: list[Field] = field(default_factory=list)
    tag: tuple[str, str] | None = None


@dataclass
class Enumeration:
    name: str
    values: list[Any]
    doc: str = ""


@dataclass
class Alias:
    name: str
    type: Type
    doc: str = ""


class Types:
    """The types of a contract.

    :param reserved: names that no declared type may have.
    :ivar declared: by name, in the order of the schemas' names.
    """

    def __init__(self, contract: Contract, reserved: Names) -> None:
        self._schemas = contract.schemas
        self._reserved = reserved
        self._names = {
            name: reserved.take(capitalized_once(name)) for name in sorted(contract.schemas)
        }
        self.declared: dict[str, Structure | Enumeration | Alias] = {}
        for name, schema in sorted(contract.schemas.items()):
            self._declare(self._names[name], schema)

    def of(self, schema: Any, context: str) -> Type:
        """Return the type of a schema.

        :param context: what a class that stands in it is called after.
        """
        if not isinstance(schema, Mapping) or not says(schema):
            return ANY
        ref = schema.get("$ref")
        if isinstance(ref, str):
            name = self._names.get(ref.removeprefix(REF))
            return ANY if name is None else Named(name)
        for keyword in ("anyOf", "oneOf", "allOf"):
            if isinstance(parts := schema.get(keyword), (list, tuple)):
                return self._of_parts(keyword, parts, schema, context)
        if "const" in schema or "enum" in schema:
            return _literals([schema["const"]] if "const" in schema else schema["enum"])
        kind = schema.get("type")
        if isinstance(kind, (list, tuple)):
            return union(self.of({**schema, "type": each}, context) for each in kind)
        if kind == "object" or (kind is None and "properties" in schema):
            return self._of_object(schema, context)
        if kind == "array" or (kind is None and "items" in schema):
            return self._of_array(schema, context)
        if kind == "string":
            if schema.get("contentEncoding") == "base64":
                return Scalar("bytes")
            return Scalar(_FORMATS.get(str(schema.get("format")), "string"))
        known = ("null", "boolean", "integer", "number")
        return Scalar(kind) if kind in known else ANY

    def structures_of(self, type_: Type) -> list[Structure]:
        """Return the structures that a value of a type may be, through aliases."""
        return [found for each in self.flat(type_) if (found := self._structure(each))]

    def flat(self, type_: Type) -> list[Type]:
        """Return what a value of a type may be, without unions and aliases."""
        found: dict[Type, None] = {}
        seen: set[str] = set()
        left = [type_]
        while left:
            each = left.pop()
            alias = self.declared[each.name] if isinstance(each, Named) else None
            if isinstance(each, Union):
                left += reversed(each.options)
            elif not isinstance(alias, Alias):
                found[each] = None
            elif alias.name not in seen:
                seen.add(alias.name)
                left.append(alias.type)
        return [*found]

    def _structure(self, type_: Type) -> Structure | None:
        found = self.declared.get(type_.name) if isinstance(type_, Named) else None
        return found if isinstance(found, Structure) else None

    # Declarations

    def _declare(self, name: str, schema: Any) -> None:
        schema = schema if isinstance(schema, Mapping) else {}
        doc = str(schema.get("description") or "")
        values = schema.get("enum")
        is_union = any(keyword in schema for keyword in ("anyOf", "oneOf", "$ref"))
        merged = schema
        if "allOf" in schema and not is_union:
            shapes = alternatives(schema, self._schemas)
            merged = shapes[0] if len(shapes) == 1 else schema
        if isinstance(values, (list, tuple)) and values and not is_union and _are_alike(values):
            self.declared[name] = Enumeration(name, [*values], doc)
        elif (
            isinstance(merged.get("properties"), Mapping) and not is_union and "enum" not in schema
        ):
            self._declare_structure(name, merged, doc)
        else:
            self.declared[name] = Alias(name, ANY, doc)
            self.declared[name] = Alias(name, self.of(schema, name), doc)
            if self._holds_itself(name):
                self.declared[name] = Alias(name, ANY, doc)

    def _declare_structure(self, name: str, schema: Any, doc: str) -> None:
        made = self.declared[name] = Structure(name, doc)
        required = schema.get("required")
        needed = required if isinstance(required, (list, tuple)) else ()
        for key, inner in schema["properties"].items():
            about = inner if isinstance(inner, Mapping) else {}
            type_ = self.of(inner, name + capitalized(key, "Field"))
            default = about.get("default", UNSET)
            told = str(about.get("description") or "")
            made.fields.append(Field(key, type_, key in needed, default, told))

    def _holds_itself(self, name: str) -> bool:
        """Tell whether an alias leads to itself, through other aliases and what they hold."""
        left, seen = [Named(name)], set[str]()
        while left:
            at = left.pop().name
            found = self.declared.get(at)
            if isinstance(found, Alias) and at not in seen:
                seen.add(at)
                inside = list(_named_in(found.type))
                if Named(name) in inside:
                    return True
                left += inside
        return False

    # Schemas

    def _of_parts(self, keyword: str, parts: Any, schema: Any, context: str) -> Type:
        beside = {k: v for k, v in schema.items() if k not in (keyword, "discriminator", "type")}
        if keyword == "allOf" and (len(parts) > 1 or says(beside)):
            shapes = alternatives(schema, self._schemas)
            return union(self.of(shape, context) for shape in shapes[:50])
        made = union(self.of(part, context) for part in parts)
        if isinstance(made, Union) and {*made.options} == {Scalar("number"), Scalar("decimal")}:
            return Scalar("decimal")
        return made

    def _of_object(self, schema: Any, context: str) -> Type:
        properties, more = schema.get("properties"), schema.get("additionalProperties")
        if isinstance(properties, Mapping) and properties:
            name = self._reserved.take(capitalized(context, "Value"))
            self._declare_structure(name, schema, str(schema.get("description") or ""))
            return Named(name)
        return DictOf(self.of(more, f"{context}Value") if isinstance(more, Mapping) else ANY)

    def _of_array(self, schema: Any, context: str) -> Type:
        first, items = schema.get("prefixItems"), schema.get("items")
        if isinstance(items, (list, tuple)):
            first, items = items, None
        if isinstance(first, (list, tuple)) and first:
            inside = tuple(self.of(each, f"{context}Item{n}") for n, each in enumerate(first, 1))
            exact = schema.get("minItems") == schema.get("maxItems") == len(first)
            return TupleOf(inside) if exact else ListOf(union(inside))
        return ListOf(self.of(items, f"{context}Item"))


def union(options: Iterator[Type] | tuple[Type, ...]) -> Type:
    """Return the type of what may be one of several."""
    flat: dict[Type, None] = {}
    for each in options:
        flat |= dict.fromkeys(each.options if isinstance(each, Union) else [each])
    if ANY in flat or not flat:
        return ANY
    values = [v for each in flat if isinstance(each, Literals) for v in each.values]
    rest: list[Type] = [each for each in flat if not isinstance(each, Literals)]
    if values:
        rest.append(_literals(values))
    if _NULL in rest:  # last, as people write it
        rest = [each for each in rest if each != _NULL] + [_NULL]
    return rest[0] if len(rest) == 1 else Union(tuple(rest))


def _literals(values: Any) -> Type:
    if not isinstance(values, (list, tuple)):
        return ANY
    if not all(v is None or isinstance(v, (str, bool, int)) for v in values):
        return ANY
    if not all(map(_fits_msgspec, values)):
        return union(Scalar(_KIND_OF[type(v)]) for v in values)
    unique = {(type(v), v): v for v in values}
    others = tuple(v for v in unique.values() if v is not None)
    if len(others) == len(unique):
        return Literals(others) if others else ANY
    return Union((Literals(others), _NULL)) if others else _NULL


def _are_alike(values: Any) -> bool:
    kinds = {type(value) for value in values}
    return (
        kinds in ({str}, {int})
        and len(set(values)) == len(values)
        and all(map(_fits_msgspec, values))
    )


_KIND_OF = {type(None): "null", bool: "boolean", int: "integer", str: "string"}


def _fits_msgspec(value: Any) -> bool:
    """Tell whether msgspec takes it in enums and Literals: of integers, those of 64 bits."""
    return not isinstance(value, int) or -(1 << 63) <= value < 1 << 63


def _named_in(type_: Type) -> Iterator[Named]:
    if isinstance(type_, Named):
        yield type_
    elif isinstance(type_, ListOf):
        yield from _named_in(type_.item)
    elif isinstance(type_, DictOf):
        yield from _named_in(type_.value)
    elif isinstance(type_, (TupleOf, Union)):
        for each in type_.items if isinstance(type_, TupleOf) else type_.options:
            yield from _named_in(each)


def capitalized_once(name: str) -> str:
    """Keep a name that is one for a class as it is.

    >>> capitalized_once("Page_User_"), capitalized_once("user"), capitalized_once("a b")
    ('Page_User_', 'User', 'AB')
    """
    if name.isidentifier() and name.isascii() and name[0].isupper() and len(name) <= 60:
        return name
    return capitalized(name, "Type")
