"""Hold what the connections of one server share: settings, counters, limits, who is connected.

A server makes one `ServerState`; its connections, and what serves them, read it and count in it.
It knows none of them: what it asks of a connection is the protocol `Connection`.
"""

from __future__ import annotations

import logging
import resource
import ssl
import time
import weakref
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ..dispatch import LogThrottle
from .forwarded import TrustedProxies
from .head import Head
from .prefork import Balance

__all__ = [
    "ANSWERS_UNSENT",
    "FIRST_TO_GO",
    "INDISPENSABLE",
    "Connection",
    "ServerSettings",
    "ServerState",
    "Unsent",
    "open_connections",
    "raise_file_limit",
]

logger = logging.getLogger("gemstone_sync.server")

#: See `Connection.rank`. In between: slow heads; idle clients; clients between two calls and
#: requests under way.
FIRST_TO_GO, INDISPENSABLE = 0, 4
#: Times `max_response_size`, which is 192 MB: what may wait in a process.
ANSWERS_UNSENT = 12
#: Open files beside connections: those of methods, their databases and calls.
FILES_FOR_METHODS = 512
#: How many heads are remembered, and up to what size: a client has one or two of a few 100 bytes.
_REMEMBERED_HEADS = 512
_REMEMBERED_SIZE = 2048


@dataclass(frozen=True)
class ServerSettings:
    """See the attributes of the same names on ``MicroService``."""

    max_connections: int = 2000
    header_timeout: float = 5.0
    keep_alive_timeout: float = 5.0
    body_timeout: float = 10.0
    max_response_size: int = 16_000_000
    drain_delay: float = 0.0
    drain_grace: float = 1.0
    access_log: bool = False
    trusted_proxies: Sequence[str] = ()
    certfile: str | None = None
    keyfile: str | None = None


class Connection(Protocol):
    """Describe a connection to its server.

    :ivar idle: no request is being read or answered.
    :ivar leaving: it was told to end because there was no room.
    :ivar deadline: when the server's sweep ends what goes on now (``time.monotonic()``).
    :ivar last_taken: when the client last took a part of an answer that waits for it.
    """

    socket: Any
    idle: bool
    leaving: bool
    deadline: float
    last_taken: float

    def rank(self, now: float) -> int:
        """Tell how well it can be done without when there is no room: `FIRST_TO_GO` up to
        `INDISPENSABLE`."""

    def log(self, message: str, kind: Hashable) -> None:
        """Log that the client was refused, or cut off."""

    def expire(self) -> None:
        """End what goes on: its time is over."""

    def close_idle(self) -> None:
        """End it if it is idle; a request that has arrived already is still answered."""

    def cut_off(self) -> None:
        """End it whatever it does."""


class Unsent:
    """Bound the answers that wait in memory for slow clients to take them, all in all.

    Beyond the bound the client is cut off for which most memory is held for longest while it takes
    nothing. New answers do not wait instead: a dozen clients that read nothing would keep
    everybody's large answers for 30 s.

    :param most: bytes.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._sizes: dict[Connection, int] = {}
        self.total = 0

    def add(self, connection: Connection, size: int) -> None:
        """Count an answer that the client does not take at once."""
        self._sizes[connection] = size
        self.total += size
        while self.total > self._most and len(self._sizes) > 1:
            slowest = max(self._sizes, key=self._cost)
            self.remove(slowest)
            slowest.log("took its answer too slowly, and there are too many such", "slow")
            slowest.cut_off()

    def remove(self, connection: Connection) -> None:
        """Count an answer no more: it is sent, or the client gone."""
        self.total -= self._sizes.pop(connection, 0)

    def _cost(self, connection: Connection) -> float:
        return self._sizes[connection] * (time.monotonic() - connection.last_taken)


class ServerState:
    """Hold what the connections of one server share.

    :param environ: the part of the WSGI environ that all requests have.
    :param balance: how many connections other processes have that accept from the same socket.
    :raises ServiceConfigurationError: when a trusted proxy is no address.

    :ivar connections: the open ones, the oldest first; `upgraded` ones are not among them.
    :ivar upgraded: those whose socket the application took, for another protocol; with what lets
        it read the end of what the client sends.
    :ivar ending: the server is about to stop: each answer is the last on its connection.
    :ivar draining: it accepts no connection any more, and upgrades none.
    :ivar requests: how many were served.
    :ivar clients_gone: how many went away before they had their answer.
    :ivar now: ``time.monotonic()`` as of the server's last sweep.
    :ivar known_heads: heads that were found good, by their bytes.
    """

    def __init__(
        self,
        application: Any,
        settings: ServerSettings,
        environ: dict[str, Any],
        tls: ssl.SSLContext | None = None,
        balance: Balance | None = None,
    ) -> None:
        self.application = application
        self.settings = settings
        self.tls_context = tls
        self.balance = balance
        self.proxies = TrustedProxies(settings.trusted_proxies)
        self.log_throttle = LogThrottle(logger)
        self.unsent = Unsent(ANSWERS_UNSENT * settings.max_response_size)
        self.max_connections, self._max_upgraded = raise_file_limit(settings.max_connections)
        self.connections: dict[Connection, None] = {}
        self.upgraded: dict[Connection, Callable[[], None]] = {}
        _all.add(self)
        self.known_heads: dict[bytes, Head] = {}
        self.ending = False
        self.draining = False
        self.requests = 0
        self.clients_gone = 0
        self.now = time.monotonic()
        #: Beyond so many it matters which connection is idle for how long.
        self.crowd = self.max_connections // 2
        self._environ = environ
        #: Connections told to end to make room, that have not ended yet.
        self._leaving = 0

    def environ_for(self, address: Any) -> dict[str, Any]:
        """Make the part of the environ that all requests of one connection share."""
        host, port = address[:2] if isinstance(address, tuple) else ("", "")
        return {**self._environ, "REMOTE_ADDR": host, "REMOTE_PORT": str(port)}

    def remember(self, text: bytes, head: Head) -> None:
        """Keep a head that was found good, for the next time a client sends the same bytes."""
        if len(text) <= _REMEMBERED_SIZE and not head.upgrade:  # those differ every time
            if len(self.known_heads) >= _REMEMBERED_HEADS:
                self.known_heads.clear()
            self.known_heads[text] = head

    # Who is connected

    def find_room(self) -> bool:
        """Make room for one more connection, if need be; False when all of them are at work.

        In a flood everybody else came later than an honest client, so the order alone would throw
        that one out first.
        """
        if len(self.connections) - self._leaving < self.max_connections:
            return True
        now = time.monotonic()
        found: dict[int, Connection] = {}
        for connection in self.connections:  # in the order in which they last became idle
            found.setdefault(connection.rank(now), connection)
            if FIRST_TO_GO in found:
                break
        rank = min(found)
        if rank == INDISPENSABLE:
            return False
        connection = found[rank]
        connection.leaving = True
        self._leaving += 1
        if connection.idle:
            connection.close_idle()
        else:
            connection.expire()
        return True

    def forget(self, connection: Connection) -> None:
        """Count a connection no more: it has ended."""
        self.connections.pop(connection, None)
        self.upgraded.pop(connection, None)
        self._count_as_staying(connection)
        if self.balance is not None:
            self.balance.publish(len(self.connections))

    def _count_as_staying(self, connection: Connection) -> None:
        if connection.leaving:
            connection.leaving = False
            self._leaving -= 1

    def may_upgrade(self) -> bool:
        """Tell whether the application may take another socket."""
        return not self.draining and len(self.upgraded) < self._max_upgraded

    def hand_over(self, connection: Connection, end_input: Callable[[], None]) -> None:
        """Leave a connection to the application: no time-out, no eviction any more."""
        self.connections.pop(connection, None)
        self.upgraded[connection] = end_input
        self._count_as_staying(connection)
        if self.draining:
            end_input()

    def take_back(self, connection: Connection) -> None:
        """Take a connection over that the application is done with: it has a time-out again."""
        self.upgraded.pop(connection, None)
        self.connections[connection] = None


#: Those of all servers of this process.
_all: weakref.WeakSet[ServerState] = weakref.WeakSet()


def open_connections() -> int:
    """Count the connections that this process's servers have open."""
    return sum(len(state.connections) + len(state.upgraded) for state in list(_all))


def raise_file_limit(connections: int) -> tuple[int, int]:
    """Let the process open as many files as `connections` and its methods need, and as many again
    for upgraded connections.

    :returns: how many connections there can be, and how many upgraded ones beside them.
    """
    files = wanted = 2 * connections + FILES_FOR_METHODS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        files = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    if files < connections + FILES_FOR_METHODS:
        connections = max(files // 2, files - FILES_FOR_METHODS)
        logger.warning("the limit of %d open files allows %d connections", files, connections)
    return connections, max(connections // 4, files - connections - FILES_FOR_METHODS)
