"""Which values an enum's members have, and which a flag takes: for schemas."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

from .plain import as_json

__all__ = ["flag_values", "values_of"]

#: Values of a flag that are tried one by one.
_MOST_FLAG_VALUES = 4096


def values_of(cls: type[enum.Enum]) -> list[Any]:
    """List the values of the members, in the order in which they stand; aliases are members."""
    return [*dict.fromkeys(as_json(member.value) for member in cls)]


def flag_values(cls: type[enum.Flag], make: Callable[[int], Any] | None = None) -> dict[str, Any]:
    """Write the sums that a flag takes, negative ones included, which Python reads as complements.

    :param make: makes a flag of a number, or raises ValueError; the class itself unless given.
    """

    def takes(value: int) -> bool:
        try:
            (make or cls)(value)
        except ValueError:
            return False
        return True

    bits = max((abs(member.value) for member in cls.__members__.values()), default=0).bit_length()
    if takes(1 << (bits + 1)):
        return {}  # as IntFlag does
    if 1 << bits > _MOST_FLAG_VALUES:
        return {"minimum": -(1 << bits), "maximum": (1 << bits) - 1}
    taken = [value for value in range(-(1 << bits), 1 << bits) if takes(value)]
    if taken == [*range(taken[0], taken[-1] + 1)]:
        return {"minimum": taken[0], "maximum": taken[-1]}
    return {"enum": taken}
