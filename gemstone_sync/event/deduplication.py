"""Stores that remember which events were handled already: their contract, and three of them."""

from __future__ import annotations

import abc
import enum
import itertools
import math
import os
import sqlite3
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from ..broker_urls import REDIS_SCHEMES, SQLITE_FILES, scheme_of
from ..concurrency.native import native_lock
from ..errors import ServiceConfigurationError, StoreFault
from ..number_checks import is_number, is_whole
from ..redis import Argument, RedisClient, Script
from ..sqlite import GroupCommit, SqliteFile

__all__ = [
    # the contract
    "Claim",
    "ProcessedEvents",
    # the stores
    "MemoryProcessedEvents",
    "RedisProcessedEvents",
    "SqliteProcessedEvents",
    "processed_events",
]

#: Seconds for which handled events are remembered; longer than any retry or redelivery should take.
DAY = 86400.0


class Claim(enum.Enum):
    """The answer of a store about an event that is to be handled."""

    #: Handle it; the claim is this process's until `done`, `release`, or the lease's end.
    OURS = "ours"
    #: It was handled before: drop it.
    DONE = "done"
    #: Another worker handles it at this moment, or did when it was killed: ask again later.
    BUSY = "busy"


class ProcessedEvents(abc.ABC):
    """Remembers ids of handled events for a window of time.

    A key is an event's id with the handler's name, so that each handler has its own memory. All
    functions may be called from several greenlets and threads at once, and may block the greenlet.

    :raises OSError: from every function, when the store cannot be reached or written.
    """

    @abc.abstractmethod
    def claim(self, key: str, owner: str, lease: float) -> Claim:
        """Ask whether to handle an event.

        :param owner: who asks; it may claim again what it has claimed already.
        :param lease: seconds after which the claim of one that was killed counts no more.
        """

    @abc.abstractmethod
    def renew(self, key: str, owner: str, lease: float) -> None:
        """Keep a claim for so many seconds from now."""

    @abc.abstractmethod
    def done(self, key: str, owner: str) -> None:
        """Remember, for the window, that it was handled."""

    @abc.abstractmethod
    def release(self, key: str, owner: str) -> None:
        """Give a claim up: handling failed and is tried again."""

    @abc.abstractmethod
    def close(self) -> None:
        """Close what is open. A store that is used again opens it again."""


class MemoryProcessedEvents(ProcessedEvents):
    """Remembers what this process has handled, until it ends.

    :param window: seconds for which an event is remembered.
    :param limit: how many are remembered at most; past it the oldest are forgotten.
    :raises ServiceConfigurationError: when one of them cannot be used.

    >>> store = MemoryProcessedEvents()
    >>> store.claim("order 1", "a worker", lease=30)
    <Claim.OURS: 'ours'>
    >>> store.done("order 1", "a worker")
    >>> store.claim("order 1", "another", lease=30)
    <Claim.DONE: 'done'>
    """

    def __init__(self, window: float = DAY, limit: int = 100_000) -> None:
        if not is_whole(limit, 1):
            raise ServiceConfigurationError(f"limit is a whole number above 0, not {limit!r}")
        self._window = _seconds("window", window)
        self._limit = limit
        self._lock = native_lock()  # nothing waits while it is held, and threads may ask too
        #: Key -> when it is forgotten; the earliest first.
        self._done: OrderedDict[str, float] = OrderedDict()
        #: Key -> (owner, end of the lease); the one that was renewed longest ago first.
        self._claims: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def claim(self, key: str, owner: str, lease: float) -> Claim:
        now = time.monotonic()
        with self._lock:
            self._forget(now)
            if key in self._done:
                return Claim.DONE
            known = self._claims.get(key)
            if known is not None and known[0] != owner and known[1] > now:
                return Claim.BUSY
            self._lease(key, owner, now + lease)
            return Claim.OURS

    def renew(self, key: str, owner: str, lease: float) -> None:
        with self._lock:
            if self._is_claimed_by(key, owner):
                self._lease(key, owner, time.monotonic() + lease)

    def done(self, key: str, owner: str) -> None:
        now = time.monotonic()
        with self._lock:
            self._claims.pop(key, None)
            self._done[key] = now + self._window
            self._done.move_to_end(key)
            self._forget(now)

    def release(self, key: str, owner: str) -> None:
        with self._lock:
            if self._is_claimed_by(key, owner):
                del self._claims[key]

    def close(self) -> None:
        """Nothing is open, and nothing is forgotten."""

    def _lease(self, key: str, owner: str, until: float) -> None:
        self._claims[key] = (owner, until)
        self._claims.move_to_end(key)

    def _is_claimed_by(self, key: str, owner: str) -> bool:
        return key in self._claims and self._claims[key][0] == owner

    def _forget(self, now: float) -> None:
        done, claims = self._done, self._claims
        while done and (len(done) > self._limit or next(iter(done.values())) <= now):
            done.popitem(last=False)
        while claims and next(iter(claims.values()))[1] <= now:
            claims.popitem(last=False)


def _seconds(name: str, value: float) -> float:
    """:raises ServiceConfigurationError: for what is no number of seconds above 0."""
    if not is_number(value) or not 0 < value < math.inf:
        raise ServiceConfigurationError(f"{name} is a number of seconds above 0, not {value!r}")
    return float(value)


# In a Redis the value of a key is "done", or "claim:" and the owner; it forgets them in time.

#: owner, lease (ms)
_CLAIM_SCRIPT = Script("""
local value = redis.call('GET', KEYS[1])
if value == 'done' then return 'done' end
if value and value ~= 'claim:' .. ARGV[1] then return 'busy' end
redis.call('SET', KEYS[1], 'claim:' .. ARGV[1], 'PX', ARGV[2])
return 'ours'
""")

#: owner, lease (ms)
_RENEW_SCRIPT = Script("""
local mine = redis.call('GET', KEYS[1]) == 'claim:' .. ARGV[1]
if mine then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
""")

#: window (ms)
_DONE_SCRIPT = Script("redis.call('SET', KEYS[1], 'done', 'PX', ARGV[1])")

#: owner
_RELEASE_SCRIPT = Script("""
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
        self._window = _milliseconds(_seconds("window", window))
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
        answer = self._run(_CLAIM_SCRIPT, key, owner, _milliseconds(lease))
        try:
            return Claim(answer.decode())
        except (ValueError, AttributeError):
            raise StoreFault(f"{self._client.shown}: no Redis answers there") from None

    def renew(self, key: str, owner: str, lease: float) -> None:
        self._run(_RENEW_SCRIPT, key, owner, _milliseconds(lease))

    def done(self, key: str, owner: str) -> None:
        self._run(_DONE_SCRIPT, key, self._window)

    def release(self, key: str, owner: str) -> None:
        self._run(_RELEASE_SCRIPT, key, owner)

    def close(self) -> None:
        self._client.close()

    def _run(self, script: Script, key: str, *arguments: Argument) -> Any:
        name = f"{self._prefix}{key}".encode("utf-8", "surrogatepass")
        return self._client.run(script, name, *arguments)


def _milliseconds(seconds: float) -> int:
    return max(1, math.ceil(seconds * 1000))


# In a SQLite file an owner of NULL says that an event was handled.

_TABLE = """
CREATE TABLE IF NOT EXISTS gemstone_processed (
    key TEXT NOT NULL PRIMARY KEY, owner TEXT, until REAL NOT NULL) WITHOUT ROWID
"""
_INDEX = "CREATE INDEX IF NOT EXISTS gemstone_processed_until ON gemstone_processed (until)"
_CLAIM = """
INSERT INTO gemstone_processed (key, owner, until) VALUES (?, ?, ?)
ON CONFLICT (key) DO UPDATE SET owner = excluded.owner, until = excluded.until
WHERE gemstone_processed.until <= ? OR gemstone_processed.owner = excluded.owner
"""
_OWNER = "SELECT owner FROM gemstone_processed WHERE key = ?"
_RENEW = "UPDATE gemstone_processed SET until = ? WHERE key = ? AND owner = ?"
_DONE = """
INSERT INTO gemstone_processed (key, owner, until) VALUES (?, NULL, ?)
ON CONFLICT (key) DO UPDATE SET owner = NULL, until = excluded.until
"""
_RELEASE = "DELETE FROM gemstone_processed WHERE key = ? AND owner = ?"
_SWEEP = """
DELETE FROM gemstone_processed WHERE key IN
    (SELECT key FROM gemstone_processed WHERE until <= ? ORDER BY until LIMIT 200)
"""
#: Claims between two sweeps: each takes away more than came since the one before.
_SWEEP_EVERY = 50


#: A change, and whether it is to outlive a failure of the power, not only of the process.
_Write: TypeAlias = tuple[Callable[[sqlite3.Connection], Any], bool]


class SqliteProcessedEvents(ProcessedEvents):
    """Remembers in a SQLite file what was handled, for all processes of the machine that use it.

    :param path: the file; it is made when it is not there. It may be the user's own database: then
        `record` makes a handler's effect and its mark one.
    :param window: seconds for which an event is remembered.
    :param timeout: seconds to wait while another process writes to the file.
    :raises ServiceConfigurationError: when one of them cannot be used.

    What `done` has returned for outlives a failure of the power; a claim outlives the process.
    """

    def __init__(self, path: str | os.PathLike[str], window: float = DAY, *, timeout: float = 5):
        self._path = os.fspath(path)
        if not isinstance(self._path, str) or not self._path or self._path.startswith(":"):
            raise ServiceConfigurationError(f"path is that of a file, not {path!r}")
        self._window = _seconds("window", window)
        self._timeout = _seconds("timeout", timeout)
        self._file = SqliteFile(self._path, prepare=_create_table, busy=self._timeout)
        self._writes: GroupCommit[_Write] = GroupCommit(self._commit, self._path)
        self._claims = itertools.count(1)

    def __repr__(self) -> str:
        return f"SqliteProcessedEvents({self._path!r})"

    def claim(self, key: str, owner: str, lease: float) -> Claim:
        key, sweeps = _text(key), next(self._claims) % _SWEEP_EVERY == 0

        def run(connection: sqlite3.Connection) -> Claim:
            now = time.time()
            if sweeps:
                connection.execute(_SWEEP, (now,))
            if connection.execute(_CLAIM, (key, owner, now + lease, now)).rowcount == 1:
                return Claim.OURS
            (claimed_by,) = connection.execute(_OWNER, (key,)).fetchone()
            return Claim.DONE if claimed_by is None else Claim.BUSY

        return self._write(run)  # type: ignore[no-any-return]

    def renew(self, key: str, owner: str, lease: float) -> None:
        self._execute(_RENEW, time.time() + lease, _text(key), owner)

    def done(self, key: str, owner: str) -> None:
        self._execute(_DONE, _text(key), time.time() + self._window, durable=True)

    def release(self, key: str, owner: str) -> None:
        self._execute(_RELEASE, _text(key), owner)

    def record(self, connection: sqlite3.Connection, key: str) -> None:
        """Do as `done` in the user's own transaction: the mark is there only if that commits.

        ::

            with sqlite3.connect("shop.db") as connection:
                connection.execute("INSERT INTO payments ...")
                store.record(connection, key)

        :param connection: one to the same file, with a transaction open or one that begins by
            itself, as Python's do by default.
        :raises ValueError: when it is none, so that effect and mark would not be one.
        :raises sqlite3.Error: what the connection raises.
        """
        alone = getattr(connection, "autocommit", None) is True
        if not connection.in_transaction and (alone or connection.isolation_level is None):
            raise ValueError(
                "this connection commits each statement by itself: execute BEGIN first"
            )
        files = {name: file for _, name, file in connection.execute("PRAGMA database_list")}
        if not _is_same(files.get("main", ""), self._path):
            raise ValueError(
                f"the connection is to {files.get('main') or 'memory'!r}, and handled events are "
                f"remembered in {self._path!r}: one transaction needs one file"
            )
        if not connection.in_transaction:
            connection.execute("BEGIN IMMEDIATE")
        _create_table(connection)  # there is none where nothing was claimed yet
        connection.execute(_DONE, (_text(key), time.time() + self._window))

    def close(self) -> None:
        self._file.close()

    def _execute(self, statement: str, *values: Any, durable: bool = False) -> None:
        self._write(lambda connection: connection.execute(statement, values), durable)

    def _write(self, run: Callable[[sqlite3.Connection], Any], durable: bool = False) -> Any:
        return self._writes.write((run, durable), 3 * self._timeout)

    def _commit(self, writes: Sequence[_Write], limit: float) -> list[Any]:
        durable = any(durable for _, durable in writes)
        with self._file.writing(durable=durable, limit=limit) as connection:
            return [run(connection) for run, _ in writes]


def _create_table(connection: sqlite3.Connection) -> None:
    connection.execute(_TABLE)
    connection.execute(_INDEX)


def _text(key: str) -> str:
    """Replace lone surrogates, which SQLite does not take."""
    return key if key.isascii() else key.encode("utf-8", "backslashreplace").decode()


def _is_same(file: str, path: str) -> bool:
    try:
        return os.path.samefile(file, path)
    except OSError:
        return False


def processed_events(url: str, *, window: float = DAY) -> ProcessedEvents:
    """Make the store that a setting means.

    :param url: ``"sqlite:///file"`` (``"sqlite:////file"`` from the root) or the path of a file
        that ends in .db, .sqlite or .sqlite3; ``"redis://…"``; ``"memory://"``.
    :param window: seconds for which an event is remembered.
    :raises ServiceConfigurationError: when it is none of these.

    >>> processed_events("sqlite:///handled.db"), processed_events("handled.db")
    (SqliteProcessedEvents('handled.db'), SqliteProcessedEvents('handled.db'))
    """
    if isinstance(url, str):
        if url == "memory://":
            return MemoryProcessedEvents(window)
        if scheme_of(url) in REDIS_SCHEMES:
            return RedisProcessedEvents(url, window)
        if url.startswith("sqlite:///"):
            return SqliteProcessedEvents(url.removeprefix("sqlite:///"), window)
        if "://" not in url and url.endswith(SQLITE_FILES):
            return SqliteProcessedEvents(url, window)
    # Not shown: it may hold a password.
    raise ServiceConfigurationError(
        "handled events are remembered in 'sqlite:///file.db', 'redis://host' or 'memory://'"
    )
