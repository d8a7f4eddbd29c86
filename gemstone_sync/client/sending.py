"""Sends a request's body to a service, in as many attempts as are right.

Made again always: what failed before anything was sent; another endpoint takes it at once when
there is one. Made again when the call is idempotent: what failed later, and what the service had
no place for. Notifications are never idempotent.

Hot path: `Sender.send` runs for each call.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from ..errors import (
    BadResponse,
    CircuitOpen,
    ConnectionFailed,
    ConnectionLost,
    DeadlineExceeded,
    RemoteError,
    ServerOverloaded,
    Timeout,
    TransportError,
)
from ..protocol import RequestId
from . import exceptions, traced
from .balancing import EndpointSet
from .endpoint import RemoteEndpoint, Sending
from .messages import HttpReply
from .retries import MAX_ATTEMPTS, RetryBudget, backoff

__all__ = ["Sender"]

T = TypeVar("T")


def _no_error(result: object) -> None:
    return None


#: Seconds that a call waits for its source to tell of other endpoints, when none can be reached.
_ASKING = 1.0


class Sender:
    """Sends bodies to a service.

    :param endpoints: where it answers.
    """

    def __init__(self, endpoints: EndpointSet) -> None:
        self.endpoints = endpoints
        self._budget = RetryBudget()

    def send(
        self,
        body: bytes,
        sending: Sending,
        check: Callable[[HttpReply], T],
        error_in: Callable[[T], BaseException | None] = _no_error,
        id: RequestId | None = None,
    ) -> T:
        """Send a body; return what `check` makes of the reply.

        :param error_in: finds the error that a reply tells of, for those who observe.
        :param id: the request's, for the same.
        :raises RemoteError, TransportError: what the last attempt came to.
        :raises DeadlineExceeded: when the running call's own time is over.
        """
        hooks = traced.hooks()
        if hooks is None:
            return self._send(body, sending, check)
        sending.observed = request = hooks.begin(sending.method, id)
        try:
            result = self._send(body, sending, check)
        except BaseException as error:
            hooks.finish(request, error)
            raise
        hooks.finish(request, error_in(result))
        return result

    def _send(self, body: bytes, sending: Sending, check: Callable[[HttpReply], T]) -> T:
        self._budget.call()
        attempt = 1
        tried: list[RemoteEndpoint] = []
        earlier: TransportError | RemoteError | None = None
        while True:
            endpoint = self.endpoints.choose(tried)
            if sending.observed is not None:
                sending.observed.tried(endpoint.shown)
            try:
                reply = endpoint.attempt(body, sending)
                self.endpoints.reached(endpoint, reply)
                return check(reply)
            except (TransportError, RemoteError) as error:
                tried.append(endpoint)
                if self._goes_elsewhere(error, endpoint, tried, sending):
                    continue
                pause = self._pause_before_next(error, attempt, tried, sending)
                if pause is None:
                    # What an earlier attempt met tells more than that there was not another one.
                    told = earlier if earlier and isinstance(error, CircuitOpen) else error
                    raise self._error_for_caller(told, sending) from told.__cause__
                earlier = error
            time.sleep(pause)
            attempt += 1

    def _goes_elsewhere(
        self,
        error: TransportError | RemoteError,
        endpoint: RemoteEndpoint,
        tried: list[RemoteEndpoint],
        sending: Sending,
    ) -> bool:
        """Tell whether another endpoint takes the call at once, since this cannot be reached."""
        if not isinstance(error, (ConnectionFailed, ConnectionLost)):
            return False
        self.endpoints.unreachable(endpoint)
        if error.may_have_run or sending.seconds_left() <= 0:
            return False
        if not self.endpoints.has_others(tried):
            self.endpoints.renew(min(_ASKING, sending.seconds_left()))
        return self.endpoints.has_others(tried)

    def _pause_before_next(
        self,
        error: TransportError | RemoteError,
        attempt: int,
        tried: list[RemoteEndpoint],
        sending: Sending,
    ) -> float | None:
        """Return the seconds to wait before another attempt; None for no other attempt."""
        if attempt >= MAX_ATTEMPTS or not self._is_worth_repeating(error, sending):
            return None
        pause = backoff(attempt)
        if isinstance(error, ServerOverloaded) and not self.endpoints.has_others(tried):
            pause += error.retry_after
        if pause >= sending.seconds_left() or not self._budget.take():
            return None
        return pause

    def _is_worth_repeating(self, error: TransportError | RemoteError, sending: Sending) -> bool:
        if isinstance(error, TransportError) and not error.may_have_run:
            return isinstance(error, ConnectionFailed) and not isinstance(error, CircuitOpen)
        passing = (ConnectionLost, Timeout, ServerOverloaded, exceptions.TruncatedResponse)
        if isinstance(error, passing) or (
            isinstance(error, BadResponse) and error.status in (502, 504)
        ):
            return sending.may_repeat and sending.seconds_left() > 0
        return False

    def _error_for_caller(self, error: Exception, sending: Sending) -> Exception:
        """Return what the caller sees: its own deadline comes before whatever broke on it."""
        ran_out = isinstance(error, (Timeout, DeadlineExceeded))
        if ran_out and sending.inherited and sending.seconds_left() < 0.05:
            return DeadlineExceeded()
        return error
