"""Kombu's transports over the stores, by name: see `registration`.

A connection's ``transport_options``:

``store``
    a `QueueStore`, or a function that makes one, instead of what the URL says
``lease``
    seconds after which what a consumer that has died has taken goes to another (60)
``threads``
    True to have a store that blocks called in a native thread; by default in patched processes
``prefix``
    how the keys start in Redis
"""

from __future__ import annotations

import time
from queue import Empty
from typing import Any
from urllib.parse import quote

from kombu.transport import virtual

from ...concurrency import is_patched
from ...errors import ServiceConfigurationError
from .channel import Channel
from .session import StoreSession
from .sqlite_store import SqliteStore
from .store import QueueStore, StoreFault

__all__ = ["MemoryTransport", "RedisTransport", "SqliteTransport", "StoreTransport"]

#: Seconds.
_LEASE, _PAUSE = 60.0, 0.005
_NOWHERE = "localhost"


class StoreTransport(virtual.Transport):  # type: ignore[misc]
    """A connection to a store, which ``transport_options`` name."""

    Channel = Channel
    driver_type = driver_name = "gemstone-store"
    connection_errors = (StoreFault, *virtual.Transport.connection_errors)
    implements = virtual.Transport.implements.extend(
        exchange_type=frozenset(["direct", "topic", "work"])
    )

    #: Clones of a connection are to a host of this name, where the URL has none.
    default_connection_params = {"hostname": _NOWHERE}

    def __init__(self, client: Any, **kwargs: Any) -> None:
        super().__init__(client, **kwargs)
        options = client.transport_options
        store = options.get("store")
        if store is None:
            store = self.make_store(client)
        elif not isinstance(store, QueueStore):
            store = store()
        threads = options.get("threads")
        self.session = StoreSession(
            store,
            float(options.get("lease", _LEASE)),
            threaded=is_patched() if threads is None else threads,
        )

    def make_store(self, client: Any) -> QueueStore:
        """The store that the connection's URL names."""
        raise ServiceConfigurationError(f"{self.driver_name} wants a store in transport_options")

    def establish_connection(self) -> Any:
        self.session.open()
        return super().establish_connection()

    def close_connection(self, connection: Any) -> None:
        super().close_connection(connection)
        self.session.close()

    def drain_events(self, connection: Any, timeout: float | None = None) -> None:
        """Deliver one message, waiting for it if need be.

        :raises TimeoutError: when there was none for so many seconds.
        """
        session = self.session
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            session.renew_all_in_time()
            session.touch_in_time()
            if session.store.changed():
                for channel in self.channels:
                    channel.curious = True
            if self._deliver_one():
                return
            pause = self.client.transport_options.get("polling_interval", _PAUSE)
            if end is not None:
                pause = min(pause, end - time.monotonic())
                if pause <= 0:
                    raise TimeoutError("no message in time")
            time.sleep(pause)

    def _deliver_one(self) -> bool:
        for channel in list(self.channels):
            # The one that delivers is the last to be asked the next time.
            try:
                channel.drain_events()
            except Empty:
                continue
            finally:
                if channel in self.channels:
                    self.channels.remove(channel)
                    self.channels.append(channel)
            return True
        return False


class SqliteTransport(StoreTransport):
    """``gemstone-sqlite:///relative.db`` or ``gemstone-sqlite:////absolute/path.db``."""

    driver_type = driver_name = "gemstone-sqlite"

    def make_store(self, client: Any) -> QueueStore:
        path = client.virtual_host
        if client.hostname not in (None, "", _NOWHERE) or not path or path == "/":
            raise ServiceConfigurationError(
                "the URL is like 'gemstone-sqlite:////var/lib/events.db', with three slashes "
                "before a relative path and four before an absolute one"
            )
        return SqliteStore(path)


class MemoryTransport(StoreTransport):
    """``gemstone-memory://name``: connections to one name share what is there."""

    driver_type = driver_name = "gemstone-memory"
    _stores: dict[str, SqliteStore] = {}

    def make_store(self, client: Any) -> QueueStore:
        name = client.hostname or _NOWHERE
        return self._stores.setdefault(name, SqliteStore(":memory:")).another()


class RedisTransport(StoreTransport):
    """``gemstone-redis://user:password@host:6379/0``."""

    driver_type = driver_name = "gemstone-redis"

    def make_store(self, client: Any) -> QueueStore:
        from .redis_store import RedisStore

        who = quote(client.userid or "", safe="")
        if client.password:
            who += f":{quote(client.password, safe='')}"
        where = f"{client.hostname or '127.0.0.1'}:{client.port or 6379}"
        scheme = "rediss" if client.ssl else "redis"
        database = (client.virtual_host or "").strip("/") or "0"
        url = f"{scheme}://{f'{who}@' if who else ''}{where}/{database}"
        options = client.transport_options
        prefix = {"prefix": options["prefix"]} if "prefix" in options else {}
        return RedisStore(url, **prefix)
