"""Types as a service's users see them: at the class statement, in calls, results and events."""

from __future__ import annotations

import dataclasses
import functools
import logging
import pathlib
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
import pydantic
import pytest

import gemstone_sync
from gemstone_sync import (
    InternalError,
    InvalidParams,
    MicroService,
    Module,
    RemoteService,
    ServiceConfigurationError,
    event_handler,
    exposed_method,
)
from gemstone_sync.testing import ServiceClient, running_service

from .transports import Line


class Money:
    def __init__(self, cents: int) -> None:
        self.cents = cents


@dataclasses.dataclass
class Order:
    amount: int


class Named(pydantic.BaseModel):
    full_name: str = pydantic.Field(alias="fullName")


# The class statement


def of_money() -> Any:
    def pay(self: Any, price: Money) -> None: ...

    return pay


def of_callable() -> Any:
    def pay(self: Any, price: Callable[[int], int]) -> None: ...

    return pay


def of_handler() -> Any:
    def pay(self: Any, price: Annotated[gemstone_sync.JsonRpcHandler, "forgotten"]) -> None: ...

    return pay


@pytest.mark.parametrize(
    ("make", "what"),
    [(of_money, "Money"), (of_callable, "Callable"), (of_handler, "JsonRpcHandler")],
)
@pytest.mark.parametrize("mark", [exposed_method("pay"), event_handler("paid")])
@pytest.mark.parametrize("base", [MicroService, Module])
def test_a_parameter_that_no_json_value_can_be_is_refused(make, what, mark, base):
    with pytest.raises(ServiceConfigurationError) as caught:
        type("Shop", (base,), {"name": "shop", "pay": mark(make())})
    assert str(caught.value) == (
        f"Shop.pay: parameter 'price' can never be given: no JSON value is a {what}"
    )


def test_one_that_holds_such_a_class_is_warned_of_at_the_start(caplog):
    class Shop(MicroService):
        name = "shop"

        @exposed_method()
        def pay(self, prices: list[Money]) -> list[Any]:
            return prices

    assert not caplog.records
    assert ServiceClient(Shop()).call("pay", [5]) == [5]
    assert "Shop.pay: parameter 'prices' is not validated: no JSON value is a Money" in caplog.text


def exposed_property() -> Any:
    return property(exposed_method()(of_money()))


def port(self: Any) -> int:
    return 1


def cached() -> Any:
    return functools.cached_property(exposed_method()(of_money()))


@pytest.mark.parametrize(
    ("name", "member", "complaint"),
    [
        ("total", exposed_property(), "Shop.total is a property: only methods are exposed"),
        ("total", cached(), "Shop.total is a cached_property: only methods are exposed"),
        ("port", exposed_method()(port), "Shop.port is a setting of the service"),
        ("größe", exposed_method()(functools.partial(print)), "invalid method name 'größe'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_name_that_cannot_be_exposed_is_refused(name, member, complaint):
    with pytest.raises(ServiceConfigurationError, match=complaint):
        type("Shop", (MicroService,), {"name": "shop", name: member})


# Names around the class, in a module whose hints are all text


def test_classes_around_the_service_and_in_it_are_known_by_their_names(caplog):
    @dataclasses.dataclass
    class Item:
        size: int

    class Base(MicroService):
        name = "shop"

        @dataclasses.dataclass
        class Box:
            items: int

        @exposed_method()
        def pack(self, item: Item, boxes: list["Box"]) -> int:  # noqa: UP037
            return item.size + boxes[0].items

    class Shop(Base):
        pass

    client = ServiceClient(Shop())
    assert client.call("pack", {"size": 1}, [{"items": 2}]) == 3
    with pytest.raises(InvalidParams):
        client.call("pack", {"size": "1"}, [])
    assert not caplog.records


# Results


class Shop(MicroService):
    name = "shop"
    skip_configuration = True

    def encode(self, value: Any) -> Any:
        return {"cents": value.cents} if isinstance(value, Money) else None

    @exposed_method()
    def price(self) -> Any:
        return {"prices": [Money(5)]}

    @exposed_method()
    def unknown(self) -> Any:
        return object()

    @exposed_method()
    def count(self, value: Any) -> int:
        return value

    @exposed_method()
    def order(self, amount: Any) -> Order:
        return Order(amount) if amount else {"amount": 1}

    @exposed_method()
    def who(self) -> Named:
        return Named(fullName="Ada")

    @exposed_method()
    def nothing(self, value: Any) -> None:
        return value

    @exposed_method()
    def handle(self) -> Money:
        return Money(1)


class CheckedShop(Shop):
    validate_results = True


def test_a_service_encodes_what_json_has_no_form_for(caplog):
    client = ServiceClient(Shop())

    assert client.call("price") == {"prices": [{"cents": 5}]}
    with pytest.raises(InternalError):
        client.call("unknown")
    assert "an instance of object cannot be represented as JSON" in caplog.text


class Item(pydantic.BaseModel, populate_by_name=True):
    unit_price: int = pydantic.Field(alias="unitPrice")


class Page(msgspec.Struct):
    items: list[Item]


class Pages(MicroService):
    name = "pages"
    validate_results = True

    @exposed_method()
    def page(self, items: list[Item]) -> Page:
        return Page(items=items)


def test_models_of_pydantic_are_sent_by_the_names_in_their_schema():
    with running_service(Pages()) as service, RemoteService(service.url) as client:
        assert client.methods.page([{"unitPrice": 5}]) == {"items": [{"unitPrice": 5}]}
        assert client.typed(Pages).page([Item(unit_price=5)]) == Page([Item(unit_price=5)])


def test_a_method_that_is_called_encode_is_for_callers():
    class Texts(MicroService):
        name = "texts"

        @exposed_method()
        def encode(self, text: str) -> Any:
            return text.encode().hex() if text else object()

    client = ServiceClient(Texts())
    assert client.call("encode", "a") == "61"
    with pytest.raises(InternalError):
        client.call("encode", "")


def test_what_a_service_encodes_travels_in_events_too():
    line = Line()
    service = type("Emitter", (Shop,), {"event_transports": [line]})()
    with ServiceClient(service):
        service.emit_event("paid", {"price": Money(7), "at": pathlib.PurePosixPath("a")})
        service.emit_events([("paid", Money(8))])
        with pytest.raises(TypeError, match="the body of 'paid': a key of type tuple cannot be"):
            service.emit_event("paid", {(1, 2): 3})
    assert [envelope.body for envelope in line.envelopes] == [
        b'{"price":{"cents":7},"at":"a"}',
        b'{"cents":8}',
    ]


def test_results_are_checked_only_when_asked_for():
    assert ServiceClient(Shop()).call("count", "x") == "x"


def test_a_result_that_its_hint_forbids_is_an_internal_error_with_the_reason_in_the_log(caplog):
    caplog.set_level(logging.ERROR)
    client = ServiceClient(CheckedShop())

    assert client.call("count", 5) == 5
    assert client.call("order", 5) == {"amount": 5}
    assert client.call("order", 0) == {"amount": 1}
    assert client.call("who") == {"fullName": "Ada"}
    assert client.call("nothing", None) is None
    for method, value, why in [
        ("count", "hunter2", "Expected `int`, got `str`"),
        ("order", "x", "Expected `int`, got `str` - at `$.amount`"),
        ("nothing", 1, "Expected `null`, got `int`"),
    ]:
        caplog.clear()
        with pytest.raises(InternalError) as caught:
            client.call(method, value)
        assert set(caught.value.data) == {"error_id"}
        assert f"Shop.{method} returned what its hint forbids: {why}" in caplog.text
        assert "hunter2" not in caplog.text


def test_a_result_whose_hint_cannot_be_checked_is_warned_of(caplog):
    assert ServiceClient(CheckedShop()).call("handle") == {"cents": 1}
    assert "Shop.handle: the result is not validated: no JSON value is a Money" in caplog.text


# Less strictly


def test_a_text_stands_for_a_number_where_the_service_says_so():
    class Lax(MicroService):
        name = "lax"
        strict_types = False

        @exposed_method()
        def double(self, value: int) -> int:
            return 2 * value

    client = ServiceClient(Lax())
    assert client.call("double", "3") == 6
    with pytest.raises(InvalidParams):
        client.call("double", "x")


def test_a_dispatched_method_handles_events():
    class Log(MicroService):
        name = "log"
        event_transports = (Line(),)

        @event_handler("noted")
        @functools.singledispatchmethod
        def note(self, body: str) -> None: ...

        @note.register
        def _(self, body: int) -> None: ...

    (handler,) = Log()._assemble().event_handlers
    assert handler.convert is not None
    assert handler.convert(5) == 5
    with pytest.raises(ValueError, match="got `float`"):
        handler.convert(1.5)
