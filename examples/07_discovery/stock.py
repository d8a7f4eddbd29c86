"""A service that counts what is left, and tells the registry where it is."""

from __future__ import annotations

import os

import gemstone_sync


class StockService(gemstone_sync.MicroService):
    name = "shop.stock"
    port = 8002
    service_registry_urls = [os.environ.get("REGISTRY_URL", "http://localhost:8090/api")]

    def __init__(self) -> None:
        super().__init__()
        self.left = {"tea": 12, "coffee": 0}

    @gemstone_sync.exposed_method(idempotent=True)
    def left_of(self, item: str) -> int:
        """How many there are."""
        return self.left[item]


if __name__ == "__main__":
    StockService().start()
