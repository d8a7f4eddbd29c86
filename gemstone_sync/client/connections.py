"""Connections to one origin, kept for the next call.

No lock is held, and none is needed: every operation on the stacks is one step of the interpreter.
So a pool may be made before the process is patched, and used by greenlets and real threads alike.

Hot path: `ConnectionPool.take` and `give_back` run for each call.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import os
import socket
import ssl
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any
from urllib.parse import SplitResult

import certifi
import gevent
from gevent import monkey

from ..concurrency import is_patched
from ..errors import ConnectionFailed
from . import exceptions
from .hosts import host_of

__all__ = ["MAX_IDLE", "MAX_UNUSED", "Connection", "ConnectionPool"]

#: For addresses that are numbers, which it only reads: gevent's own would ask a thread of its pool.
_getaddrinfo: Any = monkey.get_original("socket", "getaddrinfo")

#: Seconds that a connection is kept unused. A service of this framework closes an idle one after 5
#: (``keep_alive_timeout``): a request that crosses that closing on the wire is lost.
MAX_IDLE = 4.0

#: Seconds after which a pool that nobody used is forgotten, with its TLS settings.
MAX_UNUSED = 60.0


class Connection:
    """Holds a connected socket, and since when nobody uses it."""

    __slots__ = ("idle_since", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.idle_since = 0.0

    def close(self) -> None:
        try:
            self.sock.close()
        except ValueError:  # the event loop of its thread is gone, which gevent's close asks first
            self.sock._sock.close()  # type: ignore[attr-defined]

    def is_quiet(self) -> bool:
        """Tell whether it is open, and nothing has arrived that nobody asked for.

        The server's closing of an idle connection is seen here, before anything is sent.
        """
        sock = self.sock
        try:
            sock.settimeout(0)
            if isinstance(sock, ssl.SSLSocket):
                sock.read(1)  # takes in what TLS 1.3 sends by itself, such as session tickets
            else:
                sock.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, ssl.SSLWantReadError):
            return True
        except OSError:
            return False
        return False


class ConnectionPool:
    """Keeps the connections to one scheme, host and port.

    :param origin: the split URL.
    :param size: how many idle ones are kept.
    :param verify: whether certificates are checked, or the path of the authorities' certificates.
    :param cert: the path of the client's certificate with its key, or both paths.
    """

    def __init__(
        self,
        origin: SplitResult,
        *,
        size: int,
        verify: bool | str = True,
        cert: str | tuple[str, str] | None = None,
    ) -> None:
        self._host = host_of(origin)
        self._port = origin.port
        self._is_tls = origin.scheme == "https"
        self._size = size
        self._verify = verify
        self._cert = cert
        self._tls_context: tuple[bool, ssl.SSLContext] | None = None
        self._pid = os.getpid()
        self._last_used = time.monotonic()
        #: Idle connections, the last used at the right; a stack for each event loop.
        self._stacks: dict[Any, deque[Connection]] = {}
        # A client that nobody closes must not leave sockets behind; as urllib3's pools do it.
        self.close = weakref.finalize(self, _close_all, self._stacks)
        self.close.atexit = False

    def take(self) -> Connection | None:
        """Return an idle connection that is as good as new; None when there is none."""
        if self._pid != os.getpid():  # a fork's child: closing its half leaves the parent connected
            self._pid = os.getpid()
            _close_all(self._stacks)
        self._last_used = now = time.monotonic()
        stack = self._stacks.get(_event_loop_key())
        while stack:
            try:
                connection = stack.pop()
            except IndexError:
                break
            if now - connection.idle_since < MAX_IDLE and connection.is_quiet():
                return connection
            connection.close()
        return None

    def give_back(self, connection: Connection) -> None:
        """Keep a connection for the next call."""
        connection.idle_since = time.monotonic()
        loop = _event_loop_key()
        stack = self._stacks.get(loop)
        if stack is None:
            self._forget_those_of_ended_threads()
            stack = self._stacks.setdefault(loop, deque())
        stack.append(connection)
        if not self.close.alive:  # only now: whoever closes meanwhile has seen it or is seen
            _close_all(self._stacks)
            return
        with contextlib.suppress(IndexError):  # another thread may have taken the last one
            if len(stack) > self._size:
                stack.popleft().close()

    def sweep(self, now: float) -> bool:
        """Close what has been idle for too long; tell whether the pool may be forgotten."""
        stack = self._stacks.get(_event_loop_key())
        with contextlib.suppress(IndexError):  # another thread may have taken the last one
            while stack and now - stack[0].idle_since > MAX_IDLE:
                stack.popleft().close()
        return now - self._last_used > MAX_UNUSED

    def connect(self, shown: str, seconds: float) -> Connection:
        """Return a new connection.

        :param shown: the URL, for messages.
        :param seconds: for everything: finding the address, connecting, the TLS handshake.
        :raises ConnectionFailed: when there is none to be had.
        """
        try:
            if not is_patched():
                return Connection(self._connected(seconds))
            # gevent's sockets bound each wait of a handshake, and the resolver has no limit.
            with gevent.Timeout(seconds, TimeoutError):
                return Connection(self._connected(seconds))
        except (OSError, ValueError) as error:  # UnicodeError too: a host that is no name
            raise exceptions.of_connecting(error, shown, seconds) from error

    def _connected(self, seconds: float) -> socket.socket:
        deadline = time.monotonic() + seconds
        context = self._context() if self._is_tls else None
        sock = _connected_socket(self._host, self._port or (443 if self._is_tls else 80), deadline)
        try:
            # A request is one write; without this a large one's end waits for the other side.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if context is not None:
                # Detaches the socket it is given; of an IP address OpenSSL sends no SNI.
                name = self._host.partition("%")[0].rstrip(".")
                sock = context.wrap_socket(
                    sock, server_hostname=name, do_handshake_on_connect=False
                )
                sock.settimeout(_seconds_left(deadline))
                sock.do_handshake()
        except BaseException:
            sock.close()
            raise
        return sock

    def _context(self) -> ssl.SSLContext:
        """Return the TLS settings, read once: loading the authorities takes about 10 ms."""
        patched = is_patched()
        if self._tls_context is None or self._tls_context[0] is not patched:
            self._tls_context = (patched, self._new_context())
        return self._tls_context[1]

    def _new_context(self) -> ssl.SSLContext:
        try:
            if isinstance(self._verify, str) and os.path.isdir(self._verify):
                context = ssl.create_default_context(capath=self._verify)
            else:
                own = self._verify if isinstance(self._verify, str) else certifi.where()
                context = ssl.create_default_context(cafile=own)
            if self._cert is not None:
                paths = (self._cert,) if isinstance(self._cert, str) else self._cert
                context.load_cert_chain(*paths)
        except OSError as error:
            raise ConnectionFailed(f"the certificates cannot be read: {error}") from error
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.hostname_checks_common_name = False  # RFC 9525, section 2: names stand in the SAN
        context.set_alpn_protocols(["http/1.1"])
        if self._verify is False:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    def _forget_those_of_ended_threads(self) -> None:
        for loop in list(self._stacks):
            if loop is not None and loop.loop is None:  # gevent has destroyed it
                _close_all({loop: self._stacks.pop(loop, deque())})


def _event_loop_key() -> Any:
    """Return what shares sockets: None for all threads of a plain process, else a thread's hub.

    A patched socket belongs to the event loop of the thread that made it. Not the thread's own
    identity: that is given to another thread once it has ended, and takes 15 times as long to get.
    """
    return gevent.get_hub() if is_patched() else None


def _connected_socket(host: str, port: int, deadline: float) -> socket.socket:
    """Return a TCP connection to the first address of the host that takes one.

    Not ``socket.create_connection``: that has the whole time again for each address.
    """
    last: OSError = OSError("the host has no address")
    for family, kind, protocol, _, address in _addresses(host, port, deadline):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(_seconds_left(deadline))
            sock.connect(address)
        except BaseException as error:
            sock.close()
            if not isinstance(error, OSError) or isinstance(error, TimeoutError):
                raise
            last = error
        else:
            return sock
    raise last


def _addresses(host: str, port: int, deadline: float) -> list[Any]:
    """Return what ``socket.getaddrinfo`` does for a host and port.

    :raises LookUpTimeout: when nothing is known in time.
    """
    wanted = (host, port, 0, socket.SOCK_STREAM, 0)
    with contextlib.suppress(socket.gaierror):  # it is a name
        return list(_getaddrinfo(*wanted, socket.AI_NUMERICHOST))
    try:
        if is_patched():
            return socket.getaddrinfo(*wanted)
        return _in_time(functools.partial(socket.getaddrinfo, *wanted), _seconds_left(deadline))
    except TimeoutError:
        raise exceptions.LookUpTimeout from None


def _in_time(work: Callable[[], list[Any]], seconds: float) -> list[Any]:
    """Return what `work` does, in a thread of its own.

    Nothing cuts off the system's resolver, not even Ctrl-C, and its own limits are 5 s for each
    server and attempt (resolv.conf(5)): a thread that takes too long is left behind, and ends with
    the process.

    :raises TimeoutError: when that takes longer.
    """
    found: concurrent.futures.Future[list[Any]] = concurrent.futures.Future()

    def run() -> None:
        try:
            found.set_result(work())
        except Exception as error:
            found.set_exception(error)

    threading.Thread(target=run, name="look-up of a host", daemon=True).start()
    try:
        return found.result(seconds)
    except concurrent.futures.TimeoutError:  # TimeoutError itself from Python 3.11 on
        raise TimeoutError from None


def _seconds_left(deadline: float) -> float:
    """Return the seconds until a deadline.

    :raises TimeoutError: when nothing is left.
    """
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _close_all(stacks: dict[Any, deque[Connection]]) -> None:
    for stack in list(stacks.values()):
        while stack:
            with contextlib.suppress(IndexError):
                stack.pop().close()
