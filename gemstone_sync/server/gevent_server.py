"""Listening, accepting, time-outs, and ending without losing a call."""

from __future__ import annotations

import ipaddress
import logging
import socket
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gevent
from gevent import monkey
from gevent.pywsgi import WSGIServer
from werkzeug.wsgi import FileWrapper

from ..concurrency import keep_from_children
from ..dispatch import Refusals
from ..errors import ServiceConfigurationError, ServiceStartError
from .balance import Balance
from .connection import FIRST_TO_GO, INDISPENSABLE, HttpConnection
from .files import raise_file_limit
from .gate import SOFTWARE
from .handed import HandedSocket, HandedSockets
from .head import HOST, Head
from .unsent import ANSWERS_UNSENT, Unsent

__all__ = ["GeventServer", "ServerSettings", "Timeouts", "bind", "tls_context"]

logger = logging.getLogger("gemstone_sync.server")

#: Connections that the kernel accepts for us while the loop is busy; gunicorn's figure.
BACKLOG = 2048
#: Seconds between two looks for connections whose time is over.
SWEEP_SECONDS = 0.25
#: How many heads are remembered, and up to what size: a client has one or two of a few 100 bytes.
_REMEMBERED_HEADS = 512
_REMEMBERED_SIZE = 2048


@dataclass(frozen=True)
class Timeouts:
    """Seconds after which a connection that does not get on is ended."""

    head: float = 5.0
    keep_alive: float = 5.0
    body: float = 10.0
    tls_handshake: float = 5.0


@dataclass(frozen=True)
class ServerSettings:
    """See the attributes of the same names on ``MicroService``."""

    max_connections: int = 2000
    header_timeout: float = 5.0
    keep_alive_timeout: float = 5.0
    body_timeout: float = 10.0
    max_response_size: int = 16_000_000
    access_log: bool = False
    trusted_proxies: Sequence[str] = ()
    certfile: str | None = None
    keyfile: str | None = None


def bind(host: str, port: int) -> socket.socket:
    """Bind and listen.

    :param port: 0 for any free one.
    :raises ServiceStartError: in one line, when that cannot be had.
    """
    # The blocking one: gevent's starts a thread, and a process with threads must not fork. Looked
    # up here, because patching rebinds what modules hold.
    getaddrinfo = monkey.get_original("socket", "getaddrinfo")
    try:
        infos = getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = infos[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
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


def _reason(error: OSError | UnicodeError) -> str:
    return getattr(error, "strerror", None) or str(error)


def tls_context(certfile: str, keyfile: str | None) -> ssl.SSLContext:
    """A server's TLS context: 1.2 and up (RFC 8996).

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


class GeventServer(WSGIServer):  # type: ignore[misc]  # gevent has no types here
    """Serves a WSGI application on a listening socket, a greenlet per connection.

    :param listener: from `bind`.
    :param tls: instead of the settings' certfile and keyfile.
    :param shared: other processes accept from the same socket.
    :param balance: what they tell each other, if they do.
    :raises ServiceStartError: when the TLS files cannot be used.
    :raises ServiceConfigurationError: when a trusted proxy is no address.

    :ivar connections: the open ones, the oldest first.
    :ivar handed: those whose socket the application took.
    :ivar requests: how many were served.
    :ivar clients_gone: how many went away before they had their answer.
    :ivar now: ``time.monotonic()`` as of the last sweep.
    """

    def __init__(
        self,
        listener: Any,
        application: Any,
        settings: ServerSettings | None = None,
        *,
        tls: ssl.SSLContext | None = None,
        access_log: bool = False,
        shared: bool = False,
        balance: Balance | None = None,
    ) -> None:
        settings = settings or ServerSettings()
        try:
            if tls is None and settings.certfile:
                tls = tls_context(settings.certfile, settings.keyfile)
            self._trusted = _networks(settings.trusted_proxies)
        except BaseException:
            listener.close()
            raise
        self.tls_context = tls
        if tls is not None:
            # Requests delimit themselves; without this OpenSSL 3 answers a client that just goes
            # away, and an idle connection that is closed here, with a fatal alert.
            tls.options |= ssl.OP_IGNORE_UNEXPECTED_EOF
        # gevent's own socket class, also in a process that is not patched.
        cooperative = gevent.socket.socket(fileno=listener.detach())
        super().__init__(
            cooperative, application, log=None, error_log=logger, handler_class=HttpConnection
        )
        self.timeouts = Timeouts(
            head=settings.header_timeout,
            keep_alive=settings.keep_alive_timeout,
            body=settings.body_timeout,
        )
        self.access_log = access_log or settings.access_log
        if shared:
            # One at a time: a worker that takes all that wait leaves its siblings without work.
            self.max_accept = 1
        #: Connections told to end to make room, that have not ended yet.
        self._leaving = 0
        self._balance = balance
        self._yielded = False
        self.requests = 0
        self.draining = False
        self.connections: dict[HttpConnection, None] = {}
        self.clients_gone = 0
        self.now = time.monotonic()
        self.known_heads: dict[bytes, Head] = {}
        self.refusals = Refusals(logger)
        self.unsent = Unsent(ANSWERS_UNSENT * settings.max_response_size)
        self._max_connections, most_handed = raise_file_limit(settings.max_connections)
        self.handed = HandedSockets(most_handed)
        self._sweep_timer: Any = None
        keep_from_children(self)

    # Requests

    def update_environ(self) -> None:
        """Called by gevent when the address is known."""
        address = self.address
        named = isinstance(address, tuple)
        self.environ.update(
            {
                "SERVER_NAME": str(address[0]) if named else "localhost",
                "SERVER_PORT": str(address[1]) if named else "0",
                "SERVER_SOFTWARE": SOFTWARE,
                "wsgi.version": (1, 0),
                "wsgi.url_scheme": "https" if self.tls_context is not None else "http",
                "wsgi.multithread": True,
                "wsgi.multiprocess": False,
                "wsgi.run_once": False,
                "wsgi.file_wrapper": FileWrapper,
                # Early answers need no draining by the application.
                "gemstone_sync.server": self,
            }
        )
        self.environ.pop("GATEWAY_INTERFACE", None)

    def environ_for(self, address: Any) -> dict[str, Any]:
        """The part of the environ that all requests of one connection share."""
        environ = dict(self.environ)
        environ["REMOTE_ADDR"] = address[0] if isinstance(address, tuple) else ""
        environ["REMOTE_PORT"] = str(address[1]) if isinstance(address, tuple) else ""
        return environ

    def remember(self, text: bytes, head: Head) -> None:
        """Keep a head that was found good, for the next time a client sends the same bytes."""
        if len(text) <= _REMEMBERED_SIZE and not head.upgrade:  # those differ every time
            if len(self.known_heads) >= _REMEMBERED_HEADS:
                self.known_heads.clear()
            self.known_heads[text] = head

    def trust(self, environ: dict[str, Any], forwarded: dict[str, str], address: Any) -> None:
        """Believe X-Forwarded fields that a trusted proxy sent; others never reach the application.

        The client's address is the last one in X-Forwarded-For that is not itself a trusted proxy:
        what stands before it the client may have made up.
        """
        if not self._is_trusted(environ["REMOTE_ADDR"]):
            return
        hops = [hop.strip() for hop in forwarded.get("HTTP_X_FORWARDED_FOR", "").split(",")]
        for hop in reversed(hops):
            if not _is_address(hop):
                break
            environ["REMOTE_ADDR"] = hop
            if not self._is_trusted(hop):
                break
        scheme = forwarded.get("HTTP_X_FORWARDED_PROTO", "").rpartition(",")[2].strip().lower()
        if scheme in ("http", "https"):
            environ["wsgi.url_scheme"] = scheme
        host = forwarded.get("HTTP_X_FORWARDED_HOST", "").rpartition(",")[2].strip()
        if host and HOST.fullmatch(host):
            environ["HTTP_HOST"] = host
        environ.update(forwarded)

    def _is_trusted(self, text: str) -> bool:
        if not self._trusted:
            return False
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            return False
        return any(address in network for network in self._trusted)

    # Connections

    def start(self) -> None:
        super().start()
        self._sweep_timer = gevent.get_hub().loop.timer(SWEEP_SECONDS, SWEEP_SECONDS)
        self._sweep_timer.start(self._sweep)

    def descriptors(self) -> list[int]:
        """List the sockets: a child that held one open would keep callers waiting for its end."""
        listening = [] if self.closed else [self.socket.fileno()]
        return [*listening, *(connection.socket.fileno() for connection in self.connections)]

    def _sweep(self) -> None:
        self.now = now = time.monotonic()
        for connection in [c for c in self.connections if c.deadline <= now]:
            connection.expire()

    def handle(self, connection: Any, address: Any) -> None:
        """Called by gevent in a greenlet of its own for each accepted connection."""
        count = len(self.connections) - self._leaving
        if count >= self._max_connections and not self._make_room():
            text = f"refused a client: all of {self._max_connections} connections are at work"
            self.refusals.tell(logging.WARNING, "full", text)
            connection.close()
            return
        if self._balance is not None:
            self._balance.publish(len(self.connections) + 1)
        super().handle(connection, address)

    def do_close(self, *args: Any) -> None:
        """Called by gevent when `handle` has returned: connections close themselves."""

    def is_crowded(self) -> bool:
        """Whether it begins to matter which connection is idle for how long."""
        return len(self.connections) > self._max_connections // 2

    def _make_room(self) -> bool:
        """Give up the connection that can best be done without.

        In a flood everybody else came later than an honest client, so the order alone would throw
        that one out first.
        """
        now = time.monotonic()
        found: dict[int, HttpConnection] = {}
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

    def forget(self, connection: HttpConnection) -> None:
        """Called when a connection has ended."""
        self.connections.pop(connection, None)
        self.handed.remove(connection)
        if connection.leaving:
            self._leaving -= 1
        if self._balance is not None:
            self._balance.publish(len(self.connections))

    def hand_over(self, connection: HttpConnection, handed: HandedSocket) -> None:
        """Called when the application takes the socket: no time-out, no eviction any more."""
        self.connections.pop(connection, None)
        self.handed.add(connection, handed)
        if self.draining:
            handed.end_input()

    def take_back(self, connection: HttpConnection) -> None:
        """Called when the application is done: what is left to do has its time again."""
        self.handed.remove(connection)
        self.connections[connection] = None

    def _do_read(self) -> None:
        """Called by gevent when a connection can be accepted."""
        if self._balance is not None and not self._yielded and self._balance.others_have_fewer():
            # As gevent itself does after an error: look away, and look again a little later.
            self._yielded = True
            self.stop_accepting()
            self._timer = self.loop.timer(self._balance.PATIENCE)
            self._timer.start(self._start_accepting_if_started)
            return
        self._yielded = False
        super()._do_read()

    # The end

    def drain(self, grace: float, timeout: float) -> bool:
        """Stop: accept what is queued, close the socket, finish what runs.

        :param grace: seconds in which requests that still come on open connections are answered
            (with ``Connection: close``); idle connections are closed after it.
        :param timeout: seconds for the calls in flight, counted from now.
        :returns: False when calls had to be cut off.
        """
        started = time.monotonic()
        if not self.closed:
            self._accept_queued()
        self.draining = True
        self.close()
        self._wait_until(started + min(grace, timeout))
        for connection in list(self.connections):
            if connection.idle:
                connection.close_idle()
        self.handed.end()
        self._wait_until(min(time.monotonic() + self.handed.ENDING, started + timeout))
        for connection in self.handed:
            connection.cut_off()
        self._wait_until(started + timeout)
        left = [*self.connections, *self.handed]
        for connection in left:
            connection.cut_off()
        if self._sweep_timer is not None:
            self._sweep_timer.stop()
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
        while (self.connections or self.handed) and time.monotonic() < moment:
            gevent.sleep(0.01)


def _networks(proxies: Sequence[str]) -> list[Any]:
    try:
        return [ipaddress.ip_network(proxy) for proxy in proxies]
    except ValueError as error:
        raise ServiceConfigurationError(
            f"trusted_proxies holds addresses and networks: {error}"
        ) from error


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
