"""RemoteService without a network: over a service in this process, and over canned answers.

Both are real clients over an adapter, so encoding, checking and errors are the real ones.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from ..client import BaseAdapter, MethodCall, Notification, RemoteService, response_of
from ..errors import UNSET, MethodNotFound, RpcError, Unset
from ..protocol import WIRE_FORMATS, JsonRpcRequest, JsonRpcResponse, read_body

if TYPE_CHECKING:
    from ..service import MicroService

__all__ = ["FakeRemoteService", "InProcessAdapter"]


class InProcessAdapter(BaseAdapter):
    """Routes a `RemoteService` to a service of this process: its whole WSGI stack, no socket.

    ::

        users = RemoteService("http://users/api", adapter=InProcessAdapter(UsersService()))

    The URL's path must be the service's ``endpoint``.
    """

    def __init__(self, service: MicroService) -> None:
        super().__init__()
        self._service = service

    def send(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        """What requests asks of an adapter."""
        client = self._service.app.test_client(use_cookies=False)
        headers = {k: v for k, v in request.headers.items() if k != "Content-Length"}
        reply = client.open(
            request.path_url, method=request.method, data=request.body, headers=headers
        )
        return response_of(request, reply.status_code, dict(reply.headers), reply.data)

    def close(self) -> None:
        """Nothing: the service belongs to whoever made it."""


class _Canned(NamedTuple):
    result: Any
    error: Exception | None
    delay: float


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

    A method without an answer is not found (-32601).
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
        :param delay: seconds before it.
        :raises TypeError: for a result and an error at once, or neither.
        """
        if (result is UNSET) == (error is None):
            raise TypeError("say either the result or the error")
        self._canned[method] = _Canned(result, error, delay)


class _FakeAdapter(BaseAdapter):
    def __init__(
        self, canned: Mapping[str, _Canned], calls: list[MethodCall | Notification]
    ) -> None:
        super().__init__()
        self._canned = canned
        self._calls = calls

    def send(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        writer = WIRE_FORMATS["jsonrpc"]
        content = read_body(request.body)
        items = content if isinstance(content, list) else [content]
        replies = [self._answer(item) for item in items]
        encoded = [writer.write_response(r, 1 << 62) for r in replies if r is not None]
        if not encoded:
            return response_of(request, 204, {}, b"")
        body = writer.write_batch(encoded) if isinstance(content, list) else encoded[0]
        return response_of(request, 200, {"Content-Type": "application/json"}, body)

    def _answer(self, item: JsonRpcRequest | JsonRpcResponse) -> JsonRpcResponse | None:
        if isinstance(item, JsonRpcResponse):
            return item
        params = None if isinstance(item.params, Unset) else item.params
        if isinstance(item.id, Unset):
            self._calls.append(Notification(item.method, params))
        else:
            self._calls.append(MethodCall(item.method, params, id=item.id))
        canned = self._canned.get(item.method, _Canned(UNSET, MethodNotFound(), 0))
        if canned.delay:
            time.sleep(canned.delay)
        try:
            result = self._value_of(canned, params)
        except RpcError as error:
            response = JsonRpcResponse.failure(error, item.id)
        else:
            response = JsonRpcResponse(result=result, id=_id_of(item))
        return None if item.is_notification() else response

    def _value_of(self, canned: _Canned, params: Any) -> Any:
        if canned.error is not None:
            raise canned.error
        result: Any = canned.result
        if not callable(result):
            return result
        return result(**params) if isinstance(params, dict) else result(*(params or ()))

    def close(self) -> None:
        """Nothing is open."""


def _id_of(item: JsonRpcRequest) -> Any:
    return None if isinstance(item.id, Unset) else item.id
