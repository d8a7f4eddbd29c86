"""Event names and the patterns that match them. Pure.

The rules are those of AMQP 0-9-1's topic exchange (section 3.1.3.3): a name is words joined by
dots; in a pattern ``*`` stands for exactly one word and ``#`` for any number of words, none
included.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Sequence

__all__ = ["best_match", "check_event_name", "check_pattern", "is_pattern", "matches", "route"]

#: Bytes: what is left of AMQP's 255 for a routing key.
_LONGEST = 200
#: How special a pattern is.
EXACT, WORDS, ANY = range(3)
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f]")


def check_event_name(name: object) -> str:
    """:raises ValueError: when nothing can be emitted under `name`."""
    text = check_pattern(name)
    if is_pattern(text):
        raise ValueError(f"invalid event name {name!r}: * and # are for the names of handlers")
    return text


def check_pattern(pattern: object) -> str:
    """:raises ValueError: when `pattern` can match no event."""
    if not isinstance(pattern, str) or not pattern or _FORBIDDEN.search(pattern):
        raise ValueError(
            f"invalid event name {pattern!r}: a text without spaces, of words joined by dots"
        )
    try:
        length = len(pattern.encode())
    except UnicodeEncodeError:
        raise ValueError(f"invalid event name {pattern!r}: it is no UTF-8") from None
    if length > _LONGEST:
        raise ValueError(f"invalid event name {pattern[:40]!r}...: at most {_LONGEST} bytes")
    for word in pattern.split("."):
        if word not in ("*", "#") and ("*" in word or "#" in word):
            raise ValueError(
                f"invalid event name {pattern!r}: * stands for a whole word, # for any number"
            )
    return pattern


def is_pattern(name: str) -> bool:
    """Tell whether a handler's name has wildcards."""
    return "*" in name or "#" in name


@functools.lru_cache(maxsize=4096)
def matches(pattern: str, name: str) -> bool:
    """Tell whether a topic exchange would route `name` through a binding of `pattern`.

    >>> matches("orders.*", "orders.paid"), matches("orders.*", "orders.paid.late")
    (True, False)
    >>> matches("orders.#", "orders"), matches("#", "anything.at.all")
    (True, True)
    """
    return _match(pattern.split("."), name.split("."))


def _match(pattern: list[str], words: list[str]) -> bool:
    # Row by row: which prefixes of `words` the pattern matches so far. Linear in both, whatever
    # the number of #.
    reached = [True] + [False] * len(words)
    for part in pattern:
        if part == "#":
            for position in range(len(words)):
                reached[position + 1] = reached[position + 1] or reached[position]
        else:
            reached = [False] + [
                before and part in ("*", word)
                for before, word in zip(reached[:-1], words, strict=True)
            ]
    return reached[-1]


def best_match(patterns: Iterable[str], name: str) -> str | None:
    """Return the pattern that work for `name` goes to: the name itself, else one without ``#``.

    Of several alike the first in alphabetical order, so that all emitters choose the same.

    >>> best_match(["#", "orders.*", "orders.paid"], "orders.paid")
    'orders.paid'
    >>> best_match(["#", "orders.*"], "orders.paid")
    'orders.*'
    """
    fitting = [pattern for pattern in patterns if matches(pattern, name)]
    return min(fitting, key=lambda p: (specificity(p), p), default=None)


def specificity(pattern: str) -> int:
    """Return `EXACT`, `WORDS` (it has ``*``) or `ANY` (it has ``#``): the lower goes first."""
    return ANY if "#" in pattern else WORDS if "*" in pattern else EXACT


def route(kind: str, bindings: Sequence[tuple[str, str]], routing_key: str) -> list[str]:
    """Return the queues that a message goes to, each once.

    ``"work"`` sends it to the queues of one pattern only, the best match, and there to one queue.

    >>> route("topic", [("a.*", "q1"), ("#", "q2"), ("a.b", "q1")], "a.b")
    ['q1', 'q2']
    >>> route("work", [("once.a.*", "q1"), ("once.a.b", "q2")], "once.a.b")
    ['q2']
    """
    if kind == "work":
        best = best_match({pattern for pattern, _ in bindings}, routing_key)
        fitting = sorted(queue for pattern, queue in bindings if pattern == best)[:1]
    else:
        fitting = [queue for pattern, queue in bindings if matches(pattern, routing_key)]
    return list(dict.fromkeys(fitting))
