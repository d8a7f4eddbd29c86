"""A call of another service as observers see it, and what tells them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..errors import RemoteError

__all__ = ["ObservedRequest", "RequestHooks", "hooks", "tell"]


class ObservedRequest:
    """A call, notification or batch that is sent: the same object when it begins and when it ends.

    :ivar method: the name of the method; None for a batch.
    :ivar id: the id of the request; None for a batch and for a notification.
    :ivar url: the endpoint that was tried last, without user and password; None before the first.
    :ivar attempts: how often it was sent, or tried to be.
    :ivar started: when it began, of ``time.monotonic()``.
    :ivar seconds: how long it took, all attempts included; 0.0 while it runs.
    :ivar exception: what is raised for it, or the error that the service answered with; or None.
    """

    __slots__ = ("attempts", "exception", "id", "method", "seconds", "span", "started", "url")

    def __init__(self, method: str | None, id: Any = None) -> None:
        self.method = method
        self.id = id
        self.url: str | None = None
        self.attempts = 0
        self.started = time.monotonic()
        self.seconds = 0.0
        self.exception: BaseException | None = None
        #: For whoever traces it.
        self.span: Any = None

    @property
    def error_code(self) -> int | None:
        """Return the code of the error that the service answered with; None for any other end."""
        return self.exception.code if isinstance(self.exception, RemoteError) else None

    @property
    def failed(self) -> bool:
        """Tell whether it has ended and did not succeed."""
        return self.exception is not None

    def tried(self, url: str) -> None:
        """Note an attempt."""
        self.url = url
        self.attempts += 1

    def end(self, exception: BaseException | None) -> None:
        """Note how it ended, and when."""
        self.seconds = time.monotonic() - self.started
        self.exception = exception


@dataclass(frozen=True)
class RequestHooks:
    """Functions that see each request of the process; None costs nothing."""

    begun: Callable[[ObservedRequest], object] | None = None
    finished: Callable[[ObservedRequest], object] | None = None

    def begin(self, method: str | None, id: Any = None) -> ObservedRequest:
        """Tell that a request begins; return it."""
        observed = ObservedRequest(method, id)
        if self.begun is not None:
            self.begun(observed)
        return observed

    def finish(self, observed: ObservedRequest, exception: BaseException | None) -> None:
        """Tell that a request has ended."""
        observed.end(exception)
        if self.finished is not None:
            self.finished(observed)


#: Those that are told now; None while there is nobody.
_hooks: RequestHooks | None = None


def hooks() -> RequestHooks | None:
    """Return those that are told of requests; None when nobody is."""
    return _hooks


def tell(told: RequestHooks | None) -> None:
    """Have requests told to these from now on; to nobody else."""
    global _hooks
    _hooks = told
