"""Type hints -> JSON Schema (draft 2020-12), such that it takes what the validator takes.

`msgspec.inspect` says what msgspec makes of a hint, and it is written down here from that;
`msgspec.json.schema_components` itself disagrees with its validator on decimals, on keys that are
no texts, on tags, on duplicates in sets and on flags. What pydantic checks, pydantic describes.

Documented exceptions, where a schema takes what the validator does not: ``1.0`` for an int, texts
with a ``format``, base64, an int beyond the range of a float.
"""

from __future__ import annotations

import enum
import inspect
import re
import typing
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec
import msgspec.inspect as mi

from ..annotations import hints_of, is_alias, with_arguments
from ..errors import UNSET
from .customs import is_custom, items_of, json_schema_of
from .enums import flag_values, values_of
from .hints import Check
from .model import REF, Schema
from .parts import is_model, plain_form
from .plain import as_json, clean_text
from .pydantic_schemas import HASHABLE, pydantic_schemas

__all__ = ["schemas_of"]

_Dict: TypeAlias = dict[str, Any]

#: An int as it is written in a key, and what JSON numbers and Python's decimals have in common.
_INT_KEY = "^(0|-?[1-9][0-9]*|-0)$"
_NUMBER_KEY = r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?$"

_REF = REF + "{name}"


def schemas_of(
    checks: Sequence[Check | None], sent: Collection[int] = ()
) -> tuple[list[Schema], dict[str, Schema]]:
    """Make the schema of each check, and those that they share by name.

    :param checks: what `check_for` made of hints; None for what is not checked.
    :param sent: the places of those whose values the service sends.
    :returns: the schemas in the order of the checks, and the components that they refer to as
        ``#/components/schemas/NAME``, sorted by name.

    >>> from gemstone_sync.contract.hints import check_for
    >>> schemas_of([check_for(int), None, check_for(list[str])])[0]
    [{'type': 'integer'}, {}, {'type': 'array', 'items': {'type': 'string'}}]
    """
    ours = [number for number, c in enumerate(checks) if c and c.msgspec is not UNSET]
    theirs = [number for number, c in enumerate(checks) if c and c.pydantic is not None]
    hints = [checks[number].msgspec for number in ours]  # type: ignore[union-attr]
    infos = [_info_of(hint) for hint in hints]
    named = _named_types(infos)
    models = [info.cls for info in named.values() if isinstance(info, mi.CustomType)]
    adapters = [checks[number].pydantic for number in theirs]  # type: ignore[union-attr]
    of_sent = [at for at, number in enumerate(theirs) if number in sent]
    made, shared = pydantic_schemas(adapters, models, _REF, sent=of_sent)
    names = _names_of([cls for cls, info in named.items() if info.cls not in models], set(shared))
    writer = _Writer(names, dict(zip(models, made[len(theirs) :], strict=True)))
    found: list[list[Schema]] = [[] for _ in checks]
    for number, info in zip(ours, infos, strict=True):
        found[number].append(writer.schema(info))
    for number, schema in zip(theirs, made, strict=False):
        found[number].append(schema)
    shared |= {name: writer.body(named[cls]) for cls, name in names.items()}
    schemas = [{"allOf": each} if len(each) > 1 else (each or [{}])[0] for each in found]
    theirs_of = {name: _normal(_class_name(cls)) for cls, name in names.items()}
    return _told_once(schemas, shared, {n: s for n, s in theirs_of.items() if s in shared})


# Names


def _told_once(
    schemas: list[Schema], shared: _Dict, theirs_of: dict[str, str]
) -> tuple[list[Schema], dict[str, Schema]]:
    """Leave out what pydantic tells of the same class in the same words.

    :param theirs_of: the names of ours, with what pydantic would call them.
    """
    same = {ours: theirs for ours, theirs in theirs_of.items() if ours != theirs}
    while wrong := [
        ours for ours in same if _words(shared[ours], same) != _words(shared[same[ours]], {})
    ]:
        for ours in wrong:  # and then whatever refers to it
            del same[ours]
    if same:
        refs = {_REF.format(name=ours): _REF.format(name=same[ours]) for ours in same}
        schemas = [_referring(each, refs) for each in schemas]
        shared = {n: _referring(each, refs) for n, each in shared.items() if n not in same}
    return schemas, dict(sorted(shared.items()))


def _referring(part: Any, refs: Mapping[str, str]) -> Any:
    """Write other references in a schema."""
    if isinstance(part, dict):
        return {
            key: refs.get(value, value)
            if key == "$ref" and isinstance(value, str)
            else _referring(value, refs)
            for key, value in part.items()
        }
    return [_referring(each, refs) for each in part] if isinstance(part, list) else part


def _words(part: Any, same: Mapping[str, str]) -> Any:
    """Return what a schema says: no titles, and no type beside an enum, which has it anyway."""
    refs = {_REF.format(name=ours): _REF.format(name=theirs) for ours, theirs in same.items()}
    return _without_titles(_referring(part, refs))


def _without_titles(part: Any) -> Any:
    if isinstance(part, dict):
        return {
            key: _without_titles(value)
            for key, value in part.items()
            if not (
                isinstance(value, str) and (key == "title" or (key == "type" and "enum" in part))
            )
        }
    return list(map(_without_titles, part)) if isinstance(part, list) else part


def _named_types(infos: Iterable[mi.Type]) -> dict[Any, Any]:
    """The classes that get a name of their own, wherever they stand; pydantic's models too."""
    found: dict[Any, Any] = {}
    left: list[Any] = [*infos]
    while left:
        info = left.pop()
        cls = getattr(info, "cls", None)
        if isinstance(info, mi.CustomType) and not is_model(cls):
            continue
        if cls is not None:
            if cls in found:
                continue
            found[cls] = info
        left += [f.type for f in _fields_of(info)]
        left += _parts_of(info)
    return found


def _parts_of(info: Any) -> list[Any]:
    """The types that stand in one, but for those of a class's fields."""
    parts = [*getattr(info, "types", ()), *getattr(info, "item_types", ())]
    inner = (getattr(info, each, None) for each in ("type", "item_type", "key_type", "value_type"))
    return [*parts, *(each for each in inner if each is not None)]


def _listed(hint: Any) -> Any:
    """Write ``deque[int]`` as ``list[int]``, whose schema it has: msgspec forgets the items."""
    if (items := items_of(hint)) is not None:
        return _listed(items)
    if typing.get_origin(hint) is typing.Literal or is_alias(hint) or not typing.get_args(hint):
        return hint
    return with_arguments(hint, _listed)


def _info_of(hint: Any) -> mi.Type:
    try:
        return mi.type_info(_listed(hint))
    except TypeError:  # as a list its items are a union of models, which msgspec does not take
        return mi.type_info(hint)


def _fields_of(info: Any) -> list[Any]:
    """The fields of a class, those with a ``deque[int]`` in them as `_listed` writes it."""
    fields = [*getattr(info, "fields", ())]
    if not any(_forgets_items(field.type) for field in fields):
        return fields
    hints = hints_of(getattr(info.cls, "__origin__", info.cls))
    return [
        msgspec.structs.replace(field, type=_info_of(plain_form(hints[field.name])))
        if _forgets_items(field.type) and field.name in hints
        else field
        for field in fields
    ]


def _forgets_items(info: Any) -> bool:
    if isinstance(info, mi.CustomType):
        return items_of(info.cls) is not None
    return any(map(_forgets_items, _parts_of(info)))


def _names_of(classes: Iterable[Any], taken: set[str]) -> dict[Any, str]:
    """Give each class its own name; several of one name their modules' too, whatever the order."""
    short = {cls: _normal(_class_name(cls)) for cls in classes}
    count: dict[str, int] = dict.fromkeys(taken, 1)
    for name in short.values():
        count[name] = count.get(name, 0) + 1
    full = {c: _full_name(c) if count[name] > 1 else name for c, name in short.items()}
    names: dict[Any, str] = {}
    used = set(taken)
    for cls, wanted in sorted(full.items(), key=lambda pair: pair[1]):
        name, number = wanted, 2
        while name in used:
            name, number = f"{wanted}_{number}", number + 1
        used.add(name)
        names[cls] = name
    return names


def _class_name(cls: Any) -> str:
    origin = getattr(cls, "__origin__", None)
    if origin is None:
        return str(cls.__name__)
    return "_".join([_class_name(origin), *(_argument_name(a) for a in cls.__args__)])


def _argument_name(argument: Any) -> str:
    is_class = isinstance(argument, type) or hasattr(argument, "__origin__")
    return _class_name(argument) if is_class and hasattr(argument, "__name__") else repr(argument)


def _full_name(cls: Any) -> str:
    origin = getattr(cls, "__origin__", cls)
    qualified = origin.__qualname__.replace("<locals>.", "")
    short = _normal(_class_name(cls)).removeprefix(_normal(origin.__name__))
    return _normal(f"{origin.__module__}.{qualified}") + short


def _normal(name: str) -> str:
    return re.sub(r"[^a-zA-Z0-9._-]+", "_", name).strip("_") or "_"


# Schemas


class _Writer:
    """Writes what `msgspec.inspect` says of a type as JSON Schema."""

    def __init__(self, names: dict[Any, str], models: dict[Any, Schema]) -> None:
        self._names = names
        self._models = models

    def schema(self, info: Any) -> _Dict:
        """The schema of a type where it is used: of a named one, the reference."""
        if isinstance(info, mi.Metadata):
            return {**self.schema(info.type), **(info.extra_json_schema or {})}
        cls = getattr(info, "cls", None)
        if cls is not None and cls in self._models:
            return dict(self._models[cls])
        if cls is not None and cls in self._names:
            return {"$ref": _REF.format(name=self._names[cls])}
        return self._plain(info)

    def body(self, info: Any) -> _Dict:
        """The schema of a named type itself."""
        cls = getattr(info.cls, "__origin__", info.cls)
        head: _Dict = {"title": cls.__name__}
        if doc := _doc_of_class(cls):
            head["description"] = doc
        if isinstance(info, mi.EnumType):
            return head | _enum(info.cls)
        if isinstance(info, mi.NamedTupleType) or getattr(info, "array_like", False):
            return head | self._array_of_fields(info)
        return head | self._object(info)

    def _plain(self, info: Any) -> _Dict:
        if isinstance(info, mi.AnyType):
            return {}
        if isinstance(info, mi.CustomType):
            return self._custom(info.cls)
        if isinstance(info, mi.LiteralType):
            return {"enum": sorted(info.values, key=lambda v: (str(type(v)), v is not None and v))}
        if isinstance(info, mi.UnionType):
            return self._union(info)
        if isinstance(info, mi.CollectionType):
            return self._array(info)
        if isinstance(info, mi.TupleType):
            return _array_of([self.schema(each) for each in info.item_types], exact=True)
        if isinstance(info, (mi.DictType, getattr(mi, "FrozenDictType", mi.DictType))):
            return self._mapping(info)
        for kind, write in _SCALARS.items():
            if isinstance(info, kind):
                made: _Dict = write(info)
                return made
        raise TypeError(f"no JSON value is a {getattr(info, 'cls', info)!r}")

    def _custom(self, cls: Any) -> _Dict:
        """A class that `customs` makes values of."""
        if not is_custom(cls):
            raise TypeError(f"no JSON value is a {cls!r}")
        return json_schema_of(cls)

    def _array(self, info: Any) -> _Dict:
        schema: _Dict = {"type": "array"}
        items = self.schema(info.item_type)
        if isinstance(info, (mi.SetType, mi.FrozenSetType)):
            items = items or HASHABLE
        if items:
            schema["items"] = items
        # Of a set's items too, duplicates counted: as msgspec does.
        return schema | _bounds(info, minItems="min_length", maxItems="max_length")

    def _mapping(self, info: Any) -> _Dict:
        schema: _Dict = {"type": "object"}
        if names := self._key(info.key_type):
            schema["propertyNames"] = names
        if values := self.schema(info.value_type):
            schema["additionalProperties"] = values
        return schema | _bounds(info, minProperties="min_length", maxProperties="max_length")

    def _key(self, info: Any) -> _Dict:
        """The schema of a key, which is a text whatever the type is."""
        while isinstance(info, mi.Metadata):
            info = info.type
        if isinstance(info, mi.AnyType):
            return {}
        if isinstance(info, mi.UnionType):
            options = [self._key(each) for each in info.types]
            return {} if {} in options else {"anyOf": options}
        if isinstance(info, mi.IntType):
            return _int_key(info)
        if isinstance(info, mi.FloatType):
            return {"pattern": _NUMBER_KEY}
        if isinstance(info, (mi.EnumType, mi.LiteralType)):
            values = info.values if isinstance(info, mi.LiteralType) else values_of(info.cls)
            return {"enum": sorted({str(value) for value in values})}
        if isinstance(info, mi.DecimalType):
            return {}  # what else a text may say is a format
        if isinstance(info, (mi.BoolType, mi.NoneType)):
            return {"not": {}}  # msgspec takes no key for one
        schema = self.schema(info)
        return {key: value for key, value in schema.items() if key != "type"}

    def _union(self, info: Any) -> _Dict:
        structs = [each for each in map(_bare, info.types) if _is_object_struct(each)]
        options = []
        for each in info.types:
            schema = self.schema(each)
            if len(structs) > 1 and _is_object_struct(_bare(each)):
                # All that is required: some readers take this instead of what the reference has.
                bare = _bare(each)
                fields = [field.encode_name for field in bare.fields if field.required]
                schema = {**schema, "required": [bare.tag_field, *fields]}
            options.append(schema)
        union: _Dict = {"anyOf": options}
        if 1 < len(structs) == len(options):
            mapping = {str(each.tag): self.schema(each)["$ref"] for each in structs}
            union["discriminator"] = {"propertyName": structs[0].tag_field, "mapping": mapping}
        return union

    def _object(self, info: Any) -> _Dict:
        properties: _Dict = {}
        if (tag := getattr(info, "tag_field", None)) is not None:
            # Required in unions only, where it tells one from the other: `_union` says so there.
            properties[tag] = {"enum": [info.tag]}
        for each in _fields_of(info):
            properties[each.encode_name] = self._field(each)
        schema: _Dict = {"type": "object", "properties": properties}
        if required := [each.encode_name for each in info.fields if each.required]:
            schema["required"] = required
        if getattr(info, "forbid_unknown_fields", False):
            schema["additionalProperties"] = False
        return schema

    def _array_of_fields(self, info: Any) -> _Dict:
        items = [self._field(each) for each in _fields_of(info)]
        required = sum(each.required for each in info.fields)
        if getattr(info, "tag_field", None) is not None:
            items.insert(0, {"enum": [info.tag]})
            required += 1
        for number, each in enumerate(info.fields):  # a required one may follow optional ones
            if each.required:
                required = max(required, number + 1 + len(items) - len(info.fields))
        exact = isinstance(info, mi.NamedTupleType) or info.forbid_unknown_fields
        return _array_of(items, required, exact=exact)

    def _field(self, field: mi.Field) -> _Dict:
        schema = self.schema(field.type)
        if field.required:
            return schema
        default: Any = UNSET
        if field.default is not msgspec.NODEFAULT:
            default = as_json(field.default)
        elif field.default_factory in (list, dict, set, frozenset, tuple):
            default = as_json(field.default_factory())
        return schema if default is UNSET else {**schema, "default": default}


def _bare(info: Any) -> Any:
    while isinstance(info, mi.Metadata):
        info = info.type
    return info


def _is_object_struct(info: Any) -> bool:
    return isinstance(info, mi.StructType) and not info.array_like


def _array_of(items: list[_Dict], required: int | None = None, *, exact: bool) -> _Dict:
    schema: _Dict = {"type": "array"}
    if items:
        schema["prefixItems"] = items
    schema["minItems"] = len(items) if required is None else required
    if exact:
        schema["maxItems"] = len(items)
    return schema


def _bounds(info: Any, **names: str) -> _Dict:
    found = {key: getattr(info, name) for key, name in names.items()}
    return {key: value for key, value in found.items() if value is not None}


def _int_key(info: Any) -> _Dict:
    """An int as a key: a text can say how it is written, and of its bounds the sign only."""
    low = info.ge if info.ge is not None else None if info.gt is None else info.gt + 1
    pattern = _INT_KEY
    if low is not None and low >= 0:
        pattern = "^[1-9][0-9]*$" if low > 0 else "^(-?0|[1-9][0-9]*)$"
    return {"pattern": pattern}


def _number(kind: str, info: Any) -> _Dict:
    return {"type": kind} | _bounds(
        info,
        minimum="ge",
        exclusiveMinimum="gt",
        maximum="le",
        exclusiveMaximum="lt",
        multipleOf="multiple_of",
    )


def _text(info: Any) -> _Dict:
    bounds = _bounds(info, minLength="min_length", maxLength="max_length", pattern="pattern")
    return {"type": "string"} | bounds


def _bytes(info: Any) -> _Dict:
    schema: _Dict = {"type": "string", "contentEncoding": "base64"}
    if info.min_length is not None:
        schema["minLength"] = 4 * ((info.min_length + 2) // 3)
    if info.max_length is not None:
        schema["maxLength"] = 4 * ((info.max_length + 2) // 3)
    return schema


def _zoned(name: str, info: Any) -> _Dict:
    # The formats of JSON Schema have a zone; without one there is no format for it.
    return {"type": "string", "format": name} if info.tz is True else {"type": "string"}


def _decimal(info: Any) -> _Dict:
    return {"anyOf": [{"type": "number"}, {"type": "string", "format": "decimal"}]}


_SCALARS: dict[Any, Any] = {
    mi.NoneType: lambda _: {"type": "null"},
    mi.BoolType: lambda _: {"type": "boolean"},
    mi.IntType: lambda info: _number("integer", info),
    mi.FloatType: lambda info: _number("number", info),
    mi.StrType: _text,
    (mi.BytesType, mi.ByteArrayType, mi.MemoryViewType): _bytes,
    mi.DateTimeType: lambda info: _zoned("date-time", info),
    mi.TimeType: lambda info: _zoned("time", info),
    mi.DateType: lambda _: {"type": "string", "format": "date"},
    mi.TimeDeltaType: lambda _: {"type": "string", "format": "duration"},
    mi.UUIDType: lambda _: {"type": "string", "format": "uuid"},
    mi.DecimalType: _decimal,
}


# Enums


def _enum(cls: type[enum.Enum]) -> _Dict:
    if issubclass(cls, enum.Flag):
        return {"type": "integer"} | flag_values(cls)
    return {"enum": values_of(cls)}


def _doc_of_class(cls: type) -> str:
    """The docstring that somebody wrote: not what `dataclass` or `Enum` put there themselves."""
    doc = inspect.cleandoc(vars(cls).get("__doc__") or "")
    if doc.startswith(f"{cls.__name__}(") or doc == "An enumeration.":
        return ""
    return clean_text(doc)
