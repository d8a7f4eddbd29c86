"""A service that needs two others. It knows their names; the registry knows where they are."""

from __future__ import annotations

import os
from typing import Any

import gemstone_sync


class FrontService(gemstone_sync.MicroService):
    name = "shop.front"
    service_registry_urls = [os.environ.get("REGISTRY_URL", "http://localhost:8090/api")]

    @gemstone_sync.exposed_method()
    def offer(self, item: str) -> dict[str, Any]:
        """What a customer sees of an item."""
        prices = self.get_service("shop.prices")
        stock = self.get_service("shop.stock")
        # Both at once: neither needs the other's answer.
        price = prices.idempotent.price_of.async_(item)
        left = stock.idempotent.left_of.async_(item)
        return {"price": price.result(wait=True), "available": left.result(wait=True) > 0}


if __name__ == "__main__":
    FrontService().start()
