"""Messages of both eras, as a client sends them."""

from __future__ import annotations

import json
from typing import Any

from gemstone_sync.testing import ServiceClient

VERSION = "2026-07-28"
META = {
    "io.modelcontextprotocol/protocolVersion": VERSION,
    "io.modelcontextprotocol/clientInfo": {"name": "tests", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
JSON = {"Content-Type": "application/json"}


def modern(method: str, params: dict[str, Any] | None = None, id: Any = 1) -> dict[str, Any]:
    """A request of 2026-07-28."""
    return {
        "jsonrpc": "2.0",
        "id": id,
        "method": method,
        "params": {**(params or {}), "_meta": META},
    }


def headers_of(message: dict[str, Any], version: str = VERSION) -> dict[str, str]:
    """The headers that belong to a request of 2026-07-28."""
    headers = {**JSON, "MCP-Protocol-Version": version, "Mcp-Method": message["method"]}
    if "name" in message["params"]:
        headers["Mcp-Name"] = message["params"]["name"]
    return headers


class Agent:
    """Sends messages to a service in this process."""

    def __init__(self, client: ServiceClient) -> None:
        self.client = client

    def post(self, body: Any, **headers: str | None) -> Any:
        """Send a body: bytes, or what is written as JSON; headers by names with ``_``."""
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent: dict[str, Any] = {**JSON}
        if isinstance(body, dict) and "_meta" in (body.get("params") or ()):
            sent = headers_of(body)
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        sent = {name: value for name, value in sent.items() if value is not None}
        return self.client.request("POST", "/mcp", text, sent)

    def ask(self, method: str, params: dict[str, Any] | None = None, **headers: str | None) -> Any:
        """Send a request of 2026-07-28; its result."""
        reply = self.post(modern(method, params), **headers)
        assert reply.status == 200, reply.body
        return json.loads(reply.body)["result"]

    def call(
        self, tool: str, arguments: dict[str, Any] | None = None, **headers: str | None
    ) -> Any:
        """Call a tool; its result."""
        return self.ask("tools/call", {"name": tool, "arguments": arguments or {}}, **headers)

    def legacy(self, method: str, params: Any = None, version: str | None = None) -> Any:
        """Send a request of an earlier revision; the whole response."""
        message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params or {}}
        return json.loads(self.post(message, MCP_Protocol_Version=version).body)
