"""Rules for the values of settings: which values fit, and how an error says what must be given."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ..number_checks import is_number, is_whole

__all__ = [
    "ABOVE_0",
    "HOST",
    "LOG_LEVEL",
    "OR_0",
    "PATH",
    "SECONDS",
    "SECONDS_ABOVE_0",
    "SWITCH",
    "TEXT",
    "URL",
    "URL_PATH",
    "Rule",
    "choice",
    "list_of",
    "whole",
]


@dataclass(frozen=True)
class Rule:
    """A condition on a setting's values, and its name in errors.

    :param wanted: completes "port must be …".
    :param fits: tells whether a value may be taken as it is.

    >>> even = Rule("an even number", lambda value: isinstance(value, int) and value % 2 == 0)
    >>> even.fits(4), even.fits(3), even.or_none().wanted
    (True, False, 'an even number, or None')
    """

    wanted: str
    fits: Callable[[Any], bool]

    def or_none(self) -> Rule:
        """Make the rule that takes None too."""
        return Rule(f"{self.wanted}, or None", lambda value: value is None or self.fits(value))


def whole(least: int, most: float = float("inf")) -> Rule:
    """Make the rule of whole numbers in a range; True and False are none.

    >>> whole(0, 9).wanted, whole(0, 9).fits(9), whole(1).fits(True)
    ('a whole number from 0 to 9', True, False)
    """
    bounds = f", {least} or more" if most == float("inf") else f" from {least} to {most}"
    return Rule(f"a whole number{bounds}", lambda v: is_whole(v, least, most))


def choice(*values: str) -> Rule:
    """Make the rule of a few texts.

    >>> choice("a", "b").wanted
    "'a' or 'b'"
    """
    return Rule(" or ".join(map(repr, values)), lambda v: isinstance(v, str) and v in values)


_levels = choice("debug", "info", "warning", "error", "critical")
#: Capitals too: so `logging`, and the variables of other programs, write them.
LOG_LEVEL = Rule(
    _levels.wanted,
    lambda v: _levels.fits(v) or (isinstance(v, str) and v.isupper() and _levels.fits(v.lower())),
)


def list_of(what: str, fits: Callable[[Any], bool] | type = lambda each: True) -> Rule:
    """Make the rule of lists, tuples, sets and other iterables; a text is none.

    Python would take a text letter by letter.

    :param what: names the items.
    :param fits: the test of each, or the class that each is an instance of.
    """
    one = fits
    test = (lambda each: isinstance(each, one)) if isinstance(one, type) else one
    return Rule(
        f"a list of {what}",
        lambda v: isinstance(v, Iterable) and not isinstance(v, (str, bytes)) and all(map(test, v)),
    )


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _is_host(value: Any) -> bool:
    if not _is_text(value) or set(value) & set("[]/"):
        return False
    try:
        return ":" not in value or bool(ipaddress.IPv6Address(value))
    except ValueError:
        return False


TEXT = Rule("a text that is not empty", _is_text)
HOST = Rule("a name or an address, without scheme, brackets and port", _is_host)
URL = Rule("a URL", lambda v: isinstance(v, str))
URL_PATH = Rule(
    "a path that starts with /, without //, ?, #, < and >",
    lambda v: isinstance(v, str) and re.fullmatch(r"/(?!/)([^?#<>/]|/(?!/))*", v) is not None,
)
PATH = Rule("a path", lambda v: isinstance(v, (str, os.PathLike)))
SWITCH = Rule("True or False", lambda v: isinstance(v, bool))
OR_0 = whole(0)
ABOVE_0 = Rule("a whole number above 0", whole(1).fits)
SECONDS = Rule("a number of seconds, 0 or more", lambda v: is_number(v) and v >= 0)
SECONDS_ABOVE_0 = Rule("a number of seconds above 0", lambda v: is_number(v) and v > 0)
