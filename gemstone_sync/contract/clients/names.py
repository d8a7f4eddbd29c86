"""Make identifiers out of names that documents give: keywords, clashes, anything at all."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable

__all__ = ["Names", "capitalized", "identifier", "one_line"]

#: Characters of an identifier, before what tells it from others.
_LONGEST = 60


def identifier(text: str, fallback: str) -> str:
    """Make an identifier that Python and JavaScript take, if it is no keyword.

    >>> identifier("a-b", "x"), identifier("__class__", "x"), identifier("2d", "x")
    ('a_b', 'class', '_2d')
    """
    made = re.sub(r"[^A-Za-z0-9_]+", "_", text)[:_LONGEST]
    if made != text or made.startswith("__"):
        made = made.strip("_")
    if not made.strip("_"):
        return fallback
    return f"_{made}" if made[0].isdigit() else made


def capitalized(text: str, fallback: str) -> str:
    """Make a name of a class.

    >>> capitalized("out of stock", "X"), capitalized("User", "X")
    ('OutOfStock', 'User')
    """
    words = re.findall(r"[A-Za-z0-9]+", text)
    made = "".join(word[0].upper() + word[1:] for word in words)[:_LONGEST]
    if not made:
        return fallback
    return f"{fallback}{made}" if made[0].isdigit() else made


def one_line(text: str, longest: int = 200) -> str:
    """Make a line for a comment of a text."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= longest else f"{line[: longest - 3]}..."


class Names:
    """The names of one scope: each is given once.

    :param reserved: what means something else there.
    :param keywords: of the language, where they can be no names; those of Python.
    """

    def __init__(
        self, reserved: Iterable[str] = (), *, keywords: Iterable[str] = keyword.kwlist
    ) -> None:
        self._taken = set(reserved)
        self._keywords = frozenset(keywords)

    def take(self, wanted: str) -> str:
        """Give a name: the wanted one, or the like when it is a keyword or taken."""
        made = f"{wanted}_" if wanted in self._keywords or wanted in self._taken else wanted
        number = 2
        while made in self._taken:
            made = f"{wanted}_{number}"
            number += 1
        self._taken.add(made)
        return made
