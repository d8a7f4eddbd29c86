"""A service that takes orders, and leaves the packing to workers."""

from __future__ import annotations

import itertools

import gemstone_sync

from settings import make_transport


class ShopService(gemstone_sync.MicroService):
    name = "shop"
    event_transports = [make_transport()]

    def __init__(self) -> None:
        super().__init__()
        self.numbers = itertools.count(1)

    @gemstone_sync.exposed_method()
    def order(self, item: str, quantity: int) -> int:
        """Takes an order; answers once the work can no longer get lost."""
        number = next(self.numbers)
        order = {"number": number, "item": item, "quantity": quantity}
        self.emit_event("orders.pack", order, broadcast=False)  # work: one worker does it
        return number

    @gemstone_sync.exposed_method()
    def deliver(self, item: str, quantity: int) -> None:
        """Brings goods to the shelf of every worker."""
        self.emit_event("goods.arrived", {"item": item, "quantity": quantity})

    @gemstone_sync.event_handler("orders.packed")
    def on_packed(self, order: dict[str, int]) -> None:
        """Tells the log."""
        self.logger.info("order %s is packed", order["number"])


if __name__ == "__main__":
    ShopService().start()
