"""A bookshop that says everything that it promises: types, errors, examples, events."""

from __future__ import annotations

import datetime
import decimal
import enum
from dataclasses import dataclass, field
from typing import Annotated, TypedDict

import gemstone_sync
import msgspec
from gemstone_sync import Example, MemoryEventTransport, RpcError, event_handler, exposed_method

Pieces = Annotated[int, msgspec.Meta(ge=1, le=100)]


class Binding(enum.Enum):
    PAPER = "paper"
    CLOTH = "cloth"


@dataclass(frozen=True)
class Book:
    """A book on the shelf."""

    isbn: str
    title: str
    price: decimal.Decimal
    binding: Binding = Binding.PAPER


@dataclass(frozen=True)
class Line:
    isbn: str
    pieces: Pieces = 1


@dataclass(frozen=True)
class Order:
    """An order that was taken."""

    number: int
    total: decimal.Decimal
    placed: Annotated[datetime.datetime, msgspec.Meta(tz=True)]
    lines: list[Line] = field(default_factory=list)


class Left(TypedDict):
    isbn: str
    left: int


class OutOfStock(RpcError):
    code, message = 1001, "Out of stock"
    data: Left


class NoSuchBook(RpcError):
    code, message = 1002, "There is no such book"


class Bookshop(gemstone_sync.MicroService):
    """Sells books."""

    name = "bookshop"
    version = "1.0.0"
    emits = {"order.placed": Order}
    event_transports = [MemoryEventTransport()]

    def __init__(self) -> None:
        super().__init__()
        dune = Book("978-0-441-17271-9", "Dune", decimal.Decimal("9.99"))
        emma = Book("978-0-14-143958-7", "Emma", decimal.Decimal("25.00"), Binding.CLOTH)
        self.books = {book.isbn: book for book in (dune, emma)}
        self.stock = {dune.isbn: 3, emma.isbn: 1}
        self.orders: list[Order] = []

    @exposed_method(idempotent=True)
    def find(self, words: str, binding: Binding | None = None) -> list[Book]:
        """Find books by words of their titles.

        :param words: any part of a title; case does not matter.
        :param binding: only books that are bound so.
        """
        return [
            book
            for book in self.books.values()
            if words.lower() in book.title.lower() and binding in (None, book.binding)
        ]

    @exposed_method(
        "orders.place",
        errors=[OutOfStock, NoSuchBook],
        examples=[Example(params={"lines": [{"isbn": "978-0-441-17271-9", "pieces": 2}]})],
    )
    def place(self, lines: list[Line], note: str = "") -> Order:
        """Order some books.

        :param lines: what is ordered.
        :param note: is printed on the parcel.
        :returns: the order, with what it costs.
        """
        total = decimal.Decimal(0)
        for line in lines:
            book = self._book(line.isbn)
            if self.stock[line.isbn] < line.pieces:
                raise OutOfStock(data={"isbn": line.isbn, "left": self.stock[line.isbn]})
            total += book.price * line.pieces
        for line in lines:
            self.stock[line.isbn] -= line.pieces
        now = datetime.datetime.now(datetime.timezone.utc)
        order = Order(len(self.orders) + 1, total, now, lines)
        self.orders.append(order)
        self.emit_event("order.placed", order)
        return order

    def _book(self, isbn: str) -> Book:
        if isbn not in self.books:
            raise NoSuchBook()
        return self.books[isbn]

    @event_handler("books.delivered")
    def on_delivery(self, line: Line) -> None:
        """Put books that were delivered on the shelf."""
        self.stock[line.isbn] = self.stock.get(line.isbn, 0) + line.pieces


if __name__ == "__main__":
    Bookshop().start()
