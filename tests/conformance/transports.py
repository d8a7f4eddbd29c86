"""The ways a case reaches the service: in-process, or a real socket of its own or of gunicorn.

What is expected of the reply is no business of theirs.
"""

import time
from collections.abc import Mapping

from gemstone_sync.testing import HttpReply, ServiceClient
from tests.support.http import Connection, Reply, message

#: A connection that was idle for longer is not used again: below every server's keep-alive limit.
IDLE_LIMIT = 1.0


class InProcess(ServiceClient):
    """No socket: the client of `gemstone_sync.testing`."""

    def send(self, verb: str, path: str, headers: Mapping[str, str], body: bytes) -> HttpReply:
        return self.request(verb, path, body, headers)


class Wire:
    """A real socket, its connection kept for as long as the server says it is."""

    def __init__(self, name: str, port: int) -> None:
        self.name = name
        self.port = port
        self._kept: Connection | None = None
        self._kept_since = 0.0

    def send(self, verb: str, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
        if time.monotonic() - self._kept_since > IDLE_LIMIT:
            self.close()
        connection = self._kept or Connection(self.port)
        self._kept = None
        reply = connection.exchange(message(verb, path, headers, body))
        self._kept, self._kept_since = connection, time.monotonic()
        if reply.closes:
            self.close()
        return reply

    def close(self) -> None:
        if self._kept is not None:
            self._kept.socket.close()
            self._kept = None
