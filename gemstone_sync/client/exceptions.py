"""Foreign exceptions -> the tree in `gemstone_sync.errors`: the operating system's, OpenSSL's.

Those of llhttp are in `exchange`, of requests in `bridge`. Messages name the URL as it is shown and
never what may be secret: no header, no body that was sent.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence
from typing import Any

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
    TransportError,
)

__all__ = [
    "LookUpTimeout",
    "TruncatedResponse",
    "of_connecting",
    "of_exchanging",
    "reason",
    "remote_error",
]


class LookUpTimeout(TimeoutError):
    """Finding the address of a host took too long."""


class TruncatedResponse(BadResponse):
    """The connection ended in the middle of the answer."""


def of_connecting(error: Exception, shown: str, seconds: float) -> ConnectionFailed:
    """Return the exception of ours for one while connecting, with `seconds` as the time-out."""
    if isinstance(error, LookUpTimeout):
        return ConnectTimeout(f"{shown}: its host could not be looked up within {seconds:.3g} s")
    if isinstance(error, TimeoutError):
        return ConnectTimeout(f"{shown}: no connection within {seconds:.3g} s")
    return ConnectionFailed(f"{shown}: {reason(error)}")


def of_exchanging(error: Exception, shown: str, sent: bool) -> TransportError:
    """Return the exception of ours for one of a socket that is connected, when it is no time-out.

    :param sent: whether a part of the request may have reached the other side.
    """
    if not sent or _is_refused_certificate(error):
        return ConnectionFailed(f"{shown}: {reason(error)}")
    return ConnectionLost(f"{shown}: the connection broke before the answer: {reason(error)}")


def _is_refused_certificate(error: Exception) -> bool:
    """Tell whether the server ended the handshake for the client's certificate.

    In TLS 1.3 the client has sent its request by then (RFC 8446, section 4.4.2.4); nobody read it.
    """
    reason = (error.reason or "") if isinstance(error, ssl.SSLError) else ""
    return "ALERT" in reason and any(
        word in reason for word in ("CERTIFICATE", "UNKNOWN_CA", "ACCESS_DENIED")
    )


def reason(error: BaseException) -> str:
    """Return in a few words why something failed, without what may be secret."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate does not verify: {error.verify_message}"
    if isinstance(error, ssl.SSLError) and error.reason:
        return f"TLS failed: {error.reason.replace('_', ' ').lower()}"
    if isinstance(error, UnicodeError):
        return "its host is not a name that can exist"
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
    """Return the exception for an error object that a service answered with.

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
    """Return the class that is a `RemoteError` and a `cls`; always the same one."""
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
