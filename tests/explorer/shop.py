"""A service with something of everything, for a person and for tests to look at.

``python -m tests.explorer.shop --port 8000`` runs it.
"""

import datetime
import enum
import hmac
import itertools
import uuid
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec

import gemstone_sync as gemstone

TOKEN = "let me in"


class Color(enum.Enum):
    RED = "red"
    GREEN = "green"
    BLUE = "blue"


@dataclass
class Address:
    street: str
    zip: Annotated[str, msgspec.Meta(pattern="^[0-9]{5}$", description="Five digits")]
    country: Literal["DE", "FR", "IT"] = "DE"


@dataclass
class Line:
    product: str
    pieces: Annotated[int, msgspec.Meta(ge=1, le=100)] = 1


@dataclass
class Category:
    """A shelf, with shelves in it."""

    name: str
    children: "list[Category]" = field(default_factory=list)
    parent: "Category | None" = None


class Card(msgspec.Struct, tag="card"):
    number: str
    secret: Annotated[str, msgspec.Meta(extra_json_schema={"format": "password"})] = ""


class Invoice(msgspec.Struct, tag="invoice"):
    days: Annotated[int, msgspec.Meta(ge=0, le=60)] = 14


@dataclass
class Left:
    left: int


class OutOfStock(gemstone.RpcError):
    """Fewer pieces are left than were wanted."""

    code, message = 1001, "Out of stock"
    data: Left


@dataclass
class Placed:
    order: int
    total: Decimal


class Shop(gemstone.MicroService):
    """A small shop that sells tea.

    Orders are **placed**, paid and sent. Ask `orders.find` what became of one; see
    https://example.org/shop for more.
    """

    name, version = "shop", "1.4.0"
    validation_strategies = (gemstone.HeaderValidationStrategy("X-Api-Token"),)
    emits = {"order.placed": Placed}
    mcp, mcp_methods = True, ("tools.greet",)
    _numbers = itertools.count(17)

    def api_token_is_valid(self, api_token: str) -> bool:
        return hmac.compare_digest(api_token.encode(), TOKEN.encode())

    @gemstone.exposed_method(
        "orders.place",
        errors=[OutOfStock],
        timeout=5,
        examples=[
            gemstone.Example(
                params={"lines": [{"product": "tea", "pieces": 2}]},
                result={"order": 17, "total": "9.80"},
                summary="two packs of tea",
            )
        ],
    )
    def place(
        self,
        lines: Annotated[list[Line], msgspec.Meta(min_length=1)],
        address: Address | None = None,
        gift: bool = False,
        color: Color = Color.RED,
        deliver: Annotated[datetime.datetime, msgspec.Meta(tz=True)] | None = None,
        payment: Card | Invoice | None = None,
        labels: dict[str, int] | None = None,
    ) -> Placed:
        """Place an order.

        What is in stock is *reserved* at once; the rest is refused:

        - every line has a product and a number of pieces,
        - a `gift` is wrapped.

        :param lines: what is wanted.
        :param address: where it goes; left out, the one that is on file.
        :param gift: wrap it.
        :param deliver: not before this.
        """
        pieces = sum(line.pieces for line in lines)
        if pieces > 50:
            raise OutOfStock(data=Left(50))
        return Placed(next(self._numbers), Decimal("4.90") * pieces)

    @gemstone.exposed_method("orders.find", idempotent=True)
    def find(self, order: Annotated[int, msgspec.Meta(ge=1)]) -> dict[str, Any]:
        """Tell what became of an order."""
        return {
            "order": order,
            "state": "sent",
            "lines": [{"product": "tea", "pieces": 2}],
            "big": 12345678901234567890,
            "at": datetime.datetime(2026, 1, 31, 12, tzinfo=datetime.timezone.utc),
            "note": None,
        }

    @gemstone.exposed_method("orders.cancel", private=True)
    def cancel(self, order: int, reason: str = "") -> bool:
        """Cancel an order: for clerks only."""
        return True

    @gemstone.exposed_method("stock.count", idempotent=True, deprecated="use stock.list")
    def count(self, product: str) -> int:
        """Count what is left of a product."""
        return len(product)

    @gemstone.exposed_method("stock.list", idempotent=True)
    def stock(
        self, below: Category, limit: Annotated[int, msgspec.Meta(ge=1, le=500)] = 20
    ) -> Category:
        """List what is on a shelf."""
        return below

    @gemstone.exposed_method("users.login")
    def login(self, name: str, password: str) -> str:
        """Exchange a password for a token."""
        return f"{name}:{len(password)}"

    @gemstone.exposed_method("users.note", result=gemstone.NOTHING)
    def note(self, text: str) -> None:
        """Leave a note for the shop: nobody answers."""

    @gemstone.exposed_method("tools.everything")
    def everything(
        self,
        text: str,
        number: Annotated[int, msgspec.Meta(ge=1, le=10)],
        ratio: float = 0.5,
        data: bytes = b"",
        id: uuid.UUID | None = None,
        day: datetime.date | None = None,
        pair: tuple[int, str] = (1, "a"),
        numbers: set[int] = frozenset(),  # type: ignore[assignment]
        either: int | str | list[int] = 3,
        anything: Any = None,
        choice: Literal["x", 1, None] = "x",
        amount: Decimal = Decimal("1"),
    ) -> dict[str, Any]:
        """Take everything, and give it back."""
        return {
            "text": text,
            "number": number,
            "ratio": ratio,
            "data": data,
            "id": id,
            "day": day,
            "pair": pair,
            "numbers": numbers,
            "either": either,
            "anything": anything,
            "choice": choice,
            "amount": amount,
        }

    @gemstone.exposed_method("tools.by_position")
    def by_position(self, first: int, /, second: str = "b", *more: int) -> list[Any]:
        """Take parameters by position."""
        return [first, second, *more]

    @gemstone.exposed_method("tools.fail")
    def fail(self) -> None:
        """Raise what nobody expects."""
        raise ZeroDivisionError("secret")

    @gemstone.exposed_method("tools.greet")
    def greet(self, name: str) -> str:
        """Say hello to somebody."""
        return f"hello {name}"

    @gemstone.exposed_method("tools.wait")
    def wait(self, seconds: float) -> float:
        """Take some time."""
        gemstone_sleep(seconds)
        return seconds

    @gemstone.event_handler("order.*", retries=0)
    def on_order(self, order: Placed) -> None:
        """Note an order."""
        if order.order == 13:
            raise ValueError("no luck")


def gemstone_sleep(seconds: float) -> None:
    import time

    time.sleep(seconds)


if __name__ == "__main__":
    Shop().start()
