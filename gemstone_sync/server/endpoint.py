"""The JSON-RPC endpoint over HTTP: verbs, content types, the body, the dispatcher, the reply.

Every JSON-RPC reply has status 200, errors included; notifications have 204 and no body. Faults
of the transport keep HTTP's own codes and have a JSON-RPC error as body.

Hot path: `Endpoint.__call__` and `respond` run for each request.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from werkzeug.exceptions import (
    BadRequest,
    HTTPException,
    RequestEntityTooLarge,
    RequestHeaderFieldsTooLarge,
    RequestTimeout,
)

from ..concurrency import carried_headers, spawn, travelling_id
from ..dispatch import CallContext, Dispatcher
from ..errors import InvalidRequest, RpcError, ServerOverloaded
from .body import EarlyAnswer, read_body

__all__ = ["Endpoint", "EndpointSettings", "Reply", "STATUS_LINES", "TOLD"]

STATUS_LINES = {
    200: "200 OK",
    202: "202 Accepted",
    204: "204 No Content",
    400: "400 Bad Request",
    401: "401 Unauthorized",
    403: "403 Forbidden",
    404: "404 Not Found",
    405: "405 Method Not Allowed",
    408: "408 Request Timeout",
    413: "413 Content Too Large",
    415: "415 Unsupported Media Type",
    431: "431 Request Header Fields Too Large",
    503: "503 Service Unavailable",
}

#: In the environ of a request that the log was told of.
TOLD = "gemstone_sync.told"

_JSON = ("Content-Type", "application/json")
_ALLOW = ("Allow", "POST, OPTIONS")
_CLOSE = ("Connection", "close")

_BODY_FAULTS = (BadRequest, RequestEntityTooLarge, RequestHeaderFieldsTooLarge, RequestTimeout)

#: At most this many spellings of a Content-Type are remembered; clients use a handful.
_REMEMBERED_TYPES = 256


class Reply(NamedTuple):
    """An HTTP reply, before its body is sent."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


@dataclass(frozen=True)
class EndpointSettings:
    """See the attributes of the same names on ``MicroService``."""

    endpoint: str
    max_body_size: int


class Endpoint:
    """The endpoint as a WSGI application, and as `respond` for a Flask view.

    :param is_starting: true until the service may be called.
    """

    #: Flask's own word for its route.
    name = "jsonrpc"

    def __init__(
        self,
        dispatcher: Dispatcher,
        settings: EndpointSettings,
        is_starting: Callable[[], bool] = lambda: False,
    ) -> None:
        self.dispatcher = dispatcher
        self.settings = settings
        self._is_starting = is_starting
        self._dispatch = dispatcher.dispatch
        self._known_types: dict[str, bool] = {}

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        status, headers, body = self.respond(environ)
        start_response(STATUS_LINES[status], headers)
        return [body] if status == 200 else EarlyAnswer(body, environ)

    def respond(self, environ: dict[str, Any], read: Callable[[], bytes] | None = None) -> Reply:
        """Answer one HTTP request.

        :param read: gives the body; left out, it is read from the environ.
        """
        if environ["REQUEST_METHOD"] != "POST":
            if environ["REQUEST_METHOD"] == "OPTIONS":
                return Reply(204, [_ALLOW], b"")
            return self.refuse(environ, 405, "Only POST is answered here", _ALLOW)
        content_type = environ.get("CONTENT_TYPE", "")
        known = self._known_types.get(content_type)
        if not (self._check_type(content_type) if known is None else known):
            text = "The content type must be application/json in utf-8"
            return self.refuse(environ, 415, text, _CLOSE)
        if environ.get("HTTP_CONTENT_ENCODING", "identity").lower() != "identity":
            return self.refuse(environ, 415, "A compressed body is not accepted", _CLOSE)
        try:
            body = read_body(environ, self.settings.max_body_size) if read is None else read()
        except _BODY_FAULTS as fault:
            return self._refuse_body(environ, fault)
        if self._is_starting():
            starting = ServerOverloaded("Service is starting")
            return self.refuse(environ, 503, starting, ("Retry-After", "1"))
        context = _context_of(environ)
        answer = self._dispatch(body, context)
        if context.status is not None:
            return _reply_with(context.status, context.response_headers, answer)
        if answer is None:
            return Reply(204, context.response_headers, b"")
        headers = [_JSON, ("Content-Length", str(len(answer)))]
        if context.response_headers:
            headers += context.response_headers
        return Reply(200, headers, answer)

    def use_own_greenlets(self) -> None:
        """Answer each body in a greenlet of its own from now on.

        The framework's server sees to that where it is needed; others answer many requests in one
        greenlet or thread.
        """
        dispatch = self._dispatch
        self._dispatch = lambda body, context: spawn(dispatch, body, context).get()

    def refuse(
        self,
        environ: dict[str, Any],
        status: int,
        error: RpcError | str,
        *headers: tuple[str, str],
    ) -> Reply:
        """Refuse a request over HTTP: the log hears of it, and the reply has the request's id."""
        if isinstance(error, str):
            error = InvalidRequest(error)
        request_id = _id_of(environ) or uuid.uuid4().hex
        self.tell(environ, status, error.message, request_id)
        text = self._write_refusal(error)
        own = [_JSON, ("Content-Length", str(len(text))), ("X-Request-Id", request_id)]
        return Reply(status, [*own, *headers], text)

    def tell(self, environ: dict[str, Any], status: int, message: str, request_id: str) -> None:
        """Log that a request is refused."""
        environ[TOLD] = True
        where = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO'][:60]!r}"
        source = environ.get("REMOTE_ADDR") or "-"
        self.dispatcher.log_throttle.log(
            logging.WARNING,
            (status, message),
            f"refused {where} from {source}: {message} [{status} request_id={request_id}]",
            request_id,
        )

    def _write_refusal(self, error: RpcError) -> bytes:
        return self.dispatcher.refusal(error)

    def _refuse_body(self, environ: dict[str, Any], fault: HTTPException) -> Reply:
        text = {
            408: "The body did not come in time",
            413: f"The body is longer than {self.settings.max_body_size} bytes",
            431: "The trailers are too many or too long",
        }.get(fault.code or 400, "The body is incomplete or malformed")
        return self.refuse(environ, fault.code or 400, text, _CLOSE)

    def _check_type(self, content_type: str) -> bool:
        accepted = _is_json(content_type)
        if len(self._known_types) < _REMEMBERED_TYPES:
            self._known_types[content_type] = accepted
        return accepted


def _is_json(content_type: str) -> bool:
    """Take JSON media types in UTF-8 only: a web page may send text/plain anywhere."""
    media_type, *parameters = content_type.lower().split(";")
    media_type = media_type.strip()
    if media_type not in {"application/json", "application/json-rpc", "application/jsonrequest"}:
        kind, _, subtype = media_type.partition("/")
        if kind not in {"application", "text", "model", "image"} or not subtype.endswith("+json"):
            return False
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "charset" and value.strip().strip('"') not in {"utf-8", "utf8"}:
            return False
    return True


def _reply_with(status: int, headers: list[tuple[str, str]], body: bytes | None) -> Reply:
    if body is None:
        return Reply(status, [*headers, ("Content-Length", "0")], b"")
    return Reply(status, [_JSON, ("Content-Length", str(len(body))), *headers], body)


def _context_of(environ: dict[str, Any]) -> CallContext:
    context = CallContext(environ)
    get = environ.get
    if (hops := get("HTTP_X_GEMSTONE_HOPS")) is not None and (count := _number(hops)) is not None:
        context.hops = int(count)
    if (left := get("HTTP_X_GEMSTONE_DEADLINE")) is not None:
        milliseconds = _number(left)
        if milliseconds is not None:
            context.deadline = time.monotonic() + milliseconds / 1000
    if get("HTTP_X_REQUEST_ID") is not None and (request_id := _id_of(environ)) is not None:
        context.request_id = request_id
        context.response_headers.append(("X-Request-Id", request_id))
    if (traceparent := get("HTTP_TRACEPARENT")) is not None:
        context.traceparent = travelling_id(traceparent)
        context.carried = carried_headers(get("HTTP_TRACESTATE"), get("HTTP_BAGGAGE"))
    elif (baggage := get("HTTP_BAGGAGE")) is not None:
        context.carried = carried_headers(None, baggage)
    return context


def _id_of(environ: dict[str, Any]) -> str | None:
    return travelling_id(environ.get("HTTP_X_REQUEST_ID"))


def _number(text: str) -> int | None:
    """Read a header's whole number; ignore what is none, as RFC 9110 asks of unknown content."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 12 else None
