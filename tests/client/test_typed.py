"""``client.typed(Api)``: a service called as the class that says what it can do."""

import abc
import copy
import datetime
import decimal
import enum
import typing
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
import pydantic
import pytest
from gevent.event import Event

from gemstone_sync import (
    AsyncMethodCall,
    MemoryDiscoveryStrategy,
    MicroService,
    Notification,
    RemoteService,
    RpcError,
    as_completed,
    errors,
    exposed_method,
)
from gemstone_sync.contract.model import NOTHING
from gemstone_sync.testing import FakeRemoteService, running_service
from tests.support.faulty_server import FaultyServer, answer, close

from .faults import client_of, fault_of


class Size(enum.Enum):
    SMALL = "s"
    LARGE = "l"


@dataclass(frozen=True)
class Item:
    sku: uuid.UUID
    price: decimal.Decimal
    size: Size = Size.SMALL
    tags: tuple[str, ...] = ()


class Order(msgspec.Struct):
    items: list[Item]
    paid_at: datetime.datetime | None = None
    note: bytes = b""


class Address(pydantic.BaseModel):
    street: str
    since: datetime.date


class OutOfStock(RpcError):
    code = 1001
    message = "Out of stock"


class Shop(MicroService):
    name = "shop"

    def __init__(self) -> None:
        super().__init__()
        self.told: list[Any] = []
        self.go_on = Event()

    @exposed_method()
    def echo(self, order: Order) -> Order:
        return order

    @exposed_method("addresses.find")
    def find_address(self, address: Address, days: int = 0) -> Address:
        since = address.since + datetime.timedelta(days)
        return address.model_copy(update={"since": since})

    @exposed_method(requires_handler_reference=True)
    def whoami(self, handler: Any, name: str) -> str:
        assert handler is not None
        return name

    @exposed_method(pass_errors=[OutOfStock])
    def take(self, count: int) -> int:
        raise OutOfStock(data={"left": count})

    @exposed_method()
    def tell(self, what: str) -> None:
        self.told.append(what)

    @exposed_method()
    def untyped(self, *args, **kwargs):
        return [args, kwargs]

    def helper(self) -> int:
        return 1


SERVICE = Shop

ITEM = Item(uuid.uuid4(), decimal.Decimal("12.30"), Size.LARGE, ("a", "b"))
MOMENT = datetime.datetime(2026, 11, 29, 12, 30, tzinfo=datetime.timezone.utc)


class ShopApi(Protocol):
    def echo(self, order: Order) -> Order: ...
    @exposed_method("addresses.find")
    def address(self, address: Address, days: int = 0) -> Address: ...
    def tell(self, what: str) -> None: ...
    def take(self, count: int) -> int: ...


class AbstractShop(abc.ABC):
    @abc.abstractmethod
    def echo(self, order: Order) -> Order: ...

    @exposed_method("addresses.find")
    def address(self, address: Address, days: int = 0) -> Address:
        raise NotImplementedError


@pytest.mark.parametrize("api", [ShopApi, AbstractShop, Shop])
def test_values_travel_as_their_types(client: RemoteService, api: Any) -> None:
    shop = client.typed(api)
    for order in (Order([ITEM], MOMENT, b"\x00\xff"), Order([])):
        assert shop.echo(order) == order
        assert shop.echo(order=order) == order
    find = shop.find_address if api is Shop else shop.address
    address = Address(street="Main", since=datetime.date(2026, 1, 1))
    assert find(address) == address
    assert find(address, days=1).since == datetime.date(2026, 1, 2)


def test_of_a_service_class_the_exposed_methods_count(service: Shop, client: RemoteService) -> None:
    shop = client.typed(Shop)
    assert shop.whoami("ada") == shop.whoami(name="ada") == "ada"  # type: ignore[call-arg, arg-type]
    assert shop.untyped(1, [2]) == [[1, [2]], {}]
    assert shop.untyped(a=1) == [[], {"a": 1}]
    assert shop.tell("x") is None
    assert shop.get_service_specs()["name"] == "shop"
    with pytest.raises(AttributeError, match=r"^Shop does not expose 'helper'; it has "):
        shop.helper()


def test_an_error_is_of_the_class_that_the_api_declares(client: RemoteService) -> None:
    with pytest.raises(OutOfStock) as caught:
        client.typed(Shop).take(3)
    assert isinstance(caught.value, errors.RemoteError)
    assert caught.value.data == {"left": 3}
    with pytest.raises(OutOfStock):
        client.with_options(errors=[OutOfStock]).typed(ShopApi).take(3)
    with pytest.raises(errors.RemoteError) as other:
        client.typed(ShopApi).take(3)
    assert not isinstance(other.value, OutOfStock)


@dataclass
class Left:
    left: int


class FewLeft(RpcError):
    code = 1002
    data: Left  # type: ignore[assignment]


def test_the_data_of_an_error_is_of_its_type() -> None:
    class Api(Protocol):
        @exposed_method(pass_errors=[FewLeft])
        def take(self) -> int: ...

    fake = FakeRemoteService()
    fake.answer("take", error=FewLeft(data={"left": 2}))
    with pytest.raises(FewLeft) as caught:
        fake.typed(Api).take()
    assert caught.value.data == Left(2)
    fake.answer("take", error=FewLeft(data={"left": "two"}))
    with pytest.raises(errors.BadResponse, match=r"the data of FewLeft does not fit .*`\$\.left`"):
        fake.typed(Api).take()


class Answers(Protocol):
    def number(self) -> int: ...
    def order(self) -> Order: ...
    def nothing(self) -> None: ...
    def anything(self) -> Any: ...
    def unsaid(self): ...  # type: ignore[no-untyped-def]
    def by_number(self) -> dict[int, str]: ...
    def address(self) -> Address | None: ...


@pytest.mark.parametrize(
    ("name", "value", "fits"),
    [
        ("number", 1, 1),
        ("number", "1", None),
        ("number", None, None),
        ("order", {"items": []}, Order([])),
        ("order", {"items": [{}]}, None),
        ("nothing", None, None),
        ("nothing", 1, None),
        ("anything", {"a": 1}, {"a": 1}),
        ("unsaid", [1], [1]),
        ("address", {"street": 1}, None),
    ],
)
def test_an_answer_that_does_not_fit(name: str, value: Any, fits: Any) -> None:
    api = FakeRemoteService({name: lambda: value}).typed(Answers)
    call = getattr(api, name)
    if fits is not None or (name, value) == ("nothing", None):
        assert call() == fits
        assert call.async_().result(wait=True) == fits
    else:
        told = rf"^http://fake/api: the result of {name} does not fit its type: "
        with pytest.raises(errors.BadResponse, match=told) as caught:
            call()
        assert caught.value.may_have_run is True
        handle = call.async_()
        with pytest.raises(errors.BadResponse, match=told):
            handle.result(wait=True)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("ech", "ShopApi has no method 'ech'; did you mean 'echo'?"),
        ("xyz", "ShopApi has no method 'xyz'; it has echo, address, tell, take"),
        ("_private", "ShopApi has no method '_private'; it has echo, address, tell, take"),
    ],
)
def test_a_name_that_the_api_lacks_costs_no_request(name: str, told: str) -> None:
    with FaultyServer() as server, client_of(server) as client:
        for shop in (client.typed(ShopApi), client.typed(ShopApi).idempotent):  # type: ignore[attr-defined]
            with pytest.raises(AttributeError) as caught:
                getattr(shop, name)
            assert str(caught.value) == told
        assert server.connections == 0


@pytest.mark.parametrize(
    ("args", "kwargs", "sent"),
    [
        ((1, 2), {}, [1, 2]),
        ((1,), {}, [1]),
        ((1,), {"b": 2}, {"a": 1, "b": 2}),
        ((), {"a": 1}, {"a": 1}),
        ((), {"b": 1, "a": 2}, {"a": 2, "b": 1}),
        ((), {}, None),
        ((1, 2, 3), {}, None),
        ((1,), {"c": 2}, None),
        ((1,), {"a": 2}, None),
    ],
)
def test_arguments_go_as_they_are_written(args: Any, kwargs: Any, sent: Any) -> None:
    class Api(Protocol):
        def add(self, a: int, b: int = 0) -> int: ...

    fake = FakeRemoteService({"add": lambda *args, **kwargs: 1})
    call = fake.typed(Api).add
    if sent is None:
        with pytest.raises(TypeError, match="argument"):
            call(*args, **kwargs)
        assert fake.calls == []
    else:
        call(*args, **kwargs)
        assert fake.calls[0].params == sent


def test_arguments_that_cannot_be_sent() -> None:
    class Api(Protocol):
        def placed(self, a: int, /, *, b: int = 0) -> int: ...
        def more(self, a: int, *rest: int, **named: int) -> int: ...

    fake = FakeRemoteService({"placed": 1, "more": 1})
    api = fake.typed(Api)
    for call in (lambda: api.placed(1, b=2), lambda: api.more(1, 2, b=3)):
        with pytest.raises(TypeError, match="by position and 'b' by name"):
            call()
    assert fake.calls == []
    api.placed(1)
    api.more(1, 2, 3)
    api.more(1, b=3)
    assert [call.params for call in fake.calls] == [[1], [1, 2, 3], {"a": 1, "b": 3}]


# What may be said of a call


def test_what_the_api_marks_as_idempotent_is_called_again() -> None:
    class Api(Protocol):
        @exposed_method(idempotent=True)
        def ping(self) -> str: ...
        def other(self) -> str: ...

    with FaultyServer(close, answer()) as server, client_of(server) as client:
        api: Any = client.typed(Api)
        assert api.ping() == "pong"
        for call in (api.idempotent.other, client.typed(Api, idempotent=True).other):
            server.script(close, answer())
            assert call() == "pong"
        server.script(close, answer())
        assert api.idempotent.other.async_().result(wait=True) == "pong"
        server.script(close)
        fault_of(api.other)
        assert server.received == {"ping": 2, "other": 7}


def test_notifications_and_calls_in_the_background(service: Shop, client: RemoteService) -> None:
    shop: Any = client.typed(ShopApi)
    assert shop.notifications.tell("a") is None
    assert service.told == ["a"]
    with pytest.raises(AttributeError, match="did you mean 'tell'"):
        shop.notifications.tel("a")
    handles = [shop.echo.async_(Order([], note=bytes([n]))) for n in range(3)]
    assert all(isinstance(handle, AsyncMethodCall) for handle in handles)
    assert {handle.result().note for handle in as_completed(*handles)} == {b"\0", b"\1", b"\2"}


def test_a_method_that_returns_nothing_by_design_is_told_and_not_asked() -> None:
    class Api(Protocol):
        @exposed_method(result=NOTHING)
        def log(self, line: str) -> None: ...
        @exposed_method(result=list[datetime.date], errors=[FewLeft])
        def days(self): ...  # type: ignore[no-untyped-def]

    fake = FakeRemoteService({"log": None, "days": ["2026-11-29"]})
    api = fake.typed(Api)
    assert api.log("x") is None
    assert type(fake.calls[0]) is Notification
    assert api.days() == [datetime.date(2026, 11, 29)]
    fake.answer("days", error=FewLeft(data={"left": 2}))
    with pytest.raises(FewLeft):
        api.days()


# APIs that are none


class WithoutMethods(Protocol):
    x: int


class Strange:
    pass


@pytest.mark.parametrize(
    ("api", "told"),
    [
        (Strange(), "an API is a class"),
        ("ShopApi", "an API is a class"),
        (WithoutMethods, "WithoutMethods has no method"),
        (type("A", (), {"f": eval("lambda self: 1")}), None),
    ],
)
def test_what_is_no_api(api: Any, told: str | None) -> None:
    if told is None:
        FakeRemoteService({"f": 1}).typed(api).f()
        return
    with pytest.raises(TypeError, match=told):
        RemoteService("http://127.0.0.1:1/api").typed(api)


def test_types_that_json_cannot_give() -> None:
    class Strangely(Protocol):
        def find(self) -> Strange: ...

    class Later(Protocol):
        async def find(self) -> int: ...

    class Misspelt(Protocol):
        def find(self) -> "Strangge": ...  # type: ignore[name-defined] # noqa: F821

    for api, told in [(Strangely, "Strange"), (Later, "async def"), (Misspelt, "Strangge")]:
        with pytest.raises(TypeError, match=rf"{api.__name__}\.find cannot be called .*{told}"):
            FakeRemoteService().typed(api)


def test_a_method_of_a_service_that_cannot_be_called_spoils_no_other() -> None:
    class Odd(MicroService):
        name = "odd"

        @exposed_method()
        def good(self) -> int:
            return 1

        @exposed_method()
        def strange(self) -> Strange:
            return Strange()

    odd = FakeRemoteService({"good": 1}).typed(Odd)
    assert odd.good() == 1
    with pytest.raises(TypeError, match="strange cannot be called"):
        odd.strange()


# As other objects are


def test_inherited_methods_keep_what_was_said_of_them() -> None:
    class Base(abc.ABC):
        @exposed_method("items.find", idempotent=True)
        @abc.abstractmethod
        def find(self, id: int) -> int: ...

    class Derived(Base):
        def find(self, id: int) -> int:
            return id

        @staticmethod
        def plain(x: int) -> int:
            return x

        @property
        def no_method(self) -> int:
            return 1

    fake = FakeRemoteService({"items.find": lambda id: id, "plain": lambda x: x})
    api = fake.typed(Derived)
    assert (api.find(3), api.plain(4)) == (3, 4)
    assert dir(api) == ["find", "idempotent", "notifications", "plain"]


def test_it_looks_like_an_object() -> None:
    @typing.runtime_checkable
    class Api(Protocol):
        def find(self, id: int) -> int:
            """Find it."""
            raise NotImplementedError

    api: Any = FakeRemoteService({"find": 1}).typed(Api)
    assert isinstance(api, Api)
    assert repr(api).endswith("Api at http://fake/api>")
    assert repr(api.find) == "<TypedMethod 'find' at http://fake/api>"
    assert api.find.__doc__ == "Find it."
    assert copy.copy(api).find(1) == 1
    assert not hasattr(api, "__len__")


@pytest.fixture
def located(service: Shop) -> Iterator[Any]:
    strategy = MemoryDiscoveryStrategy()
    strategy.ping("shop", service.url)

    class Caller(MicroService):
        name = "caller"
        discovery_strategies = [strategy]

    with running_service(Caller) as caller:
        yield caller


def test_a_service_that_was_found_by_name(located: Any) -> None:
    assert located.get_service("shop").typed(ShopApi).echo(Order([ITEM])) == Order([ITEM])
