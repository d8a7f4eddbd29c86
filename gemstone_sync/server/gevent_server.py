"""Listening, accepting, and ending without losing a call."""

from __future__ import annotations

import contextlib
import logging
import socket
import time
from typing import Any

import gevent
from gevent.pywsgi import WSGIServer

from ..errors import ServiceStartError
from .http import HttpHandler

__all__ = ["GeventServer", "bind"]

logger = logging.getLogger("gemstone_sync.server")

#: Connections that the kernel accepts for us while the loop is busy; gunicorn's figure.
BACKLOG = 2048


def bind(host: str, port: int) -> socket.socket:
    """Bind and listen.

    :param port: 0 for any free one.
    :raises ServiceStartError: in one line, when that cannot be had.
    """
    try:
        infos = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, kind, protocol, _, address = infos[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ServiceStartError(f"cannot listen on {host}:{port}: {_reason(error)}") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise ServiceStartError(f"cannot listen on {host}:{port}: {_reason(error)}") from error
    return listener


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


class GeventServer(WSGIServer):  # type: ignore[misc]  # gevent has no types here
    """Serves a WSGI application on a listening socket, a greenlet per connection.

    :param listener: from `bind`.
    :param max_connections: beyond it the connection that is idle for longest is closed; when none
        is idle, the new one.
    """

    def __init__(self, listener: Any, application: Any, *, max_connections: int = 2000) -> None:
        # gevent's own socket class, also in a process that is not patched.
        cooperative = gevent.socket.socket(fileno=listener.detach())
        super().__init__(
            cooperative,
            application,
            log=None,
            error_log=None,
            handler_class=HttpHandler,
        )
        self.logger = logger
        self.draining = False
        #: Open connections, the oldest first.
        self.connections: dict[HttpHandler, None] = {}
        self._max_connections = max_connections

    def handle(self, connection: Any, address: Any) -> None:
        if len(self.connections) >= self._max_connections and not self._make_room():
            connection.close()
            return
        super().handle(connection, address)

    def _make_room(self) -> bool:
        for handler in self.connections:
            if handler.idle:
                del self.connections[handler]
                handler.close_idle()
                return True
        return False

    def update_environ(self) -> None:
        # pywsgi asks the DNS for the machine's name here, which can take seconds.
        address = self.address
        self.environ.setdefault("SERVER_NAME", str(address[0]))
        self.environ.setdefault("SERVER_PORT", str(address[1]))
        self.environ["wsgi.multithread"] = True
        self.environ["SERVER_SOFTWARE"] = "gemstone_sync"

    def drain(self, grace: float, timeout: float) -> bool:
        """Stop: accept what is queued, close the socket, finish what runs.

        :param grace: seconds in which requests that still come on open connections are answered
            (with ``Connection: close``); idle connections are closed after it.
        :param timeout: seconds for the calls in flight, counted from now.
        :returns: False when calls had to be cut off.
        """
        started = time.monotonic()
        self._accept_queued()
        self.draining = True
        self.close()
        self._wait_until(started + min(grace, timeout))
        for handler in list(self.connections):
            if handler.idle:
                handler.close_idle()
        self._wait_until(started + timeout)
        left = list(self.connections)
        for handler in left:
            with contextlib.suppress(OSError, AttributeError):
                handler.socket.shutdown(socket.SHUT_RDWR)
        return not left

    def _accept_queued(self) -> None:
        """Take the connections that the kernel has accepted: closing would reset them."""
        self.stop_accepting()
        while True:
            try:
                arguments = self.do_read()
            except OSError:
                return
            if not arguments:
                return
            self.do_handle(*arguments)

    def _wait_until(self, moment: float) -> None:
        # Polled: 100 times a second, only while stopping.
        while self.connections and time.monotonic() < moment:
            gevent.sleep(0.01)
