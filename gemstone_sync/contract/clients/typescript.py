"""A client in TypeScript: one file, of nothing but ``fetch``."""

from __future__ import annotations

import json
import re
from typing import Any

from ..model import Contract, ErrorInfo, Method
from .document import Tree, as_documented, errors_of, head_of, told_of, tree_of
from .names import Names, capitalized, identifier, one_line
from .types import (
    Alias,
    DictOf,
    Enumeration,
    ListOf,
    Literals,
    Named,
    Scalar,
    Structure,
    TupleOf,
    Type,
    Types,
)

__all__ = ["typescript_client"]

#: Formats of texts stay texts: JSON has no dates.
_SCALARS = {
    "any": "unknown",
    "null": "null",
    "boolean": "boolean",
    "integer": "number",
    "number": "number",
    "decimal": "number | string",
}
#: Names of the language and its library that the file uses, or that mean a type of its own.
_RESERVED = {
    *("Array", "BadResponse", "Client", "Error", "JSON", "Object", "Options", "Promise", "Record"),
    *("Response", "RpcError", "any", "bigint", "boolean", "fetch", "never", "null", "number"),
    *("object", "string", "symbol", "undefined", "unknown", "void", "String", "Number", "Boolean"),
    *("break", "case", "catch", "class", "const", "continue", "debugger", "default", "delete"),
    *("do", "else", "enum", "export", "extends", "false", "finally", "for", "function", "if"),
    *("import", "in", "instanceof", "new", "return", "super", "switch", "this", "throw", "true"),
    *("try", "typeof", "var", "while", "with", "yield", "let", "static", "await", "async"),
}


def typescript_client(contract: Contract, version: str) -> str:
    """Write a client module.

    :param version: of this package, for its head.
    :returns: the same text for the same contract and version.
    :raises BadDocument: for schemas that cannot be read.

    ::

        const client = new Client("http://127.0.0.1:5000/api");
        (await client.find({ id: 7 })).name;
    """
    return _Writer(contract).module(version)


class _Writer:
    def __init__(self, contract: Contract) -> None:
        self._contract = contract = as_documented(contract)
        names = Names(_RESERVED, keywords=())
        self._types = Types(contract, names)
        self._errors = errors_of(contract, names)
        self._data = {
            name: None if info.data is None else self._types.of(info.data, f"{name}Data")
            for name, info in self._errors.named()
        }
        self._methods = {}
        for method in contract.methods:
            context = capitalized(method.name, "Method")
            types = [
                self._types.of(p.schema, context + capitalized(p.name, "Value"))
                for p in method.parameters
            ]
            result = method.result
            made = Scalar("null") if result is None else self._types.of(result, f"{context}Result")
            self._methods[method.name] = types, made

    def module(self, version: str) -> str:
        head = head_of(self._contract, version)
        parts = [_comment([f"Client of {head.title}.", "", *head.lines], "")]
        parts += [self._declaration(each) for each in self._types.declared.values()]
        parts += [_RUNTIME.split("\n")]
        parts += [self._error(name, info) for name, info in self._errors.named()]
        parts.append(self._client())
        return "\n\n".join("\n".join(part) for part in parts) + "\n"

    # Types

    def _declaration(self, declared: Structure | Enumeration | Alias) -> list[str]:
        about = _comment(declared.doc.split("\n"), "") if declared.doc else []
        if isinstance(declared, Alias):
            return [*about, f"export type {declared.name} = {self.text(declared.type)};"]
        if isinstance(declared, Enumeration):
            values = " | ".join(map(_quoted, declared.values))
            return [*about, f"export type {declared.name} = {values};"]
        lines = [*about, f"export interface {declared.name} {{"]
        for each in declared.fields:
            lines += _comment([each.doc], "  ") if each.doc else []
            mark = "" if each.required else "?"
            lines.append(f"  {_key(each.key)}{mark}: {self.text(each.type)};")
        return [*lines, "}"]

    def text(self, type_: Type) -> str:
        """Write a type."""
        if isinstance(type_, Scalar):
            return _SCALARS.get(type_.kind, "string")
        if isinstance(type_, Named):
            return type_.name
        if isinstance(type_, ListOf):
            return f"Array<{self.text(type_.item)}>"
        if isinstance(type_, DictOf):
            return f"Record<string, {self.text(type_.value)}>"
        if isinstance(type_, TupleOf):
            return f"[{', '.join(map(self.text, type_.items))}]"
        if isinstance(type_, Literals):
            return " | ".join(map(_quoted, type_.values))
        return " | ".join(dict.fromkeys(map(self.text, type_.options)))

    # Errors

    def _error(self, name: str, info: ErrorInfo) -> list[str]:
        data = self._data[name]
        about = _comment([info.message or name], "")
        lines = [*about, f"export class {name} extends RpcError {{"]
        if data is not None:
            lines.append(f"  declare readonly data: {self.text(data)};")
        return [*lines, "}"]

    # Methods

    def _client(self) -> list[str]:
        title = one_line(self._contract.name) or "a service"
        lines = _comment([f"Calls {title}."], "")
        lines += [
            "export class Client {",
            "  readonly #url: string;",
            "  readonly #options: Options;",
        ]
        lines += ["  #id = 0;", ""]
        tree = tree_of(self._contract)
        members = Names(keywords=())
        simple: list[tuple[str, Tree]] = []
        nested: list[tuple[str, Tree]] = []
        for part, below in tree.parts.items():
            name = _member(part, members)
            (nested if below.parts else simple).append((name, below))
        for name, below in nested:
            lines += [f"  readonly {name}: {self._shape(below, '  ')};", ""]
        lines += ["  constructor(url: string, options: Options = {}) {"]
        lines += ["    this.#url = url;", "    this.#options = options;"]
        for name, below in nested:
            lines.append(f"    this{_access(name)} = {self._object(below, '    ')};")
        lines.append("  }")
        for name, below in simple:
            method = below.method
            assert method is not None
            lines += ["", *_comment(self._doc(method), "  ")]
            parameters, result = self._signature(method)
            lines.append(f"  {name}({parameters}): Promise<{result}> {{")
            lines += [f"    return {self._call(method)};", "  }"]
        return [*lines, "", *_CALLING.split("\n"), "}"]

    def _doc(self, method: Method) -> list[str]:
        lines = [
            method.summary or f"Call {one_line(method.name)}.",
            *method.description.split("\n"),
        ]
        for parameter in method.parameters:
            if told := told_of(parameter):
                lines.append(f"- `{one_line(parameter.name, 60)}`: {told}")
        if method.deprecated:
            lines.append("@deprecated")
        return lines

    def _signature(self, method: Method) -> tuple[str, str]:
        types, made = self._methods[method.name]
        fields, more = [], []
        for parameter, type_ in zip(method.parameters, types, strict=True):
            if parameter.kind == "rest":
                fields.append(f"{_key(parameter.name)}?: Array<{self.text(type_)}>")
            elif parameter.kind == "named_rest":
                more.append("Record<string, unknown>")
            else:
                mark = "" if parameter.required else "?"
                fields.append(f"{_key(parameter.name)}{mark}: {self.text(type_)}")
        result = "void" if method.result is None else self.text(made)
        if not fields and not more:
            return "", result
        whole = " & ".join([f"{{ {'; '.join(fields)} }}" if fields else "", *more]).removeprefix(
            " & "
        )
        needed = any(p.required for p in method.parameters)
        return f"params{'' if needed else '?'}: {whole}", result

    def _call(self, method: Method) -> str:
        placed = [p for p in method.parameters if p.kind != "named"]
        by_position = any(p.kind in ("positional", "rest") for p in placed)
        if not method.parameters:
            sent = "undefined"
        elif by_position:
            params = "params" if any(p.required for p in method.parameters) else "params?"
            words = []
            for parameter in placed:
                value = params + _access(_key(parameter.name), optional=params.endswith("?"))
                if parameter.kind != "named_rest":
                    words.append(f"...({value} ?? [])" if parameter.kind == "rest" else value)
            sent = f"trimmed([{', '.join(words)}])"
        else:
            sent = "params"
        if method.result is None:
            return f"this.#tell({_quoted(method.name)}, {sent})"
        _, made = self._methods[method.name]
        errors = ", ".join(
            f"[{info.code}]: {name}"
            for info, name in _first_of_each_code(method, self._errors.of(method))
        )
        return (
            f"this.#ask<{self.text(made)}>({_quoted(method.name)}, {sent}, {{ {errors} }})"
        ).replace("{  }", "{}")

    def _shape(self, tree: Tree, indent: str) -> str:
        """Write the type of what holds methods."""
        lines = ["{"]
        if tree.method is not None:
            parameters, result = self._signature(tree.method)
            lines.append(f"{indent}  ({parameters}): Promise<{result}>;")
        members = Names(keywords=())
        for part, below in tree.parts.items():
            name = _member(part, members)
            if below.parts:
                lines.append(f"{indent}  readonly {name}: {self._shape(below, indent + '  ')};")
            else:
                method = below.method
                assert method is not None
                parameters, result = self._signature(method)
                lines += _comment(self._doc(method), f"{indent}  ")
                lines.append(f"{indent}  {name}({parameters}): Promise<{result}>;")
        return "\n".join([*lines, f"{indent}}}"])

    def _object(self, tree: Tree, indent: str) -> str:
        """Write the value of the same."""
        lines = ["{"]
        members = Names(keywords=())
        for part, below in tree.parts.items():
            name = _member(part, members)
            if below.parts:
                value = self._object(below, indent + "  ")
            else:
                assert below.method is not None
                value = self._arrow(below.method)
            lines.append(f"{indent}  {name}: {value},")
        made = "\n".join([*lines, f"{indent}}}"])
        if tree.method is not None:
            return f"Object.assign({self._arrow(tree.method)}, {made})"
        return made

    def _arrow(self, method: Method) -> str:
        parameters, result = self._signature(method)
        return f"({parameters}): Promise<{result}> => {self._call(method)}"


def _first_of_each_code(method: Method, names: list[str]) -> list[tuple[ErrorInfo, str]]:
    found: dict[int, tuple[ErrorInfo, str]] = {}
    for info, name in zip(method.errors, names, strict=True):
        found.setdefault(info.code, (info, name))
    return [*found.values()]


def _member(part: str, members: Names) -> str:
    """Name a member. What holds a `then` would be taken for a promise."""
    plain = identifier(part, "method")
    odd = plain in ("constructor", "prototype", "then")
    return members.take(f"{plain}_" if odd else plain)


def _key(name: str) -> str:
    """Write the name of a property."""
    plain = re.fullmatch(r"[A-Za-z_$][A-Za-z0-9_$]*", name) and name != "__proto__"
    return name if plain else _quoted(name)


def _access(key: str, *, optional: bool = False) -> str:
    if key.startswith('"'):
        return f".[{key}]" if optional else f"[{key}]"
    return f".{key}"


def _quoted(value: Any) -> str:
    return json.dumps(value)


def _comment(lines: list[str], indent: str) -> list[str]:
    """Write a comment: whatever the text holds, it stays one."""
    text = "\n".join(lines).strip("\n ")
    clean = "".join(c for c in text.expandtabs(4) if c == "\n" or c.isprintable())
    found = [line.rstrip() for line in clean.replace("*/", "*\\/").split("\n")]
    if len(found) == 1:
        return [f"{indent}/** {found[0]} */"]
    body = [f"{indent} * {line}".rstrip() for line in found]
    return [f"{indent}/**", *body, f"{indent} */"]


_RUNTIME = """\
export interface Options {
  /** Sent with every request. */
  headers?: Record<string, string>;
  /** In place of the global one. */
  fetch?: (url: string, init: RequestInit) => Promise<Response>;
  /** Milliseconds for a call; 15,000 unless said. */
  timeout?: number;
}

/** An error that the service answered with. */
export class RpcError extends Error {
  readonly code: number;
  readonly data: unknown;

  constructor(message: string, code: number, data: unknown) {
    super(message);
    this.name = new.target.name;
    this.code = code;
    this.data = data;
  }
}

/** An answer that is none. */
export class BadResponse extends Error {}

type Errors = Record<number, new (message: string, code: number, data: unknown) => RpcError>;

function trimmed(values: Array<unknown>): Array<unknown> {
  const end = values.indexOf(undefined);
  const given = end < 0 ? values : values.slice(0, end);
  if (values.slice(given.length).some((value) => value !== undefined)) {
    throw new TypeError("by position, nothing can follow a parameter that is left out");
  }
  return given;
}"""

_CALLING = """\
  async #ask<T>(method: string, params: unknown, errors: Errors): Promise<T> {
    const id = ++this.#id;
    const response = await this.#post({ jsonrpc: "2.0", id, method, params });
    let answer: { id?: unknown; result?: unknown; error?: any };
    try {
      answer = (await response.json()) ?? {};
    } catch {
      throw new BadResponse(`${method}: HTTP ${response.status}, and no JSON`);
    }
    if (typeof answer.error === "object" && answer.error !== null) {
      const { code, message, data } = answer.error;
      throw new (errors[code] ?? RpcError)(String(message), Number(code), data);
    }
    if (answer.id !== id || !("result" in answer)) {
      throw new BadResponse(`${method}: HTTP ${response.status}, and no answer to this call`);
    }
    return answer.result as T;
  }

  async #tell(method: string, params: unknown): Promise<void> {
    const response = await this.#post({ jsonrpc: "2.0", method, params });
    if (!response.ok) {
      throw new BadResponse(`${method}: HTTP ${response.status}`);
    }
  }

  #post(message: unknown): Promise<Response> {
    const send = this.#options.fetch ?? fetch;
    return send(this.#url, {
      method: "POST",
      headers: { ...this.#options.headers, "Content-Type": "application/json" },
      body: JSON.stringify(message),
      signal: AbortSignal.timeout(this.#options.timeout ?? 15000),
    });
  }"""
