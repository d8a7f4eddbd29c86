"""Client of bookshop 1.0.0.

Written by `gemstone client`: write it anew rather than change it.
Document: sha256 52d1a158f48fafd4ea0e97ab5b0a292d4e72ed3c10d426146ebf762f4374e6e9
Generator: gemstone_sync 0.1.0
"""

from __future__ import annotations

import datetime as _datetime
import decimal as _decimal
import enum as _enum
from typing import Any as _Any

import msgspec as _msgspec

from gemstone_sync import RemoteService as _RemoteService
from gemstone_sync import RpcError as _RpcError
from gemstone_sync import UNSET as _UNSET
from gemstone_sync.client.generated import Calls as _Calls
from gemstone_sync.errors import Unset as _Unset

__all__ = ["Client", "OutOfStock", "NoSuchBook", "Binding", "Book", "Left", "Line", "Order"]


class Binding(_enum.Enum):
    """Binding."""

    PAPER = "paper"
    CLOTH = "cloth"


class Book(_msgspec.Struct, frozen=True, kw_only=True):
    """A book on the shelf."""

    isbn: str
    title: str
    price: _decimal.Decimal
    binding: Binding = Binding.PAPER


class Left(_msgspec.Struct, frozen=True, kw_only=True):
    """Left."""

    isbn: str
    left: int


class Line(_msgspec.Struct, frozen=True, kw_only=True):
    """Line."""

    isbn: str
    pieces: int = 1


class Order(_msgspec.Struct, frozen=True, kw_only=True):
    """An order that was taken."""

    number: int
    total: _decimal.Decimal
    placed: _datetime.datetime
    lines: list[Line] = _msgspec.field(default_factory=list)


class OutOfStock(_RpcError):
    """Out of stock"""

    code = 1001
    message = "Out of stock"
    data: Left


class NoSuchBook(_RpcError):
    """There is no such book"""

    code = 1002
    message = "There is no such book"


class _ClientOrders:
    """Methods of orders."""

    def __init__(self, calls: _Calls) -> None:
        self._calls = calls

    def place(self, lines: list[Line], note: str | _Unset = _UNSET) -> Order:
        """Order some books.

        :param lines: what is ordered.
        :param note: is printed on the parcel. Left out, "".
        :returns: the order, with what it costs.
        """
        _result: Order = self._calls.ask(
            "orders.place",
            {"lines": lines, "note": note},
            Order,
            errors=(OutOfStock, NoSuchBook,),
        )
        return _result


class Client:
    """Calls bookshop.

    :param service: its URL, several of them, or a `RemoteService`.
    :param options: for the `RemoteService` of a URL.
    """

    def __init__(
        self, service: str | list[str] | _RemoteService, **options: _Any
    ) -> None:
        self._calls = _Calls(service, **options)
        self.orders = _ClientOrders(self._calls)

    def find(self, words: str, binding: Binding | None | _Unset = _UNSET) -> list[Book]:
        """Find books by words of their titles.

        :param words: any part of a title; case does not matter.
        :param binding: only books that are bound so. Left out, null.
        """
        _result: list[Book] = self._calls.ask(
            "find",
            {"words": words, "binding": binding},
            list[Book],
            idempotent=True,
        )
        return _result

    def get_service_specs(self, signatures: bool | _Unset = _UNSET) -> dict[str, _Any]:
        """Describe this service: its address, methods and events, with their docstrings.

        Docstrings and signatures of private methods and the addresses of brokers are told to those
        only whom `authenticate_request` lets in; with `hide_private` the names of private methods
        too.

        The names of methods that are marked as idempotent stand in ``idempotent_methods``, which is
        left out when there are none.

        :param signatures: adds ``signatures``: what each method takes and gives, as Python writes it: ``{"say_hello": "say_hello(name: str) -> str"}``. Left out, false.
        """
        _result: dict[str, _Any] = self._calls.ask(
            "get_service_specs",
            {"signatures": signatures},
            dict[str, _Any],
        )
        return _result

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._calls.close()
