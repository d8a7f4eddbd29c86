"""Handled events, remembered by a Redis: `RedisProcessedEvents`."""

from __future__ import annotations

import math
from typing import Any

from ...errors import StoreFault
from ...redis import Argument, RedisClient, Script
from .base import Claim, ProcessedEvents
from .window import DAY, check_window

__all__ = ["RedisProcessedEvents"]

# The value of a key is "done", or "claim:" and the owner; Redis forgets it in time.

#: owner, lease (ms)
_CLAIM = Script("""
local value = redis.call('GET', KEYS[1])
if value == 'done' then return 'done' end
if value and value ~= 'claim:' .. ARGV[1] then return 'busy' end
redis.call('SET', KEYS[1], 'claim:' .. ARGV[1], 'PX', ARGV[2])
return 'ours'
""")

#: owner, lease (ms)
_RENEW = Script("""
local mine = redis.call('GET', KEYS[1]) == 'claim:' .. ARGV[1]
if mine then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
""")

#: window (ms)
_DONE = Script("redis.call('SET', KEYS[1], 'done', 'PX', ARGV[1])")

#: owner
_RELEASE = Script("""
local mine = redis.call('GET', KEYS[1]) == 'claim:' .. ARGV[1]
if mine then redis.call('DEL', KEYS[1]) end
""")


class RedisProcessedEvents(ProcessedEvents):
    """Remembers in a Redis what was handled, for all processes that use it.

    :param url: ``redis://[user:password@]host[:port][/database]``; ``rediss://`` for TLS,
        ``unix://`` for a socket.
    :param window: seconds for which an event is remembered.
    :param prefix: how each key starts.
    :param connect_timeout: seconds to connect.
    :param timeout: seconds for an answer.
    :raises ServiceConfigurationError: when one of them cannot be used, or redis-py is missing.

    What it remembers outlives a crash of Redis only as far as Redis is set up to keep it, and must
    not be evicted: ``maxmemory-policy noeviction`` or ``volatile-ttl`` at the worst.
    """

    def __init__(
        self,
        url: str,
        window: float = DAY,
        *,
        prefix: str = "gemstone-processed:",
        connect_timeout: float = 2,
        timeout: float = 5,
    ) -> None:
        self._window = _milliseconds(check_window(window))
        self._prefix = prefix
        # All of it may be sent twice: claiming by the same owner too.
        self._client = RedisClient(
            url,
            connect_timeout=connect_timeout,
            timeout=timeout,
            retries=1,
            user="RedisProcessedEvents",
        )

    def __repr__(self) -> str:
        return f"RedisProcessedEvents({self._client.shown!r})"

    def claim(self, key: str, owner: str, lease: float) -> Claim:
        answer = self._run(_CLAIM, key, owner, _milliseconds(lease))
        try:
            return Claim(answer.decode())
        except (ValueError, AttributeError):
            raise StoreFault(f"{self._client.shown}: no Redis answers there") from None

    def renew(self, key: str, owner: str, lease: float) -> None:
        self._run(_RENEW, key, owner, _milliseconds(lease))

    def done(self, key: str, owner: str) -> None:
        self._run(_DONE, key, self._window)

    def release(self, key: str, owner: str) -> None:
        self._run(_RELEASE, key, owner)

    def close(self) -> None:
        self._client.close()

    def _run(self, script: Script, key: str, *arguments: Argument) -> Any:
        name = f"{self._prefix}{key}".encode("utf-8", "surrogatepass")
        return self._client.run(script, name, *arguments)


def _milliseconds(seconds: float) -> int:
    return max(1, math.ceil(seconds * 1000))
