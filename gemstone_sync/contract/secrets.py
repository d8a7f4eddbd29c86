"""Which values of a call are secrets, by what the schemas of its parameters say.

JSON Schema marks them by ``writeOnly`` or ``"format": "password"``: as ``extra_json_schema`` of a
`msgspec.Meta`, and of pydantic's ``SecretStr``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .binding import ParameterBinder
from .schemas import schemas_of

__all__ = ["secret_names"]


def secret_names(binder: ParameterBinder) -> frozenset[str]:
    """Return the names of secrets among a method's parameters and the fields of their types."""
    schemas, shared = schemas_of([parameter.check for parameter in binder.parameters])
    names = [parameter.name for parameter in binder.parameters]
    found: set[str] = set()
    seen: set[str] = set()
    left: list[Any] = [{"properties": dict(zip(names, schemas, strict=True))}]
    while left:
        schema = left.pop()
        if isinstance(schema, list):
            left += schema
        if not isinstance(schema, Mapping):
            continue
        left += schema.values()
        reference = schema.get("$ref")
        if isinstance(reference, str) and reference not in seen:
            seen.add(reference)
            left.append(shared.get(reference.rpartition("/")[2]))
        properties = schema.get("properties")
        if isinstance(properties, Mapping):
            left += properties.values()
            found |= {name for name, each in properties.items() if _is_secret(each)}
    return frozenset(found)


def _is_secret(schema: Any) -> bool:
    if not isinstance(schema, Mapping):
        return False
    parts = [schema, *schema.get("anyOf", ()), *schema.get("allOf", ())]
    return any(part.get("writeOnly") or part.get("format") == "password" for part in parts)
