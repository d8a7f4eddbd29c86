"""The requests transport adapter that calls go through: prepared request in, response out.

The seam between the client and the network is requests' own: ``send(request, …)`` and ``close()``.
So any adapter made for requests can stand in for this one, and this one for any.

requests' own adapter spends 250 µs of CPU on a call, most of it in urllib3 and http.client; it
bounds each wait but not the whole answer, and cannot tell whether a request was sent. This one
keeps requests' types and does the rest itself.

Hot path: `ServiceAdapter.send` runs for each call.
"""

from __future__ import annotations

import datetime
import functools
import http
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import SplitResult, urlsplit

import requests
import urllib3
from requests.adapters import BaseAdapter
from requests.cookies import RequestsCookieJar
from requests.hooks import dispatch_hook
from requests.structures import CaseInsensitiveDict

from ..errors import TransportError
from .connections import MAX_IDLE, ConnectionPool
from .exchange import HttpResponse, exchange
from .hosts import host_field

__all__ = ["BaseAdapter", "RpcPost", "ServiceAdapter", "fields_of", "response_of"]

#: When a caller gives none: no wait is endless.
_CONNECT, _READ, _TOTAL = 1.0, 10.0, 15.0


class ServiceAdapter(BaseAdapter):
    """Sends requests over kept connections, with time-outs and sizes that hold.

    :param pool_size: idle connections kept for each origin.
    :param max_response_size: bytes of a body at most, decompressed too.

    Beside what requests' own adapter does:

    - ``timeout=urllib3.Timeout(total=…)`` bounds everything from connecting to the last byte;
    - nothing is sent over a connection that the server has closed, or that is idle for 4 s;
    - no proxy is used, and the environment is not looked at.

    :raises ConnectionFailed, ConnectionLost, Timeout, BadResponse: from `send`.
    """

    def __init__(self, *, pool_size: int = 100, max_response_size: int = 20_000_000) -> None:
        super().__init__()
        self._pool_size = pool_size
        self._max_response_size = max_response_size
        self._pools: dict[tuple[Any, ...], ConnectionPool] = {}
        self._next_sweep = 0.0

    def send(  # type: ignore[override]  # requests names the types less exactly
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: bool | str = True,
        cert: str | tuple[str, str] | None = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        url = request.url or ""
        origin = _split(url)
        now = time.monotonic()
        if now >= self._next_sweep:
            self._sweep(now)
        pool = self._pool_of(origin, verify, cert)
        connect, read, total = _seconds(timeout)
        deadline = now + total
        message = _message_of(request, origin)
        connection = pool.take()
        if connection is not None:
            try:
                response = self._exchange(connection, message, read, deadline, url)
            except TransportError as error:
                if error.may_have_run:
                    raise
                connection = None  # it went in the moment before sending: a new one it is
        if connection is None:
            left = deadline - time.monotonic()
            connection = pool.connect(url, max(0.001, min(connect, left)))
            response = self._exchange(connection, message, read, deadline, url)
        if response.keep_alive:
            pool.give_back(connection)
        else:
            connection.close()
        made = _HttpReply(request, response, self)
        if request.hooks.get("response"):  # an AuthBase that answers challenges
            options = {"timeout": timeout, "verify": verify, "cert": cert, "proxies": proxies}
            hooked: requests.Response = dispatch_hook(  # type: ignore[no-untyped-call]
                "response", request.hooks, made, stream=stream, **options
            )
            return hooked
        return made

    def _exchange(
        self, connection: Any, message: bytes, read: float, deadline: float, url: str
    ) -> HttpResponse:
        try:
            return exchange(
                connection.sock,
                message,
                seconds=read,
                deadline=deadline,
                max_size=self._max_response_size,
                url=url,
            )
        except BaseException:  # a kill in the middle too: its answer must not reach the next call
            connection.close()
            raise

    def _pool_of(
        self, origin: SplitResult, verify: bool | str, cert: str | tuple[str, str] | None
    ) -> ConnectionPool:
        key = (origin.scheme, origin.netloc, verify, cert)
        pool = self._pools.get(key)
        if pool is None:
            made = ConnectionPool(origin, size=self._pool_size, verify=verify, cert=cert)
            pool = self._pools.setdefault(key, made)
        return pool

    def _sweep(self, now: float) -> None:
        """Close connections that nobody uses any more: their servers may be gone for good."""
        self._next_sweep = now + MAX_IDLE
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


class _HttpReply(requests.Response):
    """A response that makes only what is looked at: requests' own constructor takes 10 µs."""

    elapsed = datetime.timedelta()  # nobody measures it

    def __init__(
        self,
        request: requests.PreparedRequest,
        response: HttpResponse,
        adapter: BaseAdapter,
    ) -> None:
        self._http = response
        self._content = response.body
        self._content_consumed = True
        self._next = None
        self.status_code = response.status
        self.raw = None
        self.url = request.url or ""
        self.encoding = "utf-8"
        self.history = []
        self.request = request
        self.connection = adapter  # type: ignore[assignment]

    @functools.cached_property
    def headers(self) -> CaseInsensitiveDict[str]:  # type: ignore[override]
        found: CaseInsensitiveDict[str] = CaseInsensitiveDict()
        for raw_name, raw_value in self._http.fields:
            name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
            found[name] = f"{found[name]}, {value}" if name in found else value
        return found

    @functools.cached_property
    def cookies(self) -> RequestsCookieJar:  # type: ignore[override]
        return RequestsCookieJar()

    @functools.cached_property
    def reason(self) -> str:  # type: ignore[override]
        try:
            return http.HTTPStatus(self.status_code).phrase
        except ValueError:
            return ""


class RpcPost(requests.PreparedRequest):
    """A POST whose headers are mostly those of all others: requests' own would take 25 µs.

    :param url: prepared.
    :param common: the headers that all requests have.
    :param common_fields: `fields_of` them.
    :param own: the headers that only this one has.
    """

    def __init__(
        self,
        url: str,
        common: CaseInsensitiveDict[str],
        common_fields: str,
        own: dict[str, str],
        body: bytes,
    ) -> None:
        self.method = "POST"
        self.url = url
        self.body = body
        self.hooks = {"response": []}
        self._cookies = None
        self._body_position = None
        self._common = common
        self._common_fields = common_fields
        own["Content-Length"] = str(len(body))
        self._own = own

    @functools.cached_property
    def headers(self) -> CaseInsensitiveDict[str]:  # type: ignore[override]
        """As requests has them; what is changed in them is sent."""
        headers = CaseInsensitiveDict(self._common)
        headers.update(self._own)
        return headers

    @property
    def fields(self) -> str | None:
        """The header fields as text; None once somebody has looked at `headers`."""
        if "headers" in self.__dict__:
            return None
        return self._common_fields + fields_of(self._own)


def fields_of(headers: Mapping[str, str]) -> str:
    """Header fields as HTTP/1.1 has them.

    :raises ValueError: when one holds what would end it (RFC 9110, section 5.5).
    """
    text = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if text.count("\r") != len(headers) or text.count("\n") != len(headers) or "\0" in text:
        raise ValueError("a header of the request has a line break in it")
    return text


def response_of(
    request: requests.PreparedRequest, status: int, headers: Mapping[str, str], body: bytes
) -> requests.Response:
    """A response for adapters that have no network behind them."""
    response = requests.Response()
    response.status_code = status
    response.headers.update(headers)
    response.url = request.url or ""
    response.request = request
    response._content = body
    response._content_consumed = True  # type: ignore[attr-defined]
    return response


# The request as bytes


@functools.lru_cache(maxsize=256)
def _split(url: str) -> SplitResult:
    return urlsplit(url)


@functools.lru_cache(maxsize=256)
def _start_of(method: str, origin: SplitResult) -> str:
    target = origin._replace(scheme="", netloc="", fragment="", path=origin.path or "/").geturl()
    return f"{method} {target} HTTP/1.1\r\nHost: {host_field(origin)}\r\n"


def _message_of(request: requests.PreparedRequest, origin: SplitResult) -> bytes:
    """The request as HTTP/1.1 has it, in one piece so that it is sent by one call.

    :raises ValueError: when a header holds what it cannot.
    """
    body = request.body or b""
    if isinstance(body, str):
        body = body.encode()
    fields = request.fields if isinstance(request, RpcPost) else None
    if fields is None:
        fields = fields_of(request.headers)
        if "Content-Length" not in request.headers:
            fields += f"Content-Length: {len(body)}\r\n"
    start = _start_of(request.method or "POST", origin)
    try:
        return f"{start}{fields}\r\n".encode("latin-1") + body
    except UnicodeEncodeError:  # its own message and context would show the header
        raise ValueError("a header of the request has characters that HTTP forbids") from None


def _seconds(timeout: Any) -> tuple[float, float, float]:
    """What requests takes for a timeout, as connect, read and total."""
    if isinstance(timeout, urllib3.Timeout):
        total = timeout.total
        connect, read = timeout._connect, timeout._read
    elif isinstance(timeout, tuple):
        (connect, read), total = timeout, None
    else:
        connect = read = timeout
        total = None
    return _number(connect, _CONNECT), _number(read, _READ), _number(total, _TOTAL)


def _number(value: Any, default: float) -> float:
    return value if isinstance(value, (int, float)) else default
