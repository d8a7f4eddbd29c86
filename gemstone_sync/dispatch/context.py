"""What a transport tells the dispatcher of one body, and what it is told back."""

from __future__ import annotations

import uuid
from typing import Any

__all__ = ["CallContext"]


class CallContext:
    """The surroundings of one body.

    :param transport: the transport's own view of the request (over HTTP the WSGI environ).
    :param deadline: when the caller stops waiting (``time.monotonic()``), or None.
    :param hops: how many services the body came through already.
    :param request_id: the caller's id for the outer request, or None.
    :param traceparent: the caller's W3C trace context, or None.

    Written during dispatch, read by the transport afterwards: `retry_after`, `response_headers`.
    """

    __slots__ = (
        "deadline",
        "hops",
        "request_id",
        "response_headers",
        "retry_after",
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
    ) -> None:
        self.transport = transport
        self.deadline = deadline
        self.hops = hops
        self.request_id = request_id
        self.traceparent = traceparent
        #: Seconds after which to try again; set when there was no place for a single call.
        self.retry_after: float | None = None
        #: Headers and cookies that methods add to the transport's reply.
        self.response_headers: list[tuple[str, str]] = []

    def identify(self, made_up: str | None = None) -> str:
        """Return the request's id: one is made up, and told to the caller, if it has none."""
        if self.request_id is None:
            self.request_id = made_up or uuid.uuid4().hex
            self.response_headers.append(("X-Request-Id", self.request_id))
        return self.request_id
