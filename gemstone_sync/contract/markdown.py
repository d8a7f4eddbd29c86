"""A contract as a page of Markdown (GitHub's flavour), for people.

Whatever somebody wrote is shown as text: no HTML, table or link comes of it.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import UNSET
from .model import Contract, Event, Example, Method, Schema

__all__ = ["to_markdown", "type_text"]

#: What Markdown takes for more than the character.
_SPECIAL = re.compile(r"([\\`*_\[\]#|~])")
_BOUNDS = {
    "minimum": ">= {}",
    "exclusiveMinimum": "> {}",
    "maximum": "<= {}",
    "exclusiveMaximum": "< {}",
    "multipleOf": "multiple of {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
}
#: Parts inside one another that are told of one type.
_DEEPEST = 8


def to_markdown(contract: Contract) -> str:
    """Write a contract as Markdown; the same for the same contract."""
    parts = [f"# {_text(contract.name)} {_text(contract.version)}"]
    parts += [_text(contract.summary), _text(contract.description)]
    if contract.servers:
        parts.append("\n".join(f"- {_code(url)}" for url in contract.servers))
    if contract.methods:
        parts += ["## Methods", *(_method(method) for method in contract.methods)]
    for title, events in (("Emits", contract.emits), ("Handles", contract.handles)):
        if events:
            parts += [f"## {title}", *(_event(event) for event in events)]
    if contract.schemas:
        parts.append("## Types")
        parts += [_named(name, schema) for name, schema in contract.schemas.items()]
    return "\n\n".join(part for part in parts if part) + "\n"


def type_text(schema: Schema | bool, depth: int = 0) -> str:
    """Tell in one line what values a schema takes.

    >>> type_text({"type": "array", "items": {"anyOf": [{"type": "integer"}, {"type": "null"}]}})
    'array of (integer or null)'
    """
    if isinstance(schema, bool) or not isinstance(schema, Mapping):
        return "any" if schema is True else "nothing"
    if depth > _DEEPEST:
        return "..."
    if isinstance(ref := schema.get("$ref"), str):
        return ref.rpartition("/")[2]
    for key, word in (("anyOf", " or "), ("oneOf", " or "), ("allOf", " and ")):
        if isinstance(options := schema.get(key), list) and options:
            return word.join(type_text(option, depth + 1) for option in options)
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    if isinstance(values, list):
        return " or ".join(json.dumps(value, ensure_ascii=False) for value in values) or "nothing"
    kind = schema.get("type")
    if isinstance(kind, list):
        return " or ".join(map(str, kind))
    named = schema.get("format") or schema.get("contentEncoding")
    text = (str(kind) if kind else "any") + (f" ({named})" if isinstance(named, str) else "")
    bounds = [words.format(schema[key]) for key, words in _BOUNDS.items() if key in schema]
    return ", ".join([text + _inner_text(schema, depth), *bounds])


def _inner_text(schema: Schema, depth: int) -> str:
    """Tell what an array or object holds: `` of string``."""
    if (items := schema.get("items")) and isinstance(items, Mapping):
        inner = type_text(items, depth + 1)
        return f" of {f'({inner})' if ' or ' in inner else inner}"
    if isinstance(first := schema.get("prefixItems"), list):
        return f" of ({', '.join(type_text(each, depth + 1) for each in first)})"
    if isinstance(values := schema.get("additionalProperties"), Mapping):
        return f" of {type_text(values, depth + 1)}"
    return ""


def _method(method: Method) -> str:
    parts = [f"### {_text(method.name)}"]
    notes = [
        "**deprecated**" if method.deprecated else "",
        "private" if method.private else "",
        "idempotent" if method.idempotent else "",
        f"at most {method.timeout:g} s" if method.timeout is not None else "",
        "notification: nothing is returned" if method.result is None else "",
        {"by-name": "parameters by name", "by-position": "parameters by position"}.get(
            method.param_structure, ""
        ),
        f"tags: {_text(', '.join(method.tags))}" if method.tags else "",
    ]
    parts += [_text(method.summary), "; ".join(filter(None, notes)), _text(method.description)]
    if method.given:
        rows = [
            (
                _code(_marked(parameter.name, parameter.kind)),
                _code(type_text(parameter.schema)),
                _default(parameter.default) if not parameter.required else "required",
                _text(parameter.description),
            )
            for parameter in method.given
        ]
        parts.append(_table(("parameter", "type", "default", ""), rows))
    if method.result is not None:
        told = _text(method.result_description)
        parts.append(f"Returns {_code(type_text(method.result))}" + (f": {told}" if told else "."))
    if method.errors:
        errors = [
            (
                str(error.code),
                _text(error.message),
                _code(type_text(error.data)) if error.data is not None else "",
            )
            for error in method.errors
        ]
        parts.append(_table(("error", "message", "data"), errors))
    parts += [_example(method.name, example) for example in method.examples]
    return "\n\n".join(part for part in parts if part)


def _event(event: Event) -> str:
    each = "every running instance gets it" if event.scope == "instance" else ""
    body = f"Body: {_code(type_text(event.schema))}"
    parts = [f"### {_text(event.name)}", _text(event.summary), each, _text(event.description), body]
    return "\n\n".join(part for part in parts if part)


def _named(name: str, schema: Schema) -> str:
    parts = [f"### {_text(name)}"]
    if isinstance(described := schema.get("description"), str):
        parts.append(_text(described))
    properties = schema.get("properties")
    if not isinstance(properties, Mapping) or not properties:
        parts.append(_code(type_text({k: v for k, v in schema.items() if k != "$ref"})))
        return "\n\n".join(parts)
    required = schema.get("required", ())
    rows = [
        (
            _code(field),
            _code(type_text(body)),
            "required" if field in required else _default(_of(body, "default")),
            _text(_of(body, "description") if isinstance(_of(body, "description"), str) else ""),
        )
        for field, body in properties.items()
    ]
    parts.append(_table(("field", "type", "default", ""), rows))
    return "\n\n".join(parts)


def _of(schema: Any, key: str) -> Any:
    return schema.get(key, UNSET) if isinstance(schema, Mapping) else UNSET


def _marked(name: str, kind: str) -> str:
    return {"rest": "*", "named_rest": "**"}.get(kind, "") + name


def _default(value: Any) -> str:
    return "" if value is UNSET else _code(json.dumps(value, ensure_ascii=False))


def _example(name: str, example: Example) -> str:
    call = {"method": name, "params": example.params}
    lines = [json.dumps(call, ensure_ascii=False)]
    if example.result is not UNSET:
        lines.append(json.dumps(example.result, ensure_ascii=False))
    block = "\n".join(lines)
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", block)), default=0))
    title = f"{_text(example.summary)}\n\n" if example.summary else ""
    return f"{title}{fence}json\n{block}\n{fence}"


def _table(head: Iterable[str], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [[*head]]
    lines.append(["---"] * len(lines[0]))
    lines += [[cell.replace("\n", " ") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _text(text: str) -> str:
    """Escape a text so that Markdown shows it as it is; line breaks stay."""
    escaped = _SPECIAL.sub(r"\\\1", html.escape(text, quote=False))
    # Four blanks at the start of a line would make it code, a dash a list; that does no harm.
    return "\n".join(line.strip() for line in escaped.splitlines())


def _code(text: str) -> str:
    """Code in a line, whatever quotes it holds; a table wants its bars escaped."""
    run = max((len(found) for found in re.findall("`+", text)), default=0)
    fence, pad = "`" * (run + 1), " " if run else ""
    return f"{fence}{pad}{text}{pad}{fence}".replace("|", "\\|").replace("\n", " ")
