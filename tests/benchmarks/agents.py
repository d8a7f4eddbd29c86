"""The cost of ``tools/call`` beside the same call at the endpoint: WSGI in process, no sockets.

    python tests/benchmarks/agents.py

Both take turns, so that a busy machine slows both; the median of the rounds is printed.
"""

import io
import json
import statistics
import time

from gemstone_sync import MicroService, exposed_method
from gemstone_sync.testing import ServiceClient

ROUNDS, CALLS = 15, 2000
VERSION = "2026-07-28"


class Adder(MicroService):
    name = "adder"
    mcp = True

    @exposed_method()
    def add(self, a: int, b: int) -> int:
        """Add two numbers."""
        return a + b


def environ(path, message, headers):
    body = json.dumps(message).encode()
    return body, {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": path,
        "HTTP_HOST": "localhost",
        "REMOTE_ADDR": "127.0.0.1",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(body)),
        **headers,
    }


def microseconds(application, body, template):
    start = time.process_time()
    for _ in range(CALLS):
        application({**template, "wsgi.input": io.BytesIO(body)}, lambda *told: None)
    return (time.process_time() - start) / CALLS * 1e6


def main():
    meta = {"io.modelcontextprotocol/protocolVersion": VERSION}
    meta["io.modelcontextprotocol/clientCapabilities"] = {}
    params = {"name": "add", "arguments": {"a": 1, "b": 2}}
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    headers = {"HTTP_MCP_PROTOCOL_VERSION": VERSION, "HTTP_MCP_METHOD": "tools/call"}
    headers["HTTP_MCP_NAME"] = "add"
    plain = {"jsonrpc": "2.0", "id": 1, "method": "add", "params": {"a": 1, "b": 2}}
    ways = {
        "endpoint": environ("/api", plain, {}),
        "tools/call, 2025-11-25": environ(
            "/mcp", call, {"HTTP_MCP_PROTOCOL_VERSION": "2025-11-25"}
        ),
        "tools/call, 2026-07-28": environ(
            "/mcp", {**call, "params": {**params, "_meta": meta}}, headers
        ),
    }
    service = Adder()
    with ServiceClient(service):
        application = service.app.wsgi_app
        seen = {name: [] for name in ways}
        for _ in range(ROUNDS):
            for name, way in ways.items():
                seen[name].append(microseconds(application, *way))
    base = statistics.median(seen["endpoint"])
    for name, times in seen.items():
        middle = statistics.median(times)
        print(f"{name:24} {middle:6.1f} µs   {middle / base:.2f} x the endpoint")


if __name__ == "__main__":
    main()
