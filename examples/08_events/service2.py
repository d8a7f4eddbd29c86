"""A service that greets, and tells everybody who wants to know."""

from __future__ import annotations

import gemstone_sync

from settings import make_transport


class GreeterService(gemstone_sync.MicroService):
    name = "greeter"
    host = "127.0.0.1"
    port = 8000
    event_transports = [make_transport()]

    @gemstone_sync.exposed_method()
    def say_hello(self, name: str) -> str:
        """Greets by name."""
        self.emit_event("said_hello", {"name": name})
        return f"hello {name}"


if __name__ == "__main__":
    GreeterService().start()
