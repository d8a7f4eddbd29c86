"""The service that the tests of the testing helpers call."""

from typing import Any

import gevent

import gemstone_sync
from gemstone_sync import BasicAuthStrategy, MicroService, RpcError
from tests.support.waiting import LIMIT


class OutOfStock(RpcError):
    code = 1001
    message = "Out of stock"


class Service(MicroService):
    """Remembers what it was told."""

    name = "here"
    greeting = "hello"
    validation_strategies = [gemstone_sync.HeaderValidationStrategy(), BasicAuthStrategy()]

    def __init__(self) -> None:
        super().__init__()
        self.log: list[Any] = []

    def on_service_start(self) -> None:
        self.log.append("start")

    def on_service_stop(self) -> None:
        self.log.append("stop")

    def api_token_is_valid(self, api_token: str) -> bool:
        return api_token in ("token", "ada:token")

    @gemstone_sync.exposed_method()
    def add(self, a: int, b: int = 0) -> int:
        self.log.append((a, b))
        return a + b

    @gemstone_sync.exposed_method()
    def greet(self, name: str) -> str:
        gevent.sleep(0.01)
        return f"{self.greeting} {name}"

    @gemstone_sync.exposed_method()
    def echo(self, **members: Any) -> dict[str, Any]:
        return members

    @gemstone_sync.exposed_method("users.tell")
    def tell(self, what: Any) -> None:
        self.log.append(what)

    @gemstone_sync.exposed_method()
    def crash(self) -> None:
        raise LookupError("secret")

    @gemstone_sync.exposed_method()
    def fail(self, code: int, data: Any = None) -> None:
        raise RpcError("no", code=code, data=data)

    @gemstone_sync.exposed_method(private=True)
    def secret(self) -> str:
        return "secret"

    @gemstone_sync.exposed_method()
    def slow(self) -> None:
        gevent.sleep(10 * LIMIT)

    @gemstone_sync.exposed_method(requires_handler_reference=True)
    def header(self, handler: gemstone_sync.JsonRpcHandler, name: str) -> str | None:
        return handler.headers.get(name)

    @gemstone_sync.exposed_method(requires_handler_reference=True)
    def cookie(self, handler: gemstone_sync.JsonRpcHandler) -> str | None:
        handler.set_cookie("seen", "yes")
        return handler.get_cookie("seen")


class Broken(Service):
    def on_service_start(self) -> None:
        raise ConnectionError("no database")
