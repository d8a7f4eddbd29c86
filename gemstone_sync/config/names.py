"""How a setting is called: as an option, a variable, a key; and what a wrong name was to be."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["meant", "option_of", "plain", "variable_of"]


def plain(name: str) -> str:
    """The name of the attribute: ``max-hops`` and ``max_hops`` are the same setting."""
    return name.replace("-", "_")


def option_of(name: str) -> str:
    """The option on a command line."""
    return f"--{name}"


def variable_of(name: str, prefix: str) -> str:
    """The environment variable.

    >>> variable_of("max_hops", "GEMSTONE_")
    'GEMSTONE_MAX_HOPS'
    """
    return prefix + name.upper().replace("-", "_").replace(".", "_")


def meant(word: str, known: Iterable[str], prefix: str = "") -> str:
    """What is added to a complaint of an unknown name: the known one that is nearest.

    :param prefix: what names are written with.
    """
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {prefix}{close[0]}?" if close else ""
