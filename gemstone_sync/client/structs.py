"""Holds what goes into a client and comes out of it: calls, notifications, results, handles.

No I/O but waiting.
"""

from __future__ import annotations

import concurrent.futures
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar, cast

from ..errors import RemoteError
from ..protocol import JsonRpcRequest, Params, RequestId

__all__ = ["AsyncMethodCall", "BatchResult", "MethodCall", "Notification", "Result"]

_ids = itertools.count(1)


def plain_params(params: Sequence[Any] | Mapping[str, Any] | None) -> Params | None:
    """Return parameters as JSON has them; None for none (section 4.2 lets them be left out).

    :raises TypeError: when they are neither a list, a tuple nor a dict.
    """
    if params is None or type(params) is dict or type(params) is list:
        return params or None
    if isinstance(params, Mapping):
        return dict(params) or None
    if isinstance(params, (list, tuple)):
        return list(params) or None
    raise TypeError(f"params are a list, a tuple or a dict, not a {type(params).__name__}")


class Notification:
    """Holds a call that wants no answer.

    :param method_name: the method.
    :param params: a list or tuple (by position), a dict (by name), or None.
    :raises TypeError, ValueError: when these cannot be sent.
    """

    __slots__ = ("id", "method_name", "params")

    def __init__(
        self, method_name: str, params: Sequence[Any] | Mapping[str, Any] | None = None
    ) -> None:
        if type(method_name) is not str:
            raise TypeError(f"a method's name is a str, not {method_name!r}")
        self.method_name = method_name
        self.params = plain_params(params)
        self.id: RequestId = None

    def message(self) -> dict[str, Any]:
        """Return the request object (JSON-RPC 2.0, section 4)."""
        if self.params is None:
            return {"jsonrpc": "2.0", "method": self.method_name}
        return {"jsonrpc": "2.0", "method": self.method_name, "params": self.params}

    def __repr__(self) -> str:
        return f"Notification({self.method_name!r}, {self.params!r})"


class MethodCall(Notification):
    """Holds a call that wants an answer.

    :param method_name: the method.
    :param params: a list or tuple (by position), a dict (by name), or None.
    :param id: a string of up to 128 characters or a number; one that no other call of this process
        has when left out. Two calls are equal when their ids are.
    :raises TypeError, ValueError: when these cannot be sent.

    >>> MethodCall("add", (1, 2), id="a").message()
    {'jsonrpc': '2.0', 'method': 'add', 'params': [1, 2], 'id': 'a'}
    """

    __slots__ = ()

    def __init__(
        self,
        method_name: str,
        params: Sequence[Any] | Mapping[str, Any] | None = None,
        id: RequestId = None,
    ) -> None:
        super().__init__(method_name, params)
        if id is None:
            self.id = next(_ids)
        else:
            JsonRpcRequest(method_name, id=id)  # validates
            self.id = id

    def message(self) -> dict[str, Any]:
        message = super().message()
        message["id"] = self.id
        return message

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, MethodCall):
            return NotImplemented
        return type(self.id) is type(other.id) and self.id == other.id  # 1 and 1.0 are two ids

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"MethodCall({self.method_name!r}, {self.params!r}, id={self.id!r})"


N = TypeVar("N", bound=Notification)


def made_of(cls: type[N], given: str | N, params: Any) -> N:
    """Return what is given as an object, or as a name and parameters.

    :raises TypeError: for an object and parameters.
    """
    if not isinstance(given, cls):
        return cls(cast("str", given), params)
    if params is not None:
        raise TypeError("the parameters are in the object already")
    return given


class Result:
    """Holds the answer to one call: a result, or the error that the service answered with.

    :ivar result: the value; None when there is an error.
    :ivar error: a `RemoteError`; None when the call succeeded.
    :ivar id: the call's id.
    :ivar method_call: the call.
    """

    __slots__ = ("error", "id", "method_call", "result")

    def __init__(
        self, result: Any, error: RemoteError | None, id: RequestId, method_call: MethodCall
    ) -> None:
        self.result = result
        self.error = error
        self.id = id
        self.method_call = method_call

    def value(self) -> Any:
        """Return the result.

        :raises RemoteError: the error, when there is one.
        """
        if self.error is not None:
            raise self.error
        return self.result

    def __repr__(self) -> str:
        told = f"result={self.result!r}" if self.error is None else f"error={self.error!r}"
        return f"Result({told}, method_call={self.method_call!r})"


class BatchResult:
    """Holds the answers to a batch, in the order of its calls; notifications have none."""

    def __init__(self, *responses: Result) -> None:
        self.responses = list(responses)

    def add_response(self, response: Result) -> None:
        """Add one answer."""
        self.responses.append(response)

    def get_response_for_call(self, method_call: MethodCall) -> Result | None:
        """Return the answer to one of the calls; None when the batch had no such call."""
        return next((r for r in self.responses if r.method_call == method_call), None)

    def __iter__(self) -> Iterator[Result]:
        return iter(self.responses)

    def __len__(self) -> int:
        return len(self.responses)

    def __repr__(self) -> str:
        return f"BatchResult({', '.join(map(repr, self.responses))})"


class AsyncMethodCall:
    """Follows a call that runs in the background; from ``call_method_async`` and ``…async_()``.

    :param req_obj: the call.
    :param async_resp_object: the future of its `Result`.
    """

    def __init__(
        self, req_obj: MethodCall, async_resp_object: concurrent.futures.Future[Result]
    ) -> None:
        self.request = req_obj
        #: A :class:`concurrent.futures.Future`, for code that composes futures.
        self.future = async_resp_object

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is finished; False when `timeout` seconds were not enough.

        The call has time limits of its own, so this ends without a timeout too.
        """
        return bool(concurrent.futures.wait([self.future], timeout).done)

    def finished(self) -> bool:
        """Tell whether there is an outcome."""
        return self.future.done()

    def result(self, wait: bool = False) -> Any:
        """Return the value that the method returned.

        :param wait: wait for it, rather than raise RuntimeError.
        :raises RuntimeError: when it is not available yet.
        :raises RemoteError, TransportError: what the call raised.
        """
        if not wait:
            self._check_finished()
        return self.future.result().value()

    def error(self) -> BaseException | None:
        """Return what `result` would raise: a `RemoteError` or `TransportError`; None for success.

        :raises RuntimeError: when it is not available yet.
        """
        self._check_finished()
        if self.future.cancelled():
            return concurrent.futures.CancelledError()
        return self.future.exception() or self.future.result().error

    def successful(self) -> bool:
        """Tell whether the call returned a value.

        :raises RuntimeError: when it is not finished yet.
        """
        return self.error() is None

    def _check_finished(self) -> None:
        if not self.future.done():
            raise RuntimeError(f"{self.request.method_name} has not finished: wait() for it")

    def __repr__(self) -> str:
        state = "finished" if self.finished() else "running"
        return f"<AsyncMethodCall {self.request.method_name!r} {state}>"
