"""One URL where a service answers: one attempt at a call, and what is remembered in between.

Hot path: `Endpoint.attempt` runs for each call.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import requests
import urllib3
from requests.adapters import BaseAdapter
from requests.auth import AuthBase

from ..broker_urls import without_passwords
from ..concurrency import current_call, outgoing_headers
from ..errors import BadResponse, ConnectionFailed, DeadlineExceeded, Timeout, TransportError
from . import faults
from .adapter import RpcPost, ServiceAdapter, fields_of
from .authentication import is_constant
from .replies import HttpReply
from .retries import CircuitBreaker

__all__ = ["Endpoint", "Limits", "Sending"]

_PIECE = 64 * 1024

#: Seconds that a service may take longer than its caller waits. Told the very moment, it would say
#: that the time is over just when the caller sees so itself, and either could come first.
_LAG = 0.25

_HEADERS = {
    "User-Agent": "gemstone_sync",
    "Accept": "application/json",
    "Accept-Encoding": "identity",  # between services, compressing costs more than sending
    "Content-Type": "application/json",
}


@dataclass(frozen=True)
class Limits:
    """Time limits of a call, in seconds, and the size of its answer, in bytes."""

    connect: float
    read: float
    total: float
    max_response_size: int


class Sending:
    """What is known of one call while it is being sent.

    :param may_repeat: asked after a fault in the middle, with the seconds that are left: whether
        the call is idempotent.
    """

    __slots__ = ("deadline", "inherited", "limits", "may_repeat", "method")

    def __init__(
        self, limits: Limits, method: str | None, may_repeat: Callable[[Exception, float], bool]
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
    """One URL.

    :param url: without user information.
    :param authentication: is asked for each request, unless it does the same to all.
    """

    def __init__(
        self,
        url: str,
        adapter: BaseAdapter,
        authentication: AuthBase | None,
        verify: bool | str,
        cert: str | tuple[str, str] | None,
    ) -> None:
        self.url = url
        #: For messages.
        self.shown = without_passwords(url)
        self.adapter = adapter
        #: One item for each call that is being sent: a plain count could lose one between threads.
        self.in_flight: deque[None] = deque()
        #: For the set it belongs to: when it may be chosen again, and for how long it was left out.
        self.rests_until = 0.0
        self.rest = 0.0
        self._breaker = CircuitBreaker()
        self._verify = verify
        self._cert = cert
        self._authentication = None if is_constant(authentication) else authentication
        template = requests.Request("POST", url, _HEADERS).prepare()
        template.headers.pop("Content-Length", None)
        if authentication is not None and self._authentication is None:
            authentication(template)
        self._common = template.headers
        self._common_fields = fields_of(template.headers)
        self._prepared_url = template.url or url

    def leave(self) -> None:
        """Keep no connection: its service has gone, and would leave half of each open here."""
        if isinstance(self.adapter, ServiceAdapter):
            self.adapter.forget(self._prepared_url)

    def attempt(self, body: bytes, sending: Sending) -> HttpReply:
        """Send a request once.

        :raises TransportError: when there was no answer.
        :raises DeadlineExceeded: when the running call's own time is over.
        """
        left = sending.seconds_left()
        if left <= 0:
            raise sending.time_is_over(self.shown)
        self._breaker.check(self.shown)
        limits = sending.limits
        read = min(limits.read, left)
        request = self._request(body, read + _LAG)
        timeout = urllib3.Timeout(total=left, connect=limits.connect, read=read)
        self.in_flight.append(None)
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
            fault = faults.using_adapter(error, self.shown)
            if isinstance(fault, ConnectionFailed):
                self._breaker.failed(fault)
            else:
                self._breaker.connected()
            if fault is error:
                raise
            raise fault from error
        finally:
            self.in_flight.pop()
        self._breaker.connected()
        return HttpReply(self.shown, response.status_code, response, content)

    def _request(self, body: bytes, seconds: float) -> requests.PreparedRequest:
        own = outgoing_headers()
        # Nobody waits for it any more then: the service stops working on it.
        milliseconds = int(seconds * 1000)
        if "X-Gemstone-Deadline" in own:  # the running call's
            milliseconds = min(milliseconds, int(own["X-Gemstone-Deadline"]))
        own["X-Gemstone-Deadline"] = str(milliseconds)
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
                        f"{self.shown}: the answer is larger than "
                        f"{sending.limits.max_response_size} bytes",
                        status=response.status_code,
                    )
                if sending.seconds_left() <= 0:
                    raise Timeout(f"{self.shown}: no complete answer in time")
                pieces.append(piece)
        return b"".join(pieces)

    def __repr__(self) -> str:
        return f"<Endpoint {self.shown}>"
