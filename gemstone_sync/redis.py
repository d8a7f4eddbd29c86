"""A Redis that something is kept in, for events, handled events and discovery alike.

Commands and scripts go through redis-py's own client, pool and retries, which know of forks. What
is added: a client for each event loop, a bound on the whole of an answer, errors of our own.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import math
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

import gevent

from .broker_urls import check_redis_url, scheme_of, shown, wrong_url
from .concurrency import is_patched
from .errors import ServiceConfigurationError, StoreFault
from .number_checks import is_number

if TYPE_CHECKING:
    import redis

__all__ = ["Argument", "Raised", "RedisClient", "Script", "check_installed", "understands"]

T = TypeVar("T")
Argument: TypeAlias = "bytes | str | int"

#: Connections of one event loop at most; more callers at once wait for one.
_CONNECTIONS = 10


def check_installed(user: str) -> None:
    """Tell whoever wants to use a class that needs redis-py that it is missing.

    :raises ServiceConfigurationError: when it is.
    """
    try:
        import redis  # noqa: F401
    except ImportError as error:
        raise ServiceConfigurationError(
            f"{user} needs redis-py: pip install 'gemstone_sync[redis]'"
        ) from error


def understands(url: str, option: str) -> bool:
    """Tell whether redis-py takes an option in the query of a URL."""
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


class Raised(NamedTuple):
    """The exceptions that a client raises instead of redis-py's.

    :ivar late: for no whole answer in time.
    :ivar lost: for no connection, or one that broke.
    :ivar refused: for an error that Redis answers, and for what is no Redis.
    """

    late: type[Exception] = StoreFault
    lost: type[Exception] = StoreFault
    refused: type[Exception] = StoreFault


_FAULTS = Raised()


class RedisClient:
    """Asks a Redis. Connects at first use; may be used by greenlets and threads at once.

    :param url: ``redis://[user:password@]host[:port][/database]``; ``rediss://`` for TLS,
        ``unix://`` for a socket; with redis-py's options as a query.
    :param connect_timeout: seconds to connect.
    :param timeout: seconds for an answer, and for the wait for a free connection.
    :param retries: how often what may be done twice is sent again when a connection breaks.
    :param user: what messages call the class that it is for.
    :param raised: what leaves it instead of redis-py's exceptions.
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
        raised: Raised = _FAULTS,
    ) -> None:
        for seconds in (connect_timeout, timeout):
            if not is_number(seconds) or not 0 < seconds < math.inf:
                raise ServiceConfigurationError(f"time-outs are seconds above 0, not {seconds!r}")
        check_redis_url(url)
        #: The URL without user and password.
        self.shown = shown(url)
        self._url = url
        self._connect_timeout = connect_timeout
        self._timeout = timeout
        self._retries = retries
        self._raised = raised
        self._clients: weakref.WeakKeyDictionary[Any, redis.Redis] = weakref.WeakKeyDictionary()
        check_installed(user)
        self._check_options()

    def run(self, script: Script, key: bytes, *arguments: Argument) -> Any:
        """Run a script.

        :param key: the one key that it gets.
        :raises StoreFault: when it did not run to its end, as far as is known.
        """
        import redis

        def evaluate(client: redis.Redis) -> Any:
            # redis-py's own Script belongs to one client, and here is one for each event loop.
            try:
                return client.evalsha(script.digest, 1, key, *arguments)
            except redis.exceptions.NoScriptError:
                # Redis was started again, or its scripts flushed: nothing was done.
                return client.eval(script.text, 1, key, *arguments)

        return self.ask(evaluate)

    def ask(self, command: Callable[[redis.Redis], T]) -> T:
        """Have redis-py's client do something; return what it returns.

        :raises StoreFault: when it failed; or whatever `raised` names.
        """
        with self._faults():
            return command(self._client())

    def close(self) -> None:
        """Disconnect this thread's event loop. Never raises. What is used again connects again."""
        client = self._clients.pop(self._loop(), None)
        if client is not None:
            with contextlib.suppress(Exception):
                client.connection_pool.disconnect()

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        """Raise whatever goes wrong inside as one of `Raised`, in bounded time."""
        import redis

        # The time-outs of redis-py are for each piece that is received: what drips has no end.
        limit = self._connect_timeout + 2 * self._timeout
        # Without a patched socket it could not strike.
        timeout = gevent.Timeout(limit if is_patched() else None)
        late, lost, refused = self._raised
        try:
            with timeout:
                yield
        except gevent.Timeout as error:
            if error is not timeout:
                raise
            raise late(f"{self.shown}: no whole answer within {limit:g} s") from error
        except redis.TimeoutError as error:
            raise late(f"{self.shown}: no answer in time ({error})") from error
        except (redis.ConnectionError, OSError, UnicodeError) as error:
            # (Of UnicodeError: a host that no DNS can have.)
            raise lost(f"{self.shown}: {error}") from error
        except redis.RedisError as error:
            raise refused(f"{self.shown}: {error}") from error
        except (ValueError, RecursionError, MemoryError, OverflowError) as error:
            # What redis-py makes of an answer that is none of a Redis.
            raise refused(f"{self.shown}: what answers is no Redis ({error})") from error

    # Connections

    @staticmethod
    def _loop() -> Any:
        # A patched socket belongs to the event loop of the thread that made it; all threads of a
        # plain process share theirs.
        return gevent.get_hub() if is_patched() else RedisClient

    def _client(self) -> redis.Redis:
        """Made at first use, when the process is patched if it ever will be."""
        loop = self._loop()
        client = self._clients.get(loop)
        if client is None:
            import redis

            client = redis.Redis(connection_pool=self._new_pool())
            client = self._clients.setdefault(loop, client)
        return client

    def _new_pool(self) -> redis.BlockingConnectionPool:
        import redis
        from redis.backoff import NoBackoff
        from redis.connection import parse_url
        from redis.retry import Retry

        options = {
            "max_connections": _CONNECTIONS,
            "timeout": self._timeout,
            "socket_connect_timeout": self._connect_timeout,
            "socket_timeout": self._timeout,
            # redis-py's own default sends everything several times, a publish too.
            "retry": Retry(NoBackoff(), self._retries, supported_errors=(redis.ConnectionError,)),
            "retry_on_error": [redis.ConnectionError],  # version 5 repeats no command without it
            **parse_url(self._url),  # type: ignore[no-untyped-call]
            # Every Redis understands it, and tells what it has against a password.
            "protocol": 2,
            "decode_responses": False,
        }
        return redis.BlockingConnectionPool(**options)  # type: ignore[no-untyped-call]

    def _check_options(self) -> None:
        """:raises ServiceConfigurationError: when no connection can be made of them."""
        try:
            pool = self._new_pool()
        except ValueError as error:
            if "Invalid value for" in str(error):  # which names the option, and not the value
                raise ServiceConfigurationError(f"{self.shown}: {error}") from None
            raise wrong_url() from None
        try:
            pool.connection_class(**pool.connection_kwargs)
        except (ValueError, TypeError) as error:  # an option in the query that redis-py has not
            raise ServiceConfigurationError(f"{self.shown}: {error}") from None
