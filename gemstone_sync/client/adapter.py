"""Sends requests over kept connections of our own.

requests' adapter spends 250 µs of CPU on a call, most of it in urllib3 and http.client; it bounds
each wait but not the whole answer, and cannot tell whether a request was sent.

Hot path: `ServiceAdapter.send` runs for each call.
"""

from __future__ import annotations

import functools
import time
from typing import Any
from urllib.parse import SplitResult, urlsplit

from ..errors import TransportError
from .connections import MAX_IDLE, Connection, ConnectionPool
from .exchange import exchange
from .hosts import host_field
from .messages import Adapter, HttpReply, HttpRequest

__all__ = ["ServiceAdapter"]


class ServiceAdapter(Adapter):
    """Sends requests over kept connections, with time-outs and sizes that hold.

    Nothing is sent over a connection that the server has closed, or that is idle for 4 s. No proxy
    is used, and the environment is not looked at.

    :param pool_size: idle connections kept for each origin.
    :param max_response_size: bytes of a body at most, decompressed too.
    """

    def __init__(self, *, pool_size: int = 100, max_response_size: int = 20_000_000) -> None:
        self._pool_size = pool_size
        self._max_response_size = max_response_size
        self._pools: dict[tuple[Any, ...], ConnectionPool] = {}
        self._next_close_idle = 0.0

    def send(self, request: HttpRequest) -> HttpReply:
        """Send a request and read its reply.

        :raises ConnectionFailed, ConnectionLost, Timeout, BadResponse: when there is none.
        :raises ValueError: when a header holds what HTTP forbids.
        """
        origin = _split(request.url)
        now = time.monotonic()
        if now >= self._next_close_idle:
            self._close_idle(now)
        pool = self._pool_of(origin, request)
        message = _message_of(request, origin)
        connection = pool.take()
        if connection is not None:
            try:
                return self._exchange(pool, connection, message, request, kept=True)
            except TransportError as error:
                if error.may_have_run:
                    raise
        # There was none, or it went in the moment before sending.
        connection = pool.connect(request.shown, request.seconds_to(request.limits.connect))
        return self._exchange(pool, connection, message, request, kept=False)

    def _exchange(
        self,
        pool: ConnectionPool,
        connection: Connection,
        message: bytes,
        request: HttpRequest,
        *,
        kept: bool,
    ) -> HttpReply:
        try:
            parser = exchange(connection.sock, message, request, self._max_response_size)
        except BaseException:  # a kill in the middle too: its answer must not reach the next call
            connection.close()
            raise
        if parser.keep_alive:
            pool.give_back(connection)
            return parser.reply()
        connection.close()
        return parser.reply()._replace(leaves=kept)

    def _pool_of(self, origin: SplitResult, request: HttpRequest) -> ConnectionPool:
        key = (origin.scheme, origin.netloc, request.verify, request.cert)
        pool = self._pools.get(key)
        if pool is None:
            made = ConnectionPool(
                origin, size=self._pool_size, verify=request.verify, cert=request.cert
            )
            pool = self._pools.setdefault(key, made)
        return pool

    def _close_idle(self, now: float) -> None:
        """Close connections that nobody uses any more: their servers may be gone for good."""
        self._next_close_idle = now + MAX_IDLE
        for key, pool in list(self._pools.items()):
            if pool.sweep(now):
                self._pools.pop(key, None)

    def forget(self, url: str) -> None:
        """Close the connections to a URL that nobody calls any more, used ones later."""
        origin = _split(url)
        for key in [key for key in self._pools if key[:2] == (origin.scheme, origin.netloc)]:
            pool = self._pools.pop(key, None)
            if pool is not None:
                pool.close()

    def close(self) -> None:
        """Close the idle connections. The adapter can be used again."""
        pools, self._pools = self._pools, {}
        for pool in pools.values():
            pool.close()


@functools.lru_cache(maxsize=256)
def _split(url: str) -> SplitResult:
    return urlsplit(url)


@functools.lru_cache(maxsize=256)
def _start_of(origin: SplitResult) -> str:
    target = origin._replace(scheme="", netloc="", fragment="", path=origin.path or "/").geturl()
    return f"POST {target} HTTP/1.1\r\nHost: {host_field(origin)}\r\n"


def _message_of(request: HttpRequest, origin: SplitResult) -> bytes:
    """Write the request as HTTP/1.1 has it, in one piece so that it is sent by one call.

    :raises ValueError: when a header holds what would end it (RFC 9110, section 5.5).
    """
    headers, body = request.headers, request.body
    fields = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if fields.count("\r") != len(headers) or fields.count("\n") != len(headers) or "\0" in fields:
        raise ValueError("a header of the request has a line break in it")
    try:
        head = f"{_start_of(origin)}{fields}Content-Length: {len(body)}\r\n\r\n".encode("latin-1")
    except UnicodeEncodeError:  # its own message and context would show the header
        raise ValueError("a header of the request has characters that HTTP forbids") from None
    return head + body
