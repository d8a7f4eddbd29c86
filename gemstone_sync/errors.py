"""Every exception of gemstone_sync, in one tree.

Only exceptions (and `UNSET`, which they need) belong here; nothing is imported.

::

    GemstoneError
    ├── ServiceConfigurationError      wrong use in code: a missing name, a bad attribute
    │   └── PluginError                a plugin without a name, a name taken, an unknown plugin
    ├── ServiceStartError              the address cannot be bound, the TLS files cannot be used
    └── RpcError            -32000     an error object that travels to the caller
        ├── ParseError      -32700     the body is not JSON
        ├── InvalidRequest  -32600     JSON, but not a request
        ├── MethodNotFound  -32601     nothing is exposed under that name
        ├── InvalidParams   -32602     parameters do not fit the method
        ├── InternalError   -32603     an unexpected exception, masked by an error id
        ├── ServerOverloaded -32000    no place for the call (HTTP 503)
        ├── AccessDenied    -32001     a private method without valid credentials
        ├── DeadlineExceeded -32002    the time for the call ran out
        ├── TooManyHops     -32003     services call each other in a circle
        └── ResponseTooLarge -32004    the encoded result is over max_response_size

The codes from -32768 to -32000 are reserved by the JSON-RPC 2.0 specification, section 5.1.
Applications choose theirs outside that range.
"""

import enum
from typing import Final

__all__ = [
    "UNSET",
    "Unset",
    "GemstoneError",
    "ServiceConfigurationError",
    "PluginError",
    "ServiceStartError",
    "RpcError",
    "ParseError",
    "InvalidRequest",
    "MethodNotFound",
    "InvalidParams",
    "InternalError",
    "ServerOverloaded",
    "AccessDenied",
    "DeadlineExceeded",
    "TooManyHops",
    "ResponseTooLarge",
]


class Unset(enum.Enum):
    """The type of `UNSET`: a member that is absent, as distinct from one that is ``null``."""

    UNSET = "UNSET"

    def __repr__(self) -> str:
        return "UNSET"

    def __bool__(self) -> bool:
        raise TypeError("UNSET has no truth value; compare with `is UNSET`")


UNSET: Final = Unset.UNSET


class GemstoneError(Exception):
    """The root of every exception that gemstone_sync raises on purpose."""


class ServiceConfigurationError(GemstoneError):
    """A service class or its use is wrong; the message says what to change."""


class PluginError(ServiceConfigurationError):
    """A plugin has no name, its name is taken, or no plugin has the name asked for."""


class ServiceStartError(GemstoneError):
    """A service could not start: its address cannot be bound, or its TLS files cannot be used."""


class RpcError(GemstoneError):
    """A JSON-RPC error object. Raised by a method, it reaches the caller as it is.

    :param message: one short sentence for the caller; the class's own message when left out.
    :param code: the error's number; the class's own code when left out.
    :param data: any JSON value with details. Left out, the error object has no ``data``;
        ``None`` is sent as ``null``.

    A subclass may set ``code`` and ``message`` for all of its instances:

    >>> class OutOfStock(RpcError):
    ...     code = 1001
    ...     message = "Out of stock"
    >>> error = OutOfStock(data={"left": 0})
    >>> error.code, error.message, error.data
    (1001, 'Out of stock', {'left': 0})

    Source: JSON-RPC 2.0, section 5.1 "Error object".
    """

    #: The error's number.
    code: int = -32000
    #: One short sentence.
    message: str = "Server error"
    #: Details for the caller, or `UNSET`.
    data: object = UNSET

    def __init__(
        self, message: str | None = None, *, code: int | None = None, data: object = UNSET
    ) -> None:
        if message is not None:
            self.message = message
        if code is not None:
            self.code = code
        if data is not UNSET:
            self.data = data
        if type(self.code) is not int:
            raise TypeError(f"an error code is an int, not {self.code!r}")
        super().__init__(self.message)

    def __repr__(self) -> str:
        data = "" if self.data is UNSET else f", data={self.data!r}"
        return f"{type(self).__name__}({self.message!r}, code={self.code}{data})"


class ParseError(RpcError):
    """The body is not JSON text in UTF-8."""

    code = -32700
    message = "Parse error"


class InvalidRequest(RpcError):
    """The JSON is not a request object, or not one that may be sent here."""

    code = -32600
    message = "Invalid Request"


class MethodNotFound(RpcError):
    """No method is exposed under that name."""

    code = -32601
    message = "Method not found"


class InvalidParams(RpcError):
    """The parameters do not fit the method; ``data["parameters"]`` names each one at fault."""

    code = -32602
    message = "Invalid params"


class InternalError(RpcError):
    """An unexpected exception in the method; ``data["error_id"]`` finds it in the log."""

    code = -32603
    message = "Internal error"


class ServerOverloaded(RpcError):
    """The service has no place for the call now; nothing of it was executed.

    :param retry_after: seconds after which another attempt makes sense.
    """

    code = -32000
    message = "Server overloaded"

    def __init__(
        self,
        message: str | None = None,
        *,
        code: int | None = None,
        data: object = UNSET,
        retry_after: float = 1.0,
    ) -> None:
        super().__init__(message, code=code, data=data)
        self.retry_after = retry_after


class AccessDenied(RpcError):
    """The method is private and the request's credentials were not accepted."""

    code = -32001
    message = "Access denied"


class DeadlineExceeded(RpcError):
    """The call's time ran out before it returned."""

    code = -32002
    message = "Deadline exceeded"


class TooManyHops(RpcError):
    """The call came through more services than ``max_hops`` allows: probably a circle."""

    code = -32003
    message = "Too many hops"


class ResponseTooLarge(RpcError):
    """The encoded result is larger than ``max_response_size``."""

    code = -32004
    message = "Response too large"
