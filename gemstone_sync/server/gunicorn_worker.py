"""``gunicorn -k gemstone_sync.server.GunicornWorker``: gunicorn's processes, our server in them.

gunicorn's own gevent worker spends 124 µs of CPU on parsing and bookkeeping of a request, and
bounds connections instead of calls.
"""

from __future__ import annotations

import logging
import signal
from typing import Any

import gevent
from gevent.event import Event
from gunicorn.sock import ssl_context
from gunicorn.workers.ggevent import GeventWorker

from ..concurrency import end_children, patch
from ..errors import ServiceConfigurationError, ServiceStartError
from .gevent_server import GeventServer, ServerSettings
from .gunicorn import cannot_boot, finish_calls

__all__ = ["GunicornWorker"]


class GunicornWorker(GeventWorker):  # type: ignore[misc]  # gunicorn has no types
    """A gunicorn worker that serves with the framework's own HTTP server.

    The application is a service, its class, or any WSGI callable. A service, also one that is
    wrapped, brings its own limits and time-outs; gunicorn's ``timeout``, ``graceful_timeout``,
    ``max_requests``, ``accesslog``, ``certfile`` and ``keyfile`` apply.
    """

    alive: bool
    #: Those of the service that is served.
    settings = ServerSettings()

    def patch(self) -> None:
        self._stopping = Event()
        # gunicorn's own comes later; until then the master's would swallow the signal.
        signal.signal(signal.SIGTERM, self.handle_exit)
        patch()  # with the mending of what gunicorn has imported
        super().patch()

    def run(self) -> None:
        """Serve until gunicorn says stop, then drain."""
        finish_calls(self)
        tls = ssl_context(self.cfg) if self.cfg.is_ssl else None
        try:
            servers = [self._serve(sock, tls) for sock in self.sockets]
        except (ServiceConfigurationError, ServiceStartError) as error:
            raise cannot_boot(str(error)) from None
        while self.alive:
            self.notify()
            self._stopping.wait(1.0)
            if sum(server.requests for server in servers) >= self.max_requests:
                self.log.info("Autorestarting worker after %s requests.", self.max_requests)
                self.alive = False
        # Then the master kills: a moment before is needed for stop hooks and children.
        seconds = max(self.cfg.graceful_timeout / 2, self.cfg.graceful_timeout - 1.0)
        drains = [gevent.spawn(server.drain, min(1.0, seconds), seconds) for server in servers]
        while any(not drain.ready() for drain in drains):
            self.notify()
            gevent.joinall(drains, timeout=1.0)
        end_children(daemons=True)

    def _serve(self, sock: Any, tls: Any) -> GeventServer:
        if self.cfg.accesslog:
            logger = logging.getLogger("gemstone_sync.access")
            logger.handlers = self.log.access_log.handlers
            logger.setLevel(logging.INFO)
            logger.propagate = False
        server = GeventServer(
            sock,
            self.wsgi,
            self.settings,
            tls=tls,
            access_log=bool(self.cfg.accesslog),
            shared=True,
        )
        server.start()
        return server

    def handle_exit(self, sig: Any, frame: Any) -> None:
        super().handle_exit(sig, frame)
        self._stopping.set()
