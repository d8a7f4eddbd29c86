"""Suggest the name that was meant by a wrong one, for the end of an error."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["did_you_mean", "nearest"]


def nearest(word: str, names: Iterable[str]) -> str | None:
    """Find the name that comes closest, letters' case aside; None when none is close."""
    by_lower = {name.lower(): name for name in names}
    close = difflib.get_close_matches(word.lower(), by_lower, n=1)
    return by_lower[close[0]] if close else None


def did_you_mean(word: str, names: Iterable[str], prefix: str = "") -> str:
    """Write the suggestion: ``; did you mean X?``, or nothing.

    :param prefix: what names are written with.

    >>> did_you_mean("helo", ["Hello", "other"], "--"), did_you_mean("x", [])
    ('; did you mean --Hello?', '')
    """
    close = nearest(word, names)
    return "" if close is None else f"; did you mean {prefix}{close}?"
