"""RemoteService without a network: over a service in this process, and over canned answers.

Both are real clients over an adapter, so encoding, checking and errors are the real ones.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias
from urllib.parse import urlsplit

from ..client import Adapter, HttpReply, HttpRequest, MethodCall, Notification, RemoteService
from ..errors import UNSET, MethodNotFound, RpcError, ServerOverloaded, Timeout
from ..protocol import WIRE_FORMATS, JsonRpcRequest, JsonRpcResponse, read_body

if TYPE_CHECKING:
    from ..service import MicroService

__all__ = ["FakeRemoteService", "InProcessAdapter"]

_WRITER = WIRE_FORMATS["jsonrpc"]

_Item: TypeAlias = JsonRpcRequest | JsonRpcResponse


class InProcessAdapter(Adapter):
    """Routes a `RemoteService` to a service of this process: its whole WSGI stack, no socket.

    ::

        users = RemoteService("http://users/api", adapter=InProcessAdapter(UsersService()))

    The URL's path must be the service's ``endpoint``.
    """

    def __init__(self, service: MicroService) -> None:
        self._service = service

    def send(self, request: HttpRequest) -> HttpReply:
        """Have the service answer the request."""
        client = self._service.app.test_client(use_cookies=False)
        target = urlsplit(request.url)._replace(scheme="", netloc="").geturl()
        reply = client.open(target, method="POST", data=request.body, headers=request.headers)
        headers = {name.lower(): value for name, value in reply.headers.items()}
        return HttpReply(request.shown, reply.status_code, headers, reply.data)


class _Canned(NamedTuple):
    result: Any
    error: Exception | None
    delay: float


_NOT_FOUND = _Canned(UNSET, MethodNotFound(), 0)


class FakeRemoteService(RemoteService):
    """A `RemoteService` with canned answers, that records what it was asked.

    :param answers: results by the name of the method. A callable is called with the parameters.
    :param url: what its ``url`` says.
    :param options: as for `RemoteService`.
    :ivar calls: every `MethodCall` and `Notification` that arrived, in order.

    ::

        users = FakeRemoteService({"count": 3, "find": lambda name: {"name": name}})
        users.answer("delete", error=AccessDenied())
        assert users.methods.count() == 3
        assert [call.method_name for call in users.calls] == ["count"]

    A method without an answer is not found (-32601). What a callable raises is the answer when it
    is an `RpcError`; anything else, such as a failed ``assert``, comes out of the call as it is.
    """

    def __init__(
        self,
        answers: Mapping[str, Any] | None = None,
        *,
        url: str = "http://fake/api",
        **options: Any,
    ) -> None:
        self._canned: dict[str, _Canned] = {}
        self.calls: list[MethodCall | Notification] = []
        super().__init__(url, adapter=_FakeAdapter(self._canned, self.calls), **options)
        for method, result in (answers or {}).items():
            self.answer(method, result)

    def answer(
        self, method: str, result: Any = UNSET, *, error: Exception | None = None, delay: float = 0
    ) -> None:
        """Say what a method answers from now on.

        :param result: the value; a callable is called with the parameters of each call.
        :param error: an `RpcError` that the service answers with, or a `TransportError` in the
            place of an answer.
        :param delay: seconds before it; when the caller has less time, it gets a `Timeout`.
        :raises TypeError: for a result and an error at once, or neither.
        """
        if (result is UNSET) == (error is None):
            raise TypeError("say either the result or the error")
        self._canned[method] = _Canned(result, error, delay)


class _FakeAdapter(Adapter):
    def __init__(
        self, canned: Mapping[str, _Canned], calls: list[MethodCall | Notification]
    ) -> None:
        self._canned = canned
        self._calls = calls

    def send(self, request: HttpRequest) -> HttpReply:
        content = read_body(request.body)
        if isinstance(content, JsonRpcResponse):  # a batch that is too large
            return _reply(request, _written(content))
        items = content if isinstance(content, list) else [content]
        self._record(items)
        self._wait(items, request)
        outcomes = [(item, self._outcome_of(item)) for item in items]
        if content is not items and isinstance(outcomes[0][1], ServerOverloaded):
            return self._overloaded(request, *outcomes[0])
        written = [
            _written(_response(item, outcome))
            for item, outcome in outcomes
            if not isinstance(item, JsonRpcRequest) or not item.is_notification()
        ]
        if not written:
            return HttpReply(request.shown, 204, {}, b"")
        return _reply(request, _WRITER.write_batch(written) if content is items else written[0])

    def _record(self, items: Iterable[_Item]) -> None:
        for item in items:
            if isinstance(item, JsonRpcRequest):
                params = None if item.params is UNSET else item.params
                if item.id is UNSET:
                    self._calls.append(Notification(item.method, params))
                else:
                    self._calls.append(MethodCall(item.method, params, id=item.id))

    def _wait(self, items: Iterable[_Item], request: HttpRequest) -> None:
        """Wait as the service would: the items of a batch run at the same time."""
        limit = request.seconds_to(request.limits.read)
        delay = max(self._canned_for(item).delay for item in items)
        if delay > 0:
            time.sleep(min(delay, limit))
        if delay > limit:
            raise Timeout(f"{request.shown}: no answer within {limit:g} s")

    def _canned_for(self, item: _Item) -> _Canned:
        if isinstance(item, JsonRpcRequest):
            return self._canned.get(item.method, _NOT_FOUND)
        return _NOT_FOUND

    def _outcome_of(self, item: _Item) -> Any:
        """Return what the canned method returns, or the error that it answers with."""
        if isinstance(item, JsonRpcResponse):
            return item
        canned = self._canned_for(item)
        params = () if item.params is UNSET else item.params
        try:
            if canned.error is not None:
                raise canned.error
            if not callable(canned.result):
                return canned.result
            if isinstance(params, dict):
                return canned.result(**params)
            return canned.result(*params)
        except RpcError as error:
            return error

    def _overloaded(self, request: HttpRequest, item: _Item, error: ServerOverloaded) -> HttpReply:
        headers = {"retry-after": str(math.ceil(error.retry_after))}
        return HttpReply(request.shown, 503, headers, _written(_response(item, error)))


def _response(item: _Item, outcome: Any) -> JsonRpcResponse:
    if isinstance(item, JsonRpcResponse):
        return item
    if isinstance(outcome, RpcError):
        return JsonRpcResponse.failure(outcome, item.id)
    return JsonRpcResponse(result=outcome, id=None if item.id is UNSET else item.id)


def _written(response: JsonRpcResponse) -> bytes:
    return _WRITER.write_response(response, 1 << 62)


def _reply(request: HttpRequest, body: bytes) -> HttpReply:
    return HttpReply(request.shown, 200, {}, body)
