"""Plugins watch a service; one that raises is logged and never harms a call."""

import contextlib
import logging
from typing import Any

import gevent
import pytest

import gemstone_sync
from gemstone_sync import BasePlugin, InternalError, MicroService, PluginError
from gemstone_sync.testing import ServiceClient, running_service
from tests.support.waiting import wait_until

HOOKS = ["on_service_start", "on_service_stop", "on_method_call", "on_internal_error"]
HOOKS += ["on_call_begun", "on_call_finished"]


class Watcher(BasePlugin):
    name = "watcher"

    def __init__(self) -> None:
        self.log: list[Any] = []

    def on_service_start(self) -> None:
        self.log.append("start")

    def on_service_stop(self) -> None:
        self.log.append("stop")

    def on_method_call(self, jsonrpc_request: gemstone_sync.JsonRpcRequest) -> None:
        self.log.append(("call", jsonrpc_request.method, jsonrpc_request.params))

    def on_internal_error(self, exc_instance: BaseException) -> None:
        self.log.append(("error", str(exc_instance)))


class Service(MicroService):
    name = "watched"

    @gemstone_sync.exposed_method()
    def divide(self, a: int, b: int) -> float:
        return a / b

    def on_service_start(self) -> None:
        self.log_of_watcher().append("service start")

    def on_service_stop(self) -> None:
        self.log_of_watcher().append("service stop")

    def log_of_watcher(self) -> list[Any]:
        return self.get_plugin("watcher").log


def with_plugins(*plugins: BasePlugin) -> MicroService:
    service = type("Watched", (Service,), {"plugins": list(plugins)})()
    assert isinstance(service, MicroService)
    return service


def test_a_plugin_sees_the_life_of_its_service():
    watcher = Watcher()
    service = with_plugins(watcher)
    assert watcher.microservice is service
    assert service.get_plugin("watcher") is watcher
    with ServiceClient(service) as client:
        assert client.call("divide", 4, 2) == 2
        with pytest.raises(gemstone_sync.InvalidParams):
            client.call("divide", 4)
        with pytest.raises(InternalError):
            client.call("divide", 4, 0)

    assert watcher.log == [
        "start",
        "service start",
        ("call", "divide", [4, 2]),
        ("call", "divide", [4, 0]),
        ("error", "division by zero"),
        "service stop",
        "stop",
    ]


def test_plugins_are_asked_in_their_order(caplog):
    """One with no hooks but those of the base class does nothing."""
    log = []

    class Ordered(BasePlugin):
        def __init__(self, name: str) -> None:
            self.name = name

        def on_method_call(self, jsonrpc_request: Any) -> None:
            log.append(self.name)

    silent: Any = type("Silent", (BasePlugin,), {"name": "silent"})()
    plugins = (Ordered("b"), silent, Ordered("a"), Watcher())
    with caplog.at_level(logging.WARNING), ServiceClient(with_plugins(*plugins)) as client:
        client.call("divide", 1, 1)
    assert log == ["b", "a"]
    assert not caplog.records


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("failure", [ValueError("broken plugin"), gevent.Timeout(1), SystemExit(3)])
def test_a_plugin_that_raises_is_logged_and_harms_nothing(hook, failure, caplog):
    def fail(self: Any, *_: Any) -> None:
        raise failure

    broken: Any = type("Broken", (BasePlugin,), {"name": "broken", hook: fail})()
    watcher = Watcher()
    with ServiceClient(with_plugins(broken, watcher)) as client:
        assert client.call("divide", 4, 2) == 2
        with pytest.raises(InternalError):
            client.call("divide", 4, 0)

    assert {"start", "stop", ("error", "division by zero")} <= {
        entry for entry in watcher.log if isinstance(entry, str) or entry[0] == "error"
    }
    assert f"plugin 'broken' failed in {hook}" in caplog.text
    assert "Traceback" in caplog.text


class Nameless(BasePlugin):
    """Has only the hooks of the base class."""


@pytest.mark.parametrize(
    ("first", "second", "told"),
    [
        (None, Nameless, "Nameless has no name: set its `name`"),
        (Watcher, Watcher, "two plugins have the name 'watcher'"),
    ],
)
def test_a_plugin_without_a_name_of_its_own_is_refused(first, second, told):
    already = [first()] if first else []
    with pytest.raises(PluginError, match=told):
        with_plugins(*already, second())
    with pytest.raises(PluginError, match=told):
        with_plugins(*already).register_plugin(second())


def test_a_plugin_can_be_registered_until_the_service_is_made():
    service = with_plugins()
    watcher = Watcher()
    service.register_plugin(watcher)
    with ServiceClient(service) as client:
        client.call("divide", 1, 1)
    assert ("call", "divide", [1, 1]) in watcher.log
    with pytest.raises(gemstone_sync.ServiceConfigurationError, match="before the service starts"):
        service.register_plugin(type("Late", (BasePlugin,), {"name": "late"})())


def test_a_plugin_that_is_not_there_is_an_error_that_lists_those_that_are():
    for plugins, listed in [((Watcher(),), "watcher"), ((), "none")]:
        with pytest.raises(PluginError, match=f"no plugin has the name 'x'; registered: {listed}"):
            with_plugins(*plugins).get_plugin("x")


def test_a_plugin_sees_what_became_of_each_call():
    finished: list[Any] = []

    class Outcomes(BasePlugin):
        name = "outcomes"

        def on_call_finished(self, call: Any) -> None:
            finished.append(call)

    with ServiceClient(with_plugins(Outcomes(), Watcher())) as client:
        client.call("divide", 4, 2)
        with pytest.raises(InternalError) as failed:
            client.call("divide", 4, 0)
        with pytest.raises(gemstone_sync.MethodNotFound):
            client.call("absent")

    assert [one.name for one in finished] == ["divide", "divide", "absent"]
    assert [one.error_code for one in finished] == [None, -32603, -32601]
    assert finished[1].error_id == failed.value.data["error_id"]
    assert isinstance(finished[1].exception, ZeroDivisionError)


class Orders(MicroService):
    name = "orders"
    handled: list[Any] = []

    @gemstone_sync.event_handler("paid")
    def on_paid(self, body: int) -> None:
        self.handled.append(1 / body)

    @gemstone_sync.event_handler("sent", retries=0)
    def on_sent(self, body: int) -> None:
        self.handled.append(1 / body)


class Own(gemstone_sync.BaseEventTransport):
    """A transport with gemstone's four methods, which hands over what it is given."""

    def __init__(self) -> None:
        self.handlers: dict[str, Any] = {}

    def register_event_handler(self, handler_func: Any, handled_event_name: str) -> None:
        self.handlers[handled_event_name] = handler_func

    def start_accepting_events(self) -> None:
        pass

    def on_event_received(self, event_name: str, event_body: Any) -> None:
        with contextlib.suppress(ZeroDivisionError):
            self.handlers[event_name](event_body)

    def emit_event(self, event_name: str, event_body: Any, *, broadcast: bool = True) -> None:
        self.on_event_received(event_name, event_body)


@pytest.mark.parametrize("transport", [gemstone_sync.MemoryEventTransport, Own])
def test_a_plugin_sees_what_became_of_each_event(transport, caplog):
    """Over a transport of the user's own too; what a plugin raises harms no event."""
    finished: list[Any] = []

    class Outcomes(BasePlugin):
        name = "outcomes"

        def on_event_begun(self, event: Any) -> None:
            raise ValueError("broken plugin")

        def on_event_finished(self, event: Any) -> None:
            finished.append(event)

    Orders.handled = []
    attributes = {"plugins": [Outcomes()], "event_transports": [transport()]}
    with running_service(type("Watched", (Orders,), attributes)) as service:
        service.emit_event("paid", 2)
        service.emit_event("sent", 0)
        wait_until(lambda: len(finished) == 2, "both are handled")

    paid, sent = sorted(finished, key=lambda one: one.name)
    assert Orders.handled == [0.5]
    assert (paid.name, paid.handler, paid.failed) == ("paid", "Orders.on_paid", False)
    assert (sent.name, sent.failed) == ("sent", True)
    assert isinstance(sent.exception, ZeroDivisionError)
    assert "plugin 'outcomes' failed in on_event_begun" in caplog.text
