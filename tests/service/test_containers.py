"""Groups of methods: services, modules, inheritance, and names that clash."""

from typing import Any

import pytest

import gemstone_sync
from gemstone_sync import AccessDenied, InvalidParams, MethodNotFound, MicroService, exposed_method
from gemstone_sync.testing import ServiceClient


class Base(MicroService):
    name = "base"
    prefix = "base"

    @exposed_method("say", private=True, timeout=5)
    def speak(self, word: str) -> str:
        """Say a word."""
        return f"{self.prefix} {word}"

    @exposed_method()
    def plain(self, number: int) -> int:
        return number

    def authenticate_request(self, handler: Any) -> Any:
        return handler.headers.get("User")


def test_an_override_without_a_decorator_keeps_name_privacy_and_timeout():
    class Heir(Base):
        prefix = "heir"

    class Child(Base):
        def speak(self, word: str) -> str:
            return "overridden " + super().speak(word)

    assert ServiceClient(Heir(), {"User": "me"}).call("say", "a") == "heir a"
    client = ServiceClient(Child(), {"User": "me"})
    assert client.call("say", "a") == "overridden base a"
    with pytest.raises(MethodNotFound):
        client.call("speak", "a")
    with pytest.raises(AccessDenied):
        ServiceClient(Child()).call("say", "a")
    methods = Child().dispatcher.methods
    assert [methods[name].timeout for name in ("say", "plain")] == [5, Base.default_timeout]


def test_an_override_says_its_hints_anew_and_with_a_decorator_everything():
    class Child(Base):
        def plain(self, number: str) -> str:
            return number

        @exposed_method("shout")
        def speak(self, word: str) -> str:
            return word.upper()

    client = ServiceClient(Child())
    assert client.call("plain", "x") == "x"
    with pytest.raises(InvalidParams):
        client.call("plain", 5)
    assert client.call("shout", "a") == "A"
    with pytest.raises(MethodNotFound):
        client.call("say", "a")


def test_an_override_by_none_takes_a_method_away_from_the_child_alone():
    class Child(Base):
        plain = None

    class Replaced(Base):
        @exposed_method("plain")
        def speak(self, word: str) -> str:
            return word

        plain = None

    with pytest.raises(MethodNotFound):
        ServiceClient(Child()).call("plain", 1)
    assert ServiceClient(Replaced()).call("plain", "a") == "a"
    assert ServiceClient(Base()).call("plain", 1) == 1


def test_a_mixin_brings_its_methods():
    class Health:
        @exposed_method("health.ping")
        def ping(self) -> str:
            return "pong"

    service = type("Service", (Health, Base), {})()
    assert ServiceClient(service).call("health.ping") == "pong"


# Names that clash


@pytest.mark.parametrize(
    ("base", "method", "told"),
    [
        (MicroService, "twice", r"'twice': \S*Service\.twice and \S*Service\.other"),
        (Base, "say", r"'say': .*speak and .*other"),
        (MicroService, "get_service_specs", r"'get_service_specs'"),
    ],
)
def test_two_methods_under_one_name_are_refused_at_class_creation(base, method, told):
    with pytest.raises(ValueError, match=told):

        class Service(base):
            name = "clashing"

            @exposed_method()
            def twice(self) -> None: ...
            @exposed_method(method)
            def other(self) -> None: ...


class Users(gemstone_sync.Module):
    @exposed_method("users.count")
    def count(self) -> int:
        assert self.microservice is not None
        return len(self.microservice.name)

    @exposed_method("plain")
    def clashing(self) -> None: ...


class Groups(gemstone_sync.Container):
    @exposed_method("users.count")
    def number(self) -> None: ...


class Counted(MicroService):
    @exposed_method()
    def statistics(self) -> None: ...


@pytest.mark.parametrize(
    ("base", "attributes", "told"),
    [
        (Base, {"modules": [Users()]}, r"'plain': \S*Base\.plain and \S*Users\.clashing"),
        (
            MicroService,
            {"modules": [Users(), Groups()]},
            r"'users.count': \S*Users\.count and \S*Groups\.number",
        ),
        (MicroService, {"modules": [Users(), Users()]}, r"users\.count"),
        (Counted, {"use_statistics": True}, r"'statistics': \S*Counted\.statistics and"),
    ],
    ids=["service and module", "two modules", "one twice", "statistics"],
)
def test_a_clash_in_one_service_names_both(base, attributes, told):
    service = type("Service", (base,), {"name": "clashing", **attributes})()
    with pytest.raises(ValueError, match=told):
        service.app  # noqa: B018


# Modules


class Orders(gemstone_sync.Container):
    def __init__(self, tax: float) -> None:
        self.tax = tax

    @exposed_method("orders.total", requires_handler_reference=True)
    def total(self, handler: gemstone_sync.JsonRpcHandler, price: float) -> list[Any]:
        assert handler.microservice is self.microservice
        return [price * self.tax, handler.microservice.name]

    @exposed_method("orders.secret", private=True)
    def secret(self) -> str:
        return "secret"

    def helper(self) -> None: ...


def test_modules_and_containers_know_their_service_and_its_access_rules():
    class Service(Base):
        name = "shop"
        modules = [Orders(2.0)]

    client = ServiceClient(Service())
    assert client.call("orders.total", 4.0) == [8.0, "shop"]
    with pytest.raises(AccessDenied):
        client.call("orders.secret")
    assert ServiceClient(Service(), {"User": "me"}).call("orders.secret") == "secret"
    with pytest.raises(MethodNotFound):
        client.call("helper")


def test_a_container_lists_what_it_exposes_and_handles():
    class Listener(gemstone_sync.Module):
        @gemstone_sync.event_handler("said_hello")
        def on_hello(self, body: Any) -> None: ...

    assert [m.__name__ for m in Orders(1.0).get_exposed_methods()] == ["total", "secret"]
    assert Orders(1.0).get_event_handlers() == []
    assert [m.__name__ for m in Listener().get_event_handlers()] == ["on_hello"]
    assert Listener().get_exposed_methods() == []
