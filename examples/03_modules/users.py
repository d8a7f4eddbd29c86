"""The users of the shop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gemstone_sync

if TYPE_CHECKING:
    from service import ShopService


class UnknownUser(gemstone_sync.RpcError):
    code = 2001
    message = "Unknown user"


class Users(gemstone_sync.Module):
    microservice: ShopService

    @gemstone_sync.exposed_method("users.add")
    def add(self, name: str) -> int:
        """Add a user; returns the user's number."""
        users = self.microservice.users
        user_id = len(users) + 1
        users[user_id] = name
        return user_id

    @gemstone_sync.exposed_method("users.get_name")
    def get_name(self, user_id: int) -> str:
        """The name of a user."""
        users = self.microservice.users
        if user_id not in users:
            raise UnknownUser(data={"user_id": user_id})
        return users[user_id]
