"""The frozen message types: request, response, error object.

A message is validated when it is made and never changes afterwards. A member that is absent is
`UNSET`; a member that is ``null`` is ``None``; the two are never confused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from ..errors import UNSET, RpcError, Unset
from ..missing import OldName

__all__ = ["ErrorObject", "JsonRpcRequest", "JsonRpcResponse", "Params", "RequestId"]

#: What a request's id may be. bool is an int in Python and no number in JSON: it is refused.
RequestId: TypeAlias = str | int | float | None
#: What ``params`` may be (section 4.2): by position, or by name.
Params: TypeAlias = list[Any] | dict[str, Any]

#: An id is echoed in the reply and in logs, so its length is bounded. UUIDs take 36 characters.
MAX_ID_LENGTH = 128

_ID_TYPES = frozenset({str, int, float, type(None)})


def is_request_id(value: object) -> bool:
    """Tell whether `value` may be the id of a request or response (section 4).

    >>> is_request_id(0), is_request_id(None), is_request_id(True), is_request_id("x" * 129)
    (True, True, False, False)
    """
    return type(value) in _ID_TYPES and (type(value) is not str or len(value) <= MAX_ID_LENGTH)


class ErrorObject(msgspec.Struct, frozen=True):
    """The ``error`` member of a response (section 5.1).

    :param code: the error's number.
    :param message: one short sentence.
    :param data: details, any JSON value; `UNSET` when absent.
    """

    code: int
    message: str
    data: Any = UNSET

    @classmethod
    def of(cls, error: RpcError) -> ErrorObject:
        """The error object that tells a caller of `error`."""
        return cls(error.code, error.message, error.data)


class JsonRpcRequest(msgspec.Struct, frozen=True):
    """A request; or a notification, when its id is `UNSET` (section 4).

    :param method: the name of the method.
    :param params: list or dict, or `UNSET` when absent.
    :param id: str, int, float or None; `UNSET` makes it a notification.
    :raises ValueError: when a member is none of these.

    >>> JsonRpcRequest("add", [1, 2], id=0).is_notification()
    False
    """

    method: str
    params: Params | Unset = UNSET
    id: RequestId | Unset = UNSET

    def __post_init__(self) -> None:
        if type(self.method) is not str:
            raise ValueError("method must be a string")
        params = self.params
        if params is not UNSET and type(params) is not list and type(params) is not dict:
            raise ValueError("params must be a list or an object")
        if self.id is not UNSET and not is_request_id(self.id):
            raise ValueError("id must be a string of up to 128 characters, a number or null")

    def is_notification(self) -> bool:
        """True when the caller wants no reply."""
        return self.id is UNSET

    if not TYPE_CHECKING:  # or checkers would believe that they are there
        extra = OldName()
        invalid = OldName()
        to_dict = OldName()
        to_string = OldName()
        from_dict = OldName()
        from_string = OldName()


class JsonRpcResponse(msgspec.Struct, frozen=True):
    """A response: a result or an error, never both and never neither (section 5).

    :param result: the value that the method returned.
    :param error: the error object.
    :param id: the id of the request; None when it could not be read; `UNSET` for no such member.
    :raises ValueError: when both or neither of result and error are given.

    >>> JsonRpcResponse(result=False, id=1).with_result(0).result
    0
    """

    result: Any = UNSET
    error: ErrorObject | Unset = UNSET
    id: RequestId | Unset = None

    def __post_init__(self) -> None:
        if (self.result is UNSET) == (self.error is UNSET):
            raise ValueError("a response has either a result or an error")

    @classmethod
    def failure(cls, error: RpcError, id: RequestId | Unset = None) -> JsonRpcResponse:
        """The response that tells a caller of `error`."""
        return cls(error=ErrorObject.of(error), id=None if id is UNSET else id)

    def with_result(self, result: object) -> JsonRpcResponse:
        """A copy of this response with another result, for ``after_method_call``."""
        return JsonRpcResponse(result=result, id=self.id)

    if not TYPE_CHECKING:  # or checkers would believe that they are there
        response = OldName()
        send_id_field = OldName()
        from_dict = OldName()
        to_dict = OldName()
        to_string = OldName()
