"""Events over SQLite, Redis, and in memory."""

from __future__ import annotations

import abc
import functools
import os
from typing import TYPE_CHECKING, Any

from ....broker_urls import check_redis_url, shown
from ...deduplication import ProcessedEvents
from ...link import Link
from ..broker import BrokerEventTransport, check_seconds, check_whole
from ..urls import sqlite_path, take_options
from .store import KnownBindings, QueueStore

if TYPE_CHECKING:
    from ..sqlite.store import SqliteStore

__all__ = ["MemoryEventTransport", "RedisEventTransport", "SqliteEventTransport"]

_OF_REDIS = (
    ", and redis-py's: db, client_name, socket_timeout, socket_connect_timeout, …; with rediss:// "
    "ssl_ca_certs, ssl_certfile, ssl_keyfile, ssl_cert_reqs, …"
)


class StoreEventTransport(BrokerEventTransport):
    """The base of the transports over a `QueueStore`.

    :param lease: seconds after which the events of a worker that has died are handled by another.
        It is renewed while a handler runs.
    :param delivery_limit: an event that came back so often because its process died goes to the
        dead letters.
    """

    has_own_store = True

    def __init__(self, *, lease: float = 60.0, delivery_limit: int = 10, **options: Any) -> None:
        check_seconds(1, lease=lease)
        check_whole(delivery_limit=delivery_limit)
        self.lease = float(lease)
        self._delivery_limit = delivery_limit
        #: One below the store's: here it is known which handler it was.
        self.crash_limit = max(1, delivery_limit - 1)
        self._known = KnownBindings()
        super().__init__(**options)

    @abc.abstractmethod
    def _make_store(self) -> QueueStore:
        """Make a store that is not open yet."""

    def make_link(self, role: str) -> Link:
        from .link import StoreLink

        return StoreLink(self._make_store(), lease=self.lease, delivery_limit=self._delivery_limit)


class SqliteEventTransport(StoreEventTransport):
    """Events between the processes of one machine, in a SQLite file: nothing to install.

    ::

        event_transports = [SqliteEventTransport("events.db")]

    What is published is on the disk (``synchronous=FULL``) when emitting returns. The file is in
    WAL mode, so it must be on a local disk.

    :param location: the path of the file; relative to the working directory. Options may follow a
        question mark, as in a URL.
    :param lease: seconds after which the events of a worker that has died are handled by another.
    :ivar path: of the file, absolute.
    """

    system = "sqlite"

    def __init__(self, location: str | os.PathLike[str] = "events.db", **options: Any) -> None:
        if isinstance(location, str):
            location, given = take_options(location, type(self))
            options = {**given, **options}
        self.path = os.path.abspath(sqlite_path(location))
        super().__init__(**options)

    def _make_store(self) -> QueueStore:
        from ..sqlite.store import SqliteStore

        return SqliteStore(self.path, known=self._known)

    def _own_store(self) -> ProcessedEvents:
        from ...deduplication import SqliteProcessedEvents

        return SqliteProcessedEvents(self.path)

    def __str__(self) -> str:
        return f"SqliteEventTransport({self.path})"


class RedisEventTransport(StoreEventTransport):
    """Events over Redis 6 or later. Needs ``pip install 'gemstone_sync[redis]'``.

    Events are as safe as Redis keeps them: with ``appendonly yes`` and ``appendfsync always`` they
    survive its end, with the default settings the last second may be lost.

    :param url: like ``"redis://user:password@127.0.0.1:6379/0"``; ``rediss`` for TLS. Options of
        the transport, and those of redis-py's connections, may be its query.
    :param lease: seconds after which the events of a worker that has died are handled by another.
    """

    system = "redis"

    def __init__(self, url: str = "redis://127.0.0.1:6379/0", **options: Any) -> None:
        check_redis_url(url)
        from ....redis import check_installed, understands

        check_installed("RedisEventTransport")
        self._url, given = take_options(
            url, type(self), lambda name: understands(url, name), _OF_REDIS
        )
        super().__init__(**{**given, **options})
        self._make_store()  # which sees what redis-py has against its options

    def _make_store(self) -> QueueStore:
        from ..redis.store import RedisStore

        prefix = f"{{{self.topology.application}-events}}:"
        return RedisStore(self._url, prefix=prefix, known=self._known)

    def _own_store(self) -> ProcessedEvents:
        from ...deduplication import RedisProcessedEvents

        return RedisProcessedEvents(self._url)

    def __str__(self) -> str:
        return f"RedisEventTransport({shown(self._url)})"


class MemoryEventTransport(StoreEventTransport):
    """Events within one process, for tests: services that share the object hear each other.

    Everything else is as with a broker: bodies go through JSON, failures are retried, what cannot
    be handled becomes a dead letter. Nothing outlives the process.
    """

    system = "memory"

    def _make_store(self) -> QueueStore:
        # Each link has its own `changed`, over the same messages.
        return self._store.another()

    def _own_store(self) -> ProcessedEvents:
        return self._processed

    @functools.cached_property
    def _store(self) -> SqliteStore:
        from ..sqlite.store import SqliteStore

        return SqliteStore(":memory:")

    @functools.cached_property
    def _processed(self) -> ProcessedEvents:
        from ...deduplication import MemoryProcessedEvents

        return MemoryProcessedEvents()
