"""What both hand-written servers share: one JSON-RPC call from bytes to bytes with msgspec.

A request type, a decoder per method and a result type, all prepared once. No batches, no bound, no
deadline, no checks of host or origin: what a careful programmer writes by hand in an hour.
"""

from collections.abc import Callable

import msgspec


class Request(msgspec.Struct):
    jsonrpc: str
    method: str
    params: msgspec.Raw
    id: int | str | None = None


class AddParams(msgspec.Struct):
    a: int
    b: int


class Response(msgspec.Struct):
    result: int
    id: int | str | None
    jsonrpc: str = "2.0"


def add(params: AddParams) -> int:
    return params.a + params.b


decode_request = msgspec.json.Decoder(Request).decode
encode = msgspec.json.Encoder().encode
METHODS: dict[
    str, tuple[Callable[[bytes | msgspec.Raw], AddParams], Callable[[AddParams], int]]
] = {"add": (msgspec.json.Decoder(AddParams).decode, add)}


def error(code: int, message: str, request_id: int | str | None) -> bytes:
    return encode({"jsonrpc": "2.0", "error": {"code": code, "message": message}, "id": request_id})


def answer(body: bytes) -> bytes:
    """Answer one call. Decoding faults of the text and of the parameters become JSON-RPC errors."""
    try:
        request = decode_request(body)
    except msgspec.ValidationError:
        return error(-32600, "Invalid Request", None)
    except msgspec.DecodeError:
        return error(-32700, "Parse error", None)
    entry = METHODS.get(request.method)
    if entry is None:
        return error(-32601, "Method not found", request.id)
    decode_params, method = entry
    try:
        params = decode_params(request.params)
    except msgspec.DecodeError:
        return error(-32602, "Invalid params", request.id)
    return encode(Response(method(params), request.id))
