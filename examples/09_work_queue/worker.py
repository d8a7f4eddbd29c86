"""A worker that packs orders. Start as many as there is work for, each on a port of its own."""

from __future__ import annotations

from typing import TypedDict

import gemstone_sync

from settings import make_transport


class Goods(TypedDict):
    item: str
    quantity: int


class Order(Goods):
    number: int


class OutOfStock(Exception):
    """There are not enough on the shelf."""


class Worker(gemstone_sync.MicroService):
    name = "packer"
    port = 8001
    event_transports = [make_transport()]

    def __init__(self) -> None:
        super().__init__()
        self.shelf = {"tea": 100}

    # When it fails it is tried again after a tenth and two tenths of a second; then the order lies
    # with the dead letters.
    @gemstone_sync.event_handler("orders.pack", retries=2, backoff=0.1)
    def on_order(self, order: Order) -> None:
        """Packs an order."""
        left = self.shelf.get(order["item"], 0)
        if left < order["quantity"]:
            raise OutOfStock(f"{left} {order['item']} left")
        self.shelf[order["item"]] = left - order["quantity"]
        self.emit_event("orders.packed", {"number": order["number"]})

    # Every worker has a shelf of its own, so every one is to hear it.
    @gemstone_sync.event_handler("goods.arrived", scope="instance")
    def on_goods(self, goods: Goods) -> None:
        """Puts goods on the shelf."""
        self.shelf[goods["item"]] = self.shelf.get(goods["item"], 0) + goods["quantity"]


if __name__ == "__main__":
    Worker().start()
