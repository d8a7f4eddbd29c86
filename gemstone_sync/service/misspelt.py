"""Warnings of attributes that nearly have the name of a setting or a hook, where they are written.

A warning and no error: a later version may have a setting whose name is near one of yours.
"""

from __future__ import annotations

import ast
import difflib
import functools
import inspect
import linecache
import types
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

from ..config import Configurable
from ..config.declaration import declarations_of, is_ours
from .class_file import class_statement
from .decorators import UNMARKED, marks_of

__all__ = ["warn_of_misspelt"]

#: Of shorter names only swapped and doubled letters are told: `ports` and `ghost` are words.
_LONG = 6
#: How much of both names must be the same, and how many of their letters may have no counterpart:
#: `extra_headers` is not meant to be `extra_handlers`.
_CUTOFF, _ODD_LETTERS = 0.85, 2
_FUNCTIONS = (types.FunctionType, staticmethod, classmethod)
#: What reads attributes whose names are texts.
_BY_TEXT = {"getattr", "hasattr", "setattr", "attrgetter"}
#: Descriptors and classes are no settings.
_OTHERS = (property, type, types.MemberDescriptorType)


def warn_of_misspelt(cls: type, settings: Iterable[str], hooks: Iterable[str]) -> None:
    """Warn of attributes in the body of a new class that nearly are settings, methods of hooks.

    Only of such that no code uses: not the methods of the class, of its bases, modules and
    plugins, nor the file where it stands.
    """
    told = [
        *_misspelt_members(cls, settings, "sets nothing"),
        *_misspelt_members(cls, hooks, "is never called"),
    ]
    if not told or is_ours(cls):
        return
    frame = class_statement()
    used = _used_by_functions(cls) | _used_in_file(frame.f_code.co_filename)
    for name, text in told:
        if name not in used:
            warnings.warn_explicit(text, UserWarning, frame.f_code.co_filename, frame.f_lineno)


def _misspelt_members(cls: type, known: Iterable[str], fault: str) -> Iterator[tuple[str, str]]:
    hooks = fault == "is never called"
    names = tuple(known)
    for name, value in _public_members(cls):
        if (type(value) in _FUNCTIONS) is not hooks:
            continue
        meant = _closest_name(name, names, _ODD_LETTERS + hooks)  # on_service_stopped
        if meant is not None and (hooks or not _is_another_word(name, value, cls, meant)):
            yield name, f"{cls.__qualname__}.{name} {fault}; did you mean {meant}?"


def _is_another_word(name: str, value: object, cls: type, meant: str) -> bool:
    """Tell `endpoints`, a list, from the setting `endpoint`, a text; but not `plugin = [...]`."""
    if "_" in name or meant not in (f"{name}s", name.removesuffix("s")):
        return False
    default = inspect.getattr_static(cls, meant, None)
    return (type(value) in (list, tuple)) is not (type(default) in (list, tuple))


def _public_members(cls: type) -> Iterator[tuple[str, Any]]:
    """List public names that no base has, with values that may be meant for the framework."""
    inherited = {name for base in cls.__mro__[1:] for name in vars(base)}
    inherited |= {c.name for c in _listed(cls, "configurables") if _is_a(c, Configurable)}
    inherited |= {*declarations_of(cls)}
    inherited.add("service_registries_urls")  # understood, and told of by itself
    for name, value in vars(cls).items():
        if name.startswith("_") or name.isupper() or name in inherited:
            continue
        if type(value) in _FUNCTIONS:
            if marks_of(value) is UNMARKED:
                yield name, value
        elif not any(_is_a(value, other) for other in _OTHERS):
            yield name, value


def _closest_name(name: str, known: tuple[str, ...], odd: int = _ODD_LETTERS) -> str | None:
    """Find the known name that this one nearly is.

    >>> _closest_name("allowed_origin", ("allowed_origins",)), _closest_name("prot", ("port",))
    ('allowed_origins', 'port')
    >>> _closest_name("ports", ("port",))
    >>> _closest_name("read_timeout", ("body_timeout", "event_timeout"))
    """
    if len(name) < _LONG + 4:
        odd = min(odd, 1)
    in_camel_case = _without_underscores(known).get(name.replace("_", "").lower())
    if in_camel_case is not None:  # allowedOrigins
        return in_camel_case
    letters = set(name)
    certain = {_drop_doubled_letter(name), f"{name[:-1]}ies" if name[-1] == "y" else name}
    likely = []
    for other in known:
        if other in certain or (len(name) == len(other) and _swap_letters(name, other) == other):
            return other
        # What differs in length or letters by more cannot be near: it spares most of the work.
        if (
            len(other) >= _LONG
            and abs(len(name) - len(other)) <= odd
            and len(letters ^ set(other)) <= odd
        ):
            likely.append(other)
    for other in difflib.get_close_matches(name, likely, n=1, cutoff=_CUTOFF):
        blocks = difflib.SequenceMatcher(None, name, other).get_matching_blocks()
        if len(name) + len(other) - 2 * sum(block.size for block in blocks) <= odd:
            return other
    return None


@functools.lru_cache(maxsize=8)
def _without_underscores(known: tuple[str, ...]) -> dict[str, str]:
    return {other.replace("_", ""): other for other in known}


def _swap_letters(name: str, other: str) -> str:
    """Swap the two letters where the name first differs from the other."""
    at = next((i for i, (a, b) in enumerate(zip(name, other, strict=False)) if a != b), len(name))
    return name[:at] + name[at : at + 2][::-1] + name[at + 2 :]


def _drop_doubled_letter(name: str) -> str:
    """Drop the second of the name's first doubled letters."""
    at = next((i for i in range(1, len(name)) if name[i] == name[i - 1]), len(name))
    return name[:at] + name[at + 1 :]


# What is used


def _used_in_file(path: str) -> set[str]:
    """Collect the names of attributes and variables that a file reads."""
    try:
        tree = ast.parse("".join(linecache.getlines(path)))
    except (SyntaxError, ValueError, RecursionError):
        return set()
    used = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            used.add(node.attr)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            used.add(node.id)
        elif isinstance(node, ast.Call) and getattr(node.func, "id", None) in _BY_TEXT:
            words = (each.value for each in node.args if isinstance(each, ast.Constant))
            used |= {word for word in words if isinstance(word, str)}
    return used


def _used_by_functions(cls: type) -> set[str]:
    """Collect those that a class, its bases, modules and plugins read, in whatever files."""
    parts = [*_listed(cls, "modules"), *_listed(cls, "plugins")]
    classes = {base for each in (cls, *map(type, parts)) for base in each.__mro__}
    left = [
        code
        for each in classes
        if not is_ours(each)
        for value in vars(each).values()
        if (code := _code_of(value)) is not None
    ]
    used = set()
    while left:
        code = left.pop()
        used |= {*code.co_names}
        if _BY_TEXT & {*code.co_names}:
            used |= {text for text in code.co_consts if type(text) is str}
        left += [inner for inner in code.co_consts if type(inner) is types.CodeType]
    return used


def _code_of(value: object) -> types.CodeType | None:
    if type(value) in (staticmethod, classmethod):
        value = value.__func__  # type: ignore[attr-defined]
    elif type(value) is property:
        value = value.fget
    while type(value) is types.FunctionType and "__wrapped__" in vars(value):
        value = vars(value)["__wrapped__"]
    return value.__code__ if type(value) is types.FunctionType else None


def _listed(cls: type, name: str) -> Iterable[Any]:
    value: Any = vars(cls).get(name)
    return value if type(value) in (list, tuple) else ()


def _is_a(value: object, cls: type) -> bool:
    """Test a class without asking the user's value: isinstance reads its `__class__`."""
    return issubclass(type(value), cls)
