"""Methods that can be called, and hooks around them. Prepared once at start, frozen then."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .. import tracing
from ..concurrency import Call, Work
from ..contract import ParameterBinder
from ..errors import UNSET, RemoteError, RpcError, Unset
from ..protocol import ErrorObject, JsonRpcRequest, JsonRpcResponse
from .middleware import Nest
from .observed import ObservedCall
from .traced import begin_span, end_span

__all__ = ["Hooks", "Method"]


@dataclass(frozen=True)
class Method:
    """An exposed method.

    :param name: the name that callers use.
    :param function: the bound method.
    :param binder: turns params into arguments.
    :param private: callable only by an authenticated request.
    :param needs_handler: takes the request's handler as its first argument.
    :param timeout: seconds until `DeadlineExceeded`; None for no limit of its own.
    :param idempotent: callers may call it again after a fault.
    :param pass_errors: errors of other services that its caller gets as they are.
    :param told: what readers of the contract are told of it; of no use to the call.
    :param takes_place: counts among the calls at once, and waits for a place.
    :param run: what is called, where that is not `function` itself: it has that called elsewhere.
    :param service: the name of the service, for logs.
    :param check_result: raises for a result that its return hint forbids; None checks nothing.
    """

    name: str
    function: Callable[..., Any]
    binder: ParameterBinder
    private: bool = False
    needs_handler: bool = False
    timeout: float | None = None
    idempotent: bool = False
    pass_errors: tuple[type[RpcError], ...] = ()
    told: Any = None
    check_result: Callable[[Any], None] | None = None
    takes_place: bool = True
    run: Callable[..., Any] = None  # type: ignore[assignment]  # made below
    service: str = ""
    work: Work = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "work", Work("method", self.name, self.service))
        if self.run is None:
            object.__setattr__(self, "run", self.function)

    def passes(self, error: RemoteError) -> bool:
        """Tell whether it is one of them: by class, or by code if the client knew no class."""
        return isinstance(error, self.pass_errors) or any(
            error.code == cls.code != RpcError.code for cls in self.pass_errors
        )


@dataclass(frozen=True)
class Hooks:
    """Functions that see each call; None costs nothing.

    :param before: gets the request once it is authenticated and its parameters are valid.
        Raising refuses the call.
    :param after: gets the request and the response; may return another response.
    :param failed: gets the request and the error response.
    :param around: runs the call inside of all middleware.
    :param on_call: for plugins, as `before`; what it raises is logged only.
    :param on_internal_error: for plugins, gets the unexpected exception.
    :param begun: for observers, gets each call, those too that are refused.
    :param finished: for observers, gets the same object when the call has ended, in whatever way.
    :param batch: for observers, gets the number of requests in each batch.
    """

    before: Callable[[JsonRpcRequest], object] | None = None
    after: Callable[[JsonRpcRequest, JsonRpcResponse], JsonRpcResponse | None] | None = None
    failed: Callable[[JsonRpcRequest, JsonRpcResponse], object] | None = None
    around: Nest | None = None
    on_call: Callable[[JsonRpcRequest], object] | None = None
    on_internal_error: Callable[[BaseException], object] | None = None
    begun: Callable[[ObservedCall], object] | None = None
    finished: Callable[[ObservedCall], object] | None = None
    batch: Callable[[int], object] | None = None

    def is_observed(self) -> bool:
        """Tell whether there are observers."""
        return self.begun is not None or self.finished is not None

    def begin(
        self, request: JsonRpcRequest, call: Call, started: float, known: bool = True
    ) -> ObservedCall:
        """Tell observers that a call begins; return what they see.

        :param known: whether there is such a method.
        """
        observed = ObservedCall(request, call, started)
        if tracing.is_on():
            observed.span = begin_span(request, call, known)
        if self.begun is not None:
            self.begun(observed)
        return observed

    def finish(
        self,
        observed: ObservedCall,
        error: ErrorObject | Unset,
        exception: BaseException | None = None,
        *,
        refused: bool = False,
    ) -> None:
        """Tell observers how a call has ended."""
        observed.end(None if error is UNSET else error, exception, refused)
        if self.finished is not None:
            self.finished(observed)
        if observed.span is not None:
            end_span(observed.span, observed.error, exception)
            observed.span = None
