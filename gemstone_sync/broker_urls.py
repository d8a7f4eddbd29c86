"""Addresses of brokers and of Redis: taken apart. Any URL: shown without what is secret in it."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, unquote, urlsplit

from .errors import ServiceConfigurationError

__all__ = [
    "BROKER_SCHEMES",
    "BROKER_URLS",
    "MASK",
    "NEXT_URL",
    "RABBITMQ_SCHEMES",
    "REDIS_SCHEMES",
    "SCHEMES_OF_OTHERS",
    "SQLITE_FILES",
    "TRANSPORTS",
    "check_redis_url",
    "is_misread",
    "scheme_of",
    "shown",
    "split",
    "without_passwords",
    "wrong_url",
]

#: What is shown in place of a secret.
MASK = "********"

#: Where one more URL begins in a list of them.
NEXT_URL = re.compile(r";(?=[A-Za-z][\w+.-]*://)")

#: The event transports of brokers that several processes reach, by the schemes of their URLs.
TRANSPORTS = {
    "amqp": "RabbitMqEventTransport",
    "amqps": "RabbitMqEventTransport",
    "pyamqp": "RabbitMqEventTransport",
    "redis": "RedisEventTransport",
    "rediss": "RedisEventTransport",
    "unix": "RedisEventTransport",
    "sqlite": "SqliteEventTransport",
}
#: What other libraries write for them.
SCHEMES_OF_OTHERS = {"rabbitmq": "amqp", "librabbitmq": "amqp"}
BROKER_SCHEMES = tuple(TRANSPORTS)
RABBITMQ_SCHEMES = tuple(s for s in TRANSPORTS if TRANSPORTS[s] == "RabbitMqEventTransport")
REDIS_SCHEMES = tuple(s for s in TRANSPORTS if TRANSPORTS[s] == "RedisEventTransport")
#: How errors and helps write these URLs.
BROKER_URLS = (
    "amqp://, amqps://, redis://, rediss://, unix://, sqlite:///FILE, or the path of a file"
)

#: What tells the path of a SQLite file from a host, where no folder is named.
SQLITE_FILES = (".db", ".sqlite", ".sqlite3")

_REDIS = "redis://user:password@127.0.0.1:6379/0"


def scheme_of(url: str) -> str:
    """Return the scheme, in small letters (RFC 3986, section 3.1); empty for a path.

    >>> scheme_of("AMQP://rabbit"), scheme_of("events.db")
    ('amqp', '')
    """
    return url.partition("://")[0].lower() if "://" in url else ""


def split(url: object, schemes: tuple[str, ...], example: str) -> SplitResult:
    """:raises ServiceConfigurationError: when `url` is none of these schemes."""
    if isinstance(url, str):
        try:
            parts = urlsplit(url)
            # Several hosts at once are no host; kombu's form of that is several URLs.
            is_host = not parts.fragment and not set(parts.hostname or "") & set(",; ")
            if parts.scheme in schemes and parts.port != 0 and is_host and not is_misread(parts):
                return parts
        except ValueError:
            pass
    raise wrong_url(example)


def check_redis_url(url: object) -> None:
    """:raises ServiceConfigurationError: when `url` is none of a Redis."""
    parts = split(url, REDIS_SCHEMES, _REDIS)
    # redis-py takes database 0 for a path that is no number; it may be the end of a password.
    if parts.scheme != "unix" and not re.fullmatch(r"(/\d*)?", parts.path):
        raise wrong_url()


def is_misread(parts: SplitResult) -> bool:
    """Tell whether "host" and "port" are a user and the start of a password with a / ? or #."""
    rest = parts.geturl().partition("://")[2]
    before = rest.rpartition("@")[0]
    host = parts.netloc
    return bool(before) and "@" not in host and ":" in host and not _PAGE.fullmatch(before)


def wrong_url(example: str = _REDIS) -> ServiceConfigurationError:
    """Shows neither the URL nor the reason: either may hold a piece of a password."""
    return ServiceConfigurationError(
        f"the URL is like {example!r}; in the user and the password, characters such as / and @ "
        "are written %2F and %40"
    )


def shown(url: str) -> str:
    """Return a URL, or several with semicolons in between, without user, password and query.

    >>> shown("amqp://ada:pw@rabbit:5672/shop?heartbeat=10")
    'amqp://rabbit:5672/shop'
    """
    parts = [re.split("[?#]", without_passwords(one))[0] for one in NEXT_URL.split(url)]
    return ";".join(re.sub(rf"[^/@]*{re.escape(MASK)}@", "", one) for one in parts)


#: The scheme, and all that may belong to the URL: a password may hold nearly anything, blanks too.
#: One slash and three are slips, and count.
_URL = re.compile(
    r"(?<![a-z0-9+.-])([a-z0-9+.-]+:/{1,3})("
    r"[^\s/?#:@\[\]]*:(?!\d{1,5}(?:[\s/?#,;:'\")]|$))[^\s@'\"]+(?: [^\s@:/'\"]+)+@\S+"
    r"|(?:(?![\s,;|=&\"'(\[{<][a-z0-9+.-]+://)\S)+)",
    re.IGNORECASE,
)
#: What stands around a URL in a text, rather than in it.
_AROUND = "'\"`])}>,;."
#: An address that is a value in the query of a page's URL.
_PAGE = re.compile(r"[^:/?#@]+(?::\d{1,5})?/[^?#@]*\?[\w.-]+=.*")
#: A name that was given with a password. A token may stand there too: those are longer.
_USER = re.compile(r"[a-z][\w.-]{0,15}:(?!x-oauth-basic$)(?=.)", re.IGNORECASE)
_PARAMETER = re.compile(r"(?<=[?&;#])([^=&;#?\s]+)=((?:[^&#]|#(?![^=&#]+=))+)")
_SECRET = re.compile("pass|pwd|secret|token|key|auth|cred|sig|session", re.IGNORECASE)
#: What urlsplit takes for a port that is none is the rest of a password.
_NO_PORT = re.compile(
    r"^((?:\[[^\]]*\]|[^:/?#\[\]]*):)(?!(?:\d{0,5}|port)(?:[^\w%!$~^+*-]|$)).+", re.DOTALL | re.I
)
_EXAMPLE = "user:password@"


def without_passwords(text: str) -> str:
    """Mask what is secret in the URLs of a text: what stands before an @, keys and tokens among the
    options, what is no port.

    >>> without_passwords("redis://:sesame@cache:6379/0, http://ada:p#w@host/api?token=t")
    'redis://:********@cache:6379/0, http://ada:********@host/api?token=********'
    """
    return _URL.sub(lambda found: found[1] + _masked(found[1].lower(), found[2]), text)


def _masked(scheme: str, rest: str) -> str:
    if rest.startswith(_EXAMPLE):  # of a message that says how to write it
        return rest
    inner = rest.rstrip(_AROUND)
    around = rest[len(inner) :]
    rest = _PARAMETER.sub(_without_secret, inner)
    who, at, place = rest.rpartition("@")
    is_path = not scheme.endswith("://") and ":" not in who
    if at and not is_path and not (scheme.startswith("http") and _PAGE.fullmatch(who)):
        user = _USER.match(who)
        who = user[0] if user else ":" if who.startswith(":") else ""
        rest = f"{who}{MASK}@{_with_port(place)}"
    elif scheme.endswith("://"):
        rest = _with_port(rest)
    return rest + around


def _with_port(place: str) -> str:
    return _NO_PORT.sub(rf"\1{MASK}", place)


def _without_secret(found: re.Match[str]) -> str:
    value = unquote(found[2])
    secret = _SECRET.search(unquote(found[1])) or without_passwords(value) != value
    return f"{found[1]}={MASK}" if secret else found[0]
