"""requests, behind our own types. The one file that knows it, and urllib3 below it.

A session of the user's carries calls in place of our own connections. An ``AuthBase`` sees each
request, whatever carries it.
"""

from __future__ import annotations

import functools
import ssl
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, NoReturn

import requests
import urllib3
from requests.auth import AuthBase
from requests.hooks import dispatch_hook
from requests.structures import CaseInsensitiveDict

from ..broker_urls import without_passwords
from ..errors import (
    BadResponse,
    ConnectionFailed,
    ConnectionLost,
    ConnectTimeout,
    Timeout,
    TransportError,
)
from . import exceptions
from .messages import Adapter, HttpReply, HttpRequest

__all__ = ["AuthBase", "AuthBaseAdapter", "Session", "SessionAdapter", "prepared_url"]

Session = requests.Session

_LENGTH = "content-length"
_PIECE = 64 * 1024


def prepared_url(url: str) -> str:
    """Return a URL as it is sent: its host in ASCII, its path quoted.

    :raises ValueError: when it is none. requests is stricter about hosts than ``urlsplit``.
    """
    request = requests.PreparedRequest()
    request.prepare_url(url, None)
    return str(request.url)


class SessionAdapter(Adapter):
    """Carries calls through a session, as it is: its headers count, and it stays open.

    :param authentication: in place of the session's.
    """

    def __init__(self, session: Session, authentication: Any = None) -> None:
        if not isinstance(session, Session):
            raise TypeError(f"session is a requests.Session, not a {type(session).__name__}")
        self._session = session
        self._authentication = authentication

    def send(self, request: HttpRequest) -> HttpReply:
        limits, own = request.limits, self._session.headers
        try:
            response = self._session.request(
                "POST",
                request.url,
                data=request.body,
                headers={name: text for name, text in request.headers.items() if name not in own},
                auth=self._authentication,
                timeout=(request.seconds_to(limits.connect), request.seconds_to(limits.read)),
                allow_redirects=False,
                stream=True,
            )
            return _reply_of(response, request)
        except _FOREIGN as error:
            resent = _may_resend(self._session, request.url)
            _raise_ours(error, request.shown, may_be_resent=resent)


class AuthBaseAdapter(Adapter):
    """Shows each request to an ``AuthBase``, and its reply if it asks for that (a challenge)."""

    def __init__(self, adapter: Adapter, authentication: AuthBase) -> None:
        self._adapter = adapter
        self._authentication = authentication

    def send(self, request: HttpRequest) -> HttpReply:
        prepared: Any = requests.PreparedRequest()  # prepare() would take 60 µs
        prepared.method, prepared.url, prepared.body = "POST", request.url, request.body
        prepared.headers = CaseInsensitiveDict(request.headers)
        prepared.prepare_content_length(request.body)
        prepared.prepare_auth(self._authentication)
        response = self._sent(request, prepared)
        try:
            response = dispatch_hook("response", prepared.hooks, response)  # type: ignore[no-untyped-call]
            return _reply_of(response, request)
        except _FOREIGN as error:
            _raise_ours(error, request.shown)

    def _sent(self, request: HttpRequest, prepared: Any, **_: Any) -> Any:
        """Send a request as an ``AuthBase`` has left it, and return the response for its hooks."""
        body = prepared.body or b""
        reply = self._adapter.send(
            request._replace(
                url=prepared.url,
                headers={k: v for k, v in prepared.headers.items() if k.lower() != _LENGTH},
                body=body.encode() if isinstance(body, str) else body,
            )
        )
        response: Any = requests.Response()
        response.status_code, response.url, response.request = reply.status, prepared.url, prepared
        response.headers.update(reply.headers)
        response._content, response._content_consumed = reply.body, True
        # Through this an answer to a challenge is sent.
        response.connection = SimpleNamespace(send=functools.partial(self._sent, request))
        return response

    def forget(self, url: str) -> None:
        self._adapter.forget(url)

    def close(self) -> None:
        self._adapter.close()


def _reply_of(response: requests.Response, request: HttpRequest) -> HttpReply:
    if response.raw is None:  # from where there is no network
        body = response.content or b""
    else:
        with response:
            body = b"".join(_pieces_of(response, request))
    return HttpReply(request.shown, response.status_code, response.headers, body)


def _pieces_of(response: requests.Response, request: HttpRequest) -> Iterator[bytes]:
    """Read a body within limits that its sender does not know."""
    left = request.limits.max_response_size
    for piece in _arriving(response, request):
        left -= len(piece)
        if left < 0:
            raise BadResponse(
                f"{request.shown}: the answer is larger than {request.limits.max_response_size} "
                "bytes",
                status=response.status_code,
            )
        if time.monotonic() > request.deadline:
            raise Timeout(f"{request.shown}: no complete answer in time")
        yield piece


def _arriving(response: requests.Response, request: HttpRequest) -> Iterator[bytes]:
    """Read what has arrived: `iter_content` waits for a whole piece, however slowly it comes."""
    raw: Any = response.raw
    is_read: Any = response._content_consumed  # type: ignore[attr-defined]
    if is_read or not (isinstance(raw, urllib3.HTTPResponse) and hasattr(raw, "read1")):
        yield from response.iter_content(_PIECE)
        return
    while True:
        if (sock := getattr(raw.connection, "sock", None)) is not None:
            sock.settimeout(request.seconds_to(request.limits.read))
        if not (piece := raw.read1(_PIECE, decode_content=True)):
            return
        yield piece


# What requests and urllib3 raise

_FOREIGN = (OSError, urllib3.exceptions.HTTPError)  # requests' own are OSErrors
#: Of TLS only this is surely before sending: requests has one class for all its errors.
_NEVER_SENT = (
    urllib3.exceptions.NewConnectionError,
    ssl.SSLCertVerificationError,
)
_LATE = (requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError)
_WRAPPERS = (
    requests.ConnectionError,
    urllib3.exceptions.MaxRetryError,
    urllib3.exceptions.ProtocolError,
    urllib3.exceptions.ProxyError,  # also of what broke after sending
    urllib3.exceptions.SSLError,
    requests.exceptions.RetryError,
)


def _may_resend(session: Session, url: str) -> bool:
    """Tell whether urllib3 may send a call again by itself: its last error is not the first's then.

    A `Retry` does so where it allows POST, and after errors of TLS and of proxies, whatever it
    allows. Attempts that it repeats before sending do no harm.
    """
    try:
        adapter: Any = session.get_adapter(url)
    except requests.exceptions.InvalidSchema:
        return False
    retry = getattr(adapter, "max_retries", None)
    if not isinstance(retry, urllib3.Retry) or not _is_left(retry.total):
        return False
    allows_post = not retry.allowed_methods or "POST" in retry.allowed_methods
    if allows_post and (_is_left(retry.read) or _is_left(retry.status)):
        return True
    return (url.startswith("https:") or bool(adapter.proxy_manager)) and _is_left(retry.other)


def _is_left(count: int | bool | None) -> bool:
    return count is None or count > 0


def _raise_ours(error: Exception, shown: str, *, may_be_resent: bool = False) -> NoReturn:
    """Raise the exception of our own for one of `_FOREIGN`.

    :raises ValueError: when it was never sent, for a header or a scheme that requests refuses.
    """
    response = getattr(error, "response", None)
    if response is not None:  # of a hook that calls raise_for_status: nobody else closes it
        response.close()
    if isinstance(error, ValueError):  # its message shows the header, or the URL as it is
        raise ValueError(f"{shown}: requests does not send this: {type(error).__name__}") from None
    ours, cause = _translated(error, shown), _root_cause(error)
    if may_be_resent and isinstance(ours, ConnectionFailed):
        kind = Timeout if isinstance(ours, ConnectTimeout) else ConnectionLost
        ours = kind(f"{ours}, after repetitions by its session's adapter, which may have sent it")
    # The outer ones, in a traceback too, show the URL as it is.
    raise ours from (cause if without_passwords(str(cause)) == str(cause) else None)


def _translated(error: Exception, shown: str) -> TransportError:
    cause = _root_cause(error)
    if isinstance(error, requests.ConnectTimeout):
        return ConnectTimeout(f"{shown}: no connection in time")
    if isinstance(cause, _NEVER_SENT):
        return ConnectionFailed(f"{shown}: {exceptions.reason(cause.__cause__ or cause)}")
    if isinstance(error, _LATE) or isinstance(cause, _LATE):
        return Timeout(f"{shown}: no answer in time")
    of_requests = (requests.RequestException, urllib3.exceptions.HTTPError)
    if isinstance(error, requests.ConnectionError) or not isinstance(error, of_requests):
        reason = exceptions.reason(cause)
        return ConnectionLost(f"{shown}: the connection broke before the answer: {reason}")
    status = getattr(getattr(error, "response", None), "status_code", None)
    return BadResponse(f"{shown}: {exceptions.reason(cause)}", status=status)


def _root_cause(error: BaseException) -> BaseException:
    """Return what requests and urllib3 hide in their own exceptions."""
    while isinstance(error, _WRAPPERS):
        hidden = [getattr(error, "reason", None), *reversed(error.args)]
        inner = next((one for one in hidden if isinstance(one, BaseException)), None)
        if inner is None:
            break
        error = inner
    return error
