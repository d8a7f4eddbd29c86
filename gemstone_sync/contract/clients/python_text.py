"""Python as text: docstrings, strings, calls; whatever a document holds, they stay that."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

__all__ = ["WIDTH", "call", "docstring", "listed", "quoted"]

WIDTH = 100


def call(head: str, words: list[str]) -> list[str]:
    """Write a call, on several lines when it is long."""
    line = f"{head}{', '.join(words)})"
    if len(line) <= WIDTH:
        return [line]
    return [head, *(f"            {word}," for word in words), "        )"]


def docstring(text: str, indent: str) -> list[str]:
    """Write a docstring: whatever the text holds, it stays one."""
    clean = "".join(c for c in text.expandtabs(4) if c == "\n" or c.isprintable()).strip("\n ")
    body = clean.rstrip('"')
    escaped = body.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    escaped += '\\"' * (len(clean) - len(body))  # at the end one alone would join what closes it
    lines = [line.rstrip() for line in escaped.split("\n")]
    if len(lines) == 1:
        return [f'{indent}"""{lines[0]}"""']
    return [
        f'{indent}"""{lines[0]}',
        *(f"{indent}{line}" if line else "" for line in lines[1:]),
        f'{indent}"""',
    ]


def quoted(value: Any) -> str:
    """Write a text as Python does, in ASCII and on one line."""
    return json.dumps(value) if _is_plain(value) else ascii(value)


def _is_plain(value: Any) -> bool:
    return isinstance(value, str) and value.isascii() and value.isprintable()


def listed(names: Sequence[str]) -> str:
    """Write a list of texts."""
    line = f"[{', '.join(map(quoted, names))}]"
    if len(line) + 10 <= WIDTH:
        return line
    return "\n".join(["[", *(f"    {quoted(name)}," for name in names), "]"])
