"""The orders of the shop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import gemstone_sync

from users import UnknownUser

if TYPE_CHECKING:
    from service import ShopService


@dataclass
class Order:
    user_id: int
    article: str
    quantity: int


class Orders(gemstone_sync.Module):
    microservice: ShopService

    @gemstone_sync.exposed_method("orders.place")
    def place(self, user_id: int, article: str, quantity: int = 1) -> Order:
        """Order an article for a user."""
        if user_id not in self.microservice.users:
            raise UnknownUser(data={"user_id": user_id})
        order = Order(user_id, article, quantity)
        self.microservice.orders.append(order)
        return order

    @gemstone_sync.exposed_method("orders.of_user")
    def of_user(self, user_id: int) -> list[Order]:
        """Every order of a user, the oldest first."""
        return [order for order in self.microservice.orders if order.user_id == user_id]
