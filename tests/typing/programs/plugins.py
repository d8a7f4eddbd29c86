"""Plugins, configurators, transports and strategies of the user's own."""

from __future__ import annotations

from typing import Any

import gemstone_sync as gemstone
from gemstone_sync.ops import ObservedCall, ObservedEvent


class Reporter(gemstone.BasePlugin):
    name = "reporter"

    def __init__(self, recipient: str) -> None:
        self.recipient = recipient
        self.calls = 0

    def on_method_call(self, request: gemstone.JsonRpcRequest) -> None:
        self.calls += len(request.method)

    def on_internal_error(self, error: BaseException) -> None:
        self.microservice.logger.warning("to %s: %r", self.recipient, error)

    def on_call_finished(self, call: ObservedCall) -> None:
        self.last = (call.name, call.seconds, call.error_code or 0, call.request_id)

    def on_event_finished(self, event: ObservedEvent) -> None:
        self.last = (event.name, event.seconds, int(event.failed), event.request_id or "")


class Annotated(gemstone.BasePlugin):
    name = "annotated"
    microservice: Watched

    def on_service_start(self) -> None:
        self.microservice.seen = 7
        self.microservice.sene = 7  # error: a typo

    def on_service_stop(self, why: str) -> None: ...  # error: the hook takes nothing


class Watched(gemstone.MicroService):
    name = "watched"
    plugins = [Reporter("me"), Annotated()]
    seen = 0

    @gemstone.exposed_method()
    def calls(self) -> int:
        return self.get_plugin(Reporter).calls


class Consul(gemstone.BaseConfigurator):
    def load(self) -> None:
        self.found: dict[str, Any] = {"port": 1}

    def get(self, name: str) -> Any:
        return self.found.get(name)


class Own(gemstone.BaseDiscoveryStrategy):
    def ping(self, name: str, location: str, **kwargs: Any) -> None: ...

    def locate(self, name: str) -> list[str]:
        return []


class Transport(gemstone.BaseEventTransport):
    def register_event_handler(self, handler_func: Any, handled_event_name: str) -> None: ...

    def start_accepting_events(self) -> None: ...

    def on_event_received(self, event_name: str, event_body: Any) -> None: ...

    def emit_event(self, event_name: str, event_body: Any, *, broadcast: bool = True) -> None: ...


class Composed(gemstone.MicroService):
    name = "composed"
    configurators = [Consul(), gemstone.EnvironmentConfigurator(prefix="SHOP_")]
    discovery_strategies = [Own()]
    event_transports = [Transport(), gemstone.transport_from_url("memory://")]
    configurables = [gemstone.Configurable("port", tempalte=int)]  # error: a typo
    shelves: int = gemstone.setting("three")  # error: no number


class OutOfStock(gemstone.RpcError):
    code = 1001
    message = "Out of stock"


def sell() -> None:
    raise OutOfStock(data={"left": 0})
