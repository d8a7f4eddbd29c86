"""The tools of services at URLs, of one or of several joined: a client calls them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from gevent.lock import RLock

from ..client import RemoteService
from ..concurrency import Call, current_call
from ..contract.model import Contract
from ..dispatch import CallContext
from ..dispatch.traced import begin_span, end_span
from ..errors import (
    UNSET,
    InternalError,
    MethodNotFound,
    RemoteError,
    ServiceConfigurationError,
    TransportError,
)
from ..protocol import (
    ErrorObject,
    Item,
    JsonRpcRequest,
    JsonRpcResponse,
    ResponseWriter,
    read_body,
)
from ..tracing import is_on
from .tools import Tool, Toolbox, tools_of

__all__ = ["Found", "RemoteBackend", "Service"]

_logger = logging.getLogger("gemstone_sync.mcp")

#: The service has limited it already.
_NO_LIMIT = 1 << 62

#: 2026-07-28 allows more, but agents put names of their own before it.
_LONGEST = 64

#: Seconds: agents are told that they may keep a listing for as long.
_KEPT = 60.0
#: Seconds after which a service that has given no answer is asked again.
_SOON = 5.0


@dataclass(frozen=True)
class Service:
    """A service, and how it is called.

    :ivar prefix: goes before the names of its tools.
    """

    contract: Contract
    client: RemoteService
    prefix: str = ""


class Found(NamedTuple):
    """Services, as they are now.

    :ivar services: one, or several whose prefixes differ.
    :ivar about: name, version and instructions of the whole.
    :ivar is_whole: False when one has given no answer: it is to be asked again soon.
    """

    services: Sequence[Service]
    about: tuple[str, str, str]
    is_whole: bool = True


class RemoteBackend:
    """Calls the tools of services.

    :param find: finds the services; called at once, and for a listing when what it found is old.
    :param has_credentials: show private tools too; the services say whether they may be called.
    :param kept: seconds for which what was found is taken for true.
    :param dots: see `tools.tool_name`.
    :raises ServiceConfigurationError: when two tools have one name.
    """

    endpoint: str | None = None

    def __init__(
        self,
        find: Callable[[], Found],
        has_credentials: bool,
        kept: float = _KEPT,
        *,
        dots: bool = True,
    ) -> None:
        self._find = find
        self._has_credentials = has_credentials
        self._kept = kept
        self._dots = dots
        self._reading = RLock()
        self._read()

    def toolbox(self, *, now: bool = False) -> Toolbox:
        """Return the tools of all of them."""
        if now and self._is_old():
            with self._reading:
                if self._is_old():  # still, after another greenlet
                    try:
                        self._read()
                    except ServiceConfigurationError as error:
                        _logger.warning("the tools stay as they were: %s", error)
        return self._toolbox

    def _is_old(self) -> bool:
        return time.monotonic() >= self._old_at

    def _read(self) -> None:
        found = self._find()
        self._old_at = time.monotonic() + min(self._kept, _KEPT if found.is_whole else _SOON)
        self._toolbox = Toolbox(
            tool
            for each in found.services
            for tool in tools_of(each.contract, each.prefix, each.client, _LONGEST, dots=self._dots)
        )
        self.about = found.about

    def sees_private(self, context: CallContext) -> bool:
        """Tell whether private tools are shown."""
        return self._has_credentials

    def hides_private(self) -> bool:
        """Say no: what a service hides it does not tell of."""
        return False

    def read(self, body: bytes) -> Item | list[Item]:
        """Read a message."""
        return read_body(body)

    def call(self, tool: Tool, request: JsonRpcRequest, context: CallContext) -> JsonRpcResponse:
        """Call the method of a tool at its service."""
        client: RemoteService = tool.source
        # -1: this is no service that a call came through.
        call = Call(hops=-1, traceparent=context.traceparent, carried=context.carried)
        before = current_call.set(call)
        span = begin_span(request, call, known=True) if is_on() else None
        try:
            response = self._call(client, tool, request)
        except BaseException as error:  # cancelled
            if span is not None:
                end_span(span, None, error)
            raise
        finally:
            current_call.reset(before)
        if span is not None:
            end_span(span, None if response.error is UNSET else response.error, None)
        return response

    def _call(self, client: RemoteService, tool: Tool, request: JsonRpcRequest) -> JsonRpcResponse:
        try:
            result = client.call_method(
                request.method,
                request.params,  # type: ignore[arg-type]
                idempotent=tool.method.idempotent or tool.method.read_only,
            )
            return JsonRpcResponse(result=result.value(), id=request.id)
        except MethodNotFound as error:
            self._old_at = 0.0  # another version of the service has come
            told = ErrorObject(error.code, "The service has no such method now; see tools/list")
            return JsonRpcResponse(error=told, id=request.id)
        except RemoteError as error:
            return JsonRpcResponse(error=ErrorObject.of(error), id=request.id)
        except TransportError as error:
            told = ErrorObject(InternalError.code, f"The service gave no answer: {error}")
            return JsonRpcResponse(error=told, id=request.id)

    def encode(
        self, response: JsonRpcResponse, tool: Tool, context: CallContext, writer: ResponseWriter
    ) -> bytes:
        """Write a response; what came as JSON can be written."""
        return writer.write_response(response, _NO_LIMIT)
