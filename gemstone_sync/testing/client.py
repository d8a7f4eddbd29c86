"""An in-process client: calls go through the whole WSGI stack, without a socket."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import RpcError
from ..protocol import JsonRpcRequest, decode_json, encode_json

if TYPE_CHECKING:
    from ..service import MicroService

__all__ = ["HttpReply", "ServiceClient"]


class HttpReply(NamedTuple):
    """One HTTP reply.

    :param headers: by case-insensitive name.
    """

    status: int
    headers: Any
    body: bytes


def _error_classes(cls: type[RpcError] = RpcError) -> dict[int, type[RpcError]]:
    classes = {cls.code: cls}
    for subclass in cls.__subclasses__():
        if subclass.__module__ == RpcError.__module__:
            classes |= _error_classes(subclass)
    return classes


class ServiceClient:
    """Calls a service in this process.

    As a context manager it also runs the service's start and stop hooks and periodic tasks::

        with ServiceClient(MyService()) as client:
            assert client.call("add", 1, 2) == 3

    :param headers: sent with every request.
    """

    def __init__(self, service: MicroService, headers: Mapping[str, str] | None = None) -> None:
        self.service = service
        self.headers = dict(headers or {})
        self._ids = itertools.count(1)

    def __enter__(self) -> ServiceClient:
        self.service._runner.start_work_only()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.service.stop()

    def call(self, method: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call a method with positional or with named parameters.

        :returns: the result.
        :raises RpcError: the class that matches the error's code.
        """
        reply = self.post(encode_json(_request(method, args, kwargs, next(self._ids))))
        response = decode_json(reply.body)
        if response.get("error") is None:
            return response["result"]
        error = response["error"]
        cls = _error_classes().get(error["code"], RpcError)
        if error["code"] == RpcError.code and reply.status != 503:
            cls = RpcError
        options = {"data": error["data"]} if "data" in error else {}
        raise cls(error["message"], code=error["code"], **options)

    def notify(self, method: str, /, *args: Any, **kwargs: Any) -> None:
        """Send a notification."""
        request = _request(method, args, kwargs, None)
        del request["id"]
        self.post(encode_json(request))

    def post(self, body: bytes, headers: Mapping[str, str] | None = None) -> HttpReply:
        """Send a body to the endpoint, as JSON unless `headers` say otherwise."""
        headers = {"Content-Type": "application/json", **(headers or {})}
        return self.request("POST", self.service.endpoint, body, headers)

    def request(
        self,
        verb: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> HttpReply:
        """Send any HTTP request."""
        client = self.service.app.test_client(use_cookies=False)
        sent = {**self.headers, **(headers or {})}
        reply = client.open(path, method=verb, data=body, headers=sent)
        return HttpReply(reply.status_code, reply.headers, reply.data)


def _request(
    method: str, args: tuple[Any, ...], kwargs: dict[str, Any], request_id: Any
) -> dict[str, Any]:
    if args and kwargs:
        raise TypeError("JSON-RPC parameters are positional or named, not both")
    JsonRpcRequest(method, id=request_id)  # validates
    request = {"jsonrpc": "2.0", "method": method, "id": request_id}
    if args or kwargs:
        request["params"] = list(args) if args else kwargs
    return request
