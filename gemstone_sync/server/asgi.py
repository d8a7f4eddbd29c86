"""Telling an ASGI server that it was given a WSGI application.

uvicorn and daphne take what is no coroutine function for an application of ASGI 2, which they call
with one argument.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from ..errors import ServiceConfigurationError

__all__ = ["refuse_asgi"]

_LINE = (
    "gemstone_sync services speak WSGI: start uvicorn with --interface wsgi, or use "
    "gunicorn -k gemstone_sync.server.GunicornWorker"
)


def refuse_asgi(scope: Any) -> Callable[[Any, Any], Coroutine[Any, Any, None]]:
    """Make what ends a server that starts an application, with one line."""

    async def refuse(receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            raise ServiceConfigurationError(_LINE)
        await receive()
        await send({"type": "lifespan.startup.failed", "message": _LINE})

    return refuse
