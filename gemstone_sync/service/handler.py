"""The request as methods and authentication see it, and the base class for extra web handlers."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import flask
import flask.views
import msgspec
from itsdangerous import BadSignature, URLSafeTimedSerializer
from werkzeug.datastructures import Headers
from werkzeug.http import dump_cookie

from ..dispatch import CallContext
from ..errors import UNSET, ServiceConfigurationError
from ..missing import missing_attribute
from ..protocol import JsonRpcRequest, JsonRpcResponse
from ..server.response import FIELD_NAME
from .decorators import marks_of

__all__ = ["GemstoneCustomHandler", "JsonRpcHandler"]

_FIELD_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


class AccessRules(Protocol):
    """Says who sent a request: what a handler asks of its service."""

    validation_strategies: Sequence[Any]
    secret_key: str | bytes | None

    def authenticate_request(self, handler: JsonRpcHandler, /) -> Any:
        """Return who sent the request; anything falsy denies it."""


class JsonRpcHandler:
    """The HTTP request and reply of a call.

    Given to methods with ``requires_handler_reference=True`` and to ``authenticate_request``. In a
    batch each item has a handler of its own; what they set goes into the one HTTP reply.

    :param answer: answers a request object, as `Dispatcher.answer` does.
    :param last: the validation strategy that is asked after the service's own; None for none.
    :ivar microservice: the service. For type checkers it may be any.
    """

    microservice: Any

    def __init__(
        self,
        microservice: AccessRules,
        context: CallContext,
        answer: Callable[[JsonRpcRequest, CallContext], JsonRpcResponse | None],
        last: Any = None,
    ) -> None:
        self.microservice = self._access = microservice
        self._context = context
        self._answer = answer
        self._last = last
        #: What `write_single_response` was given.
        self.written: JsonRpcResponse | None = None

    # The request

    @functools.cached_property
    def request(self) -> flask.Request:
        """Return the Flask request. Its body has been read already."""
        return flask.Request(self._context.transport)

    @property
    def headers(self) -> Headers:
        """Return the request's headers, by case-insensitive name."""
        return self.request.headers

    @property
    def cookies(self) -> Mapping[str, str]:
        """Return the request's cookies."""
        return self.request.cookies

    @property
    def remote_addr(self) -> str | None:
        """Return the client's address."""
        return self.request.remote_addr

    def get_cookie(self, name: str, default: str | None = None) -> str | None:
        """Return a cookie of the request."""
        return self.request.cookies.get(name, default)

    def get_secure_cookie(
        self, name: str, default: Any = None, *, max_age: float | None = 31 * 86400
    ) -> Any:
        """Return what `set_secure_cookie` signed; `default` when absent, forged or too old.

        :param max_age: seconds.
        :raises ServiceConfigurationError: when the service has no ``secret_key``.
        """
        text = self.get_cookie(name)
        serializer = self._serializer(name)
        if text is None:
            return default
        try:
            return serializer.loads(text, max_age=None if max_age is None else int(max_age))
        except BadSignature:
            return default

    @functools.cached_property
    def api_token(self) -> str | None:
        """Return the first token that ``validation_strategies`` find; None for none."""
        last = () if self._last is None else (self._last,)
        for strategy in (*self._access.validation_strategies, *last):
            token: str | None = strategy.extract_api_token(self)
            if token is not None:
                return token
        return None

    @functools.cached_property
    def current_user(self) -> Any:
        """Return what ``authenticate_request`` said of this call; asked once."""
        return self._access.authenticate_request(self)

    # The reply

    def set_header(self, name: str, value: str) -> None:
        """Add a header to the HTTP reply.

        :raises ValueError: when HTTP cannot carry the name or the value (RFC 9110, section 5).
        """
        if not FIELD_NAME.fullmatch(name) or not _FIELD_VALUE.fullmatch(value):
            raise ValueError(f"not a header field: {name!r}: {value!r}")
        if name.lower() in ("content-length", "content-type", "transfer-encoding"):
            raise ValueError(f"{name} is set by the service")
        if name.lower() == "x-request-id":  # instead of the one that is echoed
            self._context.response_headers[:] = [
                header for header in self._context.response_headers if header[0] != "X-Request-Id"
            ]
        self._context.response_headers.append((name, value))

    def set_cookie(self, name: str, value: str, **options: Any) -> None:
        """Set a cookie; `options` as for :meth:`flask.Response.set_cookie`.

        Cookies are ``HttpOnly`` and ``SameSite=Lax`` unless the options say otherwise.

        :raises ValueError: when HTTP cannot carry what comes of it (RFC 6265, section 4.1.1).
        """
        options = {"httponly": True, "samesite": "Lax", **options}
        if not isinstance(name, str) or not FIELD_NAME.fullmatch(name):
            raise ValueError(f"not a cookie's name: {name!r}")
        cookie = dump_cookie(name, value, **options)
        attributes = f"{options.get('domain', '')}{options.get('expires', '')}"
        if ";" in attributes or not _FIELD_VALUE.fullmatch(cookie):
            raise ValueError(f"not a cookie: {cookie!r}")
        self._context.response_headers.append(("Set-Cookie", cookie))

    def set_secure_cookie(self, name: str, value: Any, **options: Any) -> None:
        """Set a cookie that the client can read but not forge; `value` is any JSON value.

        :raises ServiceConfigurationError: when the service has no ``secret_key``.
        """
        self.set_cookie(name, str(self._serializer(name).dumps(value)), **options)

    def clear_cookie(self, name: str, **options: Any) -> None:
        """Have the client forget a cookie."""
        self.set_cookie(name, "", **{"max_age": 0, "expires": 0, **options})

    def _serializer(self, name: str) -> URLSafeTimedSerializer:
        key = self._access.secret_key
        if not key:
            raise ServiceConfigurationError("signed cookies need a secret_key on the service")
        return URLSafeTimedSerializer(key, salt=f"gemstone_sync.cookie.{name}")

    # The steps of a call, for code that makes calls itself

    def prepare_method_call(
        self, method: Callable[..., Any], args: list[Any] | dict[str, Any]
    ) -> Callable[[], Any]:
        """Make a callable without arguments of `method` and its positional or named `args`.

        A method that takes the handler gets this one.

        :raises TypeError: when `args` is neither list nor dict.
        """
        own = (self,) if marks_of(method).needs_handler else ()
        if isinstance(args, dict):
            return functools.partial(method, *own, **args)
        if isinstance(args, (list, tuple)):
            return functools.partial(method, *own, *args)
        raise TypeError(f"args must be a list or a dict, not a {type(args).__name__}")

    def call_method(self, method: Callable[[], Any]) -> Any:
        """Call what `prepare_method_call` made. It may block: it has a greenlet of its own."""
        return method()

    def handle_single_request(self, request_object: JsonRpcRequest) -> JsonRpcResponse | None:
        """Answer another request object as if this client had sent it; None for a notification."""
        return self._answer(request_object, self._context)

    def write_single_response(self, response_obj: JsonRpcResponse) -> None:
        """Reply with this response object instead of the method's own result.

        One whose id is None is written without an ``id``: callers that wait for theirs do not know
        it then.

        :raises TypeError: when it is no `JsonRpcResponse`.
        :raises RuntimeError: when a response was written already.
        """
        if not isinstance(response_obj, JsonRpcResponse):
            raise TypeError(f"expected a JsonRpcResponse, got a {type(response_obj).__name__}")
        if self.written is not None:
            raise RuntimeError("the response of this request was written already")
        if response_obj.id is None:
            response_obj = msgspec.structs.replace(response_obj, id=UNSET)
        self.written = response_obj

    if not TYPE_CHECKING:  # or checkers would believe that there is every name
        __getattr__ = missing_attribute


class GemstoneCustomHandler(flask.views.MethodView):
    """Base class for extra web handlers: a Flask MethodView that knows its service.

    ::

        class Status(GemstoneCustomHandler):
            def get(self):
                return {"name": self.microservice.name}

        class MyService(MicroService):
            extra_handlers = [("/status", Status)]
    """

    #: The service that the handler belongs to. For type checkers it may be any: annotate it with
    #: your own service class in your subclass.
    microservice: Any

    def __init__(self, microservice: Any) -> None:
        self.microservice = microservice
