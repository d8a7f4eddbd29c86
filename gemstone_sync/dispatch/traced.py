"""Spans of the calls that a service answers."""

from __future__ import annotations

from typing import Any

from ..concurrency import Call
from ..errors import InternalError, RpcError
from ..protocol import ErrorObject, JsonRpcRequest
from ..tracing import STATUS_CODE, Span, started_span
from .context import OUTER_TRACE

__all__ = ["begin_span", "end_span"]

#: Characters of a name that only a caller knows.
_LONGEST = 200


def begin_span(request: JsonRpcRequest, call: Call, known: bool) -> Span | None:
    """Begin the span of a call, which goes on from its caller's.

    :param known: whether there is such a method: the name is the caller's otherwise.
    """
    attributes: dict[str, Any] = {
        "rpc.system.name": "jsonrpc",
        "rpc.method": request.method if known else "_OTHER",
        "jsonrpc.protocol.version": "2.0",
    }
    if not known:
        attributes["rpc.method_original"] = request.method[:_LONGEST]
    if isinstance(request.id, (str, int, float)):
        attributes["jsonrpc.request.id"] = str(request.id)[:_LONGEST]
    environ = getattr(call.context, "transport", None)
    outer = None
    if type(environ) is dict:
        outer = environ.get(OUTER_TRACE)
        if "SERVER_NAME" in environ:
            attributes["server.address"] = environ["SERVER_NAME"]
    name = request.method if known else "jsonrpc"
    span = started_span(name, "SERVER", attributes, call.trace_headers(), outer=outer)
    if span is not None:
        call.carried = None  # the span's context has it, and may change it
    return span


def end_span(
    span: Span, error: ErrorObject | RpcError | None, exception: BaseException | None
) -> None:
    """End the span of a call, as it has ended."""
    if error is None:
        if exception is None:
            span.end()
        else:
            span.end(type(exception).__name__, None, exception)
        return
    code = str(error.code)
    unexpected = exception if error.code == InternalError.code else None
    span.end(code, error.message, unexpected, {STATUS_CODE: code})
