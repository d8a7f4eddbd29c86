"""The surroundings of a body: what a transport tells the dispatcher, and what it is told back."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from ..concurrency import carried_headers, travelling_id

__all__ = ["OUTER_TRACE", "CallContext"]

#: In the environ of a message that has told of a trace itself: the headers of its transport's.
OUTER_TRACE = "gemstone_sync.outer_trace"


class CallContext:
    """The surroundings of a body.

    :param transport: the transport's own view of the request (over HTTP the WSGI environ).
    :param deadline: when the caller stops waiting (``time.monotonic()``), or None.
    :param hops: how many services the body came through already.
    :param request_id: the caller's id for the outer request, or None.
    :param traceparent: the caller's W3C trace context, or None.
    :param carried: the caller's ``tracestate`` and ``baggage``, or None.

    Written during dispatch, read by the transport afterwards: `status`, `response_headers`.
    """

    __slots__ = (
        "carried",
        "deadline",
        "hops",
        "request_id",
        "response_headers",
        "status",
        "traceparent",
        "transport",
    )

    def __init__(
        self,
        transport: Any = None,
        *,
        deadline: float | None = None,
        hops: int = 0,
        request_id: str | None = None,
        traceparent: str | None = None,
        carried: Mapping[str, str] | None = None,
    ) -> None:
        self.transport = transport
        self.deadline = deadline
        self.hops = hops
        self.request_id = request_id
        self.traceparent = traceparent
        self.carried = carried
        #: The HTTP status of the reply, where it is not the transport's usual one: 503 when there
        #: was no place for a single call.
        self.status: int | None = None
        #: Headers and cookies that methods add to the transport's reply.
        self.response_headers: list[tuple[str, str]] = []

    def trace_headers(self) -> dict[str, str]:
        """Return the caller's W3C context as headers; empty when there is none."""
        headers = {} if self.traceparent is None else {"traceparent": self.traceparent}
        return {**headers, **(self.carried or {})}

    def continue_trace(self, traceparent: object, tracestate: object, baggage: object) -> None:
        """Go on from the trace that a message tells of itself, if it tells of one.

        It counts more than that of the transport, which may be another one's.
        """
        found = travelling_id(traceparent) if isinstance(traceparent, str) else None
        carried = carried_headers(None if found is None else tracestate, baggage)
        if found is None:
            if carried is not None:
                self.carried = {**(self.carried or {}), **carried}
            return
        if type(self.transport) is dict:
            self.transport[OUTER_TRACE] = self.trace_headers()
        self.traceparent, self.carried = found, carried

    def identify(self, made_up: str | None = None) -> str:
        """Return the request's id: one is made up, and told to the caller, if it has none."""
        if self.request_id is None:
            self.request_id = made_up or uuid.uuid4().hex
            self.response_headers.append(("X-Request-Id", self.request_id))
        return self.request_id
