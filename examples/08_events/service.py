"""A service that hears when somebody is greeted."""

from __future__ import annotations

from typing import TypedDict

import gemstone_sync

from settings import make_transport


class Greeting(TypedDict):
    name: str


class ListenerService(gemstone_sync.MicroService):
    name = "listener"
    port = 8001
    event_transports = [make_transport()]

    @gemstone_sync.event_handler("said_hello")
    def on_said_hello(self, greeting: Greeting) -> None:
        """Tells the log who was greeted."""
        self.logger.info("somebody said hello to %s", greeting["name"])


if __name__ == "__main__":
    ListenerService().start()
