"""Signatures of methods as text, for people who want to call them."""

from __future__ import annotations

import enum
import inspect
import re
from collections.abc import Callable
from typing import Any

__all__ = ["signature_of"]

#: Characters of a default or type hint that are shown; a longer one is "...".
_LONGEST = 80

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)

#: A text, which stays, or the modules in front of a name.
_TEXT_OR_MODULES = re.compile(
    r"""('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")|\b(?:[A-Za-z_]\w*\.)+(?=\w)"""
)

#: What ``repr`` gives for an object that has none of its own.
_ADDRESS = re.compile(r"<.* at 0x[0-9a-f]+>")


class _Shown:
    """Stands in a signature for an annotation or a default, and is shown as the text."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def signature_of(name: str, function: Callable[..., Any], *, needs_handler: bool = False) -> str:
    """Return what callers of a method give and get, as Python writes it.

    Neither ``self`` nor the handler is in it. A default that is not plain data is ``...``, and so
    is what cannot be found out of a callable.

    :param name: the name that callers use.

    >>> def greet(name: str, times: int = 1) -> str: ...
    >>> signature_of("greet", greet)
    'greet(name: str, times: int = 1) -> str'
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # made in C, or a __signature__ that is none
        return f"{name}(...)"
    parameters = list(signature.parameters.values())
    if needs_handler and parameters and parameters[0].kind in _POSITIONAL:
        del parameters[0]
    empty = inspect.Signature.empty
    returned = signature.return_annotation
    return name + str(
        inspect.Signature(
            [_shown(parameter) for parameter in parameters],
            return_annotation=empty if returned is empty else _Shown(_hint(returned)),
        )
    )


def _shown(parameter: inspect.Parameter) -> inspect.Parameter:
    empty = inspect.Parameter.empty
    annotation, default = parameter.annotation, parameter.default
    return parameter.replace(
        annotation=empty if annotation is empty else _Shown(_hint(annotation)),
        default=empty if default is empty else _Shown(_default(default)),
    )


def _hint(annotation: Any) -> str:
    if isinstance(annotation, str):  # as it stands in the source
        text = annotation
    elif annotation is None or annotation is type(None):
        text = "None"
    elif isinstance(annotation, type) and not hasattr(annotation, "__origin__"):
        text = annotation.__qualname__.rpartition("<locals>.")[2]
    else:
        text = _repr(annotation).replace("<locals>.", "").replace("NoneType", "None")
        text = _TEXT_OR_MODULES.sub(lambda found: found[1] or "", text)
    return text if len(text) <= _LONGEST else "..."


def _default(value: Any) -> str:
    if isinstance(value, enum.Enum):
        return f"{type(value).__name__}.{value.name}"
    text = _repr(value) if _is_plain(value) else "..."
    return text if len(text) <= _LONGEST else "..."


def _is_plain(value: Any, depth: int = 3) -> bool:
    """Tell whether a value's repr is short, and runs no code of others."""
    if type(value) in (tuple, list, dict):
        parts = (*value, *value.values()) if type(value) is dict else value
        return depth > 0 and len(parts) <= _LONGEST and all(_is_plain(p, depth - 1) for p in parts)
    return value is None or type(value) in (bool, int, float, str)


def _repr(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:  # it may be anybody's code
        return "..."
    # What is far too long is not searched: a megabyte of "<" would take hours.
    return "..." if len(text) > 10 * _LONGEST or _ADDRESS.search(text) else text
