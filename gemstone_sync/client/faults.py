"""Foreign exceptions -> the tree in `gemstone_sync.errors`. The one place where that happens.

Foreign are the operating system's (OSError), urllib3's, requests' and llhttp's. Messages name the
URL and never what may be secret: no header, no body that was sent, nothing secret of the URL.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence
from typing import Any

import requests
import urllib3

from ..broker_urls import without_passwords
from ..errors import (
    UNSET,
    BadResponse,
    ConnectionFailed,
    ConnectionLost,
    ConnectTimeout,
    RemoteError,
    RpcError,
    ServerOverloaded,
    Timeout,
    TransportError,
)

__all__ = [
    "LookUpTimeout",
    "TruncatedResponse",
    "connecting",
    "exchanging",
    "remote_error",
    "using_adapter",
]


class LookUpTimeout(TimeoutError):
    """The address of a host was not found in time."""


class TruncatedResponse(BadResponse):
    """The connection ended in the middle of the answer."""


def connecting(error: Exception, url: str, seconds: float) -> ConnectionFailed:
    """The fault for an exception while connecting to `url`, with `seconds` as its time-out."""
    url = without_passwords(url)
    if isinstance(error, LookUpTimeout):
        return ConnectTimeout(f"{url}: its host could not be looked up within {seconds:.3g} s")
    if isinstance(error, TimeoutError):
        return ConnectTimeout(f"{url}: no connection within {seconds:.3g} s")
    return ConnectionFailed(f"{url}: {_reason(error)}")


def exchanging(error: Exception, url: str, sent: bool) -> TransportError:
    """The fault for an exception of a socket that is connected, when it is no time-out.

    :param sent: whether a part of the request may have reached the other side.
    """
    url = without_passwords(url)
    if not sent or _is_refused_certificate(error):
        return ConnectionFailed(f"{url}: {_reason(error)}")
    return ConnectionLost(f"{url}: the connection broke before the answer: {_reason(error)}")


def _is_refused_certificate(error: Exception) -> bool:
    """Tell whether the server ended the handshake for the client's certificate.

    In TLS 1.3 the client has sent its request by then (RFC 8446, section 4.4.2.4); nobody read it.
    """
    reason = (error.reason or "") if isinstance(error, ssl.SSLError) else ""
    return "ALERT" in reason and any(
        word in reason for word in ("CERTIFICATE", "UNKNOWN_CA", "ACCESS_DENIED")
    )


def using_adapter(error: Exception, url: str) -> TransportError:
    """The fault for what a requests transport adapter raises."""
    if isinstance(error, TransportError):
        return error
    if isinstance(error, requests.ConnectTimeout):
        return ConnectTimeout(f"{url}: no connection in time")
    if isinstance(error, requests.Timeout):
        return Timeout(f"{url}: no answer in time")
    if isinstance(error, requests.ConnectionError):
        cause = _innermost(error)
        # Of TLS only this is surely before sending: requests has one class for all its faults.
        if isinstance(cause, (*_NOT_CONNECTED, ssl.SSLCertVerificationError)):
            return ConnectionFailed(f"{url}: {_reason(cause)}")
        if isinstance(cause, TimeoutError) or "timed out" in str(cause):
            return Timeout(f"{url}: no answer in time")
        return ConnectionLost(f"{url}: the connection broke before the answer: {_reason(cause)}")
    if isinstance(error, (requests.RequestException, urllib3.exceptions.HTTPError)):
        return BadResponse(f"{url}: {_reason(error)}")
    return ConnectionLost(f"{url}: {_reason(error)}")


_NOT_CONNECTED = (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ProxyError)
_WRAPPERS = (
    requests.ConnectionError,
    urllib3.exceptions.MaxRetryError,
    urllib3.exceptions.ProtocolError,
    urllib3.exceptions.SSLError,
)


def _innermost(error: BaseException) -> BaseException:
    """What requests and urllib3 hide in their own exceptions."""
    while isinstance(error, _WRAPPERS):
        hidden = [getattr(error, "reason", None), *reversed(error.args)]
        inner = next((one for one in hidden if isinstance(one, BaseException)), None)
        if inner is None:
            break
        error = inner
    return error


def _reason(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate does not verify: {error.verify_message}"
    if isinstance(error, ssl.SSLError) and error.reason:
        return f"TLS failed: {error.reason.replace('_', ' ').lower()}"
    if isinstance(error, UnicodeError):
        return "its host is not a name that can exist"
    cause = error.__cause__ or error.__context__
    if isinstance(error, urllib3.exceptions.NewConnectionError) and cause is not None:
        error = cause
    if isinstance(error, socket.gaierror) and error.errno == socket.EAI_NONAME:
        return "no such host"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return without_passwords(str(error)) or type(error).__name__


# Error objects


#: The framework's own classes by code; -32000 is ServerOverloaded only together with HTTP 503.
_BY_CODE = {
    cls.code: cls for cls in RpcError.__subclasses__() if cls.__module__ == RpcError.__module__
}
del _BY_CODE[RemoteError.code]


def remote_error(
    error: dict[str, Any],
    *,
    method: str | None,
    url: str,
    service: str | None = None,
    overloaded: bool = False,
    retry_after: float | None = None,
    known: Sequence[type[RpcError]] = (),
) -> RemoteError:
    """The exception for an error object that a service answered with.

    :param error: the object, checked already.
    :param service: its name, if it was found by one.
    :param overloaded: whether the service had no place for the call.
    :param retry_after: seconds that it asked to wait.
    :param known: classes of the user's own, by their code.
    """
    code = error["code"]
    cls = next((own for own in known if own.code == code), None) or _BY_CODE.get(code)
    if overloaded:
        cls = ServerOverloaded
    made = (RemoteError if cls is None else _class_of(cls))(
        error["message"], code=code, data=error.get("data", UNSET)
    )
    made.method = method
    made.service = service
    made.url = url
    if isinstance(made, ServerOverloaded) and retry_after is not None:
        made.retry_after = retry_after
    return made


_twins: dict[type[RpcError], type[RemoteError]] = {}


def _class_of(cls: type[RpcError]) -> type[RemoteError]:
    """A class that is a `RemoteError` and a `cls`; always the same one."""
    if cls not in _twins:
        _twins.setdefault(cls, _twin_of(cls))
    return _twins[cls]


def _twin_of(cls: type[RpcError]) -> type[RemoteError]:

    def reduce(self: RemoteError) -> Any:
        # Made at run time, so pickle does not find it by its name.
        return _restore, (cls, self.args, self.__dict__)

    members = {"__doc__": cls.__doc__, "__module__": cls.__module__, "__reduce__": reduce}
    return type(cls.__name__, (RemoteError, cls), members)


def _restore(cls: type[RpcError], args: tuple[Any, ...], state: dict[str, Any]) -> RemoteError:
    made = _class_of(cls)(*args)
    made.__dict__.update(state)
    return made
