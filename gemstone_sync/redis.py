"""A Redis that stores run scripts in: its URL, its connections, and what can go wrong with it.

What the scripts do is no matter here. Everything that redis-py raises leaves as `StoreFault`.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import math
import os
import threading
import weakref
from collections import deque
from collections.abc import Iterator
from typing import Any, TypeAlias

import gevent
import gevent.lock
from gevent._hub_local import get_hub_if_exists

from .broker_urls import check_redis_url, scheme_of, shown, wrong_url
from .concurrency import is_patched
from .errors import ServiceConfigurationError, StoreFault

__all__ = ["RedisClient", "Script", "understands"]

#: Connections of one event loop at most; more callers at once wait for one.
_CONNECTIONS = 20

Argument: TypeAlias = "bytes | str | int"


def understands(url: str, option: str) -> bool:
    """Whether redis-py takes an option in the query of a URL."""
    import redis

    kinds = {"unix": redis.UnixDomainSocketConnection, "rediss": redis.SSLConnection}
    kind = kinds.get(scheme_of(url), redis.Connection)
    names = {"timeout", "max_connections"}
    for cls in kind.__mro__:
        if "__init__" in vars(cls):
            names |= set(inspect.signature(vars(cls)["__init__"]).parameters)
    return option in names - {"self", "args", "kwargs"}


class Script:
    """A Lua script; Redis runs it as a whole, and nothing else meanwhile.

    :ivar digest: what Redis knows it by once it has seen it.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        # What EVALSHA asks for; nobody's secret.
        self.digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


class RedisClient:
    """Runs scripts in a Redis. Connects at first use; may be used by greenlets and threads at once.

    :param url: ``redis://[user:password@]host[:port][/database]``; ``rediss://`` for TLS,
        ``unix://`` for a socket.
    :param connect_timeout: seconds to connect.
    :param timeout: seconds for an answer.
    :param retries: how often what may be done twice is sent again when a connection breaks.
    :param user: what messages call the class that it is for.
    :raises ServiceConfigurationError: when one of them cannot be used, or redis-py is missing.
    """

    def __init__(
        self,
        url: str,
        *,
        connect_timeout: float,
        timeout: float,
        retries: int = 0,
        user: str = "Redis",
    ) -> None:
        for seconds in (connect_timeout, timeout):
            if not isinstance(seconds, (int, float)) or not 0 < seconds < math.inf:
                raise ServiceConfigurationError(f"time-outs are seconds above 0, not {seconds!r}")
        check_redis_url(url)
        #: The URL without user and password.
        self.shown = shown(url)
        self._url = url
        self._connect_timeout = connect_timeout
        self._timeout = timeout
        self._retries = retries
        self._by_loop: weakref.WeakKeyDictionary[Any, _Connections] = weakref.WeakKeyDictionary()
        self._process = os.getpid()
        self._connection_class, self._options = self._read_url(user)

    def run(self, script: Script, key: bytes, *arguments: Argument) -> Any:
        """Run a script.

        :param key: the one key that it gets.
        :raises StoreFault: when it did not run to its end, as far as is known.
        """
        import redis

        with self.faults():
            for _ in range(self._retries):
                try:
                    return self._run(script, key, arguments)
                except redis.ConnectionError:
                    # Redis was started again, most likely, and none of them is of any use.
                    self._connections().drop_idle()
            return self._run(script, key, arguments)

    def _run(self, script: Script, key: bytes, arguments: tuple[Argument, ...]) -> Any:
        import redis

        with self._connections().one() as connection:
            connection.send_command("EVALSHA", script.digest, 1, key, *arguments)
            try:
                return connection.read_response()
            except redis.exceptions.NoScriptError:
                # Redis was started again, or its scripts flushed: nothing was done.
                connection.send_command("EVAL", script.text, 1, key, *arguments)
                return connection.read_response()

    def new_connection(self) -> Any:
        """A redis-py connection of one's own, connected. Use it within `faults`."""
        return self._connections().new()

    def close(self) -> None:
        """Disconnect. What is used again connects again. Never raises."""
        by_loop, self._by_loop = self._by_loop, weakref.WeakKeyDictionary()
        for connections in list(by_loop.values()):
            connections.drop_idle()

    def leave_thread(self) -> None:
        """Close the connections of this thread's loop, before it ends. Never raises."""
        hub = get_hub_if_exists()
        if hub is not None and (connections := self._by_loop.pop(hub, None)) is not None:
            connections.drop_idle()

    @contextlib.contextmanager
    def faults(self) -> Iterator[None]:
        """Whatever goes wrong inside leaves as `StoreFault`, in bounded time."""
        import redis

        # The time-outs of redis-py are for each piece that is received: what drips has no end.
        limit = self._connect_timeout + 2 * self._timeout
        # Without a patched socket it could not strike.
        timeout = gevent.Timeout(limit if is_patched() else None)
        try:
            with timeout:
                yield
        except gevent.Timeout as error:
            if error is not timeout:
                raise
            raise StoreFault(f"{self.shown}: no whole answer within {limit:g} s") from error
        except redis.TimeoutError as error:
            raise StoreFault(f"{self.shown}: no answer in time ({error})") from error
        except (redis.RedisError, OSError, UnicodeError) as error:
            raise StoreFault(f"{self.shown}: {error}") from error
        except (ValueError, RecursionError, MemoryError, OverflowError) as error:
            # What redis-py makes of an answer that is none of a Redis.
            raise StoreFault(f"{self.shown}: what answers is no Redis ({error})") from error

    def _connections(self) -> _Connections:
        """Made at first use, when the process is patched if it ever will be."""
        if os.getpid() != self._process:
            # After a fork: the connections are the parent's.
            self._process = os.getpid()
            self._by_loop = weakref.WeakKeyDictionary()
        # A patched socket belongs to the event loop of the thread that made it; all threads of a
        # plain process share theirs.
        loop = gevent.get_hub() if is_patched() else RedisClient
        connections = self._by_loop.get(loop)
        if connections is None:
            connections = self._by_loop.setdefault(
                loop, _Connections(self._connection_class, self._options, self._timeout)
            )
        return connections

    def _read_url(self, user: str) -> tuple[type, dict[str, Any]]:
        """The class and the options of a connection.

        :raises ServiceConfigurationError: when none can be made of them.
        """
        try:
            import redis
            from redis.backoff import NoBackoff
            from redis.retry import Retry
        except ImportError as error:
            raise ServiceConfigurationError(
                f"{user} needs redis-py: pip install 'gemstone_sync[redis]'"
            ) from error
        try:
            pool = redis.ConnectionPool.from_url(
                self._url,
                socket_connect_timeout=self._connect_timeout,
                socket_timeout=self._timeout,
                # Every Redis understands it, and tells what it has against a password.
                protocol=2,
                # redis-py's own default sends everything several times, a publish too.
                retry=Retry(NoBackoff(), 0),
            )
        except ValueError as error:
            if "Invalid value for" in str(error):  # which names the option, and not the value
                raise ServiceConfigurationError(f"{self.shown}: {error}") from None
            raise wrong_url() from None
        kind, options = pool.connection_class, pool.connection_kwargs
        try:
            kind(**options)
        except (ValueError, TypeError) as error:  # an option in the query that redis-py has not
            raise ServiceConfigurationError(f"{self.shown}: {error}") from None
        return kind, options


class _Connections:
    """The connections of one event loop.

    redis-py's client and pool take 100 µs a command, as much again as the command itself, for what
    is not wanted here: its own retries, and a look at each connection before it is used.
    """

    def __init__(self, kind: type, options: dict[str, Any], timeout: float) -> None:
        self._kind = kind
        self._options = options
        self._timeout = timeout
        self._idle: deque[Any] = deque()
        bound = gevent.lock.BoundedSemaphore if is_patched() else threading.BoundedSemaphore
        self._places: Any = bound(_CONNECTIONS)

    @contextlib.contextmanager
    def one(self) -> Iterator[Any]:
        """A connection, for one command after the other; closed unless the answers were read."""
        import redis

        if not self._places.acquire(timeout=self._timeout):
            raise redis.TimeoutError(f"all {_CONNECTIONS} connections wait for Redis")
        try:
            try:
                connection = self._idle.pop()
            except IndexError:
                connection = self.new()
            try:
                yield connection
            except redis.ResponseError:
                self._idle.append(connection)  # an answer like any other
                raise
            except BaseException:
                connection.disconnect()
                raise
            self._idle.append(connection)
        finally:
            self._places.release()

    def new(self) -> Any:
        """One more, connected."""
        connection = self._kind(**self._options)
        connection.connect()
        return connection

    def drop_idle(self) -> None:
        """Close those that nobody uses. Never raises."""
        while self._idle:
            with contextlib.suppress(Exception):
                self._idle.pop().disconnect()
