"""Parts that clients in all languages share: their head, errors, and names with dots."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from ...errors import UNSET
from ...protocol import encode_json
from ..model import Contract, ErrorInfo, Method, Parameter
from ..openrpc import to_openrpc
from .names import Names, capitalized, one_line

__all__ = ["Errors", "Head", "Tree", "as_documented", "errors_of", "head_of", "told_of", "tree_of"]


def as_documented(contract: Contract) -> Contract:
    """Return what a document says of a contract, so that a client is the same from either."""
    methods = tuple(
        replace(method, parameters=tuple(map(_documented, method.parameters)))
        for method in contract.methods
    )
    return replace(contract.without_events(), methods=methods)


def _documented(parameter: Parameter) -> Parameter:
    if parameter.kind == "rest":
        return replace(parameter, name="rest", description="")
    return replace(parameter, description="") if parameter.kind == "named_rest" else parameter


@dataclass(frozen=True)
class Head:
    """The top of a written client."""

    title: str
    lines: tuple[str, ...]


def head_of(contract: Contract, version: str) -> Head:
    """Tell what a client was made of, and by whom: another document or version makes another."""
    text = encode_json(to_openrpc(replace(contract, servers=())))
    title = f"{one_line(contract.name, 80)} {one_line(contract.version, 40)}".strip()
    return Head(
        title or "a service",
        (
            "Written by `gemstone client`: write it anew rather than change it.",
            f"Document: sha256 {hashlib.sha256(text).hexdigest()}",
            f"Generator: gemstone_sync {version}",
        ),
    )


class Errors:
    """The errors that methods declare: a class for each."""

    def __init__(self) -> None:
        self._classes: dict[tuple[int, str, bytes], tuple[str, ErrorInfo]] = {}

    def add(self, info: ErrorInfo, names: Names) -> None:
        """Give an error a class, unless the same one has it."""
        key = self._key(info)
        if key not in self._classes:
            wanted = capitalized(info.name or info.message, "Error")
            self._classes[key] = names.take(wanted), info

    def named(self) -> list[tuple[str, ErrorInfo]]:
        """List classes with what they are of; one for each."""
        return list(self._classes.values())

    def names(self) -> list[str]:
        """List the names of all classes."""
        return [name for name, _ in self._classes.values()]

    def of(self, method: Method) -> list[str]:
        """List the classes of the errors of a method."""
        return [self._classes[self._key(info)][0] for info in method.errors]

    def _key(self, info: ErrorInfo) -> tuple[int, str, bytes]:
        return info.code, info.name or info.message, encode_json([info.data])


def errors_of(contract: Contract, names: Names) -> Errors:
    """Find the errors of all methods."""
    found = Errors()
    for method in contract.methods:
        for info in method.errors:
            found.add(info, names)
    return found


def told_of(parameter: Parameter) -> str:
    """Write a line about a parameter: its description, and what stands for it when it is left out.

    >>> told_of(Parameter(name="limit", description="how many", default=10))
    'how many. Left out, 10.'
    """
    told = one_line(parameter.description, 300)
    if parameter.default is UNSET:
        return told
    if told and told[-1] not in ".!?:;":
        told = f"{told}."
    return f"{told} Left out, {one_line(json.dumps(parameter.default), 60)}.".strip()


@dataclass
class Tree:
    """Methods by the parts of their names: ``users.login`` is in ``users``.

    :ivar method: the one that has this very name.
    """

    name: str = ""
    method: Method | None = None
    parts: dict[str, Tree] = field(default_factory=dict)

    def methods(self) -> Iterator[Method]:
        """All methods in it."""
        if self.method is not None:
            yield self.method
        for part in self.parts.values():
            yield from part.methods()


#: Parts of a name that become attributes of one another.
_DEEPEST = 10


def tree_of(contract: Contract) -> Tree:
    """Sort methods by the dots in their names."""
    root = Tree()
    for method in contract.methods:
        at, steps = root, method.name.split(".", _DEEPEST)
        if not all(steps):
            steps = [method.name]  # dots that separate nothing
        for number, step in enumerate(steps, 1):
            at = at.parts.setdefault(step, Tree(".".join(steps[:number])))
        at.method = method
    return root
