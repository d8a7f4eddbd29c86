"""The protocol over HTTP: an endpoint beside the service's own, behind the same gate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..dispatch import CallContext, Dispatcher
from ..errors import RpcError
from ..server import Endpoint, EndpointSettings, Reply
from .face import Face
from .results import written
from .revisions import code_for

__all__ = ["McpEndpoint"]


class McpEndpoint(Endpoint):
    """Answers POST as `Face` does (2026-07-28, "Streamable HTTP"; earlier ones without sessions).

    Verbs, content types, bodies and their faults are the endpoint's.
    """

    name = "mcp"

    def __init__(
        self,
        face: Face,
        dispatcher: Dispatcher,
        settings: EndpointSettings,
        is_starting: Callable[[], bool],
    ) -> None:
        super().__init__(dispatcher, settings, is_starting)
        self._face = face
        self._dispatch = self._answer

    def check(self) -> None:
        """Make the tools.

        :raises ServiceConfigurationError: when one cannot be described.
        """
        self._face.check()

    def respond(self, environ: dict[str, Any], read: Callable[[], bytes] | None = None) -> Reply:
        """Answer one HTTP request."""
        reply = super().respond(environ, read)
        if reply.status == 204 and environ["REQUEST_METHOD"] == "POST":
            return reply._replace(status=202)
        return reply

    def _answer(self, body: bytes, context: CallContext) -> bytes | None:
        environ = context.transport

        def header(name: str) -> str | None:
            value = environ.get("HTTP_" + name.upper().replace("-", "_"))
            return None if value is None else str(value)

        answer = self._face.answer(body, context, header)
        if answer.status != 200 and answer.body is not None:
            context.status = answer.status
            context.response_headers += answer.headers
            if answer.refusal is not None:
                self.tell(environ, answer.status, answer.refusal, context.identify())
        return answer.body

    def _write_refusal(self, error: RpcError) -> bytes:
        return written(None, "error", {"code": code_for(error), "message": error.message})
