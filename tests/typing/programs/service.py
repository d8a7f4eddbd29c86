"""A service as users write it: attributes, hooks, methods. What is wrong is marked."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flask

import gemstone_sync as gemstone
from gemstone_sync.config import Seconds
from gemstone_sync.event.transport import RabbitMqEventTransport


class Orders(gemstone.Module):
    microservice: Shop

    @gemstone.exposed_method("orders.count")
    def count(self) -> int:
        return self.microservice.number

    @gemstone.event_handler("order.placed", retries=10, backoff=[1, 60])
    @gemstone.event_handler("order.changed")
    def on_order(self, order: dict[str, Any]) -> None: ...

    @gemstone.periodic(60)
    def tidy(self) -> None:
        self.microservice.logger.info("tidy")


class Plain(gemstone.Container):
    @gemstone.exposed_method()
    def owner(self) -> str:
        return f"{self.microservice.name}"


class Tokens(gemstone.ValidationStrategy):
    def extract_api_token(self, request: gemstone.JsonRpcHandler) -> str | None:
        return request.get_cookie("token") or request.headers.get("X-Token")


class Status(gemstone.GemstoneCustomHandler):
    microservice: Shop

    def get(self) -> dict[str, int]:
        return {"orders": self.microservice.number}


def help_page(topic: str) -> str:
    return topic


def clean() -> int:
    return 1


class Shop(gemstone.MicroService):
    name = "shop"
    host = "0.0.0.0"
    port = 8080
    endpoint = "/rpc"
    accessible_at = os.environ.get("URL")
    validation_strategies = (Tokens(), gemstone.BearerTokenStrategy())
    allowed_hosts = None
    allowed_origins = ["https://app.example.org"]
    secret_key = os.environ.get("SECRET")
    default_timeout = None
    stop_timeout = 10
    event_transports = [RabbitMqEventTransport("127.0.0.1", 5672, "user", "password")]
    event_deduplication = "seen.db"
    outbox = gemstone.Outbox("outbox.db", databases=["shop.db"])
    service_registry_urls = ("http://127.0.0.1:8090/api",)
    discovery_strategies = [gemstone.StaticDiscoveryStrategy({"users": ["http://127.0.0.1/api"]})]
    modules = [Orders(), Plain()]
    trusted_proxies = ()
    extra_handlers = [("/status", Status), ("/help/<topic>", help_page, {"methods": ["GET"]})]
    blueprints = [flask.Blueprint("pages", __name__)]
    static_dirs = [("/static", "static"), ("/more", Path("more"))]
    template_dir = Path(__file__).parent / "templates"
    periodic_tasks = [(clean, 60), (lambda: None, 0.5)]
    basket: Seconds = 900
    shelves: int = gemstone.setting(3)
    country: str = gemstone.setting("NL", template=str.upper)
    pin: int | None = gemstone.setting(None, secret=True)
    configurables = [
        *gemstone.MicroService.configurables,
        gemstone.Configurable("basket"),
        gemstone.Configurable("currency", template=str.upper, secret=True),
    ]
    configurators = [gemstone.CommandLineConfigurator(), gemstone.TomlFileConfigurator("a.toml")]
    number = 0
    currency = "EUR"

    def on_service_start(self) -> None:
        self.clients = {"users": self.get_service("users", timeout=3)}

    def before_method_call(self, call: gemstone.JsonRpcRequest) -> None:
        self.logger.info("%s %s", call.method, call.params)

    def after_method_call(
        self, call: gemstone.JsonRpcRequest, answer: gemstone.JsonRpcResponse
    ) -> gemstone.JsonRpcResponse:
        return answer.with_result([answer.result])

    def on_failed_method_call(
        self, request: gemstone.JsonRpcRequest, response: gemstone.JsonRpcResponse
    ) -> None: ...

    def authenticate_request(self, handler: gemstone.JsonRpcHandler) -> bool:
        return handler.api_token == "secret"

    def api_token_is_valid(self, token: str) -> bool:
        return token == "secret"

    @gemstone.exposed_method()
    def place(self, item: str, quantity: int = 1) -> int:
        self.emit_event("order.placed", {"item": item}, key=item, delay=0.5)
        return self.get_executor().submit(len, item).result() + quantity

    @gemstone.exposed_method("shop.pay", private=True, timeout=None, idempotent=True)
    def pay(self, connection: Any) -> None:
        with self.outbox.transaction(connection):
            self.emit_event("order.paid", 1)

    @gemstone.exposed_method(requires_handler_reference=True)
    def who(self, handler: gemstone.JsonRpcHandler) -> str | None:
        handler.set_cookie("seen", "yes")
        return handler.remote_addr

    @gemstone.route("/count", methods=["GET"])
    def page(self) -> str:
        return str(self.number)

    @staticmethod
    @gemstone.exposed_method()
    def double(number: float) -> float:
        return 2 * number


class Later(Shop):
    """Overrides what the first one has."""

    name = "later"
    event_transports = []

    @gemstone.exposed_method()
    def more(self, numbers: list[int]) -> Iterator[int] | None:
        kept: int = self.place("x", quantity=2)
        self.place(1)  # error: not a text
        self.double("x")  # error: not a number
        self.emit_evnt("order.placed", kept)  # error: a typo
        self.prot = 1  # told at class creation only where it is the class's
        return None

    def on_service_start(self, name: str) -> None:  # error: the hook takes nothing
        return None


gemstone.exposed_metod()  # error: a typo
gemstone.MicroServise  # error: a typo # noqa: B018
gemstone.TornadoJsonRpcHandler  # error: went with tornado # noqa: B018


class Wrong(gemstone.MicroService):
    name = 7  # error: not a text
    allowed_hosts = 5  # error: not a list
    event_transports = ["amqp://127.0.0.1"]  # error: a text is no transport
    periodic_tasks = [(60, clean)]  # error: the other way round

    @gemstone.exposed_method(timout=3)  # error: a typo
    def first(self) -> None: ...

    @gemstone.event_handler("a.b", retrys=3)  # error: a typo
    def second(self, body: Any) -> None: ...

    @gemstone.periodic("60")  # error: not a number
    def third(self) -> None: ...

    @gemstone.exposed_method  # error: without parentheses
    def fourth(self) -> None: ...


if __name__ == "__main__":
    gemstone.run(Shop(), Later())
    Shop().start(workers=2)
    Shop().strat()  # error: a typo
