"""Services that a Redis knows: each instance keeps a key there, which expires without its pings.

::

    gemstone:service:NAME:DIGEST      -> the instance's URL; expires
    gemstone:service:NAME:instances   -> the digests of the instances of that name

DIGEST is of the instance's own text, so that it has no colon and a fixed length, whatever that text
is. What expires is the first; the second only saves a search through all keys of a Redis that
others use too when the name is known, and may name instances that are gone.
"""

from __future__ import annotations

import fnmatch
import hashlib
import math
import re
import time
from operator import methodcaller
from typing import Any

from ..errors import BadResponse, ConnectionFailed, ServiceConfigurationError, Timeout
from ..number_checks import is_number
from ..redis import Raised, RedisClient
from .base import BaseDiscoveryStrategy
from .urls import UrlFilter

__all__ = ["RedisDiscoveryStrategy"]

#: Missed pings after which an instance is forgotten, where that takes longer than `time_to_live`.
_MISSED_PINGS = 3
#: Keys that Redis looks at, and values that it sends, before it serves others: under 1 ms.
_PAGE = 1000
#: Seconds after the last ping for which the digests of a name are kept.
_KEEP_INDEX = 24 * 3600
#: How many digests of a name each ping looks at, to sort out those of instances that crashed.
_A_FEW = 10

_INDEX = "instances"
_DIGEST_LENGTH = 32


class RedisDiscoveryStrategy(BaseDiscoveryStrategy):
    """A Redis in which services keep their URLs.

    :param redis_url: ``redis://[user:password@]host[:port][/database]``; ``rediss://`` for TLS,
        ``unix://`` for a socket; with redis-py's options as a query.
    :param time_to_live: seconds after the last ping for which an instance is known; never less
        than three times the interval of its pings.
    :param prefix: how each key starts.
    :param timeout: seconds to connect and to wait for an answer or for a free connection; one
        number sets both.
    :param total_timeout: seconds for one locate that searches all keys.
    :raises ServiceConfigurationError: when one of them cannot be used, or redis-py is missing.

    Its methods raise `ConnectionFailed`, `Timeout` or `BadResponse`, all of them `TransportError`.
    Whoever may write to the Redis can say where a service is: it needs a password wherever others
    reach it.
    """

    def __init__(
        self,
        redis_url: str,
        time_to_live: float = 180,
        *,
        prefix: str = "gemstone:service:",
        timeout: float | tuple[float, float] = (1, 3),
        total_timeout: float = 5,
    ) -> None:
        connect, read = timeout if isinstance(timeout, tuple) else (timeout, timeout)
        for option in (time_to_live, connect, read, total_timeout):
            if not is_number(option) or not 0 < option < math.inf:
                raise ServiceConfigurationError(
                    f"time_to_live and time-outs are seconds above 0, not {option!r}"
                )
        # All commands may be sent twice. Once is for a connection that a restart has ended.
        self._redis = RedisClient(
            redis_url,
            connect_timeout=connect,
            timeout=read,
            retries=1,
            user="RedisDiscoveryStrategy",
            raised=Raised(late=Timeout, lost=ConnectionFailed, refused=BadResponse),
        )
        self._time_to_live = time_to_live
        self._prefix = prefix
        self._total_timeout = total_timeout
        self._urls = UrlFilter(self._redis.shown)

    def ping(self, name: str, location: str, **kwargs: Any) -> None:
        interval = kwargs.get("interval") or 0
        lifetime = max(self._time_to_live, _MISSED_PINGS * interval)
        digest = _digest_of(name, location, kwargs)
        index = self._key(name, _INDEX)

        def tell(client: Any) -> Any:
            with client.pipeline() as pipeline:
                pipeline.set(self._key(name, digest), location, px=math.ceil(lifetime * 1000))
                pipeline.sadd(index, digest)
                pipeline.expire(index, math.ceil(lifetime + _KEEP_INDEX))
                pipeline.srandmember(index, _A_FEW)
                return pipeline.execute()[-1]

        self._sort_out(name, self._redis.ask(tell))

    def goodbye(self, name: str, location: str, **kwargs: Any) -> None:
        digest = _digest_of(name, location, kwargs)

        def tell(client: Any) -> None:
            with client.pipeline() as pipeline:
                pipeline.delete(self._key(name, digest))
                pipeline.srem(self._key(name, _INDEX), digest)
                pipeline.execute()

        self._redis.ask(tell)

    def locate(self, name: str) -> list[str]:
        keys = self._keys_matching(name) if _is_pattern(name) else self._keys_of(name)
        found = [value for value in self._values(keys) if value is not None]
        return self._urls.usable(sorted(found))

    def close(self) -> None:
        self._redis.close()

    def __repr__(self) -> str:
        return f"RedisDiscoveryStrategy({self._redis.shown!r})"

    # Keys and values

    def _key(self, name: str, last: str) -> str:
        return f"{self._prefix}{name}:{last}"

    def _keys_of(self, name: str) -> list[str]:
        """Find the keys of the instances with exactly this name."""
        found = self._redis.ask(methodcaller("smembers", self._key(name, _INDEX)))
        digests = sorted(map(_text, found))
        return [self._key(name, digest) for digest in digests]

    def _sort_out(self, name: str, digests: list[bytes]) -> None:
        """Take those out of the index whose keys have expired.

        One of them may ping in this very moment. Exact names do not find it then before its next
        ping; they did not find it before this one either.
        """
        texts = [_text(digest) for digest in digests]
        values = self._values([self._key(name, digest) for digest in texts])
        gone = [digest for digest, value in zip(texts, values, strict=True) if value is None]
        if gone:
            self._redis.ask(methodcaller("srem", self._key(name, _INDEX), *gone))

    def _keys_matching(self, pattern: str) -> list[str]:
        """Find the keys of the instances whose name matches."""
        searched = f"{_escaped(self._prefix)}{_redis_pattern(pattern)}:{'?' * _DIGEST_LENGTH}"
        end = time.monotonic() + self._total_timeout
        cursor = 0
        keys: set[str] = set()
        while True:
            scan = methodcaller("scan", cursor, match=searched, count=_PAGE)
            cursor, found = self._redis.ask(scan)
            keys.update(map(_text, found))
            if cursor == 0:
                break
            if time.monotonic() >= end:
                raise Timeout(
                    f"{self._redis.shown}: its keys were not searched within "
                    f"{self._total_timeout:g} s; give services a database of their own"
                )
        return sorted(key for key in keys if fnmatch.fnmatchcase(self._name_in(key), pattern))

    def _name_in(self, key: str) -> str:
        return key[len(self._prefix) :].rpartition(":")[0]

    def _values(self, keys: list[str]) -> list[str | None]:
        found: list[bytes | None] = []
        for start in range(0, len(keys), _PAGE):
            page = keys[start : start + _PAGE]
            found += self._redis.ask(methodcaller("mget", page))
        return [None if value is None else _text(value) for value in found]


def _digest_of(name: str, location: str, kwargs: dict[str, Any]) -> str:
    instance = kwargs.get("instance") or location
    return hashlib.sha256(str(instance).encode()).hexdigest()[:_DIGEST_LENGTH]


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


# Patterns

#: Of `fnmatch`: a class (whose first character may be a ]), a run of wildcards, anything else.
_WILD = re.compile(r"(?:\*|\?|\[!?\]?[^\]]*\])+")
_SPECIAL = re.compile(r"([*?\[\]^\\])")


def _is_pattern(name: str) -> bool:
    return _WILD.search(name) is not None


def _redis_pattern(pattern: str) -> str:
    """Write a pattern for SCAN that matches all that `fnmatch` does, and possibly more.

    To Redis a ``?`` is one byte rather than one character, classes are of bytes as well, and a
    backslash escapes. What it finds too much is sorted out afterwards.
    """
    pieces, end = [], 0
    for wild in _WILD.finditer(pattern):
        pieces += [_escaped(pattern[end : wild.start()]), "*"]
        end = wild.end()
    return "".join([*pieces, _escaped(pattern[end:])])


def _escaped(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", text)
