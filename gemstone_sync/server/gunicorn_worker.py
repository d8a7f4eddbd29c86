"""Serve in gunicorn's processes: ``gunicorn -k gemstone_sync.server.GunicornWorker``.

gunicorn's own gevent worker spends 124 µs of CPU on parsing and bookkeeping of a request, and
bounds connections instead of calls.
"""

from __future__ import annotations

import dataclasses
import signal
from typing import Any

import gevent
from gevent.event import Event
from gunicorn.sock import ssl_context
from gunicorn.workers.ggevent import GeventWorker

from ..concurrency import end_children, patch
from ..errors import ServiceConfigurationError, ServiceStartError
from . import access_log
from .gevent_server import GeventServer
from .gunicorn import cannot_boot, finish_calls, master_leaves
from .state import ServerSettings

__all__ = ["GunicornWorker"]

#: Settings of gunicorn that are for each request, and for its own workers only.
_PER_REQUEST = ("access_log_format", "post_request", "pre_request", "statsd_host")


class GunicornWorker(GeventWorker):  # type: ignore[misc]  # gunicorn has no types
    """Serve with the framework's own HTTP server, as a worker of gunicorn.

    The application is a service, its class, or any WSGI callable. A service, also one that is
    wrapped, brings its own limits and time-outs; gunicorn's ``timeout``, ``graceful_timeout``,
    ``max_requests``, ``accesslog``, ``certfile`` and ``keyfile`` apply.
    """

    alive: bool
    #: Those of the service that is served.
    settings = ServerSettings()

    def say_leaving(self) -> None:
        """Have the services tell that they are about to stop, in all of gunicorn's workers."""

    def patch(self) -> None:
        self._stopping = Event()
        # gunicorn's own comes later; until then the master's would swallow the signal.
        signal.signal(signal.SIGTERM, self.handle_exit)
        patch()  # with the mending of what gunicorn has imported
        super().patch()

    def run(self) -> None:
        """Serve until gunicorn says stop, then drain."""
        finish_calls(self)
        self._tell_what_is_left()
        tls = ssl_context(self.cfg) if self.cfg.is_ssl else None
        try:
            servers = [self._serve(sock, tls) for sock in self.sockets]
        except (ServiceConfigurationError, ServiceStartError) as error:
            raise cannot_boot(str(error)) from None
        while self.alive:
            self.notify()
            self._stopping.wait(1.0)
            if sum(server.state.requests for server in servers) >= self.max_requests:
                self.log.info("Autorestarting worker after %s requests.", self.max_requests)
                self.alive = False
        # Then the master kills: a moment before is needed for stop hooks and children.
        seconds = max(self.cfg.graceful_timeout / 2, self.cfg.graceful_timeout - 1.0)
        delay = 0.0
        if master_leaves(self, [server.socket for server in servers]):
            delay = min(self.settings.drain_delay, seconds / 2)
            gevent.spawn(self.say_leaving)
        grace = self.settings.drain_grace
        drains = [gevent.spawn(server.drain, grace, seconds, delay) for server in servers]
        while any(not drain.ready() for drain in drains):
            self.notify()
            gevent.joinall(drains, timeout=1.0)
        end_children(daemons=True)

    def _tell_what_is_left(self) -> None:
        """Warn, once, of what gunicorn's own workers would do for each request."""
        known = self.cfg.settings
        left = [name for name in _PER_REQUEST if known[name].get() != known[name].default]
        if left and self.age == 1:
            self.log.warning(
                "not done for requests by %s: %s", type(self).__name__, ", ".join(left)
            )

    def _serve(self, sock: Any, tls: Any) -> GeventServer:
        settings = self.settings
        if (own := self.log.access_log).hasHandlers():  # by accesslog, logconfig, syslog, ...
            settings = dataclasses.replace(settings, access_log=True)
            access_log.logger = own  # with its filters, too
        server = GeventServer(sock, self.wsgi, settings, tls=tls)
        server.accept_one_by_one()
        server.start()
        return server

    def handle_exit(self, sig: Any, frame: Any) -> None:
        super().handle_exit(sig, frame)
        self._stopping.set()
