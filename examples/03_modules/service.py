"""A service in several files: each module brings its methods, the service what they share."""

from __future__ import annotations

import gemstone_sync

from orders import Order, Orders
from users import Users


class ShopService(gemstone_sync.MicroService):
    name = "shop"
    modules = [Users(), Orders()]

    def __init__(self) -> None:
        super().__init__()
        self.users: dict[int, str] = {}
        self.orders: list[Order] = []

    @gemstone_sync.exposed_method("shop.summary")
    def summary(self) -> dict[str, int]:
        """How many users and orders there are."""
        return {"users": len(self.users), "orders": len(self.orders)}


if __name__ == "__main__":
    ShopService().start()
