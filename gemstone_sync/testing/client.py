"""An in-process client: calls go through the whole WSGI stack, without a socket."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..client import HttpReply, MethodCall, Notification
from ..client.namespaces import params_of
from ..client.replies import ReplyReader
from ..protocol import encode_json

if TYPE_CHECKING:
    from ..service import MicroService

__all__ = ["HttpReply", "ServiceClient"]


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
        self._reader = ReplyReader()

    def __enter__(self) -> ServiceClient:
        from ..service.microservice import runner_of  # which patches

        runner_of(self.service).start_work_only()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.service.stop()

    def call(self, method: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call a method with positional or with named parameters.

        :returns: the result.
        :raises RemoteError: of the class that matches the error's code, as `RemoteService` does.
        """
        call = MethodCall(method, params_of(args, kwargs), id=next(self._ids))
        reply = self.post(encode_json(call.message()))
        return self._reader.read_result(reply, call).value()

    def notify(self, method: str, /, *args: Any, **kwargs: Any) -> None:
        """Send a notification."""
        notification = Notification(method, params_of(args, kwargs))
        self.post(encode_json(notification.message()))

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
        return HttpReply(path, reply.status_code, reply.headers, reply.data)
