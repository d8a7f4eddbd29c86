"""One endpoint: a request's body on its way, in as many attempts as are right.

Retried always: what failed before anything was sent. Retried when the call is idempotent: what
failed later, and what the service had no place for. Notifications are never idempotent.

Hot path: `Endpoint.send` and `_attempt` run for each call.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import requests
import urllib3
from requests.adapters import BaseAdapter
from requests.auth import AuthBase

from ..concurrency import current_call, outgoing_headers
from ..errors import (
    BadResponse,
    ConnectionFailed,
    ConnectionLost,
    DeadlineExceeded,
    RemoteError,
    ServerOverloaded,
    Timeout,
    TransportError,
)
from . import faults
from .adapter import RpcPost, ServiceAdapter, fields_of
from .authentication import is_constant
from .replies import HttpReply
from .retries import MAX_ATTEMPTS, CircuitBreaker, RetryBudget, backoff

__all__ = ["Endpoint", "Limits", "Sending"]

T = TypeVar("T")

_PIECE = 64 * 1024


@dataclass(frozen=True)
class Limits:
    """Time limits of a call, in seconds, and the size of its answer, in bytes."""

    connect: float
    read: float
    total: float
    max_response_size: int


class Sending:
    """What is known of one call while it is being sent.

    :param may_repeat: asked after a fault in the middle: whether the call is idempotent.
    """

    __slots__ = ("deadline", "inherited", "limits", "may_repeat", "method")

    def __init__(
        self, limits: Limits, method: str | None, may_repeat: Callable[[Exception], bool]
    ) -> None:
        self.limits = limits
        self.method = method
        self.may_repeat = may_repeat
        self.deadline = time.monotonic() + limits.total
        call = current_call.get()
        #: Whether it is the deadline of the running call that counts.
        self.inherited = (
            call is not None and call.deadline is not None and call.deadline < self.deadline
        )
        if self.inherited:
            self.deadline = call.deadline  # type: ignore[union-attr,assignment]

    def seconds_left(self) -> float:
        return self.deadline - time.monotonic()

    def time_is_over(self, url: str) -> Exception:
        """What to raise when there is no time left to send."""
        if self.inherited:
            return DeadlineExceeded()
        error = Timeout(f"{url}: no answer within {self.limits.total:g} s")
        error.may_have_run = False
        return error


class Endpoint:
    """Where a service answers, and what is remembered of it between calls.

    :param url: without user information.
    :param authentication: is asked for each request, unless it does the same to all.
    """

    def __init__(
        self,
        url: str,
        adapter: BaseAdapter,
        authentication: AuthBase | None,
        headers: dict[str, str],
        verify: bool | str,
        cert: str | tuple[str, str] | None,
    ) -> None:
        self.url = url
        self.adapter = adapter
        self.breaker = CircuitBreaker()
        self.budget = RetryBudget()
        self._verify = verify
        self._cert = cert
        self._authentication = None if is_constant(authentication) else authentication
        template = requests.Request("POST", url, headers).prepare()
        template.headers.pop("Content-Length", None)
        if authentication is not None and self._authentication is None:
            authentication(template)
        self._common = template.headers
        self._common_fields = fields_of(template.headers)
        self._prepared_url = template.url or url

    def send(self, body: bytes, sending: Sending, check: Callable[[HttpReply], T]) -> T:
        """Send a body; what `check` makes of the reply.

        :raises RemoteError, TransportError: what the last attempt came to.
        :raises DeadlineExceeded: when the running call's own time is over.
        """
        self.budget.call()
        attempt = 1
        while True:
            try:
                return check(self._attempt(body, sending))
            except (TransportError, RemoteError) as error:
                pause = self._pause_before_next(error, attempt, sending)
                if pause is None:
                    raise self._final(error, sending) from error.__cause__
            time.sleep(pause)
            attempt += 1

    def _pause_before_next(
        self, error: TransportError | RemoteError, attempt: int, sending: Sending
    ) -> float | None:
        """Seconds to wait before another attempt; None for no other attempt."""
        if attempt >= MAX_ATTEMPTS or not self._is_worth_repeating(error, sending):
            return None
        pause = backoff(attempt)
        if isinstance(error, ServerOverloaded):
            pause += error.retry_after
        if pause >= sending.seconds_left() or not self.budget.take():
            return None
        return pause

    def _is_worth_repeating(self, error: TransportError | RemoteError, sending: Sending) -> bool:
        if isinstance(error, TransportError) and not error.may_have_run:
            return isinstance(error, ConnectionFailed)
        passing = (ConnectionLost, Timeout, ServerOverloaded, faults.TruncatedResponse)
        if isinstance(error, passing) or (
            isinstance(error, BadResponse) and error.status in (502, 504)
        ):
            return sending.may_repeat(error)
        return False

    def _final(self, error: Exception, sending: Sending) -> Exception:
        """The error as the caller sees it: its own deadline comes before whatever broke on it."""
        ran_out = isinstance(error, (Timeout, DeadlineExceeded))
        if ran_out and sending.inherited and sending.seconds_left() < 0.05:
            return DeadlineExceeded()
        return error

    def _attempt(self, body: bytes, sending: Sending) -> HttpReply:
        left = sending.seconds_left()
        if left <= 0:
            raise sending.time_is_over(self.url)
        self.breaker.check(self.url)
        limits = sending.limits
        read = min(limits.read, left)
        request = self._request(body, read)
        timeout = urllib3.Timeout(total=left, connect=limits.connect, read=read)
        try:
            response = self.adapter.send(
                request,
                stream=True,
                timeout=timeout,  # type: ignore[arg-type]  # requests takes it, its hints do not
                verify=self._verify,
                cert=self._cert,
            )
            content = self._content_of(response, sending)
        except (TransportError, requests.RequestException, OSError) as error:
            fault = faults.using_adapter(error, self.url)
            if isinstance(fault, ConnectionFailed) and not fault.may_have_run:
                self.breaker.failed(fault)
            else:
                self.breaker.connected()
            if fault is error:
                raise
            raise fault from error
        self.breaker.connected()
        return HttpReply(response.status_code, lambda name: response.headers.get(name), content)

    def _request(self, body: bytes, seconds: float) -> requests.PreparedRequest:
        own = outgoing_headers()
        # Nobody waits longer: the service stops working on it then.
        own["X-Gemstone-Deadline"] = str(int(seconds * 1000))
        request = RpcPost(self._prepared_url, self._common, self._common_fields, own, body)
        return request if self._authentication is None else self._authentication(request)

    def _content_of(self, response: requests.Response, sending: Sending) -> bytes:
        """The body; of an adapter that streams, within the limits that it does not know."""
        if isinstance(self.adapter, ServiceAdapter) or response.raw is None:
            return response.content
        pieces, size = [], 0
        with response:
            for piece in response.iter_content(_PIECE):
                size += len(piece)
                if size > sending.limits.max_response_size:
                    raise BadResponse(
                        f"{self.url}: the answer is larger than "
                        f"{sending.limits.max_response_size} bytes",
                        status=response.status_code,
                    )
                if sending.seconds_left() <= 0:
                    raise Timeout(f"{self.url}: no complete answer in time")
                pieces.append(piece)
        return b"".join(pieces)
