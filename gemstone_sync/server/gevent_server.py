"""Listen, accept, end what has no more time, and stop without losing a call."""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
import time
from typing import Any

import gevent
from gevent import monkey
from gevent.pywsgi import LoggingLogAdapter
from gevent.server import StreamServer
from werkzeug.wsgi import FileWrapper

from ..concurrency import keep_from_children
from ..errors import ServiceStartError
from .connection import HttpConnection
from .gate import SOFTWARE
from .prefork import Balance
from .state import ServerSettings, ServerState

__all__ = ["GeventServer", "bind", "tls_context"]

logger = logging.getLogger("gemstone_sync.server")

#: Connections that the kernel accepts for us while the loop is busy; gunicorn's figure.
BACKLOG = 2048
#: Seconds between two looks for connections whose time is over.
SWEEP_SECONDS = 0.25
#: Seconds for which an application may still send on an upgraded socket when it has read the end.
UPGRADED_END_SECONDS = 1.0


def bind(host: str, port: int) -> socket.socket:
    """Bind and listen.

    :param port: 0 for any free one.
    :raises ServiceStartError: in one line, when that cannot be had.
    """
    # The blocking one: gevent's starts a thread, and a process with threads must not fork. Looked
    # up here, because patching rebinds what modules hold.
    getaddrinfo = monkey.get_original("socket", "getaddrinfo")
    with contextlib.ExitStack() as on_failure:
        try:
            infos = getaddrinfo(
                host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            family, kind, protocol, _, address = infos[0]
            listener = on_failure.enter_context(socket.socket(family, kind, protocol))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(BACKLOG)
            listener.setblocking(False)
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise ServiceStartError(f"cannot listen on {host}:{port}: {reason}") from error
        on_failure.pop_all()
    return listener


def tls_context(certfile: str, keyfile: str | None) -> ssl.SSLContext:
    """Make a server's TLS context: 1.2 and up (RFC 8996).

    :raises ServiceStartError: when the files cannot be used.
    """
    context = gevent.ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certfile, keyfile)
    except (OSError, ValueError) as error:
        raise ServiceStartError(f"cannot use {certfile} for TLS: {error}") from error
    return context  # type: ignore[no-any-return]


class GeventServer(StreamServer):  # type: ignore[misc]  # gevent has no types here
    """Serve a WSGI application on a listening socket, a greenlet per connection.

    :param listener: from `bind`.
    :param tls: instead of the settings' certfile and keyfile.
    :param balance: how many connections other processes have that accept from the same socket.
    :raises ServiceStartError: when the TLS files cannot be used.
    :raises ServiceConfigurationError: when a trusted proxy is no address.

    :ivar state: what the connections share.
    """

    def __init__(
        self,
        listener: Any,
        application: Any,
        settings: ServerSettings | None = None,
        *,
        tls: ssl.SSLContext | None = None,
        balance: Balance | None = None,
    ) -> None:
        settings = settings or ServerSettings()
        try:
            if tls is None and settings.certfile:
                tls = tls_context(settings.certfile, settings.keyfile)
            environ = _base_environ(listener.getsockname(), tls)
            self.state = ServerState(application, settings, environ, tls, balance)
        except BaseException:
            listener.close()
            raise
        if tls is not None:
            # Requests delimit themselves; without this OpenSSL 3 answers a client that just goes
            # away, and an idle connection that is closed here, with a fatal alert.
            tls.options |= ssl.OP_IGNORE_UNEXPECTED_EOF
        # gevent's own socket class, also in a process that is not patched.
        super().__init__(gevent.socket.socket(fileno=listener.detach()))
        if balance is not None:
            self.accept_one_by_one()
        self._yielded = False
        self._sweep_timer: Any = None
        keep_from_children(self)

    def accept_one_by_one(self) -> None:
        """Leave work to other processes that accept from the same socket."""
        self.max_accept = 1

    # Connections

    def start(self) -> None:
        """Begin to accept, and to look for connections whose time is over."""
        super().start()
        self._sweep_timer = gevent.get_hub().loop.timer(SWEEP_SECONDS, SWEEP_SECONDS)
        self._sweep_timer.start(self._expire_connections)

    def descriptors(self) -> list[int]:
        """List the sockets: a child that held one open would keep callers waiting for its end."""
        listening = [] if self.closed else [self.socket.fileno()]
        connections = [*self.state.connections, *self.state.upgraded]
        return [*listening, *(connection.socket.fileno() for connection in connections)]

    def _expire_connections(self) -> None:
        now = time.monotonic()
        late = now - self.state.now - SWEEP_SECONDS
        if late > SWEEP_SECONDS:  # something held the hub: what has come meanwhile is unread
            for connection in self.state.connections:
                connection.deadline += late
        self.state.now = now
        for connection in [c for c in self.state.connections if c.deadline <= now]:
            connection.expire()

    def handle(self, sock: Any, address: Any) -> None:
        """Serve an accepted connection; called by gevent in a greenlet of its own."""
        state = self.state
        if not state.find_room():
            text = f"refused a client: all of {state.max_connections} connections are at work"
            state.log_throttle.log(logging.WARNING, "full", text)
            sock.close()
            return
        if state.balance is not None:
            state.balance.publish(len(state.connections) + 1)
        connection = HttpConnection(sock, address, state)
        state.connections[connection] = None
        connection.serve()

    def do_close(self, *args: Any) -> None:
        """Close nothing when `handle` has returned: connections close themselves."""

    def _do_read(self) -> None:
        """Accept what can be; called by gevent."""
        balance = self.state.balance
        if balance is not None and not self._yielded and balance.others_have_fewer():
            # As gevent itself does after an error: look away, and look again a little later.
            self._yielded = True
            self.stop_accepting()
            self._timer = self.loop.timer(balance.PATIENCE)
            self._timer.start(self._start_accepting_if_started)
            return
        self._yielded = False
        super()._do_read()

    # The end

    def drain(self, grace: float, timeout: float, delay: float = 0.0) -> bool:
        """Stop: accept what is queued, close the socket, finish what runs.

        Between the last look at the queue and the closing the kernel may connect somebody whom it
        then resets (some 3 µs); `delay` is there to have nobody come by then.

        :param delay: seconds for which connections are accepted as before.
        :param grace: seconds in which requests that still come on open connections are answered
            (with ``Connection: close``, as during `delay`); idle connections are closed after it.
        :param timeout: seconds for the calls in flight, counted from now.
        :returns: False when calls had to be cut off.
        """
        state = self.state
        state.ending = True
        end = time.monotonic() + timeout
        if delay:
            gevent.sleep(min(delay, timeout))
        if not self.closed:
            self._accept_queued()
        state.draining = True
        self.close()
        gevent.sleep(0)  # what was accepted just now is among the connections then
        self._wait_until(min(time.monotonic() + grace, end))
        for connection in list(state.connections):
            if connection.idle:
                connection.close_idle()
        # Applications read the end of upgraded connections now; then they cannot send any more.
        # For them to end the server waits as for a call.
        for end_input in list(state.upgraded.values()):
            end_input()
        self._wait_until(min(time.monotonic() + UPGRADED_END_SECONDS, end))
        for connection in list(state.upgraded):
            connection.cut_off()
        self._wait_until(end)
        left = [*state.connections, *state.upgraded]
        for connection in left:
            connection.cut_off()
        if self._sweep_timer is not None:
            self._sweep_timer.close()
            self._sweep_timer = None
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
        while (self.state.connections or self.state.upgraded) and time.monotonic() < moment:
            gevent.sleep(0.01)


def _base_environ(address: Any, tls: ssl.SSLContext | None) -> dict[str, Any]:
    """Make the part of the WSGI environ that all requests have."""
    named = isinstance(address, tuple)
    return {
        "SCRIPT_NAME": "",
        "SERVER_NAME": str(address[0]) if named else "localhost",
        "SERVER_PORT": str(address[1]) if named else "0",
        "SERVER_SOFTWARE": SOFTWARE,
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "https" if tls is not None else "http",
        "wsgi.errors": LoggingLogAdapter(logger, logging.ERROR),
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "wsgi.file_wrapper": FileWrapper,
        # Early answers need no draining by the application.
        "gemstone_sync.server": True,
    }
