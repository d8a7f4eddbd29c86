"""A call as observers see it."""

from __future__ import annotations

import time
from typing import Any

from ..concurrency import Call
from ..errors import InternalError
from ..protocol import ErrorObject, JsonRpcRequest

__all__ = ["ObservedCall"]


class ObservedCall:
    """A call: the same object when it begins and when it has finished.

    :ivar request: the request object, with method, params and id.
    :ivar call: its deadline, hops and trace.
    :ivar started: when it began, of ``time.monotonic()``.
    :ivar seconds: how long it took; 0.0 while it runs.
        Encoding the result is not in it: one that cannot be encoded is an error to the caller only.
    :ivar error: the error object of the response; None when it succeeded, or still runs.
    :ivar exception: what the method raised, also when its caller gets an error id only; or None.
    :ivar refused: True when it never got a place: there is no such method (whose name is then any
        text of the caller's), it came through too many services, or the service is overloaded.
    """

    __slots__ = (
        "call",
        "error",
        "exception",
        "refused",
        "request",
        "seconds",
        "span",
        "started",
    )

    def __init__(self, request: JsonRpcRequest, call: Call, started: float) -> None:
        self.request = request
        self.call = call
        self.started = started
        self.seconds = 0.0
        self.error: ErrorObject | None = None
        self.exception: BaseException | None = None
        self.refused = False
        #: For whoever traces it.
        self.span: Any = None

    @property
    def name(self) -> str:
        """Return the name of the method, as the caller wrote it."""
        return self.request.method

    @property
    def request_id(self) -> str:
        """Return the id that marks everything done for one outer request."""
        return self.call.request_id

    @property
    def error_code(self) -> int | None:
        """Return the code of the error response; None when the call succeeded, or still runs."""
        return None if self.error is None else self.error.code

    @property
    def error_id(self) -> str | None:
        """Return the id by which caller and log name an unexpected exception; or None."""
        if self.error is None or self.error.code != InternalError.code:
            return None
        return self.error.data.get("error_id") if isinstance(self.error.data, dict) else None

    @property
    def failed(self) -> bool:
        """Tell whether it has finished and did not succeed."""
        return self.error is not None or self.exception is not None

    def end(
        self, error: ErrorObject | None, exception: BaseException | None, refused: bool
    ) -> None:
        """Note how the call ended, and when."""
        self.seconds = time.monotonic() - self.started
        self.error, self.exception, self.refused = error, exception, refused
