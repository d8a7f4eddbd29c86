"""A service of what is seldom: numbers beyond JavaScript's, secrets deep in types, odd names."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec

import gemstone_sync as gemstone

Secret = Annotated[str, msgspec.Meta(extra_json_schema={"format": "password"})]


@dataclass
class Card:
    pan: Secret
    holder: str = "ada"


class Corners(gemstone.MicroService):
    name = "corners"

    @gemstone.exposed_method()
    def numbers(
        self,
        value: Any,
        most: int = 2**63 - 1,
        level: Literal[9007199254740993, 1] = 9007199254740993,
    ) -> Any:
        """Give back numbers."""
        return value

    @gemstone.exposed_method()
    def secrets(
        self,
        cards: list[Card] | None = None,
        by_name: dict[str, Card] | None = None,
        code: Secret | None = None,
        codes: list[Secret] | None = None,
        accessToken: str = "",  # noqa: N803
        beside: str = "",
    ) -> bool:
        """Take secrets wherever a type may hold them."""
        return True

    @gemstone.exposed_method()
    def positions(self, code: Secret, /, *more: Secret) -> int:
        """Take secrets by position."""
        return len(more)

    @gemstone.exposed_method()
    def many(
        self,
        items: list[int] | None = None,
        map: dict[str, int] | None = None,
        text: str = "",
        password: str = "",
        color: Literal["red", "blue"] = "red",
        yes: bool = False,
        number: int = 0,
        beside: str = "",
    ) -> int:
        """Take much, and what is wrong."""
        return len(items or [])

    @gemstone.exposed_method()
    def size(self, data: list[bytes], note: str) -> int:
        """Count bytes."""
        return sum(map(len, data))

    @gemstone.exposed_method()
    def constructor(self, toString: int = 1) -> int:  # noqa: N803
        """Be named as what every object of JavaScript has."""
        return toString
