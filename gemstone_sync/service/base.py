"""The base of `MicroService`: the attributes to set and the hooks to override.

The parts of a service (assembly, runner, event runtime, discovery) know this class; `MicroService`
knows the parts.
"""

from __future__ import annotations

import logging
import types
from collections.abc import Callable
from typing import Any

from ..client.hosts import host_in_url
from ..event.envelope import Envelope
from ..ops import Lifecycle
from ..protocol import JsonRpcRequest, JsonRpcResponse
from .attributes import ServiceAttributes
from .container import Container
from .handler import JsonRpcHandler
from .plugins import PluginSet

__all__ = ["NAMES_OF_HOOKS", "ServiceBase", "url_at"]


class ServiceBase(Container, ServiceAttributes):
    """Attributes to set, and hooks that do nothing until they are overridden.

    The hooks' parameters have no names for callers: an override may give its own.
    """

    #: Where the service is in its life.
    lifecycle: Lifecycle
    #: The plugins, by name.
    plugin_set: PluginSet

    @property
    def url(self) -> str:
        """The URL of the endpoint at the bound address."""
        host = "0.0.0.0" if self.host == "*" else self.host
        return url_at(host, self.port, self.endpoint, bool(self.certfile))

    def on_service_start(self) -> None:
        """Called when the service starts, before it answers its first call.

        What it raises ends the start.
        """

    def on_service_stop(self) -> None:
        """Called when the service has stopped, after the last call."""

    def before_method_call(self, request: JsonRpcRequest, /) -> None:
        """Called before each call that is authenticated and has valid parameters.

        Raising an `RpcError` refuses the call.
        """

    def after_method_call(
        self, request: JsonRpcRequest, response: JsonRpcResponse, /
    ) -> JsonRpcResponse | None:
        """Called after each successful call.

        :returns: None, or the response to send instead: ``response.with_result(...)``.
        """
        return None

    def around_method_call(
        self, request: JsonRpcRequest, proceed: Callable[..., JsonRpcResponse], /
    ) -> JsonRpcResponse | None:
        """Called instead of each method: what it does before and after ``proceed()`` is around it.

        ::

            def around_method_call(self, request, proceed):
                with self.engine.begin() as connection:  # rolls back when the method raises
                    self.connection.set(connection)  # a ContextVar
                    return proceed()

        From outside to inside: authentication, parameters, `before_method_call`, the plugins' own
        ``around_method_call`` in their order, this one, the method. Then `after_method_call`.

        :param proceed: calls the method and returns its response, or raises what it raises; with
            another request, its parameters count. Called again it calls the method again.
        :returns: the response to send, or None for what ``proceed`` returned or raised. Without a
            call of ``proceed`` it returns a response, ``JsonRpcResponse(result=…)``, or raises;
            anything else is an internal error.
        """
        return proceed()

    def around_event(self, event: Envelope, proceed: Callable[[], Any], /) -> Any:
        """Called instead of each event handler, once for each attempt, as `around_method_call`.

        What it raises counts as the handler's failure. Without a call of ``proceed`` it raises
        (`Reject`, `RetryLater`), or returns something other than None: the event counts as handled.
        """
        return proceed()

    def on_failed_method_call(self, request: JsonRpcRequest, response: JsonRpcResponse, /) -> None:
        """Called with the error response of each failed call; what it raises is logged."""

    def authenticate_request(self, handler: JsonRpcHandler, /) -> Any:
        """Decide whether a private method may be called; anything falsy denies it.

        The result can be read as ``handler.current_user``. ``handler.api_token`` is the first token
        that `validation_strategies` find; by default it is given to `api_token_is_valid`.
        """
        return handler.api_token is not None and self.api_token_is_valid(handler.api_token)

    def api_token_is_valid(self, api_token: str, /) -> bool:
        """Decide whether a token is good. Deprecated: override `authenticate_request`."""
        return False

    def encode(self, value: Any, /) -> Any:
        """Make plain data of a value in a result or an event that JSON has no form for.

        Asked for what the library does not know itself, at any depth, keys included::

            def encode(self, value):
                if isinstance(value, Money):
                    return {"amount": str(value.amount), "currency": value.currency}

        :returns: what JSON can represent, or what is known here again; None for a value that has no
            form: the call is then an internal error.
        """
        return None

    def get_logger(self) -> logging.Logger:
        """Return the logger of the service."""
        return logging.getLogger(f"gemstone_sync.service.{self.name}")


NAMES_OF_HOOKS = tuple(
    name
    for name, member in vars(ServiceBase).items()
    if isinstance(member, types.FunctionType) and not name.startswith("_")
)


def url_at(host: str, port: int, path: str, tls: bool) -> str:
    """Make a URL at a host, a name or an address."""
    return f"{'https' if tls else 'http'}://{host_in_url(host)}:{port}{path}"
