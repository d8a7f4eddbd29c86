"""A program that calls services as the classes that say what they can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol

import gemstone_sync as gemstone
from gemstone_sync import MicroService, RemoteService, exposed_method


@dataclass(frozen=True)
class User:
    id: int
    name: str


class UsersApi(Protocol):
    def find(self, id: int) -> User: ...

    @exposed_method("users.rename", idempotent=True, pass_errors=[gemstone.RpcError])
    def rename(self, id: int, *, name: str = "") -> None: ...


class AbstractUsers(ABC):
    @abstractmethod
    def find(self, id: int) -> User: ...


class Users(MicroService):
    name = "users"

    def __init__(self, size: int = 0) -> None:
        super().__init__()
        self.size = size

    @exposed_method()
    def find(self, id: int) -> User:
        return User(id, "ada")


client = RemoteService("http://127.0.0.1:5000/api")
users = client.typed(UsersApi)
name: str = users.find(7).name
users.rename(7, name="ada")
client.typed(AbstractUsers).find(id=7).name.upper()
client.typed(Users, idempotent=True).find(7).name.upper()

users.find("7")  # error: no int
users.find(7).nam  # error: a typo # noqa: B018
users.rename(7, "ada")  # error: by name only
users.fnd(7)  # error: a typo
number: int = users.find(7).name  # error: a text
client.typed(Users).find()  # error: no id
client.typed(AbstractUsers).find(7, 8)  # error: one too many


class Shop(MicroService):
    name = "shop"

    @exposed_method()
    def owner(self, id: int) -> str:
        found = self.get_service("users").typed(UsersApi)
        found.find(id).age  # error: a typo # noqa: B018
        return found.find(id).name
