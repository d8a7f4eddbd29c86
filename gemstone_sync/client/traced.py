"""Spans of the calls that a client sends, around what observers are told of them."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from ..tracing import STATUS_CODE, is_on, started_span
from . import observed
from .observed import ObservedRequest, RequestHooks

__all__ = ["hooks"]


def hooks() -> RequestHooks | None:
    """Return those that are told of requests; None when nobody wants to know."""
    told = observed.hooks()
    return _Traced(told) if is_on() else told


class _Traced(RequestHooks):
    """Makes spans of requests, and tells others."""

    def __init__(self, told: RequestHooks | None) -> None:
        begun, finished = (None, None) if told is None else (told.begun, told.finished)

        def begin(request: ObservedRequest) -> None:
            _begin_span(request)
            if begun is not None:
                begun(request)

        def finish(request: ObservedRequest) -> None:
            if finished is not None:
                finished(request)
            _end_span(request)

        super().__init__(begin, finish)


def _begin_span(request: ObservedRequest) -> None:
    """Begin the span of a request; what is sent from now on goes on from it."""
    attributes: dict[str, Any] = {"rpc.system.name": "jsonrpc", "jsonrpc.protocol.version": "2.0"}
    if request.method is not None:
        attributes["rpc.method"] = request.method
    if request.id is not None:
        attributes["jsonrpc.request.id"] = str(request.id)
    request.span = started_span(request.method or "jsonrpc", "CLIENT", attributes)


def _end_span(request: ObservedRequest) -> None:
    """End the span of a request, as it has ended."""
    span, request.span = request.span, None
    if span is None:
        return
    attributes: dict[str, Any] = {}
    if request.url is not None:
        url = urlsplit(request.url)
        default = 443 if url.scheme == "https" else 80
        attributes["server.address"] = url.hostname or ""
        attributes["server.port"] = url.port or default
    if request.attempts > 1:
        attributes["gemstone.attempts"] = request.attempts
    error, code = request.exception, request.error_code
    if code is not None:
        attributes[STATUS_CODE] = str(code)
    if error is None:
        span.end(attributes=attributes)
    else:
        kind = type(error).__name__ if code is None else str(code)
        span.end(kind, str(error)[:200], attributes=attributes)
