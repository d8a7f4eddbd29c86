"""Two hand-written servers: a JSON-RPC call from bytes to bytes with msgspec, as ASGI and RSGI.

uvicorn (uvloop, httptools) loads `msgspec_rpc:asgi`, granian (one worker, uvloop)
`msgspec_rpc:rsgi`.

A request type, a decoder per method and a result type, all prepared once. No batches, no bound, no
deadline, no checks of host or origin: what a careful programmer writes by hand in an hour.
"""

from collections.abc import Callable
from typing import Any

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


async def asgi(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Read the body, answer it, and send head and body as ASGI wants them."""
    message = await receive()
    body = message["body"]
    while message.get("more_body"):
        message = await receive()
        body += message["body"]
    reply = answer(body)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(reply)).encode()),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": reply})


async def rsgi(scope: Any, protocol: Any) -> None:
    """The same; granian adds the Content-Length."""
    reply = answer(await protocol())
    protocol.response_bytes(200, [("content-type", "application/json")], reply)
