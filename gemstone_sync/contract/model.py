"""A service's contract as one value: methods, events, and the schemas that they share.

Everything that tells others of a service is made from it: documents, descriptions, clients,
comparisons. `builder` makes it from a service's parts; `openrpc` and `asyncapi` write it and read
it back. Nothing here knows where it came from. Pure, and frozen: nobody changes what others read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, TypeAlias

from ..errors import UNSET, RpcError

__all__ = [
    "NOTHING",
    "REF",
    "Contract",
    "ErrorInfo",
    "Event",
    "Example",
    "Method",
    "Nothing",
    "Parameter",
    "Schema",
    "Told",
    "refs_in",
]

#: JSON Schema, draft 2020-12: a dict that json can write. ``{}`` takes everything. Named types are
#: in `Contract.schemas`, referred to as ``{"$ref": "#/components/schemas/NAME"}``.
Schema: TypeAlias = Mapping[str, Any]

#: - ``"positional"``: by position only;
#: - ``"either"``: by position or by name;
#: - ``"named"``: by name only;
#: - ``"rest"``: any number more by position (``*args``), each of the schema; never required;
#: - ``"named_rest"``: any more names (``**kwargs``), each value of the schema; never required.
Kind: TypeAlias = Literal["positional", "either", "named", "rest", "named_rest"]

#: What the name of a shared schema follows in a reference.
REF = "#/components/schemas/"


class Nothing:
    """The type of `NOTHING`."""

    def __repr__(self) -> str:
        return "NOTHING"


#: ``exposed_method(result=NOTHING)``: the method returns nothing by design, so its callers send
#: notifications. ``-> None`` is a result like any other: ``null``.
NOTHING: Final = Nothing()


@dataclass(frozen=True, kw_only=True)
class Example:
    """A call of a method and what it gives, for ``exposed_method(examples=[…])``.

    :param params: as a caller sends them: a list by position, a dict by name.
    :param result: what the method returns for them; left out, the example shows a call only.
    :param summary: one line that says what it shows.

    Values may be what the hints say (a dataclass, a datetime) as well as JSON.

    >>> Example(params={"name": "world"}, result="hello world").params
    {'name': 'world'}
    """

    params: Sequence[Any] | Mapping[str, Any] = ()
    result: Any = UNSET
    summary: str = ""


@dataclass(frozen=True, kw_only=True)
class Told:
    """Options of `exposed_method` for those who read the contract; calls have no use of them.

    :ivar deprecated: a text says what to use instead.
    :ivar result: a type; `UNSET` for what the hint says, `NOTHING` for none.
    :ivar mcp: None for what the service says.
    """

    errors: tuple[type[RpcError], ...] = ()
    examples: tuple[Example, ...] = ()
    deprecated: bool | str = False
    summary: str | None = None
    tags: tuple[str, ...] = ()
    result: Any = UNSET
    read_only: bool = False
    destructive: bool | None = None
    mcp: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A parameter of a method, in the order in which it is given by position.

    :param name: as callers write it.
    :param schema: what a value must be; ``{}`` when it has no hint or one that is not checked.
    :param default: what stands for a value that is left out, as JSON; `UNSET` when the parameter is
        required or its default is no JSON.
    :param description: from the docstring; empty when it says nothing.
    """

    name: str
    schema: Schema = field(default_factory=dict)
    required: bool = True
    default: Any = UNSET
    description: str = ""
    kind: Kind = "either"


@dataclass(frozen=True, kw_only=True)
class ErrorInfo:
    """An error that a method declares.

    :param name: of its class; empty in documents that others wrote.
    :param data: the schema of what it carries; None when it says nothing of that.
    :param example: of its data.
    """

    code: int
    message: str
    name: str = ""
    data: Schema | None = None
    example: Any = UNSET


@dataclass(frozen=True, kw_only=True)
class Method:
    """An exposed method.

    :param result: the schema of what it returns; None when it returns nothing by design, and so is
        called by notifications.
    :param result_description: from the docstring.
    :param deprecated: True when callers should use another; the description says which.
    :param timeout: seconds until `DeadlineExceeded`; None for no limit.
    :param read_only: True when it changes nothing.
    :param destructive: whether it may undo or overwrite something; None when nothing is said.
    :param mcp: whether it is a tool for agents (`gemstone_sync.mcp`); None when nothing is said.
    :param doc: the docstring as it stands in the source; None when there is none, and in contracts
        that were read from a document.
    :param signature: as Python writes it, ``"say_hello(name: str) -> str"``; the name alone in
        contracts that were read from a document.
    """

    name: str
    summary: str = ""
    description: str = ""
    parameters: tuple[Parameter, ...] = ()
    result: Schema | None = field(default_factory=dict)
    result_description: str = ""
    errors: tuple[ErrorInfo, ...] = ()
    examples: tuple[Example, ...] = ()
    deprecated: bool = False
    tags: tuple[str, ...] = ()
    private: bool = False
    idempotent: bool = False
    timeout: float | None = None
    read_only: bool = False
    destructive: bool | None = None
    mcp: bool | None = None
    doc: str | None = None
    signature: str = ""

    @property
    def given(self) -> tuple[Parameter, ...]:
        """The parameters, required ones first; then `rest` and `named_rest`."""
        variable = ("rest", "named_rest")
        # Those that are given by position are in this order already: Python wants it.
        return tuple(sorted(self.parameters, key=lambda p: (p.kind in variable, not p.required)))

    @property
    def param_structure(self) -> Literal["by-name", "by-position", "either"]:
        """How callers give parameters, in OpenRPC's words.

        >>> Method(name="m", parameters=(Parameter(name="a", kind="named"),)).param_structure
        'by-name'
        """
        if any(p.kind == "named" and p.required for p in self.parameters):
            return "by-name"
        counted = [p for p in self.parameters if p.kind != "rest"]
        if any(p.kind == "positional" and p.required for p in counted):
            return "by-position"
        if self.parameters and all(p.kind == "positional" for p in counted):
            return "by-position"
        return "either"

    def as_callable(self) -> Method:
        """Return it with each parameter's kind as callers can really use it.

        JSON-RPC mixes no forms: where one parameter must come by position, no other can come by
        name, and the other way round.

        >>> first, more = Parameter(name="first", kind="positional"), Parameter(name="more")
        >>> [p.kind for p in Method(name="m", parameters=(first, more)).as_callable().parameters]
        ['positional', 'positional']
        """
        if self.param_structure == "either":
            return self
        by_name = self.param_structure == "by-name"
        kinds: tuple[Kind, Kind] = ("named", "positional")
        kind, other = kinds if by_name else reversed(kinds)
        rest, other_rest = ("named_rest", "rest") if by_name else ("rest", "named_rest")
        parameters = tuple(
            p if p.kind in (kind, rest) else replace(p, kind=kind)
            for p in self.parameters
            if p.kind not in (other, other_rest)
        )
        return replace(self, parameters=parameters)


@dataclass(frozen=True, kw_only=True)
class Event:
    """An event that a service emits or handles.

    :param name: words joined by dots; of a handled one also a pattern: ``*`` stands for a word,
        ``#`` for any number of them.
    :param schema: of its body; ``{}`` when nothing is said.
    :param broadcast: True for every service that subscribes, False for work that one does; None
        when nothing is said, so that both may come.
    :param scope: of a handled one: ``"service"``, one running instance handles each, or
        ``"instance"``, every one does.
    :param doc: the docstring of its handler as it stands in the source; of several the first.
    """

    name: str
    schema: Schema = field(default_factory=dict)
    summary: str = ""
    description: str = ""
    broadcast: bool | None = None
    scope: str = "service"
    doc: str | None = None


@dataclass(frozen=True, kw_only=True)
class Contract:
    """Everything that a service promises.

    :param name: the service's.
    :param version: the service's own, not the document's.
    :param methods: in the order of their names.
    :param emits: in the order of their names.
    :param handles: in the order of their names; of several handlers of one event the first.
    :param schemas: by name, in the order of the names; each may refer to the others.
    :param errors_always: those that the framework may answer every call with.
    :param servers: URLs of the endpoint.
    """

    name: str
    version: str = "0.0.0"
    summary: str = ""
    description: str = ""
    methods: tuple[Method, ...] = ()
    emits: tuple[Event, ...] = ()
    handles: tuple[Event, ...] = ()
    schemas: Mapping[str, Schema] = field(default_factory=dict)
    errors_always: tuple[ErrorInfo, ...] = ()
    servers: tuple[str, ...] = ()

    def method(self, name: str) -> Method | None:
        """Return the method of that name; None when there is none."""
        return next((method for method in self.methods if method.name == name), None)

    def without_private(self) -> Contract:
        """Return what callers see who would be refused: no private method, nor its types."""
        public = tuple(method for method in self.methods if not method.private)
        return replace(self, methods=public).pruned()

    def without_events(self) -> Contract:
        """Return what is said of methods only, and their types."""
        return replace(self, emits=(), handles=()).pruned()

    def without_methods(self) -> Contract:
        """Return what is said of events only, and their types."""
        return replace(self, methods=(), errors_always=()).pruned()

    def pruned(self) -> Contract:
        """Return it without the schemas that nothing refers to."""
        needed: dict[str, None] = {}
        left = [name for schema in self._roots() for name in refs_in(schema)]
        while left:
            name = left.pop()
            if name in self.schemas and name not in needed:
                needed[name] = None
                left += refs_in(self.schemas[name])
        return replace(self, schemas={n: s for n, s in self.schemas.items() if n in needed})

    def _roots(self) -> list[Schema]:
        found: list[Schema | None] = [event.schema for event in (*self.emits, *self.handles)]
        for method in self.methods:
            found += [parameter.schema for parameter in method.parameters]
            found += [method.result, *(error.data for error in method.errors)]
        found += [error.data for error in self.errors_always]
        return [schema for schema in found if schema is not None]


def refs_in(schema: Any) -> list[str]:
    """List the names in ``components`` that a schema refers to, without following them.

    >>> refs_in({"type": "array", "items": {"$ref": "#/components/schemas/User"}})
    ['User']
    """
    names: list[str] = []
    left = [schema]
    while left:
        part = left.pop()
        if isinstance(part, Mapping):
            ref = part.get("$ref")
            if isinstance(ref, str) and ref.startswith(REF):
                names.append(ref[len(REF) :])
            left += part.values()
        elif isinstance(part, (list, tuple)):
            left += part
    return names
