"""A client in Python: one file, of the standard library, gemstone_sync and msgspec only."""

from __future__ import annotations

import builtins
import functools
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any

from ...errors import UNSET
from ..model import Contract, ErrorInfo, Method, Parameter
from .document import Head, as_documented, errors_of, head_of, told_of, tree_of
from .names import Names, capitalized, identifier, one_line
from .python_text import WIDTH, call, docstring, listed, quoted
from .types import (
    ANY,
    Alias,
    DictOf,
    Enumeration,
    Field,
    ListOf,
    Literals,
    Named,
    Scalar,
    Structure,
    TupleOf,
    Type,
    Types,
    Union,
)

__all__ = ["python_client"]

_SCALARS = {
    "any": "_Any",
    "null": "None",
    "boolean": "bool",
    "integer": "int",
    "number": "float",
    "string": "str",
    "bytes": "bytes",
    "datetime": "_datetime.datetime",
    "date": "_datetime.date",
    "duration": "_datetime.timedelta",
    "uuid": "_uuid.UUID",
    "decimal": "_decimal.Decimal",
}
#: What annotations may hold: a member of this name would stand for itself in those below it.
_BUILTINS = {"None", "bool", "bytes", "dict", "float", "int", "list", "str", "tuple"}
_IMPORTS = {
    "_builtins": "import builtins as _builtins",
    "_datetime": "import datetime as _datetime",
    "_decimal": "import decimal as _decimal",
    "_enum": "import enum as _enum",
    "_uuid": "import uuid as _uuid",
    "_Any": "from typing import Any as _Any",
    "_Literal": "from typing import Literal as _Literal",
    "_TypeAlias": "from typing import TypeAlias as _TypeAlias",
    "_msgspec": "import msgspec as _msgspec",
}
_OURS = {
    "_UNSET": "from gemstone_sync import UNSET as _UNSET",
    "_RpcError": "from gemstone_sync import RpcError as _RpcError",
    "_Unset": "from gemstone_sync.errors import Unset as _Unset",
}
_OWN = ("_Calls", "_RemoteService", "_RpcError", "_UNSET", "_Unset", "_calls", "_result", "Client")


def python_client(contract: Contract, version: str) -> str:
    """Write a client module.

    :param version: of this package, for its head.
    :returns: the same text for the same contract and version of this package.
    :raises BadDocument: for schemas that cannot be read.

    ::

        users = users_client.Client("http://127.0.0.1:5000/api")
        users.find(7).name
    """
    return _Writer(contract).module(version)


class _Writer:
    def __init__(self, contract: Contract) -> None:
        self._contract = contract = as_documented(contract)
        self._globals = Names({*_IMPORTS, *_OWN, *dir(builtins), "annotations"})
        self._types = Types(contract, self._globals)
        self._used: set[str] = set()
        self._errors = errors_of(contract, self._globals)
        #: Types of errors and methods: they may declare classes, which stand above them.
        self._data = {
            name: None if info.data is None else self._types.of(info.data, f"{name}Data")
            for name, info in self._errors.named()
        }
        self._methods = {method.name: _Typed(method, self._types) for method in contract.methods}
        self._tag_unions()

    def module(self, version: str) -> str:
        declared = [self._declaration(each) for each in self._in_order()]
        errors = [self._error(name, info) for name, info in self._errors.named()]
        spaces = [*self._namespaces()]
        parts = [*declared, *errors, *spaces]
        body = "\n\n\n".join("\n".join(part) for part in parts)
        return f"{self._head(head_of(self._contract, version), body)}\n\n\n{body}\n"

    def _head(self, head: Head, body: str) -> str:
        used = set(re.findall(r"(?<![\w.])_\w+", body))
        doc = [f"Client of {head.title}.", "", *head.lines]
        imports = [line for name, line in _IMPORTS.items() if name in used]
        plain = sorted(line for line in imports if line.startswith("import") and "msg" not in line)
        others = sorted(line for line in imports if line.startswith("from"))
        ours = [
            "from gemstone_sync import RemoteService as _RemoteService",
            "from gemstone_sync.client.generated import Calls as _Calls",
            *[line for name, line in _OURS.items() if name in used],
        ]
        third = [line for line in imports if "msgspec" in line]
        text = [
            *docstring("\n".join(doc), ""),
            "",
            "from __future__ import annotations",
            "",
            *plain,
            *others,
            *([""] if plain or others else []),
            *third,
            *([""] if third else []),
            *sorted(ours),
            "",
            f"__all__ = {listed(['Client', *self._errors.names(), *self._types.declared])}",
        ]
        return "\n".join(text)

    # Types

    def _in_order(self) -> Iterator[Structure | Enumeration | Alias]:
        """Put what others are made of when the module is imported above them."""
        done: set[str] = set()
        declared = self._types.declared

        def needed(name: str) -> Iterator[Structure | Enumeration | Alias]:
            if name in done:
                return
            done.add(name)
            found = declared[name]
            if isinstance(found, Alias):
                for inner in _names_in(found.type):
                    yield from needed(inner)
            yield found

        # Aliases are evaluated at once, so what they name comes first; fields when first used, but
        # not their defaults, which may be members of enums.
        enums = [name for name, each in declared.items() if isinstance(each, Enumeration)]
        plain = [name for name, each in declared.items() if not isinstance(each, Alias)]
        for name in [*enums, *plain, *declared]:
            yield from needed(name)

    def _declaration(self, declared: Structure | Enumeration | Alias) -> list[str]:
        if isinstance(declared, Alias):
            about = [f"#: {one_line(declared.doc)}"] if declared.doc else []
            return [*about, f"{declared.name}: _TypeAlias = {self.text(declared.type)}"]
        if isinstance(declared, Enumeration):
            return self._enumeration(declared)
        tag = ""
        if declared.tag is not None:
            tag = f", tag_field={quoted(declared.tag[0])}, tag={quoted(declared.tag[1])}"
        lines = [f"class {declared.name}(_msgspec.Struct, frozen=True, kw_only=True{tag}):"]
        lines += docstring(declared.doc or f"{declared.name}.", "    ")
        members = Names({*self._types.declared, "None"})
        fields = [f for f in declared.fields if declared.tag is None or f.key != declared.tag[0]]
        named = [(members.take(identifier(f.key, "field")), f) for f in fields]
        hidden = {name for name, _ in named}
        if fields:
            lines.append("")
        for name, each in named:
            lines += self._field(name, each, hidden)
        return lines

    def _field(self, name: str, each: Field, hidden: set[str]) -> list[str]:
        about = [f"    #: {one_line(each.doc)}"] if each.doc else []
        annotation, default = self.text(each.type, hidden), None
        options = []
        if not each.required:
            default = self._default(each)
            if (factory := self._factory(each)) is not None:
                options.append(f"default_factory={self._builtin(factory, hidden)}")
            elif default is None:
                annotation, default = f"{annotation} | _msgspec.UnsetType", "_msgspec.UNSET"
        if name != each.key:
            options += [f"default={default}"] if default is not None else []
            options.append(f"name={quoted(each.key)}")
        if options:
            return [*about, f"    {name}: {annotation} = _msgspec.field({', '.join(options)})"]
        return [*about, f"    {name}: {annotation}" + (f" = {default}" if default else "")]

    def _factory(self, each: Field) -> str | None:
        """Name what makes a default that is empty and may be changed; None for others."""
        kinds = (list, ListOf), (dict, DictOf)
        for made, kind in kinds:
            if each.default == made() and any(
                isinstance(one, kind) for one in self._types.flat(each.type)
            ):
                return made.__name__
        return None

    def _default(self, each: Field) -> str | None:
        """Write a default that is of the field's type and cannot be changed; None for others."""
        value, kinds = each.default, self._types.flat(each.type)
        for one in kinds:
            found = self._types.declared.get(one.name) if isinstance(one, Named) else None
            if isinstance(found, Enumeration) and _is_among(value, found.values):
                member = _members_of(found)[found.values.index(value)]
                return f"{found.name}.{member}"
        fits = {
            str: Scalar("string"),
            bool: Scalar("boolean"),
            int: Scalar("integer"),
            float: Scalar("number"),
            type(None): Scalar("null"),
        }
        if value is UNSET or fits.get(type(value)) not in kinds:
            return None
        return quoted(value) if isinstance(value, str) else repr(value)

    def _enumeration(self, declared: Enumeration) -> list[str]:
        is_text = isinstance(declared.values[0], str)
        base = "_enum.Enum" if is_text else "_enum.IntEnum"
        lines = [f"class {declared.name}({base}):"]
        lines += [*docstring(declared.doc or f"{declared.name}.", "    "), ""]
        for name, value in zip(_members_of(declared), declared.values, strict=True):
            lines.append(f"    {name} = {quoted(value) if is_text else repr(value)}")
        return lines

    def _builtin(self, name: str, hidden: Collection[str]) -> str:
        """Write a builtin, where names of members hide some."""
        return f"_builtins.{name}" if name in hidden and name != "None" else name

    def text(self, type_: Type, hidden: Collection[str] = frozenset()) -> str:
        """Write a type, where names of members hide builtins."""
        plain = functools.partial(self._builtin, hidden=hidden)

        if isinstance(type_, Scalar):
            return plain(_SCALARS[type_.kind])
        if isinstance(type_, Named):
            return type_.name
        if isinstance(type_, ListOf):
            return f"{plain('list')}[{self.text(type_.item, hidden)}]"
        if isinstance(type_, DictOf):
            return f"{plain('dict')}[{plain('str')}, {self.text(type_.value, hidden)}]"
        if isinstance(type_, TupleOf):
            inside = ", ".join(self.text(each, hidden) for each in type_.items)
            return f"{plain('tuple')}[{inside}]"
        if isinstance(type_, Literals):
            values = [quoted(v) if isinstance(v, str) else repr(v) for v in type_.values]
            return f"_Literal[{', '.join(values)}]"
        options = self._decodable(type_)
        return " | ".join(self.text(each, hidden) for each in options)

    # Unions

    def _tag_unions(self) -> None:
        """Find what tells structures of a union apart: msgspec wants one field that does."""
        for found in [*self._unions()]:
            structures = self._types.structures_of(found)
            if len(structures) > 1:
                for structure, tag in zip(structures, _tags_of(structures), strict=False):
                    if structure.tag is None:
                        structure.tag = tag

    def _unions(self) -> Iterator[Type]:
        left: list[Type] = [t for t in self._data.values() if t is not None]
        for typed in self._methods.values():
            left += [typed.result, *typed.parameters]
        for declared in self._types.declared.values():
            if isinstance(declared, Structure):
                left += [each.type for each in declared.fields]
            elif isinstance(declared, Alias):
                left.append(declared.type)
        while left:
            each = left.pop()
            if isinstance(each, Union):
                yield each
            left += _inside(each)

    def _decodable(self, type_: Union) -> Sequence[Type]:
        """Return options that msgspec can tell apart, at most one of each kind."""
        by_kind: dict[str, list[Type]] = {}
        for each in self._types.flat(type_):
            by_kind.setdefault(self._kind(each), []).append(each)
        structures = self._types.structures_of(type_)
        objects = by_kind.get("object", [])
        if len(objects) > 1:
            tags = [structure.tag for structure in structures]
            fields = {tag and tag[0] for tag in tags}
            if (
                len(structures) < len(objects)
                or None in tags
                or len(fields) > 1
                or len(set(tags)) < len(tags)
            ):
                return [ANY]
        if "any" in by_kind or ("mixed" in by_kind and {"text", "integer"} & by_kind.keys()):
            return [ANY]
        if not any(len(each) > 1 for kind, each in by_kind.items() if kind != "object"):
            return type_.options
        return self._merged(by_kind)

    def _merged(self, by_kind: dict[str, list[Type]]) -> list[Type]:
        found: list[Type] = []
        for kind, options in by_kind.items():
            if kind == "object" or len(options) == 1:
                found += options
            elif kind == "array":
                found.append(ListOf(ANY))
            elif Scalar("decimal") in options:
                return [ANY]
            else:
                found.append(Scalar({"text": "string"}.get(kind, kind)))
        return found

    def _kind(self, type_: Type) -> str:
        if isinstance(type_, Scalar):
            texts = ("string", "bytes", "datetime", "date", "duration", "uuid", "decimal")
            return "text" if type_.kind in texts else type_.kind
        if isinstance(type_, (ListOf, TupleOf)):
            return "array"
        if isinstance(type_, DictOf):
            return "object"
        if isinstance(type_, Literals):
            kinds = {type(value) for value in type_.values}
            if bool in kinds:
                return "any"  # msgspec has no such literals
            return "mixed" if len(kinds) > 1 else "text" if str in kinds else "integer"
        assert isinstance(type_, Named)
        declared = self._types.declared[type_.name]
        if isinstance(declared, Enumeration):
            return "text" if isinstance(declared.values[0], str) else "integer"
        return "object"

    # Errors

    def _error(self, name: str, info: ErrorInfo) -> list[str]:
        lines = [f"class {name}(_RpcError):"]
        lines += [*docstring(info.message or name, "    "), ""]
        lines += [f"    code = {info.code}", f"    message = {quoted(info.message)}"]
        data = self._data[name]
        if data is not None:
            lines.append(f"    data: {self.text(data)}")
        return lines

    # Methods

    def _namespaces(self) -> Iterator[list[str]]:
        """Write the classes, those of nested names first."""
        tree = tree_of(self._contract)
        yield from self._namespace(tree, "Client")

    def _namespace(self, tree: Any, name: str) -> Iterator[list[str]]:
        # A member of a type's name would stand for it in the annotations below.
        members = Names({"_calls", "None", "Client", *self._types.declared})
        inner: list[str] = []
        body: list[list[str]] = []
        named = [(members.take(identifier(part, "method")), part) for part in tree.parts]
        hidden = {member for member, _ in named}
        for member, part in named:
            below = tree.parts[part]
            if below.parts:
                cls = self._globals.take(
                    f"_{capitalized(name.strip('_'), 'X')}{capitalized(part, 'X')}"
                )
                yield from self._namespace(below, cls)
                inner.append(f"        self.{member} = {cls}(self._calls)")
            else:
                body.append(self._method(member, below.method, hidden))
        if tree.method is not None:
            body.insert(0, self._method("__call__", tree.method, hidden))
        lines = [f"class {name}:"]
        if name == "Client":
            lines += self._client_head(hidden)
        else:
            lines += [*docstring(f"Methods of {one_line(tree.name)}.", "    "), ""]
            lines += ["    def __init__(self, calls: _Calls) -> None:"]
            lines += ["        self._calls = calls"]
        lines += inner
        if name == "Client":
            body.append(_CLOSING)
        for each in body:
            lines += ["", *each]
        yield lines

    def _client_head(self, hidden: set[str]) -> list[str]:
        title = one_line(self._contract.name) or "a service"
        about = "\n".join(
            [
                f"Calls {title}.",
                "",
                ":param service: its URL, several of them, or a `RemoteService`.",
                ":param options: for the `RemoteService` of a URL.",
            ]
        )
        text, many = (
            self.text(each, hidden) for each in (Scalar("string"), ListOf(Scalar("string")))
        )
        return [
            *docstring(about, "    "),
            "",
            "    def __init__(",
            f"        self, service: {text} | {many} | _RemoteService, **options: _Any",
            "    ) -> None:",
            "        self._calls = _Calls(service, **options)",
        ]

    def _method(self, member: str, method: Method, hidden: set[str]) -> list[str]:
        typed = self._methods[method.name]
        scope = Names({"self", *_OWN, *_BUILTINS, *self._types.declared, *self._errors.names()})
        places = [(scope.take(identifier(p.name, "value")), p, t) for p, t in typed.pairs()]
        result = self.text(typed.result, hidden)
        lines = self._signature(member, places, typed, result, hidden)
        lines += docstring(_doc_of(method, places), "        ")
        sent = _sent(places, typed.by_position)
        words = [quoted(method.name), sent]
        if method.result is None:
            return [*lines, *call("        self._calls.tell(", words)]
        if typed.result != ANY:
            words.append(self.text(typed.result))
        if errors := self._errors.of(method):
            words.append(f"errors=({', '.join(errors)},)")
        if method.idempotent:
            words.append("idempotent=True")
        lines += call(f"        _result: {self.text(typed.result)} = self._calls.ask(", words)
        return [*lines, "        return _result"]

    def _signature(
        self, member: str, places: Any, typed: _Typed, result: str, hidden: set[str]
    ) -> list[str]:
        words, stage = ["self"], 0
        placed = [p for _, p, _ in places if p.kind == "positional"]
        for name, parameter, type_ in places:
            kind = parameter.kind
            if stage == 0 and placed and kind != "positional":
                words.append("/")
            stage = 1 if kind != "positional" else 0
            if kind == "rest":
                words.append(f"*{name}: {self.text(type_, hidden)}")
                continue
            if kind == "named_rest":
                words.append(f"**{name}: {self.text(type_, hidden)}")
                continue
            if kind == "named" and "*" not in words:
                words.append("*")
            annotation = self.text(type_, hidden)
            if parameter.required:
                words.append(f"{name}: {annotation}")
            else:
                words.append(f"{name}: {annotation} | _Unset = _UNSET")
        if places and all(p.kind == "positional" for _, p, _ in places):
            words.append("/")
        head = f"    def {member}("
        line = f"{head}{', '.join(words)}) -> {result}:"
        if len(line) <= WIDTH:
            return [line]
        return [head, *(f"        {word}," for word in words), f"    ) -> {result}:"]


_CLOSING = [
    "    def __enter__(self) -> Client:",
    "        return self",
    "",
    "    def __exit__(self, *exc_info: object) -> None:",
    "        self._calls.close()",
]
#: Names that mean something else in the body of an Enum.
_ENUM_NAMES = ("mro", "name", "value", "MRO_")


def _members_of(declared: Enumeration) -> list[str]:
    """Name the members of an enum, in the order of its values."""
    members = Names({*_ENUM_NAMES})
    found = []
    for value in declared.values:
        is_text = isinstance(value, str)
        wanted = identifier(value, "EMPTY").upper() if is_text else f"VALUE_{value}"
        wanted = wanted.replace("-", "MINUS_").lstrip("_") or "EMPTY"
        found.append(members.take(f"VALUE_{wanted}" if wanted[0].isdigit() else wanted))
    return found


def _is_among(value: Any, values: Collection[Any]) -> bool:
    """Tell whether a value is one of several: True is no 1."""
    return any(type(value) is type(each) and value == each for each in values)


class _Typed:
    """A method with the types of its parameters, as its signature has them.

    :ivar by_position: whether they are sent so.
    """

    def __init__(self, method: Method, types: Types) -> None:
        context = capitalized(method.name, "Method")
        kinds = [p.kind for p in method.parameters]
        self.by_position = "positional" in kinds or "rest" in kinds
        wanted = ("positional", "rest") if self.by_position else ("named", "named_rest")
        self._shown = self._ordered([p for p in method.parameters if p.kind in ("either", *wanted)])
        self.parameters = [
            types.of(p.schema, context + capitalized(p.name, "Value")) for p in self._shown
        ]
        result = method.result
        self.result = Scalar("null") if result is None else types.of(result, f"{context}Result")

    def _ordered(self, parameters: list[Parameter]) -> list[Parameter]:
        """Put them in the order that Python wants: what may be left out comes last."""
        if self.by_position:
            last = max((n for n, p in enumerate(parameters) if p.required), default=-1)
            return [
                replace(p, required=True, kind="positional")
                if n <= last and p.kind != "rest"
                else (p if p.kind == "rest" else replace(p, kind="positional"))
                for n, p in enumerate(parameters)
            ]
        order = {"either": 0, "named": 1, "named_rest": 2}
        return sorted(
            parameters, key=lambda p: (order[p.kind], p.kind == "either" and not p.required)
        )

    def pairs(self) -> list[tuple[Parameter, Type]]:
        return list(zip(self._shown, self.parameters, strict=True))


def _sent(places: Any, by_position: bool) -> str:
    if by_position:
        words = [f"*{name}" if p.kind == "rest" else name for name, p, _ in places]
        return f"[{', '.join(words)}]"
    words = [
        f"**{name}" if p.kind == "named_rest" else f"{quoted(p.name)}: {name}"
        for name, p, _ in places
    ]
    return f"{{{', '.join(words)}}}"


def _doc_of(method: Method, places: Any) -> str:
    lines = [method.summary or f"Call {one_line(method.name)}."]
    if method.deprecated and not method.description.startswith("Deprecated"):
        lines[0] = f"{lines[0]} Deprecated."
    if method.description:
        lines += ["", method.description]
    about = []
    for name, parameter, _ in places:
        if told := told_of(parameter):
            about.append(f":param {name}: {told}")
    if method.result_description:
        about.append(f":returns: {one_line(method.result_description, 300)}")
    return "\n".join([*lines, *([""] if about else []), *about])


def _inside(type_: Type) -> list[Type]:
    if isinstance(type_, ListOf):
        return [type_.item]
    if isinstance(type_, DictOf):
        return [type_.value]
    if isinstance(type_, TupleOf):
        return [*type_.items]
    return [*type_.options] if isinstance(type_, Union) else []


def _names_in(type_: Type) -> Iterator[str]:
    if isinstance(type_, Named):
        yield type_.name
    for each in _inside(type_):
        yield from _names_in(each)


def _tags_of(structures: list[Structure]) -> list[tuple[str, str] | None]:
    """Find the field that has another text in each of some structures; None where there is none."""
    nothing: list[tuple[str, str] | None] = [None] * len(structures)
    by_key: dict[str, list[str]] = {}
    for each in structures:
        for one in each.fields:
            type_ = one.type
            if isinstance(type_, Literals) and len(type_.values) == 1:
                value = type_.values[0]
                if isinstance(value, str):
                    by_key.setdefault(one.key, []).append(value)
    for key, values in by_key.items():
        if len(values) == len(set(values)) == len(structures):
            return [(key, value) for value in values]
    return nothing
