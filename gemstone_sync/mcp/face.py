"""Answer one message: the protocol in every revision, without state.

Over HTTP the headers count too, and answers have a status; other transports have neither.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from ..dispatch import CallContext
from ..errors import (
    UNSET,
    AccessDenied,
    InvalidParams,
    InvalidRequest,
    MethodNotFound,
    ServerOverloaded,
    TooManyHops,
)
from ..protocol import ErrorObject, Item, JsonRpcRequest, JsonRpcResponse, ResponseWriter
from .arguments import params_of
from .header_parameters import decoded
from .results import ResultWriter, written
from .revisions import (
    ASSUMED,
    HEADER_MISMATCH,
    LEGACY,
    MODERN,
    REVISIONS,
    UNSUPPORTED_VERSION,
    Revision,
    code_for,
)
from .tools import Tool, Toolbox

__all__ = ["Answer", "Backend", "Face", "Headers"]

#: Gives a header's value by its name; None when there is none.
Headers = Callable[[str], "str | None"]

_META = "io.modelcontextprotocol/"
#: What `_meta` may tell of a trace (2026-07-28, "OpenTelemetry trace context").
_TRACE = ("traceparent", "tracestate", "baggage")
#: Milliseconds for which a client may believe what it was told: a new version of the service comes
#: with a restart, and nobody tells it.
_FRESH = 60_000


class Answer(NamedTuple):
    """The answer to a message.

    :ivar status: over HTTP.
    :ivar body: None when there is nothing to say, to notifications.
    :ivar revision: that ``initialize`` agreed on; None for every other message.
    :ivar refusal: why the message was refused; None when it was not.
    """

    status: int
    body: bytes | None
    headers: tuple[tuple[str, str], ...] = ()
    revision: Revision | None = None
    refusal: str | None = None


class Backend(Protocol):
    """Has the tools, and calls them.

    :ivar about: name, version, and what agents are told of the whole: ``instructions``.
    """

    @property
    def about(self) -> tuple[str, str, str]: ...

    @property
    def endpoint(self) -> str | None:
        """The path of the JSON-RPC endpoint beside; None for none."""

    def toolbox(self, *, now: bool = False) -> Toolbox:
        """Return all tools, private ones too.

        :param now: as they are now, for who lists them.
        """

    def sees_private(self, context: CallContext) -> bool:
        """Tell whether a caller may call private tools."""

    def hides_private(self) -> bool:
        """Tell whether other callers must not know their names."""

    def read(self, body: bytes) -> Item | list[Item]:
        """Read a message, within the limits for bodies."""

    def call(self, tool: Tool, request: JsonRpcRequest, context: CallContext) -> JsonRpcResponse:
        """Call the method of a tool; never raises."""

    def encode(
        self, response: JsonRpcResponse, tool: Tool, context: CallContext, writer: ResponseWriter
    ) -> bytes:
        """Write a response within the limits for results; never raises."""


class _Refused(Exception):
    """Ends the work on a message."""

    def __init__(
        self, status: int, code: int, message: str, data: Any = UNSET, *headers: tuple[str, str]
    ) -> None:
        super().__init__(message)
        self.status = status
        self.error = ErrorObject(code, message, data)
        self.headers = headers


@dataclass(frozen=True)
class _Message:
    """A request that was read."""

    id: str | int
    method: str
    params: dict[str, Any]
    revision: Revision
    headers: Headers | None

    def header(self, name: str) -> str:
        """Return a header that must be there.

        :raises _Refused: when it is not.
        """
        assert self.headers is not None
        value = self.headers(name)
        if value is None:
            raise _mismatch(f"the header {name} is missing")
        return value


class Face:
    """Answers messages."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._answers: dict[str, Callable[[_Message, CallContext], Answer]] = {
            "server/discover": self._discover,
            "initialize": self._initialize,
            "ping": self._ping,
            "tools/list": self._list,
            "tools/call": self._call,
        }

    def check(self) -> None:
        """Make the tools now, and not with the first message.

        :raises ServiceConfigurationError: when one cannot be described.
        """
        self._backend.toolbox()

    def answer(
        self,
        body: bytes,
        context: CallContext,
        headers: Headers | None = None,
        assumed: Revision = ASSUMED,
    ) -> Answer:
        """Answer a message. Nothing that a client sends makes it raise.

        :param headers: None for a transport without.
        :param assumed: the revision of a message that names none.
        """
        request_id = None
        try:
            item = self._backend.read(body)
            if isinstance(item, list):
                raise _Refused(
                    400, InvalidRequest.code, "A batch is not taken: send each by itself"
                )
            request_id = item.id if isinstance(item.id, (str, int)) else None
            if isinstance(item, JsonRpcResponse):
                error: Any = item.error
                raise _Refused(400, error.code, error.message, error.data)
            if item.is_notification():
                return _notified(item.method, headers is not None)
            message = _read(item, headers, assumed)
            answer = self._answers.get(message.method)
            if answer is None or message.method not in self._methods(message.revision):
                status = 404 if message.revision.modern else 200
                raise _Refused(status, MethodNotFound.code, "There is no such method")
            return answer(message, context)
        except _Refused as refused:
            members: dict[str, Any] = {"code": refused.error.code, "message": refused.error.message}
            if refused.error.data is not UNSET:
                members["data"] = refused.error.data
            text = written(request_id, "error", members)
            return Answer(refused.status, text, refused.headers, refusal=refused.error.message)

    # Methods of the protocol

    @staticmethod
    def _methods(revision: Revision) -> tuple[str, ...]:
        opening = ("server/discover",) if revision.modern else ("initialize", "ping")
        return (*opening, "tools/list", "tools/call")

    def _initialize(self, message: _Message, context: CallContext) -> Answer:
        told = {"capabilities": {"tools": {}}, "serverInfo": self._info(), **self._instructions()}
        endpoint = self._backend.endpoint
        if endpoint is not None:  # for `gemstone mcp`, which is given the URL of this
            told["_meta"] = {"gemstone_sync/endpoint": endpoint}
        revision = message.revision
        result = {"protocolVersion": revision.name, **told}
        return Answer(200, written(message.id, "result", result), revision=revision)

    def _ping(self, message: _Message, context: CallContext) -> Answer:
        return Answer(200, written(message.id, "result", {}))

    def _discover(self, message: _Message, context: CallContext) -> Answer:
        result = {
            "supportedVersions": [*REVISIONS],
            "capabilities": {"tools": {}},
            **self._instructions(),
            "ttlMs": _FRESH,
            "cacheScope": "public",
            **self._beside(MODERN),
        }
        return Answer(200, written(message.id, "result", result))

    def _list(self, message: _Message, context: CallContext) -> Answer:
        cursor = message.params.get("cursor")
        toolbox = self._backend.toolbox(now=cursor is None)
        has_token = message.headers is not None and message.headers("Authorization") is not None
        private = False
        if toolbox.has_private:
            private = self._backend.sees_private(context)
            if not private and (has_token or not toolbox.all(private=False)):
                raise self._unauthorized(has_token)
        try:
            tools, cursor = toolbox.page(cursor, private=private)
        except KeyError:
            raise _Refused(200, InvalidParams.code, "This cursor is none of here") from None
        result: dict[str, Any] = {"tools": [tool.described(message.revision) for tool in tools]}
        if cursor is not None:
            result["nextCursor"] = cursor
        if message.revision.modern:
            scope = "private" if private or has_token else "public"
            result |= {"ttlMs": _FRESH, "cacheScope": scope}
        result |= self._beside(message.revision)
        return Answer(200, written(message.id, "result", result))

    def _call(self, message: _Message, context: CallContext) -> Answer:
        name, arguments = message.params.get("name"), message.params.get("arguments")
        if message.revision.modern and message.headers is not None:
            _check_name(message, name)
        arguments = {} if arguments is None else arguments
        if not isinstance(name, str) or not isinstance(arguments, dict):
            raise _invalid("tools/call wants a name and an object of arguments", message)
        tool = self._tool(name, context)
        if message.revision.modern and message.headers is not None:
            for parameter in tool.header_parameters:
                why = parameter.mismatch(arguments, message.headers(parameter.header))
                if why is not None:
                    raise _mismatch(why)
        meta = message.params.get("_meta", {})
        context.continue_trace(*map(meta.get, _TRACE))
        params = params_of(tool.method, arguments)
        request = JsonRpcRequest(tool.method.name, params, message.id)
        response = self._backend.call(tool, request, context)
        if response.error is not UNSET:
            self._refuse_call(response.error, context, message)
        writer = ResultWriter(tool, message.revision, message.id, self._beside(message.revision))
        return Answer(200, self._backend.encode(response, tool, context, writer))

    def _tool(self, name: str, context: CallContext) -> Tool:
        tool = self._backend.toolbox().get(name)
        if tool is None or (
            tool.method.private
            and self._backend.hides_private()
            and not self._backend.sees_private(context)
        ):
            raise _Refused(
                200, InvalidParams.code, f"There is no tool {name[:100]}; see tools/list"
            )
        return tool

    def _refuse_call(self, error: ErrorObject, context: CallContext, message: _Message) -> None:
        """Raise what is no result of the tool, because it was not called."""
        if error.code == AccessDenied.code:
            has_token = message.headers is not None and message.headers("Authorization") is not None
            raise self._unauthorized(has_token)
        if context.status == 503:
            raise _Refused(503, code_for(ServerOverloaded()), error.message)
        if error.code == TooManyHops.code:
            raise _Refused(400, code_for(TooManyHops()), error.message)

    def _unauthorized(self, has_token: bool) -> _Refused:
        # RFC 6750, section 3.
        challenge = 'Bearer error="invalid_token"' if has_token else "Bearer"
        denied = AccessDenied()
        header = ("WWW-Authenticate", challenge)
        return _Refused(401, code_for(denied), denied.message, UNSET, header)

    # What results have

    def _info(self) -> dict[str, str]:
        name, version, _ = self._backend.about
        return {"name": name, "version": version}

    def _instructions(self) -> dict[str, str]:
        _, _, instructions = self._backend.about
        return {"instructions": instructions} if instructions else {}

    def _beside(self, revision: Revision) -> dict[str, Any]:
        if not revision.modern:
            return {}
        return {"resultType": "complete", "_meta": {f"{_META}serverInfo": self._info()}}


def _notified(method: str, over_http: bool) -> Answer:
    if not over_http or method.startswith("notifications/"):  # elsewhere none is answered at all
        return Answer(202, None)
    raise _Refused(400, InvalidRequest.code, "A request has an id")


def _read(item: JsonRpcRequest, headers: Headers | None, assumed: Revision) -> _Message:
    """Take a request for a message of a revision.

    :raises _Refused: when it is none.
    """
    if isinstance(item.id, (float, bool)) or not isinstance(item.id, (str, int)):
        raise _Refused(400, InvalidRequest.code, "An id is a text or a whole number")
    params = {} if item.params is UNSET else item.params
    if not isinstance(params, dict):
        raise _Refused(400, InvalidRequest.code, "params is an object")
    meta = params.get("_meta", {})
    if not isinstance(meta, dict):
        raise _Refused(400, InvalidParams.code, "_meta is an object")
    header = None if headers is None else headers("MCP-Protocol-Version")
    version = meta.get(f"{_META}protocolVersion")
    if version is None and item.method == "initialize":
        revision = REVISIONS.get(str(params.get("protocolVersion")), LEGACY[0])
        revision = LEGACY[0] if revision.modern else revision
        return _Message(item.id, item.method, params, revision, headers)
    revision = _revision(version, header, headers is not None, assumed)
    message = _Message(item.id, item.method, params, revision, headers)
    if revision.modern:
        if version is None:
            raise _invalid(f"_meta has no {_META}protocolVersion", message)
        if not isinstance(meta.get(f"{_META}clientCapabilities"), dict):
            raise _invalid(f"_meta has no {_META}clientCapabilities", message)
        if headers is not None and message.header("Mcp-Method") != item.method:
            raise _mismatch("the header Mcp-Method is not the body's method")
    return message


def _revision(version: Any, header: str | None, over_http: bool, assumed: Revision) -> Revision:
    """Find the revision of a request.

    :param version: what its ``_meta`` says; None for nothing.
    """
    if version is not None and over_http:
        if header is None:
            raise _mismatch("the header MCP-Protocol-Version is missing")
        if header != version:
            raise _mismatch("the header MCP-Protocol-Version is not what _meta says")
    wanted = header if version is None else version
    if wanted is None:
        return assumed
    revision = REVISIONS.get(wanted) if isinstance(wanted, str) else None
    if revision is None:
        data = {"supported": [*REVISIONS], "requested": wanted}
        raise _Refused(400, UNSUPPORTED_VERSION, "Unsupported protocol version", data)
    return revision


def _check_name(message: _Message, name: Any) -> None:
    if decoded(message.header("Mcp-Name")) != name:
        raise _mismatch("the header Mcp-Name is not the body's params.name")


def _mismatch(why: str) -> _Refused:
    return _Refused(400, HEADER_MISMATCH, f"Header mismatch: {why}")


def _invalid(why: str, message: _Message) -> _Refused:
    return _Refused(400 if message.revision.modern else 200, InvalidParams.code, why)
