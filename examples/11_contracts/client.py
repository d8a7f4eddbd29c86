"""Calls the bookshop with the client that `gemstone client` wrote: bookshop_client.py."""

from __future__ import annotations

import sys

from gemstone_sync import RemoteError

from bookshop_client import Binding, Client, Line, OutOfStock


def main(url: str) -> None:
    with Client(url) as shop:
        for book in shop.find(words="", binding=Binding.CLOTH):
            print(f"{book.title}, bound in {book.binding.value}: {book.price}")

        order = shop.orders.place(lines=[Line(isbn="978-0-441-17271-9", pieces=2)])
        print(f"order {order.number}: {order.total}")

        try:
            shop.orders.place(lines=[Line(isbn="978-0-441-17271-9", pieces=2)])
        except OutOfStock as error:
            print(f"{error.message}: {error.data.left} left")

        try:
            shop.orders.place(lines=[Line(isbn="978-0-441-17271-9", pieces=0)])
        except RemoteError as error:
            print(error.message, error.data)


if __name__ == "__main__":
    main(sys.argv[1])
