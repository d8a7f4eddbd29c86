"""Helpers for reading documents of others: references, names, schemas, refusals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from .model import REF, Schema

__all__ = ["BadDocument", "Reader", "boolean", "objects", "text"]

#: References one after the other that are followed; a circle of them has no end.
_MOST_STEPS = 50
#: Parts of schemas in one document: what refers to itself in YAML may unfold without end.
_MOST_PARTS = 5_000_000
#: Lists and objects inside one another in a schema: beyond, whoever walks it meets Python's limit.
_DEEPEST = 200


class BadDocument(ValueError):
    """A document that is none of its kind; the text says where, in one line."""


def text(value: Any) -> str:
    """The text; empty for whatever else."""
    return value if isinstance(value, str) else ""


def boolean(value: Any) -> bool:
    return value is True


def objects(value: Any, where: str) -> list[Any]:
    """The entries of a list; none for one that is left out."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise BadDocument(f"{where} is no list")
    return value


class Reader:
    """Reads parts of one document, and follows the references in it.

    Schemas that are referred to elsewhere than in ``components/schemas`` get a name there.
    """

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document
        components = document.get("components")
        own = components.get("schemas") if isinstance(components, Mapping) else None
        self._own: Mapping[str, Any] = own if isinstance(own, Mapping) else {}
        self._named: dict[str, Schema] = {}
        self._elsewhere: dict[str, str] = {}
        self._parts = 0

    def schemas(self) -> dict[str, Schema]:
        """The named schemas: the document's own, and those that got a name here."""
        for name in self._own:
            if name not in self._named:
                self._named[name] = {}
                self._named[name] = self.schema(self._own[name], f"schema {name!r:.60}")
        return dict(sorted(self._named.items()))

    def object(self, value: Any, where: str) -> Mapping[str, Any]:
        """An object, or what a reference to one leads to."""
        for _ in range(_MOST_STEPS):
            if not isinstance(value, Mapping):
                raise BadDocument(f"{where} is no object")
            if "$ref" not in value:
                return value
            value = self._follow(value["$ref"], where)
        raise BadDocument(f"{where}: its references lead in a circle")

    def name(self, found: Mapping[str, Any], where: str) -> str:
        """The name of an object."""
        name = found.get("name")
        if not isinstance(name, str) or not name:
            raise BadDocument(f"{where} has no name")
        return name

    def schema(self, value: Any, where: str, depth: int = 0) -> Schema:
        """A schema; ``true`` and what is left out take everything, ``false`` nothing."""
        if value is None or value is True:
            return {}
        if value is False:
            return {"not": {}}
        if not isinstance(value, Mapping):
            raise BadDocument(f"{where}: a schema is an object, not {value!r:.40}")
        made = self._copied(value, where, depth)
        assert isinstance(made, dict)
        return made

    def _copied(self, value: Any, where: str, depth: int) -> Any:
        if depth > _DEEPEST:
            raise BadDocument(f"{where}: a schema is nested more than {_DEEPEST} deep")
        self._parts += 1
        if self._parts > _MOST_PARTS:
            raise BadDocument(f"{where}: the document has more than {_MOST_PARTS} parts")
        if isinstance(value, list):
            return [self._copied(each, where, depth + 1) for each in value]
        if not isinstance(value, Mapping):
            return value
        made = {key: self._copied(each, where, depth + 1) for key, each in value.items()}
        if "$ref" in value:
            made["$ref"] = self._local(value["$ref"], where)
        return made

    def _local(self, ref: Any, where: str) -> Any:
        if not isinstance(ref, str):
            return ref  # a property that is called so
        name = unquote(ref.removeprefix(REF)).replace("~1", "/").replace("~0", "~")
        if ref.startswith(REF) and name in self._own:
            return REF + name
        if ref not in self._elsewhere:
            target = self._follow(ref, where)
            base = ref.rpartition("/")[2] or "schema"
            name, number = base, 2
            while name in self._own or name in self._named:
                name, number = f"{base}_{number}", number + 1
            self._elsewhere[ref] = name
            self._named[name] = {}
            self._named[name] = self.schema(target, where)
        return REF + self._elsewhere[ref]

    def _follow(self, ref: Any, where: str) -> Any:
        if not isinstance(ref, str) or not (ref == "#" or ref.startswith("#/")):
            raise BadDocument(
                f"{where}: the reference {ref!r:.80} leads out of the document; nothing is fetched"
            )
        found: Any = self._document
        for step in ref[2:].split("/") if ref != "#" else ():
            key = unquote(step).replace("~1", "/").replace("~0", "~")
            if isinstance(found, list) and key.isascii() and key.isdigit() and len(key) < 9:
                found = found[int(key)] if int(key) < len(found) else None
            else:
                found = found.get(key) if isinstance(found, Mapping) else None
            if found is None:
                raise BadDocument(f"{where}: the reference {ref!r:.80} leads nowhere")
        return found
