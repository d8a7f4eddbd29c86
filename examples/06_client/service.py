"""A service to call: client.py beside it does."""

from __future__ import annotations

import logging
import time

import gemstone_sync

logger = logging.getLogger("greeter")


class NobodyToGreet(gemstone_sync.RpcError):
    code = 1001
    message = "Nobody to greet"


class GreeterService(gemstone_sync.MicroService):
    name = "greeter"

    @gemstone_sync.exposed_method()
    def say_hello(self, name: str) -> str:
        """Greet somebody."""
        if not name:
            raise NobodyToGreet()
        logger.info("hello %s", name)
        return f"hello {name}"

    @gemstone_sync.exposed_method()
    def slow_method(self, seconds: float) -> float:
        """Take some time; the other calls go on meanwhile."""
        time.sleep(seconds)
        return seconds


if __name__ == "__main__":
    GreeterService().start()
