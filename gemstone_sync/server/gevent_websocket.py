"""``environ["wsgi.websocket"]``, for what was written for gevent-websocket's own server.

That is flask-socketio wherever gevent-websocket is installed, its ``Resource``, and views that ask
for the key. Its server shakes hands before it calls the application; here that happens when the
application first sends or receives, so that a route that wants no WebSocket answers as ever.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import logging
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from .handed import HandedSocket

__all__ = ["offered_websocket"]


@contextlib.contextmanager
def offered_websocket(
    environ: dict[str, Any], handed: HandedSocket, application: Any
) -> Iterator[None]:
    """Put the key into `environ` for the time of the request, where the library is installed."""
    handshake_class = _handshake_class() if handed.is_websocket else None
    if handshake_class is None:
        yield
        return
    handshake = handshake_class(environ, application, handed)
    with contextlib.suppress(ValueError):  # a key that is not base64
        handshake.upgrade_websocket()
    websocket = environ.get("wsgi.websocket")  # none when the library refuses
    try:
        yield
    finally:
        if websocket is not None and handshake.begun and not websocket.closed:
            websocket.close()


@functools.cache
def _handshake_class() -> Any:
    """The library's handler, on a connection of ours; None when it is not installed."""
    try:
        library = importlib.import_module("geventwebsocket.handler")
    except ImportError:
        return None

    class Handshake(library.WebSocketHandler):  # type: ignore[misc,name-defined]
        def __init__(self, environ: Any, application: Any, handed: HandedSocket) -> None:
            logger = logging.getLogger("geventwebsocket")
            self.environ = environ
            self.application = application
            self.server = SimpleNamespace(application=application, logger=logger)
            self.request_version = environ["SERVER_PROTOCOL"]
            self.begun = False
            self.socket = self.rfile = self  # for the library's Stream
            self._handed = handed
            self._answer = b""

        def start_response(self, status: str, headers: Any, exc_info: Any = None) -> Any:
            lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers)]
            self._answer = "\r\n".join([*lines, "", ""]).encode("latin-1")

        def read(self, size: int) -> bytes:
            self._begin()
            pieces = []
            while size and (piece := self._handed.recv(min(size, 1 << 16))):
                pieces.append(piece)
                size -= len(piece)
            return b"".join(pieces)

        def sendall(self, data: bytes) -> None:
            self._begin()
            self._handed.sendall(data)

        def _begin(self) -> None:
            if not self.begun:
                self._handed.sendall(self._answer)
                self.begun = True

    return Handshake
