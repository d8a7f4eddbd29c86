"""A contract as an OpenRPC document, of version 1.4.1 or 1.3.2.

What OpenRPC has no place for stands in extensions:

=======================  ==============================================================
``x-private``            true for a method that wants credentials
``x-idempotent``         true for one that may be called again
``x-timeout-seconds``    after which it is given up
``x-errors``             ``[{"code", "name", "data": SCHEMA}]``: OpenRPC's errors take no schema
``x-rest``               ``{"name", "schema"}`` of what may follow by position
``x-named-rest``         ``{"name", "schema"}`` of what else may be given by name
``x-kind``               of a parameter in a method that takes both forms: ``"positional"`` or
                         ``"named"`` only
``x-errors-always``      at the top: what any call may be answered with
=======================  ==============================================================

Source: the OpenRPC Specification, https://spec.open-rpc.org (1.4.1 is of 2026-02-25).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import UNSET
from .model import Contract, ErrorInfo, Example, Method, Parameter

__all__ = ["VERSIONS", "to_openrpc"]

#: Those that can be written; the first unless another one is asked for.
VERSIONS = ("1.4.1", "1.3.2")


def to_openrpc(contract: Contract, version: str = VERSIONS[0]) -> dict[str, Any]:
    """Write a contract as an OpenRPC document.

    :param version: of the specification; one of `VERSIONS`.
    :returns: what json can write; the same for the same contract, keys in one order.
    :raises ValueError: for another version.
    """
    if version not in VERSIONS:
        raise ValueError(f"OpenRPC {version} is not written here; {' and '.join(VERSIONS)} are")
    described = "\n\n".join(filter(None, [contract.summary, contract.description]))
    document: dict[str, Any] = {
        "openrpc": version,
        "info": {"title": contract.name, "version": contract.version}
        | ({"description": described} if described else {}),
    }
    if contract.servers:
        document["servers"] = [{"name": contract.name, "url": url} for url in contract.servers]
    document["methods"] = [_method(method) for method in contract.methods]
    if schemas := contract.without_events().schemas:
        document["components"] = {"schemas": dict(schemas)}
    if contract.errors_always:
        document["x-errors-always"] = [_full_error(error) for error in contract.errors_always]
    return document


def _method(method: Method) -> dict[str, Any]:
    found: dict[str, Any] = {"name": method.name}
    found |= _texts(summary=method.summary, description=method.description)
    if method.tags:
        found["tags"] = [{"name": tag} for tag in method.tags]
    structure = method.param_structure
    found["paramStructure"] = structure
    found["params"] = [
        _parameter(parameter, structure)
        for parameter in method.given
        if parameter.kind not in ("rest", "named_rest")
    ]
    if method.result is not None:
        found["result"] = {"name": "result", "schema": dict(method.result)}
        found["result"] |= _texts(description=method.result_description)
    if method.deprecated:
        found["deprecated"] = True
    by_code = {error.code: error for error in reversed(method.errors)}
    if by_code:  # unique codes, as the specification wants
        found["errors"] = [_error(by_code[code]) for code in sorted(by_code)]
    if method.examples:
        found["examples"] = [
            _example(example, method, number) for number, example in enumerate(method.examples, 1)
        ]
    return found | _extensions(method)


def _extensions(method: Method) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if method.private:
        found["x-private"] = True
    if method.idempotent:
        found["x-idempotent"] = True
    if method.read_only:
        found["x-read-only"] = True
    if method.destructive is not None:
        found["x-destructive"] = method.destructive
    if method.mcp is not None:
        found["x-mcp"] = method.mcp
    if method.timeout is not None:
        found["x-timeout-seconds"] = method.timeout
    if method.errors:
        found["x-errors"] = [_full_error(error) for error in method.errors]
    for parameter in method.given:
        if parameter.kind in ("rest", "named_rest"):
            key = "x-rest" if parameter.kind == "rest" else "x-named-rest"
            found[key] = {"name": parameter.name, "schema": dict(parameter.schema)}
    return found


def _parameter(parameter: Parameter, structure: str) -> dict[str, Any]:
    schema = dict(parameter.schema)
    if parameter.default is not UNSET:
        schema["default"] = parameter.default
    found: dict[str, Any] = {"name": parameter.name, "required": parameter.required}
    found |= _texts(description=parameter.description) | {"schema": schema}
    alone = {"positional": "by-position", "named": "by-name"}.get(parameter.kind, structure)
    if alone != structure:
        found["x-kind"] = parameter.kind
    return found


def _error(error: ErrorInfo) -> dict[str, Any]:
    found: dict[str, Any] = {"code": error.code, "message": error.message}
    return found if error.example is UNSET else found | {"data": error.example}


def _full_error(error: ErrorInfo) -> dict[str, Any]:
    found: dict[str, Any] = {"code": error.code, "message": error.message}
    if error.name:
        found["name"] = error.name
    return found if error.data is None else found | {"data": dict(error.data)}


def _example(example: Example, method: Method, number: int) -> dict[str, Any]:
    params = example.params
    if isinstance(params, Mapping):
        order = [p.name for p in method.parameters]
        names = sorted(params, key=lambda name: order.index(name) if name in order else len(order))
        values = [{"name": name, "value": params[name]} for name in names]
    else:
        known = [p.name for p in method.parameters if p.kind in ("positional", "either")]
        values = [
            {"name": known[at] if at < len(known) else f"{at + 1}", "value": value}
            for at, value in enumerate(params)
        ]
    found: dict[str, Any] = {"name": example.summary or f"example {number}", "params": values}
    if example.result is not UNSET:
        found["result"] = {"name": "result", "value": example.result}
    return found


def _texts(**texts: str) -> dict[str, str]:
    return {key: text for key, text in texts.items() if text}
