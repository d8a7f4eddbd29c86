"""Every exception of gemstone_sync, in one tree.

Only exceptions (and `UNSET`, which they need) belong here; nothing is imported before it is missed.

::

    GemstoneError
    ├── ServiceConfigurationError      wrong use in code: a missing name, a bad attribute
    │   └── PluginError                a plugin without a name, a name taken, an unknown plugin
    ├── ServiceStartError              the address cannot be bound, the TLS files cannot be used
    ├── ServiceNotFound                no service of that name is known (a ValueError too)
    ├── RpcError            -32000     an error object that travels to the caller
    │   ├── ParseError      -32700     the body is not JSON
    │   ├── InvalidRequest  -32600     JSON, but not a request
    │   ├── MethodNotFound  -32601     nothing is exposed under that name
    │   ├── InvalidParams   -32602     parameters do not fit the method
    │   ├── InternalError   -32603     an unexpected exception, masked by an error id
    │   ├── ServerOverloaded -32000    no place for the call (HTTP 503)
    │   ├── AccessDenied    -32001     a private method without valid credentials
    │   ├── DeadlineExceeded -32002    the time for the call ran out
    │   ├── TooManyHops     -32003     services call each other in a circle
    │   ├── ResponseTooLarge -32004    the encoded result is over max_response_size
    │   └── RemoteError                an error object that a RemoteService received; what is
    │                                  raised is of the class of its code as well
    ├── EventNotDelivered              an event that the broker is not known to have
    ├── StoreFault                     a file, database or Redis of the framework's does not do it
    ├── BrokerUnavailable              no connection to the broker to look into its queues
    ├── Reject                         a handler says: never again, to the dead letters
    ├── RetryLater                     a handler says: not now, again in so many seconds
    └── TransportError                 a RemoteService got no answer that counts
        ├── ConnectionFailed           not connected: nothing was sent
        │   ├── ConnectTimeout         (a Timeout too)
        │   └── CircuitOpen            refused at once after five failures in a row
        ├── ConnectionLost             the connection broke after the request was sent
        ├── Timeout                    no answer in time
        └── BadResponse                something answered, and it was no JSON-RPC reply

The codes from -32768 to -32000 are reserved by the JSON-RPC 2.0 specification, section 5.1.
Applications choose theirs outside that range.
"""

import enum
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Final

from .number_checks import is_number

__all__ = [
    "UNSET",
    "Unset",
    "GemstoneError",
    "ServiceConfigurationError",
    "PluginError",
    "ServiceStartError",
    "ServiceNotFound",
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
    "RemoteError",
    "EventNotDelivered",
    "StoreFault",
    "BrokerUnavailable",
    "Reject",
    "RetryLater",
    "TransportError",
    "ConnectionFailed",
    "ConnectTimeout",
    "ConnectionLost",
    "CircuitOpen",
    "Timeout",
    "BadResponse",
]


class Unset(enum.Enum):
    """The type of `UNSET`: a member that is absent, as distinct from one that is ``null``."""

    UNSET = "UNSET"

    def __repr__(self) -> str:
        return "UNSET"

    __str__ = __repr__

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


class ServiceNotFound(GemstoneError, ValueError):
    """No service that matches the name is known, or nobody who would know could be asked."""


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

    One that annotates ``data``, as in ``data: Left``, tells readers of the contract its type, if a
    method declares it: ``exposed_method(errors=[OutOfStock])``.

    Source: JSON-RPC 2.0, section 5.1 "Error object".
    """

    #: The error's number.
    code: int = -32000
    #: One short sentence.
    message: str = "Server error"
    #: Details for the caller, or `UNSET`. A subclass may say of which type they are.
    data: Any = UNSET

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
    retry_after: float = 1.0

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


class RemoteError(RpcError):
    """An error object that a remote service answered with.

    What `RemoteService` raises is also of the class that belongs to the code, so both
    ``except MethodNotFound`` and ``except RemoteError`` catch it.

    :ivar code, message, data: as the service sent them.
    :ivar method: the method that was called; None for a whole batch.
    :ivar service: the name by which it was found; None for a client of a URL.
    :ivar url: the service's endpoint, without what is secret in it.

    Raised inside a method of a service it is an unexpected exception like any other: the caller
    gets -32603, because "Method not found" further down is not what *this* service says. To hand
    it on, name its class in ``exposed_method(pass_errors=[…])``, or raise an `RpcError` of your
    own from it.
    """

    method: str | None = None
    service: str | None = None
    url: str | None = None

    def __init__(
        self, message: str | None = None, *, code: int | None = None, data: object = UNSET
    ) -> None:
        # Not super(): a subclass that is of another class too must not run that one's __init__.
        RpcError.__init__(self, message, code=code, data=data)

    @property
    def error_id(self) -> str | None:
        """The id that finds the exception in the remote service's log; None when it sent none."""
        found = self.data.get("error_id") if isinstance(self.data, dict) else None
        return found if isinstance(found, str) else None

    def __str__(self) -> str:
        parts = (self.method, self.service and f"of {self.service}", self.url and f"at {self.url}")
        place = " ".join(part for part in parts if part)
        error_id = f" [error_id={self.error_id}]" if self.error_id is not None else ""
        faults = "; ".join(self.parameter_faults())
        what = f"{self.message} ({self.code}){faults and ': '}{faults}"
        return f"{place}{place and ': '}{what}{error_id}"

    def parameter_faults(self) -> list[str]:
        """List what a service of this framework says of each parameter that does not fit.

        >>> error = RemoteError(data={"parameters": [{"name": "n", "reason": "missing"}]})
        >>> error.parameter_faults()
        ['n: missing']

        :returns: the first five, and then ``"..."``; empty when the error says nothing of them.
        """
        entries = self.data.get("parameters") if isinstance(self.data, dict) else None
        if not isinstance(entries, list):
            return []
        told = []
        for entry in entries[:5]:
            if not isinstance(entry, dict) or "reason" not in entry:
                return []
            where = entry.get("name", f"position {entry.get('position')}")
            told.append(f"{where}: {entry['reason']}")
        return [*told, "..."] if len(entries) > len(told) else told

    def __getitem__(self, name: str) -> object:
        """``error["code"]``, as with gemstone 0.10.1, whose errors were dicts."""
        if name not in ("code", "message", "data") or (name == "data" and self.data is UNSET):
            raise KeyError(name)
        return getattr(self, name)


class EventNotDelivered(GemstoneError):
    """The broker has not confirmed the event in time; it may have it all the same.

    Emitting again is safe for handlers that can take an event twice.

    :ivar refused: by the id of the event, why the broker, which is there, does not take it.
    :ivar unconfirmed: the ids of those of which nothing is known; None when that is true of all.
        The broker has those that are in neither.
    """

    def __init__(
        self,
        *args: object,
        refused: Mapping[str, Exception] | None = None,
        unconfirmed: Collection[str] | None = None,
    ) -> None:
        super().__init__(*args)
        self.refused = {} if refused is None else refused
        self.unconfirmed = unconfirmed


class StoreFault(GemstoneError, OSError):
    """A file, a database or a Redis that the framework keeps something in does not do it.

    It cannot be reached, read or written; the text says which and why. Trying again may help.
    """


class BrokerUnavailable(GemstoneError):
    """The broker cannot be reached, or refuses: its queues cannot be looked into."""


class Reject(GemstoneError):
    """Raised by an event handler: this event can never be handled.

    It goes to the dead letters at once, with the text as the reason.
    """


class RetryLater(GemstoneError):
    """Raised by an event handler: not now. The event is handled again later.

    ::

        raise RetryLater(30)

    It does not count as a failure, so it may go on for as long as the handler says so.

    :param seconds: until the next attempt; 0 or more.
    """

    def __init__(self, seconds: float) -> None:
        if not is_number(seconds) or not seconds >= 0:
            raise ValueError(f"RetryLater takes a number of seconds, 0 or more, not {seconds!r}")
        super().__init__(f"again in {seconds:g} s")
        self.seconds = float(seconds)


class TransportError(GemstoneError):
    """A `RemoteService` got no answer that counts.

    :ivar may_have_run: False when the service cannot have seen the request.
    """

    may_have_run: bool = True


class ConnectionFailed(TransportError):
    """No connection: refused, no such host, no valid certificate. Nothing was sent."""

    may_have_run = False


class Timeout(TransportError):
    """No answer within ``timeout`` or ``total_timeout``; the call may still be running."""


class ConnectTimeout(ConnectionFailed, Timeout):
    """No connection within the connect time-out. Nothing was sent."""

    may_have_run = False


class CircuitOpen(ConnectionFailed):
    """Five connections in a row failed: for a moment no further one is tried.

    :ivar retry_after: seconds until the next attempt is let through.
    """

    retry_after: float = 1.0


class ConnectionLost(TransportError):
    """The connection broke after the request was sent: whether it was executed is not known."""


class BadResponse(TransportError):
    """Something answered, and it was no JSON-RPC reply: a proxy's page, a redirect, half a reply,
    the reply to another request, too much.

    :ivar status: the HTTP status; None when the answer was no HTTP at all.
    :ivar body: how the body starts.
    """

    def __init__(self, message: str, *, status: int | None = None, body: bytes = b"") -> None:
        super().__init__(message)
        self.status = status
        self.body = body[:500]


if not TYPE_CHECKING:  # or checkers would believe that there is every name

    def __getattr__(name: str) -> object:
        if name == "__path__":  # each import from here asks for it
            raise AttributeError(name)
        from .missing import missing_name

        raise missing_name(__name__, name)
