"""Addresses of brokers, made and taken apart; the options of transports in them."""

from __future__ import annotations

import difflib
import inspect
import re
import typing
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

from ...broker_urls import NEXT_URL, is_misread, scheme_of, wrong_url
from ...errors import ServiceConfigurationError

__all__ = ["MEMORY", "amqp_url", "no_option", "options_of", "sqlite_path", "take_options"]

#: SQLite's name of a database in memory.
MEMORY = ":memory:"
#: What begins like a URL and is none. A drive has one letter.
_NEARLY_URL = re.compile(r":|[A-Za-z][\w+.-]+:")


def options_of(cls: type) -> dict[str, Any]:
    """The options of a transport's constructor by name, with their type hints."""
    found: dict[str, Any] = {}
    for owner in reversed(cls.__mro__[:-1]):
        if (init := vars(owner).get("__init__")) is not None:
            try:
                hints = typing.get_type_hints(init)
            except NameError:  # of a user's class, imported for type checkers only
                hints = {}
            parameters = inspect.signature(init).parameters.values()
            names = [each.name for each in parameters if each.kind is each.KEYWORD_ONLY]
            found |= {name: hints.get(name, str) for name in names}
    return found


def take_options(
    url: str, cls: type, passes: Callable[[str], bool] = lambda name: False, others: str = ""
) -> tuple[str, dict[str, Any]]:
    """Take the options of a transport out of its URL, or out of several with semicolons between.

    :param passes: whether an option stays in the URL, for the library that reads it.
    :param others: those options, as an error names them.
    :returns: the URL without them, and the options.
    :raises ServiceConfigurationError: for an option that there is not, or a value that is none.
    """
    urls: list[str] = []
    given: dict[str, Any] = {}
    for one in NEXT_URL.split(url):
        place, mark, query = one.partition("?")
        left = []
        for part in query.split("&") if mark and query else []:
            ((name, value),) = parse_qsl(part, keep_blank_values=True) or [("", "")]
            known = options_of(cls)
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
        urls.append(place + "?" * bool(left) + "&".join(left))
    return ";".join(urls), given


def _may_hold_password(url: str) -> bool:
    """Whether what looks like the query may be the end of a password with a ? in it."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return True
    host, _, port = parts.netloc.rpartition(":")
    return is_misread(parts) or (bool(host) and port.isalnum() and not port.isdigit())


def _read(name: str, value: str, hint: Any) -> Any:
    from ...config.kinds import Seconds, kind_of  # of no use to whoever has no options in URLs

    try:
        return kind_of(Seconds if hint in (float, float | None) else hint).convert(value)
    except ValueError as error:
        raise ServiceConfigurationError(f"{name} {error}") from None


def no_option(
    cls: type, name: str, known: Iterable[str], others: str = ""
) -> ServiceConfigurationError:
    """What to raise for an option that a transport has not."""
    known = sorted(known)
    close = difflib.get_close_matches(name.lower(), known, n=1)
    hint = f"did you mean {close[0]}? There" if close else "there"
    return ServiceConfigurationError(
        f"{cls.__name__} has no option {name}; {hint} are {', '.join(known)}{others}"
    )


def amqp_url(
    host: str, port: int, username: str, password: str, virtual_host: str, scheme: str
) -> str:
    """The URL of a RabbitMQ.

    >>> amqp_url("rabbit", 5672, "ada", "p/w", "/", "amqp")
    'amqp://ada:p%2Fw@rabbit:5672/%2F'
    """
    where = f"[{host}]" if ":" in host else host
    who = f"{quote(username, safe='')}:{quote(password, safe='')}"
    return f"{scheme}://{who}@{where}:{port}/{quote(virtual_host, safe='')}"


def sqlite_path(location: Any) -> str:
    """The path in ``"events.db"`` or ``"sqlite:///events.db"``.

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
