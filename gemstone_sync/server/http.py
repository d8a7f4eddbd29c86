"""One connection: pywsgi's handler with TCP_NODELAY, one write per response, and a clean end."""

from __future__ import annotations

import contextlib
import socket
import time
from typing import Any

import gevent
from gevent.pywsgi import Input, WSGIHandler

from .body import DRAIN_BYTES, DRAIN_SECONDS

__all__ = ["HttpHandler"]


class _BoundedInput(Input):  # type: ignore[misc]  # gevent has no types here
    """A body of which only so much is thrown away when the application did not read it."""

    __slots__ = ("_handler",)

    def __init__(self, handler: HttpHandler, source: Input) -> None:
        super().__init__(source.rfile, source.content_length, source.socket, source.chunked_input)
        self._handler = handler

    def _discard(self) -> None:
        """Called after the response. pywsgi would read on to the end, however far it is."""
        at_end = (
            self.chunk_length == 0
            if self.chunked_input
            else self.position >= (self.content_length or 0)
        )
        if at_end or self._handler.close_connection:
            return
        if self.socket is None:  # else the client still waits for "100 Continue"
            left = DRAIN_BYTES
            with gevent.Timeout(DRAIN_SECONDS, False):
                while left > 0:
                    piece = self.read(min(left, 16384))
                    if not piece:
                        return
                    left -= len(piece)
        self._handler.close_connection = True


class HttpHandler(WSGIHandler):  # type: ignore[misc]  # gevent has no types here
    """Serves the requests of one connection, one after another.

    pywsgi sends head and body in two segments without TCP_NODELAY: with a keep-alive client,
    Nagle's algorithm and delayed acknowledgements make that 44 ms a call.
    """

    #: True while no request is being read or answered.
    idle = True
    wsgi_input: Any = None

    def handle(self) -> None:
        connection = self.socket
        if connection.family in (socket.AF_INET, socket.AF_INET6):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.server.connections[self] = None
        try:
            super().handle()
        except OSError:
            pass  # the client went away
        finally:
            self.server.connections.pop(self, None)

    def close_idle(self) -> None:
        """End the connection from outside; what has arrived already is still answered."""
        with contextlib.suppress(OSError, AttributeError):  # closed in the meantime
            self.socket.shutdown(socket.SHUT_RD)

    def read_requestline(self) -> Any:
        self.idle = True
        line = super().read_requestline()
        self.idle = False
        return line

    def log_request(self) -> None:
        pass

    def finalize_headers(self) -> None:
        if self.server.draining:
            self.close_connection = True
        if self.close_connection and not any(
            name.lower() == b"connection" for name, _ in self.response_headers
        ):
            self.response_headers.append((b"Connection", b"close"))
        super().finalize_headers()

    def _write_with_headers(self, data: bytes) -> None:
        self.headers_sent = True
        self.finalize_headers()
        head = b"".join(b"%b: %b\r\n" % (name, value) for name, value in self.response_headers)
        if data and self.response_use_chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        self._sendall(b"HTTP/1.1 %b\r\n%b\r\n%b" % (self.status, head, data))

    def get_environ(self) -> dict[str, Any]:
        environ: dict[str, Any] = super().get_environ()
        self.wsgi_input = environ["wsgi.input"] = _BoundedInput(self, self.wsgi_input)
        return environ

    def log_error(self, message: str, *args: Any) -> None:
        self.server.logger.debug(message, *args)

    def handle_error(self, kind: Any, error: Any, trace: Any) -> None:
        self.time_finish = time.time()
        super().handle_error(kind, error, trace)
