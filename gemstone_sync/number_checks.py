"""Tell what is a number: True and False are none, though Python takes them for 1 and 0."""

from __future__ import annotations

from typing import TypeGuard

__all__ = ["is_number", "is_whole"]


def is_number(value: object) -> TypeGuard[float]:
    """Tell whether a value is an int or a float.

    >>> is_number(1.5), is_number(True)
    (True, False)
    """
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_whole(value: object, least: float, most: float = float("inf")) -> TypeGuard[int]:
    """Tell whether a value is an int in a range.

    >>> is_whole(1, 0), is_whole(1, 2), is_whole(1.0, 0)
    (True, False, False)
    """
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
