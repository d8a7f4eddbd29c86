"""What an ASGI server hears that was given a service."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

import gemstone_sync


@pytest.mark.parametrize("of", [lambda s: s, lambda s: s.app, type], ids=["", "app", "class"])
def test_it_is_told_as_it_starts(make_service: Callable[..., Any], of: Callable[..., Any]) -> None:
    sent = []

    async def receive() -> dict[str, Any]:
        return {"type": "lifespan.startup"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    application = of(make_service())
    scope = {"type": "lifespan", "asgi": {"version": "2.0"}}
    asyncio.run(application(scope)(receive, send))
    assert [message["type"] for message in sent] == ["lifespan.startup.failed"]
    assert "uvicorn with --interface wsgi" in sent[0]["message"]

    request = application({**scope, "type": "http"})
    with pytest.raises(gemstone_sync.ServiceConfigurationError, match="speak WSGI"):
        asyncio.run(request(receive, send))
