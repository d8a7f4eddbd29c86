"""From a contract to tools: which methods are some, and how the protocol describes them. Pure."""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..contract.model import REF, Contract, Method, refs_in
from ..errors import UNSET, ServiceConfigurationError
from .arguments import parameters_of
from .content import schema_has_media
from .header_parameters import HeaderParameter, header_parameters
from .revisions import Revision

__all__ = ["BUILT_IN", "Tool", "Toolbox", "tool_name", "tools_of"]

#: The framework's own methods that are no tools, beside those with ``rpc.``.
BUILT_IN = ("get_service_specs", "statistics")

#: 2026-07-28, "Tool Names".
_FORBIDDEN = re.compile(r"[^A-Za-z0-9_.-]")
_LONGEST = 128

_DIALECT = "https://json-schema.org/draft/2020-12/schema"

#: Keywords with schemas by names of the user's, and those with values.
_BY_NAME = ("properties", "patternProperties", "$defs")
_DATA = ("default", "const", "enum", "examples")

#: Tools of one page.
_PAGE = 1000


def tool_name(name: str, longest: int = _LONGEST, *, dots: bool = True) -> str:
    """Make the name of a tool from that of a method; of a long one the end becomes a digest.

    :param dots: keep dots, which the protocol allows, and some agents refuse with all tools.

    >>> tool_name("users.login"), tool_name("größe"), len(tool_name("x" * 200))
    ('users.login', 'gr__e', 128)
    """
    if len(name) > longest:
        digest = hashlib.sha256(name.encode()).hexdigest()[:8]
        name = f"{name[: longest - 9]}_{digest}"
    name = _FORBIDDEN.sub("_", name)
    return name if dots else name.replace(".", "_")


@dataclass(frozen=True)
class Tool:
    """A method as agents see it.

    :ivar named: the schemas that the method's may refer to.
    :ivar source: for what calls it: which service has the method.
    """

    name: str
    method: Method
    named: Mapping[str, Any] = field(repr=False)
    source: Any = None

    def __hash__(self) -> int:
        return hash(self.name)

    @functools.cached_property
    def inputs(self) -> dict[str, Any]:
        """The schema of its arguments."""
        properties: dict[str, Any] = {}
        for parameter in parameters_of(self.method):
            schema = dict(parameter.schema)
            if parameter.kind == "rest":
                schema = {"type": "array", "items": schema}
            if parameter.default is not UNSET:
                schema["default"] = parameter.default
            if parameter.description:
                schema["description"] = parameter.description
            properties[parameter.name] = schema
        required = [p.name for p in parameters_of(self.method) if p.required]
        more = [p.schema for p in self.method.given if p.kind == "named_rest"]
        # With properties, also when there are none: some agents refuse all tools for one without.
        schema = {"$schema": _DIALECT, "type": "object", "properties": properties}
        if required:
            schema["required"] = required
        schema["additionalProperties"] = (dict(more[0]) or True) if more else False
        return self._whole(schema)

    @functools.cached_property
    def header_parameters(self) -> tuple[HeaderParameter, ...]:
        """Those of its arguments that stand in headers too."""
        return header_parameters(self.inputs, self.name)

    @functools.cached_property
    def outputs(self) -> dict[str, Any] | None:
        """The schema of its results; None when nothing is said, and for images and audio."""
        schema = self.method.result
        if not schema or schema_has_media(schema, self.named):
            return None
        seen = set()
        while "$ref" in schema and (name := _name_in(schema)) in self.named and name not in seen:
            seen.add(name)  # the type has to stand there literally, which clients look for
            schema = {**self.named[name], **{k: v for k, v in schema.items() if k != "$ref"}}
        whole: dict[str, Any] = _with_null_for_nan(self._whole({"$schema": _DIALECT, **schema}))
        return whole

    @functools.cached_property
    def gives_object(self) -> bool:
        """Tell whether every result is an object, by its schema."""
        return self.outputs is not None and self.outputs.get("type") == "object"

    def _whole(self, schema: dict[str, Any]) -> dict[str, Any]:
        needed: dict[str, Any] = {}
        left = refs_in(schema)
        while left:
            name = left.pop()
            if name in self.named and name not in needed:
                needed[name] = self.named[name]
                left += refs_in(self.named[name])
        whole = {**schema, "$defs": {n: needed[n] for n in sorted(needed)}} if needed else schema
        return _with_own_refs(whole)  # type: ignore[no-any-return]

    def described(self, revision: Revision) -> dict[str, Any]:
        """Describe it to a client of a revision."""
        method = self.method
        told = [method.summary, method.description]
        if method.result_description:
            told.append(f"Returns: {method.result_description}")
        found: dict[str, Any] = {"name": self.name}
        if revision.structured != "none":
            found["title"] = self.title
        found["description"] = "\n\n".join(filter(None, told)) or self.title
        found["inputSchema"] = self.inputs
        if revision.structured != "none" and (outputs := self.outputs) is not None:
            if revision.structured == "object" and not self.gives_object:
                outputs = _in_an_object(outputs)
            found["outputSchema"] = outputs
        found["annotations"] = self._annotations()
        return found

    @property
    def title(self) -> str:
        """A name for people: ``Say hello`` of say_hello."""
        words = " ".join(re.split(r"[._]+", self.method.name)).strip()
        return words[:1].upper() + words[1:] or self.name

    def _annotations(self) -> dict[str, Any]:
        method = self.method
        told: dict[str, Any] = {"title": self.title, "readOnlyHint": method.read_only}
        if not method.read_only:  # of one that only reads, the others say nothing
            told["idempotentHint"] = method.idempotent
            if method.destructive is not None:
                told["destructiveHint"] = method.destructive
        return told


def _name_in(schema: Mapping[str, Any]) -> str:
    return str(schema["$ref"]).removeprefix(REF)


def _in_an_object(schema: dict[str, Any]) -> dict[str, Any]:
    outside: dict[str, Any] = {key: schema[key] for key in ("$schema", "$defs") if key in schema}
    inside = {key: value for key, value in schema.items() if key not in outside}
    return {**outside, "type": "object", "properties": {"result": inside}, "required": ["result"]}


def _with_own_refs(part: Any) -> Any:
    """Copy a schema; what it refers to stands in it."""
    if isinstance(part, Mapping):
        return {key: _with_own_refs(value) for key, value in part.items()}
    if isinstance(part, (list, tuple)):
        return [_with_own_refs(each) for each in part]
    if isinstance(part, str) and part.startswith(REF):
        return f"#/$defs/{part[len(REF) :]}"
    return part


def _with_null_for_nan(schema: Any) -> Any:
    """Copy a schema of results; where it has a number there may be a null.

    NaN and infinities are written as that, and clients refuse what their schema does not have.
    """
    if not isinstance(schema, Mapping):
        return schema
    found: dict[str, Any] = {}
    for key, value in schema.items():
        if key in _BY_NAME:
            value = {name: _with_null_for_nan(each) for name, each in value.items()}
        elif key not in _DATA:
            is_list = isinstance(value, (list, tuple))
            value = [*map(_with_null_for_nan, value)] if is_list else _with_null_for_nan(value)
        found[key] = value
    if found.get("type") == "number":
        found["type"] = ["number", "null"]
    elif isinstance(types := found.get("type"), list) and "number" in types:
        found["type"] = [*types, *({"null"} - {*types})]
    return found


def tools_of(
    contract: Contract,
    prefix: str = "",
    source: Any = None,
    longest: int = _LONGEST,
    *,
    dots: bool = True,
) -> list[Tool]:
    """Make the tools of a contract.

    Those methods that its service says are tools; else all that say what they do, but for those
    that are kept out and the framework's own.

    :param prefix: goes before their names.
    :param source: see `Tool`.
    :param longest: characters of a name.
    :param dots: see `tool_name`.
    """
    chosen = any(method.mcp for method in contract.methods)
    return [
        Tool(tool_name(prefix + method.name, longest, dots=dots), method, contract.schemas, source)
        for method in contract.methods
        if (method.mcp if chosen else method.mcp is None and _is_documented(method))
    ]


def _is_documented(method: Method) -> bool:
    if method.name in BUILT_IN or method.name.startswith("rpc."):
        return False
    return bool(method.summary or method.description)


class Toolbox:
    """Tools by their names.

    :raises ServiceConfigurationError: for two of one name.
    """

    def __init__(self, tools: Iterable[Tool]) -> None:
        self._tools: dict[str, Tool] = {}
        for tool in sorted(tools, key=lambda each: each.name):
            if tool.name in self._tools:
                other = self._tools[tool.name].method.name
                raise ServiceConfigurationError(
                    f"{other!r} and {tool.method.name!r} would both be the tool {tool.name}"
                )
            self._tools[tool.name] = tool
        self._public = [tool for tool in self._tools.values() if not tool.method.private]

    def get(self, name: str) -> Tool | None:
        """Return the tool of a name; None when there is none."""
        return self._tools.get(name)

    def all(self, *, private: bool) -> Sequence[Tool]:
        """List them in the order of their names.

        :param private: with those that not everybody may call.
        """
        return list(self._tools.values()) if private else self._public

    @property
    def has_private(self) -> bool:
        """Tell whether there are such that not everybody may call."""
        return len(self._public) < len(self._tools)

    def page(self, cursor: Any, *, private: bool) -> tuple[Sequence[Tool], str | None]:
        """List one page.

        :param cursor: what the page before gave; None for the first.
        :returns: the tools, and the cursor of the next page; None when this is the last.
        :raises KeyError: for a cursor that is none.
        """
        tools = self.all(private=private)
        start = 0 if cursor is None else _position(tools, cursor)
        page = tools[start : start + _PAGE]
        if start + _PAGE >= len(tools):
            return page, None
        return page, base64.urlsafe_b64encode(page[-1].name.encode()).decode()


def _position(tools: Sequence[Tool], cursor: Any) -> int:
    try:
        name = base64.urlsafe_b64decode(str(cursor).encode()).decode()
    except (binascii.Error, ValueError):
        raise KeyError(cursor) from None
    for at, tool in enumerate(tools):
        if tool.name == name:
            return at + 1
    raise KeyError(cursor)
