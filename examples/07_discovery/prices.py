"""A service that knows prices, and tells the registry where it is."""

from __future__ import annotations

import os

import gemstone_sync

PRICES = {"tea": 4.2, "coffee": 6.5}


class PricesService(gemstone_sync.MicroService):
    name = "shop.prices"
    port = 8001
    service_registry_urls = [os.environ.get("REGISTRY_URL", "http://localhost:8090/api")]

    @gemstone_sync.exposed_method(idempotent=True)
    def price_of(self, item: str) -> float:
        """What an item costs."""
        return PRICES[item]


if __name__ == "__main__":
    PricesService().start()
