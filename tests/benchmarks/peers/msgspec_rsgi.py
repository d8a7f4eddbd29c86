"""The same hand-written function as RSGI; granian (one worker, uvloop) loads `msgspec_rsgi:app`."""

from typing import Any

from msgspec_rpc import answer

HEADERS = [("content-type", "application/json")]


async def app(scope: Any, protocol: Any) -> None:
    """Read the body and answer it; granian adds the Content-Length."""
    protocol.response_bytes(200, HEADERS, answer(await protocol()))
