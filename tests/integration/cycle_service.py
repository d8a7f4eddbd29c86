"""A service whose method calls the same method of another one: two of them make a circle."""

import json
import os

import requests

import gemstone_sync
from gemstone_sync.concurrency import outgoing_headers


class Cycle(gemstone_sync.MicroService):
    name = "cycle"
    port = 0
    peer = None

    def __init__(self):
        super().__init__()
        for name, value in json.loads(os.environ.get("LIMITS", "{}")).items():
            assert hasattr(self, name), name
            setattr(self, name, value)
        self.entered = self.running = 0

    def on_service_start(self):
        print(self.url, flush=True)

    @gemstone_sync.exposed_method()
    def set_peer(self, url: str) -> None:
        self.peer = url

    @gemstone_sync.exposed_method()
    def quick(self) -> str:
        return "quick"

    @gemstone_sync.exposed_method()
    def bounce(self) -> str:
        """Call the peer, which calls this one, and so on; its error is ours."""
        self.entered += 1
        self.running += 1
        try:
            body = {"jsonrpc": "2.0", "method": "bounce", "id": 1}
            reply = requests.post(self.peer, json=body, headers=outgoing_headers(), timeout=60)
        finally:
            self.running -= 1
        error = reply.json()["error"]
        raise gemstone_sync.RpcError(error["message"], code=error["code"])

    @gemstone_sync.route("/counts")
    def counts(self):
        return {"entered": self.entered, "running": self.running}


if __name__ == "__main__":
    Cycle().start()
