"""Read JSON Schemas: follow references, take unions apart, merge what must hold together.

Draft 2020-12, and what draft 7 wrote otherwise. Nothing is fetched: a reference that does not lead
to a schema of the contract is an error.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ..number_checks import is_number
from .model import REF
from .reading import BadDocument

__all__ = [
    "TYPE_OF",
    "alternatives",
    "as_json",
    "fields",
    "identity",
    "items_of",
    "names_in",
    "number",
    "resolved",
    "same",
    "says",
    "schema_of",
]


_TYPES = ("null", "boolean", "integer", "number", "string", "array", "object")
#: Keywords that concern one type only; of values of another one they say nothing.
_OF_TYPE = {
    "string": {"minLength", "maxLength", "pattern", "format", "contentEncoding"},
    "number": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"},
    "array": {"items", "prefixItems", "minItems", "maxItems", "uniqueItems", "contains"},
    "object": {
        *("properties", "required", "additionalProperties", "minProperties", "maxProperties"),
        *("patternProperties", "propertyNames"),
    },
}
_OF_TYPE["integer"] = _OF_TYPE["number"]
TYPE_OF = {keyword: t for t, keywords in _OF_TYPE.items() for keyword in keywords}
#: Say what a value may be; all others, unknown ones too, are annotations (2020-12, core 4.3.1).
_SAYING = {
    *TYPE_OF,
    *("type", "enum", "const", "$ref", "$dynamicRef", "allOf", "anyOf", "oneOf", "not"),
    *("if", "then", "else", "dependentRequired", "dependentSchemas", "dependencies"),
    *("additionalItems", "unevaluatedItems", "unevaluatedProperties", "minContains", "maxContains"),
    *("contentMediaType", "contentSchema"),
}
#: Unions and merged parts inside one another.
_DEEPEST = 50
#: Alternatives of one schema.
_MOST_ALTERNATIVES = 2_000


def resolved(schema: Any, named: Mapping[str, Any]) -> Any:
    """Follow references; what is beside one counts too.

    :returns: a schema without ``$ref``: an object, or True or False.
    """
    seen: set[str] = set()
    while isinstance(schema, Mapping) and "$ref" in schema:
        ref = schema["$ref"]
        name = ref[len(REF) :] if isinstance(ref, str) and ref.startswith(REF) else None
        if name is None or name not in named:
            raise BadDocument(f"the reference {as_json(ref)} leads to no schema of the document")
        if name in seen:
            raise BadDocument(f"the schema {name!r:.80} refers to nothing but itself")
        seen.add(name)
        beside = {k: v for k, v in schema.items() if k != "$ref" and says({k: v})}
        both = [*beside.pop("allOf", ()), named[name]]
        schema = {**beside, "allOf": both} if len(both) > 1 or beside else named[name]
    if not isinstance(schema, (Mapping, bool)):
        raise BadDocument(f"{as_json(schema)} is no JSON Schema")
    return schema


def alternatives(schema: Any, named: Mapping[str, Any]) -> list[Any]:
    """Take a schema apart into such that have one type, or an enum, each.

    :raises BadDocument: when there are too many.
    """
    found = list(itertools.islice(_apart(schema, named, 0), _MOST_ALTERNATIVES + 1))
    if len(found) > _MOST_ALTERNATIVES:
        raise BadDocument("a schema has too many alternatives to be compared")
    return found


def _apart(schema: Any, named: Mapping[str, Any], depth: int) -> Iterator[Any]:
    if depth > _DEEPEST:
        raise BadDocument("a schema that holds itself and nothing else cannot be compared")
    schema = resolved(schema, named)
    if isinstance(schema, bool):
        yield from [{}] if schema else []
        return
    # What must hold beside a union is merged into each part of it: there is an end to it then.
    keyword = next((k for k in ("anyOf", "oneOf", "allOf") if k in schema), None)
    if keyword is not None:
        for whole in _parts(schema, keyword, named):
            yield from _apart(whole, named, depth + 1)
    elif "const" in schema or "enum" in schema:
        yield _with_enum(schema)
    else:
        kinds = types_of(schema)
        for kind in kinds or ():
            yield schema if schema.get("type") == kind else {**schema, "type": kind}
        if not kinds:
            yield schema


def _parts(schema: Any, keyword: str, named: Mapping[str, Any]) -> Iterator[Any]:
    """Return what a union may be, or the one that `allOf` comes to."""
    parts = schema[keyword]
    if not isinstance(parts, (list, tuple)):
        raise BadDocument(f"{keyword} is no list")
    beside: Any = {k: v for k, v in schema.items() if k != keyword}
    if keyword == "allOf":
        for part in parts:
            beside = _merged(beside, resolved(part, named))
        yield beside
    else:
        for part in parts:
            yield _merged(beside, resolved(part, named)) if says(beside) else part


def _with_enum(schema: Any) -> Any:
    values = [schema["const"]] if "const" in schema else schema["enum"]
    if not isinstance(values, (list, tuple)):
        raise BadDocument("enum is no list")
    kinds = types_of(schema) if "type" in schema else None
    rest = {keyword: value for keyword, value in schema.items() if keyword != "const"}
    return {**rest, "enum": [v for v in values if kinds is None or _has_type(v, kinds)]}


def says(schema: Mapping[str, Any]) -> bool:
    """Tell whether a schema says anything of what a value may be."""
    return any(k in _SAYING and not (k == "uniqueItems" and v is False) for k, v in schema.items())


def _merged(one: Any, other: Any) -> Any:
    """Return the schema of what fits both; references in it stay."""
    if isinstance(one, bool) or isinstance(other, bool):
        return False if one is False or other is False else other if one is True else one
    result = _with_enum(one) if "const" in one else dict(one)
    other = _with_enum(other) if "const" in other else other
    for keyword, value in other.items():
        if keyword not in result or not says({keyword: value}):
            result.setdefault(keyword, value)
        elif keyword in _MERGERS:
            result[keyword] = _MERGERS[keyword](result[keyword], value)
        elif same(result[keyword], value):
            continue
        elif keyword in ("anyOf", "oneOf"):
            result["allOf"] = [*result.get("allOf", ()), {keyword: value}]
        else:  # both hold; it equals another one of both only
            result[keyword] = [result[keyword], value]
    return False if result.get("type") == [] else result


def _merged_types(one: Any, other: Any) -> list[str]:
    own, its = types_of({"type": one}) or [], types_of({"type": other}) or []
    both = [kind for kind in own if kind in its]
    for few, many in ((own, its), (its, own)):
        if "integer" in few and "number" in many and "integer" not in both:
            both.append("integer")
    return both


def _merged_properties(one: Any, other: Any) -> dict[str, Any]:
    both = dict(fields({"": one}, ""))
    for name, schema in fields({"": other}, "").items():
        both[name] = _both(both[name], schema) if name in both else schema
    return both


def _merged_parts(one: Any, other: Any) -> list[Any]:
    """Return what must hold together, once each: what refers to the same would grow without end."""
    return [*{identity(part): part for part in (*one, *other)}.values()]


def _both(one: Any, other: Any) -> Any:
    parts = _merged_parts(_parts_of(one), _parts_of(other))
    return {"allOf": parts} if len(parts) > 1 else parts[0]


def _parts_of(schema: Any) -> list[Any]:
    parts = schema["allOf"] if isinstance(schema, Mapping) and schema.keys() == {"allOf"} else ()
    return [*parts] if parts and isinstance(parts, (list, tuple)) else [schema]


_MERGERS: dict[str, Callable[[Any, Any], Any]] = {
    "type": _merged_types,
    "properties": _merged_properties,
    "required": lambda one, other: [*dict.fromkeys([*one, *other])],
    "enum": lambda one, other: [v for v in one if any(same(v, w) for w in other)],
    "items": _both,
    "additionalProperties": _both,
    "propertyNames": _both,
    "allOf": _merged_parts,
    "prefixItems": lambda one, other: [
        _both(*pair) for pair in itertools.zip_longest(one, other, fillvalue=True)
    ],
    **{
        keyword: lambda one, other: max(one, other, key=number)
        for keyword in ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
    },
    **{
        keyword: lambda one, other: min(one, other, key=number)
        for keyword in ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
    },
}


def types_of(schema: Any) -> list[str] | None:
    kind = schema.get("type")
    if kind is None:
        # Keywords of one type without the word mean it, as all who write them do.
        kinds = {TYPE_OF[k] for k in schema if k in TYPE_OF}
        kinds = {"number" if k == "integer" else k for k in kinds}
        return [*kinds] if len(kinds) == 1 else None
    kinds_ = [kind] if isinstance(kind, str) else kind
    if not isinstance(kinds_, (list, tuple)) or any(k not in _TYPES for k in kinds_):
        raise BadDocument(f"there is no type {as_json(kind)}")
    return [*dict.fromkeys(kinds_)]


def _has_type(value: Any, types: list[str]) -> bool:
    own = schema_of(value)["type"]
    return own in types or (own == "integer" and "number" in types)


def schema_of(value: Any) -> dict[str, Any]:
    """Return the schema of one value."""
    if value is None:
        return {"type": "null"}
    if isinstance(value, bool):
        return {"type": "boolean"}
    if isinstance(value, int):
        return {"type": "integer", "minimum": value, "maximum": value}
    if isinstance(value, float):
        return {"type": "number", "minimum": value, "maximum": value}
    if isinstance(value, str):
        return {"type": "string", "minLength": len(value), "maxLength": len(value)}
    if isinstance(value, Mapping):
        fields = {name: {"enum": [inner]} for name, inner in value.items()}
        return {"type": "object", "properties": fields, "required": [*fields]}
    items = [{"enum": [inner]} for inner in value]
    return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}


def items_of(schema: Any) -> tuple[list[Any], Any]:
    """Return the schemas of the first items, and that of the others."""
    items = schema.get("items", True)
    first = schema.get("prefixItems", [])
    if isinstance(items, (list, tuple)):  # as draft 7 has it
        first, items = items, schema.get("additionalItems", True)
    if not isinstance(first, (list, tuple)):
        raise BadDocument("prefixItems is no list")
    return [*first], items


def number(value: Any) -> float:
    return value if is_number(value) else 0


def fields(schema: Any, keyword: str) -> Mapping[str, Any]:
    found = schema.get(keyword, {})
    if not isinstance(found, Mapping):
        raise BadDocument(f"{keyword} is no object")
    return found


def names_in(schema: Any, keyword: str) -> list[str]:
    found = schema.get(keyword, [])
    if not isinstance(found, (list, tuple)) or not all(isinstance(name, str) for name in found):
        raise BadDocument(f"{keyword} is no list of names")
    return [*found]


def same(one: Any, other: Any) -> bool:
    """Compare two values as JSON does, to which True is no 1."""
    return bool(identity(one) == identity(other))


def identity(value: Any) -> Any:
    """Return what is equal, and has one hash, for values that are the same JSON.

    >>> identity(1) == identity(1.0) != identity(True)
    True
    """
    if isinstance(value, bool):
        return bool, value
    if isinstance(value, Mapping):
        return dict, frozenset((key, identity(inner)) for key, inner in value.items())
    if isinstance(value, (list, tuple)):
        return list, tuple(map(identity, value))
    return value


def as_json(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=True, sort_keys=True, default=str)
    return text if len(text) <= 80 else f"{text[:77]}..."
