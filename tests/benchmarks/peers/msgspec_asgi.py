"""The hand-written ASGI function; uvicorn (uvloop, httptools) loads `msgspec_asgi:app`."""

from typing import Any

from msgspec_rpc import answer


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
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
