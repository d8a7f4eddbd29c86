"""Everything that a service can say of itself, in one; and one whose types no reader finds hard."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import ipaddress
import pathlib
import uuid
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, TypedDict, TypeVar

import annotated_types
import msgspec
import pydantic
from typing_extensions import NotRequired

from gemstone_sync import (
    NOTHING,
    Example,
    MicroService,
    Module,
    RabbitMqEventTransport,
    RpcError,
    event_handler,
    exposed_method,
)

T = TypeVar("T")
UserId = NewType("UserId", int)


class Colour(enum.Enum):
    """A colour."""

    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Right(enum.Flag):
    READ = 1
    WRITE = 2


class Point(NamedTuple):
    x: float
    y: float = 0.0


class Address(TypedDict):
    street: str
    number: NotRequired[int]


@dataclasses.dataclass
class Node:
    """A tree."""

    value: int
    children: list[Node] = dataclasses.field(default_factory=list)


class Cat(msgspec.Struct, tag=True):
    lives: int = 9


class Dog(msgspec.Struct, tag=True):
    name: str


class Page(msgspec.Struct, Generic[T]):
    items: list[T]
    next: str | None = None


class Pair(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    left: int
    right: int = 0


class Order(pydantic.BaseModel):
    """An order."""

    id: pydantic.PositiveInt
    lines: list[Order.Line] = []
    note: str | None = pydantic.Field(default=None, max_length=20)

    class Line(pydantic.BaseModel):
        what: str
        pieces: Annotated[int, annotated_types.Ge(1)] = 1


class Shelf:
    @dataclasses.dataclass
    class Item:
        name: str


class Basket:
    @dataclasses.dataclass
    class Item:
        pieces: int


class OrderPlaced(msgspec.Struct):
    """An order was placed."""

    order: int
    at: Annotated[datetime.datetime, msgspec.Meta(tz=True)]


class Left(TypedDict):
    left: int


class OutOfStock(RpcError):
    code = 1001
    message = "Out of stock"
    data: Left


class Closed(RpcError):
    code = 1002
    message = "The shop is closed"


class Stock(Module):
    @exposed_method("stock.count", tags=["stock"], idempotent=True, timeout=2.5)
    def count(self, what: str, /, *, exact: bool = True) -> int:
        """Count what is there.

        Args:
            what: The article.
            exact: Whether to look.

        Returns:
            How many there are.
        """
        return len(what)

    @exposed_method("stock.move")
    def move(self, what: str, *more: str, to: Shelf.Item, **options: int) -> Basket.Item:
        """Move something.

        Parameters
        ----------
        what : str
            The article.
        to : Shelf.Item
            Where to.

        Returns
        -------
        Basket.Item
            What was there.
        """
        return Basket.Item(1)


class Flat(MicroService):
    """A shop.

    It sells <b>things</b> & more.
    """

    name = "everything"
    version = "2.1.0"
    port = 0
    modules = [Stock()]
    emits = {"order.placed": OrderPlaced, "stock.low": dict[str, int]}

    def authenticate_request(self, handler: Any) -> Any:
        return True

    @exposed_method(
        errors=[OutOfStock, Closed],
        examples=[
            Example(params={"what": "a book"}, result=3, summary="One book"),
            Example(params=["a book", 2], result=3),
        ],
    )
    def buy(self, what: str, pieces: Annotated[int, msgspec.Meta(gt=0, le=100)] = 1) -> int:
        """Buy something.

        Whatever `what` is, it is <script>alert(1)</script> text.

        :param what: the article.
        :param pieces: how many.
        :returns: the number of the order.
        """
        return 3

    @exposed_method(
        deprecated="use buy", summary="The old way", examples=[Example(params=[], result=None)]
    )
    def purchase(self) -> None: ...

    @exposed_method(result=NOTHING)
    def tell(self, text: str) -> None:
        """Take note of something."""

    @exposed_method(private=True, examples=[Example(params=[1], result="red")])
    def secret(self, user: UserId) -> Colour:
        return Colour.RED

    @exposed_method(
        examples=[
            Example(
                params={
                    "when": datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc),
                    "price": decimal.Decimal("1.50"),
                    "key": uuid.UUID(int=1),
                    "data": b"hi",
                    "address": "127.0.0.1",
                    "folder": "/tmp",
                },
                result="PT1S",
            )
        ]
    )
    def texts(
        self,
        when: datetime.datetime,
        price: decimal.Decimal,
        key: uuid.UUID,
        data: bytes,
        address: ipaddress.IPv4Address,
        folder: pathlib.Path,
        day: datetime.date | None = None,
    ) -> datetime.timedelta:
        return datetime.timedelta(seconds=1)

    @exposed_method(
        examples=[
            Example(
                params={
                    "levels": {"1": "red"},
                    "rights": 3,
                    "point": [1.5],
                    "pair": [1, 2],
                    "address": {"street": "Main"},
                    "queue": [1, 2],
                    "word": "a",
                },
                result={"items": [{"type": "Cat", "lives": 9}], "next": None},
            )
        ]
    )
    def shapes(
        self,
        levels: dict[Level, Colour],
        rights: Right,
        point: Point,
        pair: Pair,
        address: Address,
        queue: collections.deque[int],
        word: Literal["a", "b", 3],
        pet: Cat | Dog | None = None,
        anything: Any = None,
        unknown=(1, 2),
    ) -> Page[Cat | Dog]:
        return Page([Cat()])

    @exposed_method(examples=[Example(params={"order": {"id": 1}}, result={"id": 1})])
    def place(self, order: Order) -> dict[str, int]:
        return {"id": order.id}

    @event_handler("order.placed")
    def on_order(self, body: OrderPlaced) -> None:
        """Send the order."""

    @event_handler("stock.*", scope="instance")
    def on_stock(self, body: dict[str, int]) -> None: ...


class Everything(Flat):
    """A shop with trees, which nobody can write out in full."""

    event_transports = [RabbitMqEventTransport(shards=2)]

    @exposed_method()
    def grow(self, tree: Node, *, deep: dict[str, list[Node | None]] | None = None) -> Node:
        return tree
