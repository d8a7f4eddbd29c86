"""Makes one attempt at a call of one URL, and remembers how it went.

Hot path: `RemoteEndpoint.attempt` runs for each call.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

from ..broker_urls import without_passwords
from ..concurrency import current_call, outgoing_headers
from ..errors import ConnectionFailed, DeadlineExceeded, Timeout, TransportError
from .bridge import prepared_url
from .messages import Adapter, HttpReply, HttpRequest, Limits
from .observed import ObservedRequest
from .retries import CircuitBreaker

__all__ = ["RemoteEndpoint", "Limits", "Sending"]

#: Seconds that a service may take longer than its caller waits. Told the very moment, it would say
#: that the time is over just when the caller sees so itself, and either could come first.
_LAG = 0.25

_HEADERS = {
    "User-Agent": "gemstone_sync",
    "Accept": "application/json",
    "Accept-Encoding": "identity",  # between services, compressing costs more than sending
    "Content-Type": "application/json",
}


class Sending:
    """Holds what is known of one call while it is being sent.

    :param may_repeat: whether it may be sent again after a fault in the middle: it is idempotent.
    """

    __slots__ = ("deadline", "inherited", "limits", "may_repeat", "method", "observed")

    def __init__(self, limits: Limits, method: str | None, may_repeat: bool) -> None:
        self.limits = limits
        self.method = method
        self.may_repeat = may_repeat
        #: What observers see of it; None when there are none.
        self.observed: ObservedRequest | None = None
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
        """Return what to raise when there is no time left to send."""
        if self.inherited:
            return DeadlineExceeded()
        error = Timeout(f"{url}: no answer within {self.limits.total:g} s")
        error.may_have_run = False
        return error


class RemoteEndpoint:
    """Makes attempts at calls of one URL, and knows how they went.

    :param url: without user information.
    :param credentials: called once with a request, to set headers that all of them have.
    """

    def __init__(
        self,
        url: str,
        adapter: Adapter,
        credentials: Callable[[Any], Any] | None,
        verify: bool | str,
        cert: str | tuple[str, str] | None,
    ) -> None:
        self.url = url
        #: For messages.
        self.shown = without_passwords(url)
        #: One item for each call that is being sent: a plain count could lose one between threads.
        self.in_flight: deque[None] = deque()
        #: For the set it belongs to: when it may be chosen again, and for how long it was left out.
        self.rests_until = 0.0
        self.rest = 0.0
        self._adapter = adapter
        self._breaker = CircuitBreaker()
        self._verify = verify
        self._cert = cert
        request = HttpRequest(prepared_url(url), self.shown, dict(_HEADERS))
        if credentials is not None:
            credentials(request)
        self._prepared_url = request.url
        #: A header that was set again, in whatever case, takes the place of the first.
        by_name = {name.lower(): (name, value) for name, value in request.headers.items()}
        self._headers = dict(by_name.values())

    def leave(self) -> None:
        """Keep no connection: its service has gone, and would leave half of each open here."""
        self._adapter.forget(self._prepared_url)

    def attempt(self, body: bytes, sending: Sending) -> HttpReply:
        """Send a request once.

        :raises TransportError: when there was no answer.
        :raises DeadlineExceeded: when the running call's own time is over.
        """
        left = sending.seconds_left()
        if left <= 0:
            raise sending.time_is_over(self.shown)
        self._breaker.check(self.shown)
        request = HttpRequest(
            self._prepared_url,
            self.shown,
            self._headers_of(min(sending.limits.read, left) + _LAG),
            body,
            sending.limits,
            sending.deadline,
            self._verify,
            self._cert,
        )
        self.in_flight.append(None)
        try:
            reply = self._adapter.send(request)
        except TransportError as error:
            if isinstance(error, ConnectionFailed):
                self._breaker.failed(error)
            else:
                self._breaker.connected()
            raise
        finally:
            self.in_flight.pop()
        self._breaker.connected()
        return reply

    def _headers_of(self, seconds: float) -> dict[str, str]:
        own = outgoing_headers()
        # Nobody waits for the answer any more then: the service stops working on it.
        milliseconds = int(seconds * 1000)
        if "X-Gemstone-Deadline" in own:  # the running call's
            milliseconds = min(milliseconds, int(own["X-Gemstone-Deadline"]))
        own["X-Gemstone-Deadline"] = str(milliseconds)
        return self._headers | own

    def __repr__(self) -> str:
        return f"<RemoteEndpoint {self.shown}>"
