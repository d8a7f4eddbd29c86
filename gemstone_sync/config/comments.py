"""The ``#:`` comments above a class's attributes, as help texts: written once, shown everywhere."""

from __future__ import annotations

import ast
import functools
import inspect
import re
import textwrap

__all__ = ["comment_of"]


def comment_of(cls: type, name: str) -> str:
    """Find the ``#:`` lines above an attribute, in the class that sets it last; "" for none.

    The source file must be there; without it there are no help texts, and nothing else is missing.
    """
    for owner in cls.__mro__:
        if (found := _comments(owner).get(name)) is not None:
            return found
    return ""


@functools.cache
def _comments(cls: type) -> dict[str, str]:
    try:
        lines = textwrap.dedent(inspect.getsource(cls)).splitlines()
        body = ast.parse("\n".join(lines)).body[0]
    except (OSError, TypeError, SyntaxError, IndexError):
        return {}
    if not isinstance(body, ast.ClassDef):
        return {}
    found = {}
    for statement in body.body:
        targets = [statement.target] if isinstance(statement, ast.AnnAssign) else []
        if isinstance(statement, ast.Assign):
            targets = [target for target in statement.targets if isinstance(target, ast.Name)]
        for target in targets:
            if isinstance(target, ast.Name) and (text := _above(lines, statement.lineno - 1)):
                found[target.id] = text
    return found


def _above(lines: list[str], index: int) -> str:
    """Return the block of ``#:`` lines that ends above a line, without its markup."""
    start = index
    while start > 0 and lines[start - 1].strip().startswith("#:"):
        start -= 1
    text = " ".join(line.strip()[2:].strip() for line in lines[start:index])
    return re.sub(r"`+([^`]*)`+", r"\1", text)
