"""The tools of a service in this process: its dispatcher calls them, as from its endpoint."""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from typing import Protocol

from ..contract.model import Contract
from ..dispatch import CallContext, Dispatcher
from ..errors import UNSET
from ..protocol import Item, JsonRpcRequest, JsonRpcResponse, ResponseWriter
from .tools import Tool, Toolbox, tools_of

__all__ = ["LocalBackend"]


class _Settings(Protocol):
    """See the attributes of the same names on ``MicroService``."""

    @property
    def hide_private(self) -> bool: ...

    @property
    def endpoint(self) -> str: ...

    @property
    def mcp_path(self) -> str | None: ...


class LocalBackend:
    """Calls the tools of one service.

    :param contract: gives the service's contract; asked for once, when it is needed.
    :param dots: see `tools.tool_name`.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        contract: Callable[[], Contract],
        settings: _Settings,
        *,
        dots: bool = True,
    ) -> None:
        self._dispatcher = dispatcher
        self._contract = contract
        self._settings = settings
        self._dots = dots
        self._toolbox: Toolbox | None = None
        self._about = ("", "", "")

    @property
    def about(self) -> tuple[str, str, str]:
        """Name, version and instructions of the service."""
        self.toolbox()
        return self._about

    @property
    def endpoint(self) -> str | None:
        """The path of its JSON-RPC endpoint, from that for agents: both may lie below another."""
        here = posixpath.dirname(self._settings.mcp_path or "/mcp")
        return posixpath.relpath(self._settings.endpoint, here)

    def toolbox(self, *, now: bool = False) -> Toolbox:
        """Return its tools, which never change.

        :raises ServiceConfigurationError: when one cannot be described.
        """
        if self._toolbox is None:
            contract = self._contract()
            instructions = "\n\n".join(filter(None, (contract.summary, contract.description)))
            self._about = (contract.name, contract.version, instructions)
            tools = tools_of(contract, dots=self._dots)
            for tool in tools:
                assert tool.header_parameters is not None  # checks them
            self._toolbox = Toolbox(tools)
        return self._toolbox

    def sees_private(self, context: CallContext) -> bool:
        """Tell whether the service's authentication lets a caller in."""
        return self._dispatcher.lets_in(context)

    def hides_private(self) -> bool:
        """Tell what the service's ``hide_private`` says."""
        return self._settings.hide_private

    def read(self, body: bytes) -> Item | list[Item]:
        """Read a message, as the dispatcher reads bodies."""
        return self._dispatcher.read(body)

    def call(self, tool: Tool, request: JsonRpcRequest, context: CallContext) -> JsonRpcResponse:
        """Call the method of a tool."""
        response = self._dispatcher.answer(request, context)
        assert response is not None  # the request has an id
        if response.error is not UNSET:
            self._dispatcher.tell_refusal(response.error, context)
        return response

    def encode(
        self, response: JsonRpcResponse, tool: Tool, context: CallContext, writer: ResponseWriter
    ) -> bytes:
        """Write a response; one that cannot be written is masked, as on the endpoint."""
        return self._dispatcher.encode(response, tool.method.name, context, writer=writer)
