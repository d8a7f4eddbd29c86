"""Errors of other services that a method hands on, and what becomes of the others."""

import logging
from typing import Any

import pytest

import gemstone_sync
from gemstone_sync import (
    InternalError,
    MethodNotFound,
    MicroService,
    RemoteService,
    RpcError,
    StaticDiscoveryStrategy,
    exposed_method,
)
from gemstone_sync.testing import ServiceClient, running_service


class OutOfStock(RpcError):
    code = 1001
    message = "Out of stock"


class Sold(OutOfStock):
    code = 1002


class Plain(RpcError):
    """Has the code that every RpcError has, and "Server overloaded" too."""


class Stock(MicroService):
    name = "shop.stock"

    @exposed_method()
    def take(self, code: int = 1001, data: Any = None) -> None:
        raise RpcError("None left, sorry", code=code, data=data)


class Orders(MicroService):
    """Asks another service, by its URL."""

    name = "shop.orders"
    stock: Any = None

    @exposed_method(pass_errors=[OutOfStock, MethodNotFound])
    def order(self, code: int = 1001, data: Any = None, method: str = "take") -> Any:
        return self.stock.call_method(method, {"code": code, "data": data}).value()

    @exposed_method(pass_errors=(Plain,))
    def plain(self, code: int) -> Any:
        return self.stock.methods.take(code)

    @exposed_method()
    def masked(self) -> Any:
        return self.stock.methods.take()

    @exposed_method()
    def raised_again(self) -> Any:
        try:
            return self.stock.methods.take()
        except RpcError:
            raise

    @exposed_method(pass_errors=[RpcError])
    def anything(self, code: int) -> Any:
        return self.stock.methods.take(code)

    @exposed_method(pass_errors=[OutOfStock])
    def caught(self) -> Any:
        try:
            return self.stock.methods.take()
        except gemstone_sync.RemoteError as error:
            raise ValueError("it is our own fault now") from error


class Special(Orders):
    def order(self, code: int = 1001, data: Any = None, method: str = "take") -> Any:
        return super().order(code, data, method)


class Shop(gemstone_sync.Module):
    @exposed_method("shop.order", pass_errors=[OutOfStock])
    def order(self) -> Any:
        return self.microservice.stock.methods.take()


@pytest.fixture(params=[(OutOfStock, Sold), ()], ids=["client knows the classes", "only codes"])
def orders(request):
    with (
        running_service(Stock) as stock,
        RemoteService(stock.url, errors=request.param) as client,
        running_service(Special, stock=client, modules=[Shop()]) as service,
        RemoteService(service.url, errors=[OutOfStock]) as caller,
    ):
        yield caller


def test_a_named_error_reaches_the_caller_as_it_was_received(orders):
    for data in ({"left": [0, None]}, None, "x"):
        with pytest.raises(OutOfStock) as caught:
            orders.methods.order(data=data)
        error = caught.value
        assert (error.code, error.message, error.data) == (1001, "None left, sorry", data)
    with pytest.raises(MethodNotFound):
        orders.methods.order(method="nothing")
    with pytest.raises(OutOfStock):
        orders.methods["shop.order"]()


def test_in_a_batch_each_item_has_its_own(orders):
    calls = [gemstone_sync.MethodCall(name) for name in ("order", "masked", "order")]
    codes = [result.error.code for result in orders.call_batch(*calls).responses]
    assert codes == [1001, -32603, 1001]


@pytest.mark.parametrize(
    ("method", "params"),
    [("masked", []), ("raised_again", []), ("order", [1003]), ("plain", [-32000]), ("caught", [])],
)
def test_what_is_not_named_is_masked(orders, method, params):
    with pytest.raises(InternalError) as caught:
        orders.call_method(method, params).value()
    assert "sorry" not in str(caught.value.data)


def test_naming_rpc_error_names_all(orders):
    with pytest.raises(RpcError) as caught:
        orders.methods.anything(77)
    assert caught.value.code == 77


def test_a_class_stands_for_its_subclasses_where_the_client_knows_them():
    with (
        running_service(Stock) as stock,
        RemoteService(stock.url, errors=[Sold]) as client,
        running_service(Orders, stock=client) as service,
        RemoteService(service.url) as caller,
        pytest.raises(RpcError) as caught,
    ):
        caller.methods.order(1002)
    assert caught.value.code == 1002


def test_the_log_says_whose_the_masked_error_was(caplog):
    class Found(Orders):
        @exposed_method()
        def find(self) -> Any:
            return self.get_service("shop.*").methods.take()

    with running_service(Stock) as stock:
        places = StaticDiscoveryStrategy({"shop.stock": stock.url})
        service = Found()
        service.discovery_strategies = [places]
        with pytest.raises(InternalError), caplog.at_level(logging.ERROR):
            ServiceClient(service).call("find")
        service._discovery_runtime.close()
    (line,) = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    for part in ("find failed", "another service", "take of shop.*", stock.url, "(1001)"):
        assert part in line


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        (OutOfStock, r"did you mean pass_errors=\[OutOfStock\]"),
        ("OutOfStock", r"did you mean pass_errors=\[OutOfStock\]"),
        ([OutOfStock()], "did you mean the class OutOfStock"),
        (["OutOfStock"], "did you mean the class OutOfStock"),
        ([OutOfStock, ValueError], "ValueError.*derive it from RpcError"),
        ([1001], "1001 is none"),
        (1001, "list of classes"),
        (None, "list of classes"),
    ],
)
def test_what_is_no_class_of_errors_is_refused_where_the_class_stands(given, hint):
    with pytest.raises(TypeError, match=hint):

        class Service(MicroService):
            name = "service"

            @exposed_method(pass_errors=given)
            def method(self) -> None: ...
