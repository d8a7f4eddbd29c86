"""fastapi-jsonrpc, as its README shows it; uvicorn loads `fastapi_jsonrpc_app:app`."""

import fastapi_jsonrpc as jsonrpc
from fastapi import Body

app = jsonrpc.API()
entrypoint = jsonrpc.Entrypoint("/api")


@entrypoint.method()
async def add(a: int = Body(...), b: int = Body(...)) -> int:
    return a + b


app.bind_entrypoint(entrypoint)
