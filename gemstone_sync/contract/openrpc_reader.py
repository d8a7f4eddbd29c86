"""An OpenRPC document -> a contract: documents that this package wrote, and those of others.

What a document says is believed as data and never as code. References are followed inside the
document only, nothing is fetched. Whatever is no OpenRPC document is a `BadDocument` in one line.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from ..errors import UNSET
from .model import Contract, ErrorInfo, Example, Kind, Method, Parameter, Schema
from .reading import BadDocument, Reader, boolean, objects, text

__all__ = ["BadDocument", "from_openrpc"]

_KINDS = {"by-position": "positional", "by-name": "named", "either": "either"}


def from_openrpc(document: Any) -> Contract:
    """Read a document of OpenRPC 1.0 to 1.4.

    :param document: what json made of it.
    :raises BadDocument: for what is none, saying where.
    """
    try:
        return _contract(document)
    except RecursionError:  # references from one place into the next, a thousand times
        raise BadDocument("the document is nested too deeply") from None


def _contract(document: Any) -> Contract:
    if not isinstance(document, Mapping) or not isinstance(document.get("openrpc"), str):
        raise BadDocument("this is no OpenRPC document: it has no text `openrpc`")
    if not document["openrpc"].startswith("1."):
        raise BadDocument(f"OpenRPC {document['openrpc']!r:.20} is not known here; 1.0 to 1.4 are")
    reader = Reader(document)
    info = document.get("info")
    info = info if isinstance(info, Mapping) else {}
    methods: dict[str, Method] = {}
    for number, each in enumerate(objects(document.get("methods"), "methods")):
        method = _method(reader, each, f"methods[{number}]")
        if method.name in methods:
            raise BadDocument(f"methods[{number}]: a second method {method.name!r:.60}")
        methods[method.name] = method
    return Contract(
        name=text(info.get("title")),
        version=text(info.get("version")),
        description=text(info.get("description")),
        methods=tuple(methods[name] for name in sorted(methods)),
        schemas=reader.schemas(),
        errors_always=_full_errors(reader, document.get("x-errors-always"), "x-errors-always"),
        servers=tuple(
            server["url"]
            for server in document.get("servers") or ()
            if isinstance(server, Mapping) and isinstance(server.get("url"), str)
        ),
    )


def _method(reader: Reader, given: Any, where: str) -> Method:
    found = reader.object(given, where)
    name = reader.name(found, where)
    where = f"method {name!r:.60}"
    structure = found.get("paramStructure", "either")
    if structure not in _KINDS:
        raise BadDocument(f"{where}: paramStructure is {structure!r:.40}")
    parameters = [
        _parameter(reader, each, structure, f"{where}: params[{number}]")
        for number, each in enumerate(objects(found.get("params"), f"{where}: params"))
    ]
    names = [parameter.name for parameter in parameters]
    _refuse_twice(names, where)
    parameters += _rest(reader, found, where)
    result, described = None, ""
    if "result" in found:
        content = reader.object(found["result"], f"{where}: result")
        result = reader.schema(content.get("schema"), f"{where}: result")
        described = text(content.get("description"))
    timeout = found.get("x-timeout-seconds")
    return Method(
        name=name,
        summary=text(found.get("summary")),
        description=text(found.get("description")),
        parameters=tuple(parameters),
        result=result,
        result_description=described,
        errors=_errors(reader, found, where),
        examples=_examples(reader, found, structure, names, where),
        deprecated=boolean(found.get("deprecated")),
        tags=_tags(reader, found, where),
        private=boolean(found.get("x-private")),
        idempotent=boolean(found.get("x-idempotent")),
        timeout=timeout if isinstance(timeout, (int, float)) else None,
        read_only=boolean(found.get("x-read-only")),
        destructive=_said(found.get("x-destructive")),
        mcp=_said(found.get("x-mcp")),
        signature=name,
    ).as_callable()


def _said(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _rest(reader: Reader, found: Mapping[str, Any], where: str) -> list[Parameter]:
    rest: list[Parameter] = []
    for key, kind in (("x-rest", "rest"), ("x-named-rest", "named_rest")):
        if isinstance(told := found.get(key), Mapping):
            schema = reader.schema(told.get("schema"), f"{where}: {key}")
            name = text(told.get("name")) or kind
            rest.append(Parameter(name=name, schema=schema, required=False, kind=cast(Kind, kind)))
    return rest


def _refuse_twice(names: list[str], where: str) -> None:
    taken: set[str] = set()
    for name in names:
        if name in taken:
            raise BadDocument(f"{where}: two parameters {name!r:.60}")
        taken.add(name)


def _parameter(reader: Reader, given: Any, structure: str, where: str) -> Parameter:
    found = reader.object(given, where)
    schema = dict(reader.schema(found.get("schema"), where))
    kind = found.get("x-kind", _KINDS[structure])
    return Parameter(
        name=reader.name(found, where),
        required=boolean(found.get("required")),
        default=schema.pop("default", UNSET),
        schema=schema,
        description=text(found.get("description")) or text(found.get("summary")),
        kind=cast(Kind, kind if kind in _KINDS.values() else "either"),
    )


def _tags(reader: Reader, found: Mapping[str, Any], where: str) -> tuple[str, ...]:
    tags = objects(found.get("tags"), f"{where}: tags")
    return tuple(reader.name(reader.object(each, f"{where}: tags"), where) for each in tags)


def _errors(reader: Reader, found: Mapping[str, Any], where: str) -> tuple[ErrorInfo, ...]:
    """OpenRPC's errors, with what `x-errors` says of them beside."""
    told: dict[tuple[int, str], ErrorInfo] = {}
    plain = _full_errors(reader, found.get("errors"), f"{where}: errors", data_is="example")
    for error in (*_full_errors(reader, found.get("x-errors"), f"{where}: x-errors"), *plain):
        if error.name or not any(code == error.code for code, _ in told):
            told[error.code, error.name] = error
    return tuple(told.values())


def _full_errors(
    reader: Reader, given: Any, where: str, data_is: str = "schema"
) -> tuple[ErrorInfo, ...]:
    errors = []
    for number, each in enumerate(objects(given, where)):
        place = f"{where}[{number}]"
        found = reader.object(each, place)
        code = found.get("code")
        if not isinstance(code, int) or isinstance(code, bool):
            raise BadDocument(f"{place}: the code is {code!r:.40}, and no whole number")
        data: Schema | None = None
        if data_is == "schema" and "data" in found:
            data = reader.schema(found["data"], place)
        example = found.get("data", UNSET) if data_is == "example" else UNSET
        errors.append(
            ErrorInfo(
                code=code,
                message=text(found.get("message")),
                name=text(found.get("name")) if data_is == "schema" else "",
                data=data,
                example=example,
            )
        )
    return tuple(errors)


def _examples(
    reader: Reader, found: Mapping[str, Any], structure: str, names: list[str], where: str
) -> tuple[Example, ...]:
    examples = []
    for number, each in enumerate(objects(found.get("examples"), f"{where}: examples"), 1):
        pairing = reader.object(each, f"{where}: examples")
        params = [
            reader.object(one, f"{where}: examples")
            for one in objects(pairing.get("params"), f"{where}: examples")
        ]
        result = pairing.get("result")
        value = UNSET
        if result is not None:
            value = reader.object(result, f"{where}: examples").get("value", UNSET)
        values: Any = [one.get("value") for one in params]
        told = [text(one.get("name")) for one in params]
        if structure == "by-name" or (structure == "either" and set(told) <= set(names)):
            values = dict(zip(told, values, strict=True))
        summary = text(pairing.get("name")) or text(pairing.get("summary"))
        if summary == f"example {number}":  # it has no name of its own
            summary = ""
        examples.append(Example(params=values, result=value, summary=summary))
    return tuple(examples)
