"""Bytes -> messages: what a server makes of a body.

What is not a valid request becomes, at once, the response that refuses it; nothing raises.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from ..errors import UNSET, InvalidRequest, ParseError
from .codec import decode_json
from .messages import JsonRpcRequest, JsonRpcResponse, is_request_id

__all__ = ["Item", "read_body"]

#: A request to answer, or the answer to what was no request.
Item: TypeAlias = JsonRpcRequest | JsonRpcResponse


def read_body(body: bytes, max_batch_size: int = 100) -> Item | list[Item]:
    """Read one body: a request, or a list for a batch (section 6).

    :param max_batch_size: a longer batch is refused whole, before any item is looked at.

    >>> read_body(b'{"jsonrpc": "2.0", "method": "add", "params": [1, 2], "id": 0}')
    JsonRpcRequest(method='add', params=[1, 2], id=0)
    """
    try:
        content = decode_json(body)
    except ParseError as error:
        return JsonRpcResponse.failure(error)
    if type(content) is dict:
        return _read_item(content)
    if type(content) is list and content:
        if len(content) <= max_batch_size:
            return [_read_item(item) for item in content]
        text = f"The batch has more than {max_batch_size} items"
        return JsonRpcResponse.failure(InvalidRequest(text))
    return JsonRpcResponse.failure(InvalidRequest())


def _read_item(item: Any) -> Item:
    if type(item) is not dict:
        return JsonRpcResponse.failure(InvalidRequest())
    get = item.get
    if get("jsonrpc") == "2.0":
        try:
            return JsonRpcRequest(get("method", UNSET), get("params", UNSET), get("id", UNSET))
        except ValueError:
            pass
    # Section 5 asks for a null id when the id could not be detected; here it often can.
    request_id = get("id")
    return JsonRpcResponse.failure(
        InvalidRequest(), request_id if is_request_id(request_id) else None
    )
