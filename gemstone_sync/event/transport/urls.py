"""The options of transports: checked, and taken out of URLs; the path of a SQLite file."""

from __future__ import annotations

import difflib
import inspect
import math
import re
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from ...annotations import CannotEvaluate, evaluate
from ...broker_urls import NEXT_URL, is_misread, scheme_of, wrong_url
from ...errors import ServiceConfigurationError
from ...number_checks import is_number, is_whole

__all__ = [
    "MEMORY",
    "check_seconds",
    "check_whole",
    "no_option",
    "options_of",
    "sqlite_path",
    "take_options",
]

#: SQLite's name of a database in memory.
MEMORY = ":memory:"
#: What begins like a URL and is none. A drive has one letter.
_NEARLY_URL = re.compile(r":|[A-Za-z][\w+.-]+:")


def check_whole(**options: Any) -> None:
    """:raises ServiceConfigurationError: for the first that is no whole number above 0."""
    for name, value in options.items():
        if not is_whole(value, 1):
            raise ServiceConfigurationError(f"{name} is a whole number above 0, not {value!r}")


def check_seconds(least: float, **options: Any) -> None:
    """:raises ServiceConfigurationError: for the first that is no number from `least`."""
    for name, value in options.items():
        if not is_number(value) or not least <= value < math.inf:
            raise ServiceConfigurationError(
                f"{name} is a number of seconds from {least:g}, not {value!r}"
            )


def options_of(cls: type) -> dict[str, Any]:
    """Return the options of a transport's constructor by name, with their type hints."""
    found: dict[str, Any] = {}
    for owner in reversed(cls.__mro__[:-1]):
        if (init := vars(owner).get("__init__")) is not None:
            parameters = inspect.signature(init).parameters.values()
            options = (each for each in parameters if each.kind is each.KEYWORD_ONLY)
            found |= {each.name: _hint(each.annotation, init) for each in options}
    return found


def _hint(annotation: Any, init: Any) -> Any:
    try:
        hint = evaluate(annotation, init)
    except CannotEvaluate:  # of a user's class, imported for type checkers only
        return str
    return str if hint is inspect.Parameter.empty else hint


def take_options(
    url: str, cls: type, passes: Callable[[str], bool] = lambda name: False, others: str = ""
) -> tuple[str, dict[str, Any]]:
    """Take the options of a transport out of its URL, or out of several with semicolons between.

    :param passes: tells whether an option stays in the URL, for the library that reads it.
    :param others: those options, as an error names them.
    :returns: the URL without them, and the options.
    :raises ServiceConfigurationError: for an option that there is not, or a value that is none.
    """
    known = options_of(cls)
    urls: list[str] = []
    given: dict[str, Any] = {}
    for one in NEXT_URL.split(url):
        place, _, query = one.partition("?")
        left = []
        for part in query.split("&") if query else []:
            ((name, value),) = parse_qsl(part, keep_blank_values=True) or [("", "")]
            if name not in known:
                if "@" in name or _may_hold_password(one):
                    raise wrong_url(f"{scheme_of(one)}://user:password@host")
                if not passes(name):
                    raise no_option(cls, name, known, others)
                left.append(part)
                continue
            read = _read(name, value, known[name])
            if given.setdefault(name, read) != read:
                raise ServiceConfigurationError(f"{name} is given twice in the URL")
        urls.append(f"{place}?{'&'.join(left)}" if left else place)
    return ";".join(urls), given


def _may_hold_password(url: str) -> bool:
    """Tell whether what looks like the query may end a password that has a ? in it."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return True
    host, _, port = parts.netloc.rpartition(":")
    return is_misread(parts) or (bool(host) and port.isalnum() and not port.isdigit())


def _read(name: str, value: str, hint: Any) -> Any:
    # Of no use to whoever has no options in URLs.
    from ...config.setting_types import Seconds, setting_type_of

    try:
        return setting_type_of(Seconds if hint in (float, float | None) else hint).convert(value)
    except ValueError as error:
        raise ServiceConfigurationError(f"{name} {error}") from None


def no_option(
    cls: type, name: str, known: Iterable[str], others: str = ""
) -> ServiceConfigurationError:
    """Make the error for an option that a transport has not."""
    known = sorted(known)
    close = difflib.get_close_matches(name.lower(), known, n=1)
    hint = f"did you mean {close[0]}? There" if close else "there"
    return ServiceConfigurationError(
        f"{cls.__name__} has no option {name}; {hint} are {', '.join(known)}{others}"
    )


def sqlite_path(location: Any) -> str:
    """Return the path in ``"events.db"`` or ``"sqlite:///events.db"``.

    As in SQLAlchemy's URLs three slashes start a relative path and four an absolute one.

    >>> sqlite_path("sqlite:///events.db"), sqlite_path("sqlite:////var/lib/events.db")
    ('events.db', '/var/lib/events.db')
    """
    path = location if isinstance(location, str) else getattr(location, "__fspath__", str)()
    if path.startswith("sqlite:///"):
        path = path[len("sqlite:///") :]
    elif _NEARLY_URL.match(path) or "://" in path:
        path = ""
    if not path or path == MEMORY:
        # What was given is not shown: it may be the URL of something that wants a password.
        raise ServiceConfigurationError(
            "the place of the events is like 'events.db' or 'sqlite:///events.db', or a URL like "
            "'amqp://host', 'redis://host' and 'memory://'"
        )
    return path
