"""Handlers, methods and hooks that are no functions: partials, objects with ``__call__``, mocks."""

from __future__ import annotations

import functools
from typing import Any
from unittest import mock

import msgspec
import pytest

from gemstone_sync import (
    BasePlugin,
    InvalidParams,
    MemoryEventTransport,
    MicroService,
    Module,
    ServiceConfigurationError,
    event_handler,
    exposed_method,
    periodic,
    route,
)
from gemstone_sync.service.event_handlers import handlers_of
from gemstone_sync.testing import ServiceClient
from tests.support.waiting import wait_until

heard: list[Any] = []


class Order(msgspec.Struct):
    number: int


def note(prefix: str, order: Order) -> str:
    """Note an order."""
    heard.append((prefix, order))
    return prefix


class Noting:
    """Notes."""

    def __call__(self, order: Order) -> str:
        return note("object", order)


class Slotted(Noting):
    __slots__ = ()


class AsyncNoting:
    async def __call__(self, order: Order) -> None: ...


class Truth:
    def __call__(self, handler: Any) -> bool:
        return handler.microservice is not None


a_mock = mock.MagicMock()
bodies: list[Any] = []


class Hearing(MicroService):
    name = "hearing"
    skip_configuration = True
    port = 0

    partial = event_handler("o")(functools.partial(note, "partial"))
    nested = event_handler("o")(functools.partial(functools.partial(note), "nested"))
    an_object = event_handler("o")(Noting())
    slotted = event_handler("o")(Slotted())
    mocked = event_handler("o")(a_mock)
    bound = event_handler("o")(bodies.append)
    in_c = event_handler("o")({}.update)

    def note(self, prefix: str, order: Order) -> str:
        return note(prefix, order)

    method = event_handler("o")(functools.partialmethod(note, "method"))


def test_they_handle_events_by_the_names_of_their_attributes():
    """The names stay what they are when another handler is added: retries are addressed to them."""
    service = Hearing()
    handlers = handlers_of(service.marked_methods())
    names = ["partial", "nested", "an_object", "slotted", "mocked", "bound", "in_c", "method"]
    assert [handler.name for handler in handlers] == names

    heard.clear()
    service.event_transports = [MemoryEventTransport()]
    service.start(block=False)
    try:
        service.emit_event("o", {"number": 1})
        wait_until(lambda: len(heard) == 5 and a_mock.called and bodies, "all are called")
    finally:
        service.stop()
    expected = ["method", "nested", "object", "object", "partial"]
    assert sorted(prefix for prefix, _ in heard) == expected
    assert all(order == Order(1) for _, order in heard)
    assert bodies == [{"number": 1}]
    assert service.dispatcher.methods["get_service_specs"].function()["events_handled"] == {
        "o": "Note an order."
    }


def test_they_are_refused_as_functions_are():
    class TooFew(MicroService):
        name = "few"
        handler = event_handler("o")(functools.partial(note, "a", "b"))
        event_transports = [MemoryEventTransport()]

    with pytest.raises(ServiceConfigurationError, match=r"handler\(\) -> .* handles events"):
        TooFew().start(block=False)
    for target in (AsyncNoting(), functools.partial(AsyncNoting.__call__, None)):
        with pytest.raises(ServiceConfigurationError, match="handler is an async def method"):
            type("Waits", (MicroService,), {"handler": event_handler("o")(target)})
    with pytest.raises(ValueError, match="note handles 'o' twice"):
        event_handler("o")(event_handler("o")(functools.partial(note)))


def test_they_are_exposed_checked_and_described():
    class Exposing(MicroService):
        name = "exposing"
        noted = exposed_method()(functools.partial(note, "exposed"))
        named = exposed_method("a.b")(Noting())
        counted = exposed_method(requires_handler_reference=True)(
            functools.partial(lambda n, handler: n, 3)
        )

    client = ServiceClient(Exposing())
    assert client.call("noted", {"number": 1}) == "exposed"
    assert client.call("a.b", order={"number": 1}) == "object"
    assert client.call("counted") == 3
    with pytest.raises(InvalidParams):
        client.call("a.b", {"number": "one"})
    specs = client.call("get_service_specs", signatures=True)
    assert specs["methods"]["noted"] == "Note an order."
    assert specs["methods"]["a.b"] == "Notes."
    assert specs["signatures"]["noted"] == "noted(order: Order) -> str"


def test_two_under_one_name_are_told_by_their_functions():
    class Part(MicroService):
        name = "part"
        one = exposed_method("same")(functools.partial(note, "1"))

    part = Part()
    part.modules = [type("Other", (Module,), {"two": exposed_method("same")(Noting())})()]
    with pytest.raises(ValueError, match=r"'same': note and Noting\.__call__"):
        part.make_flask_app()


def test_they_serve_as_hooks_views_and_periodic_methods():
    class Plugin(BasePlugin):
        name = "plugin"

    plugin = Plugin()
    plugin.on_method_call = mock.Mock()  # type: ignore[method-assign]

    class Hooked(MicroService):
        name = "hooked"
        on_service_start = staticmethod(functools.partial(heard.append, "started"))
        before_method_call = mock.Mock()
        authenticate_request = Truth()
        tick = periodic(0.01)(functools.partial(heard.append, "tick"))
        page = route("/page")(functools.partial("a {}".format, "page"))
        other = route("/other")(functools.partial("another {}".format, "page"))
        plugins = [plugin]

        @exposed_method(private=True)
        def secret(self) -> int:
            return 1

    heard.clear()
    with ServiceClient(Hooked()) as client:
        assert client.call("secret") == 1
        wait_until(lambda: "tick" in heard, "the periodic partial is called")
        assert client.request("GET", "/page").body == b"a page"
    assert heard[0] == "started"
    assert Hooked.before_method_call.call_count == 1
    assert plugin.on_method_call.call_count == 1
