"""What `event_handler` takes, and what becomes of a service's handlers."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

import gemstone_sync
from gemstone_sync import MicroService, ServiceConfigurationError, event_handler
from gemstone_sync.event.handlers import Handler

from .transports import Heard, Line, warnings_in


def service_with(function: Callable[..., Any], *names: str, **attributes: Any) -> MicroService:
    for name in names:
        function = event_handler(name)(function)
    members = {"name": "test.service", "port": 0, "handle": function, **attributes}
    return type("Service", (MicroService,), members)()


def handlers_of(service: MicroService) -> tuple[Handler, ...]:
    return service._assemble().event_handlers


# The decorator


@pytest.mark.parametrize(
    ("name", "options", "complaint"),
    [
        ("", {}, "invalid event name ''"),
        ("a b", {}, "invalid event name 'a b'"),
        (5, {}, "invalid event name 5"),
        ("a*", {}, "stands for a whole word"),
        ("a", {"scope": "all"}, "scope is 'service' or 'instance', not 'all'"),
        ("a", {"retries": -1}, "retries is a whole number"),
        ("a", {"retries": None}, "retries is a whole number"),
        ("a", {"backoff": "1"}, "backoff is a number of seconds"),
        ("a", {"backoff": []}, "backoff is a number of seconds"),
        ("a", {"timeout": 0}, "a timeout is a number of seconds above 0"),
        ("a", {"concurrency": 0}, "concurrency is a whole number above 0"),
        ("a", {"idempotent": "no"}, "idempotent is True or False"),
    ],
)
def test_a_mistake_is_told_where_the_handler_is_decorated(name, options, complaint):
    with pytest.raises(ValueError, match=complaint):
        event_handler(name, **options)


def test_an_option_that_is_misspelt_is_named_with_the_right_one():
    with pytest.raises(TypeError, match=r"has no option 'retrys'; did you mean 'retries'\?"):
        event_handler("a", retrys=3)
    with pytest.raises(TypeError, match="has no option 'queue'; there are scope, retries, backoff"):
        event_handler("a", queue="q")
    with pytest.raises(TypeError, match="write @event_handler"):
        event_handler(print)


def test_one_method_may_handle_several_events_but_none_twice():
    class Service(MicroService):
        name = "several"

        @event_handler("a", retries=1)
        @event_handler("b.*", retries=2)
        def on_event(self, body: Any) -> None: ...

    handlers = handlers_of(Service())

    assert [(h.pattern, h.retries, h.name) for h in handlers] == [
        ("a", 1, "Service.on_event"),
        ("b.*", 2, "Service.on_event"),
    ]
    with pytest.raises(ValueError, match=r"on_event handles 'a' twice"):
        event_handler("a")(Service.on_event)


def test_modules_and_base_classes_bring_their_handlers():
    class Base(MicroService):
        @event_handler("a")
        def on_a(self, body: Any) -> str:
            return "base"

    class Part(gemstone_sync.Module):
        @event_handler("a")
        def on_a(self, body: Any) -> str:
            assert self.microservice is not None
            return f"part of {self.microservice.name}"

    class Service(Base):
        name = "derived"
        modules = [Part(), Part()]

        def on_a(self, body: Any) -> str:  # not decorated again
            return "derived"

    handlers = handlers_of(Service())

    assert [handler.function(None) for handler in handlers] == [
        "derived",
        "part of derived",
        "part of derived",
    ]
    assert [handler.name for handler in handlers] == ["Service.on_a", "Part.on_a", "Part.on_a#2"]


REFUSED = [
    lambda self: None,
    lambda self, body, more: None,
    lambda self, *, body: None,
    staticmethod(lambda: None),
]


@pytest.mark.parametrize("function", REFUSED, ids=["no body", "two", "by name", "static"])
def test_a_method_that_cannot_take_a_body_is_refused_before_the_start(function):
    service = service_with(function, "a", event_transports=[Line()])
    with pytest.raises(
        ServiceConfigurationError, match=r"handles events: it takes exactly one argument besides"
    ):
        service.start(block=False)


TAKEN = [
    lambda self, body, more=1: body,
    lambda self, *bodies: bodies[0],
    staticmethod(lambda body: body),
]


@pytest.mark.parametrize("function", TAKEN, ids=["with default", "with rest", "static"])
def test_whatever_can_be_called_with_a_body_handles_events(function):
    (handler,) = handlers_of(service_with(function, "a"))
    assert handler.function("body") == "body"


class Order(msgspec.Struct):
    id: int


def test_the_type_hint_of_the_body_is_what_the_handler_gets():
    def on_order(self: Any, order: Order) -> Any:
        return order

    (handler,) = handlers_of(service_with(on_order, "a"))

    assert handlers_of(Heard())[0].convert is None  # it has no hint
    assert handler.convert is not None
    assert handler.convert({"id": 3}) == Order(3)
    with pytest.raises(ValueError, match=r"Expected `int`, got `str` - at `\$.id`"):
        handler.convert({"id": "three"})


def test_a_hint_that_cannot_be_checked_is_told(caplog):
    def on_event(self: Any, body: "Unknown") -> None: ...  # noqa: F821

    (handler,) = handlers_of(service_with(on_event, "a"))

    assert handler.convert is None
    assert ["'body' is not validated" in text for text in warnings_in(caplog)] == [True]
