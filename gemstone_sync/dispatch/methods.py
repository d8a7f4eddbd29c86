"""What can be called, and what is called around it. Prepared once at start, frozen then."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..contract import ParameterBinder
from ..errors import RemoteError, RpcError
from ..protocol import JsonRpcRequest, JsonRpcResponse

__all__ = ["Hooks", "Method"]


@dataclass(frozen=True)
class Method:
    """One exposed method.

    :param name: the name that callers use.
    :param function: the bound method.
    :param binder: turns params into arguments.
    :param private: callable only by an authenticated request.
    :param needs_handler: takes the request's handler as its first argument.
    :param timeout: seconds until `DeadlineExceeded`; None for no limit of its own.
    :param idempotent: callers may call it again after a fault.
    :param pass_errors: errors of other services that its caller gets as they are.
    """

    name: str
    function: Callable[..., Any]
    binder: ParameterBinder
    private: bool = False
    needs_handler: bool = False
    timeout: float | None = None
    idempotent: bool = False
    pass_errors: tuple[type[RpcError], ...] = ()

    def passes(self, error: RemoteError) -> bool:
        """Whether it is one of them: of a class, or of its code when the client knew no class."""
        return isinstance(error, self.pass_errors) or any(
            error.code == cls.code != RpcError.code for cls in self.pass_errors
        )


@dataclass(frozen=True)
class Hooks:
    """What the service wants to see of each call; None costs nothing.

    :param before: gets the request once it is authenticated and its parameters are valid.
        Raising refuses the call.
    :param after: gets the request and the response; may return another response.
    :param failed: gets the request and the error response.
    :param on_call: for plugins, as `before`; what it raises is logged only.
    :param on_internal_error: for plugins, gets the unexpected exception.
    :param observe: gets the method's name, the seconds it took and whether it succeeded.
    """

    before: Callable[[JsonRpcRequest], object] | None = None
    after: Callable[[JsonRpcRequest, JsonRpcResponse], JsonRpcResponse | None] | None = None
    failed: Callable[[JsonRpcRequest, JsonRpcResponse], object] | None = None
    on_call: Callable[[JsonRpcRequest], object] | None = None
    on_internal_error: Callable[[BaseException], object] | None = None
    observe: Callable[[str, float, bool], object] | None = None
