"""A service's methods as tools for agents: which of them are some, and where."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..callables import doc_of
from ..contract.model import Contract
from ..dispatch import CallContext, Dispatcher, Method
from ..errors import ServiceConfigurationError
from ..server import EndpointSettings
from .auth import BearerTokenStrategy, ValidationStrategy
from .base import ServiceBase

if TYPE_CHECKING:
    from ..mcp.endpoint import McpEndpoint

__all__ = ["bearer_for_agents", "is_tool", "tools_endpoint"]


def is_tool(service: ServiceBase, method: Method) -> bool | None:
    """Tell whether a method is a tool; None when the service has none, and nothing is said."""
    told = None if method.told is None else method.told.mcp
    if _path(service) is None:
        return told
    if _is_own(service, method.name):
        return False
    if service.mcp_methods is not None:
        return method.name in service.mcp_methods
    described = doc_of(method.function) or (method.told is not None and method.told.summary)
    return told is not False and bool(described)


def _is_own(service: ServiceBase, name: str) -> bool:
    if name == "statistics":
        return service.use_statistics
    return name == "get_service_specs" or name.startswith("rpc.")


def _path(service: ServiceBase) -> str | None:
    if service.mcp_path is None and not service.mcp:
        return None
    return service.mcp_path or "/mcp"


def bearer_for_agents(service: ServiceBase, context: CallContext) -> ValidationStrategy | None:
    """Return what reads an agent's token, after the service's own strategies; None for others.

    The protocol has ``Authorization: Bearer`` for it (2026-07-28, "Authorization"), whatever header
    the service asks its other callers for. Whether the token is good is for the service to say.
    """
    path = _path(service)
    transport = context.transport
    if path is None or not isinstance(transport, dict) or transport.get("PATH_INFO") != path:
        return None
    return BearerTokenStrategy()


def tools_endpoint(
    service: ServiceBase, dispatcher: Dispatcher, contract: Callable[[], Contract]
) -> list[McpEndpoint]:
    """Make the endpoint for agents, if there is one.

    :raises ServiceConfigurationError: when its settings make no sense.
    """
    path = _path(service)
    if path is None:
        if service.mcp_methods is not None:
            raise ServiceConfigurationError("mcp_methods without mcp = True does nothing")
        return []
    from ..mcp.endpoint import McpEndpoint  # here: others do not pay for it
    from ..mcp.face import Face
    from ..mcp.local import LocalBackend

    _check(service, dispatcher)
    settings = EndpointSettings(endpoint=path, max_body_size=service.max_body_size)
    face = Face(LocalBackend(dispatcher, contract, service))
    return [McpEndpoint(face, dispatcher, settings, service.lifecycle.is_starting)]


def _check(service: ServiceBase, dispatcher: Dispatcher) -> None:
    from ..mcp.tools import tool_name

    for name in service.mcp_methods or ():
        method = dispatcher.methods.get(name)
        if method is None or _is_own(service, name):
            why = "is none of the service" if method is None else "is the framework's own"
            raise ServiceConfigurationError(f"mcp_methods: the method {name!r} {why}")
        if method.told is not None and method.told.mcp is False:
            raise ServiceConfigurationError(f"mcp_methods has {name!r}, which has mcp=False")
    tools = [method for method in dispatcher.methods.values() if is_tool(service, method)]
    named: dict[str, str] = {}
    for method in tools:
        other = named.setdefault(tool_name(method.name), method.name)
        if other != method.name:
            raise ServiceConfigurationError(
                f"{other} and {method.name} would both be the tool {tool_name(other)}"
            )
    if not tools:
        service.logger.warning("no method is a tool: give methods docstrings, or set mcp_methods")
