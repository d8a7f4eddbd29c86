"""Signatures of methods as text, for people who want to call them."""

from __future__ import annotations

import enum
import inspect
import re
from collections.abc import Mapping
from typing import Any

from ..dispatch import Method

__all__ = ["signatures_of"]

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


def signatures_of(methods: Mapping[str, Method]) -> dict[str, str]:
    """What callers of each method give and get, as Python writes it.

    Neither ``self`` nor the handler is in it. A default that is not plain data is ``...``, and so
    is what cannot be found out of a callable.

    :param methods: by the names that callers use.

    ::

        {"say_hello": "say_hello(name: str, times: int = 1) -> str"}
    """
    return {name: name + _signature_of(method) for name, method in methods.items()}


def _signature_of(method: Method) -> str:
    try:
        signature = inspect.signature(method.function)
    except (TypeError, ValueError):  # made in C, or a __signature__ that is none
        return "(...)"
    parameters = list(signature.parameters.values())
    if method.needs_handler and parameters and parameters[0].kind in _POSITIONAL:
        del parameters[0]
    empty = inspect.Signature.empty
    returned = signature.return_annotation
    return str(
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
    """Whether its repr is short, and runs no code of others."""
    if type(value) in (tuple, list, dict):
        parts = (*value, *value.values()) if type(value) is dict else value
        return depth > 0 and len(parts) <= _LONGEST and all(_is_plain(p, depth - 1) for p in parts)
    return value is None or type(value) in (bool, int, float, str)


def _repr(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:  # it may be anybody's code
        return "..."
    return "..." if _ADDRESS.search(text) else text
