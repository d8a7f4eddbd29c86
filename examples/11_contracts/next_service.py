"""What somebody would like to change: `gemstone diff` says whom it breaks."""

from __future__ import annotations

from dataclasses import dataclass

from gemstone_sync import RpcError, exposed_method

from service import Binding, Book, Bookshop, Line, NoSuchBook, Order, OutOfStock


class Closed(RpcError):
    code, message = 1003, "The shop is closed"


@dataclass(frozen=True)
class Parcel:
    number: int


class NextBookshop(Bookshop):
    """Sells books."""

    version = "1.1.0"

    @exposed_method(idempotent=True)
    def find(
        self, words: str, binding: Binding | None = None, limit: int | None = None
    ) -> list[Book]:
        """Find books by words of their titles."""
        return super().find(words, binding)[:limit]

    @exposed_method("orders.place", errors=[OutOfStock, NoSuchBook, Closed])
    def place(self, lines: list[Line], note: str) -> Order:  # type: ignore[override]
        """Order some books; nobody may leave out the note any more."""
        return super().place(lines, note)

    @exposed_method("orders.parcel")
    def parcel(self, number: int) -> Parcel:
        """Return the parcel of an order."""
        return Parcel(number)
